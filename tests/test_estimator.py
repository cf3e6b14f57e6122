"""The estimator from end to end on tiny sizes: contracts, determinism, bad input, saved models, runs that were cut off."""
import functools, hashlib, json, os, pickle, random, re, shutil, subprocess, sys, warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import ncvq_nb.generator as generator
from ncvq_nb import NCVQ
from ncvq_nb.augment import compose, flip, gaussian_noise
from ncvq_nb.generator import _spelled, can_compile
from conftest import imitated

TINY = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=32, prior_depth=1, epochs=3, random_state=0)


def says(*parts, kind=(ValueError, TypeError)):
    "An error of that kind whose message has all `parts`."
    return pytest.raises(kind, match="(?s)" + "".join(f"(?=.*{re.escape(p)})" for p in parts))


def series(n=12, c=1, l=33, seed=0):
    "Two kinds of noisy waves, and their labels 0 and 1."
    rng, t = np.random.default_rng(seed), np.linspace(0, 1, l)
    y = np.arange(n) % 2
    X = np.sin(2 * np.pi * (2 + 2 * y)[:, None, None] * t + np.arange(c)[:, None]) + 0.1 * rng.normal(size=(n, c, l))
    return X.astype(np.float32), y


def fitted(y="labels", **kw):
    X, labels = series()
    return NCVQ(**{**TINY, **kw}).fit(X, labels if isinstance(y, str) else y)


@pytest.fixture(scope="module")
def model(): return fitted()


@pytest.fixture(scope="module")
def words(): return fitted(np.array(["sit", "stand up"])[series()[1]])


def weights(m):
    "Every tensor of a model, by name."
    return {f"{part}.{k}": v for part in ("tokenizer_", "prior_") if hasattr(m, part) for k, v in getattr(m, part).state_dict().items()}


def fingerprint(m): return hashlib.sha256(b"".join(k.encode() + v.numpy().tobytes() for k, v in weights(m).items())).hexdigest()
def global_state(): return random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2], torch.get_rng_state().numpy().tobytes()


# contracts

@pytest.mark.parametrize("ssl", [None, "barlow", "vicreg", "vibcreg"])
@pytest.mark.parametrize("augment", [None, "warp", "slice", "gauss", "callable"])
def test_every_method(ssl, augment):
    X, y = series(n=7, l=16)
    m = NCVQ(ssl, (lambda x, generator: -x) if augment == "callable" else augment, **TINY).fit(X, y)
    assert m.sample(3, y=1, random_state=0).shape == (3, 1, 16)
    assert all(np.isfinite(v).all() for h in m.history_.values() for v in h.values())
    assert ("ssl" in m.history_["tokenizer"]) == ("augmented" in m.history_["tokenizer"]) == (ssl is not None)


@pytest.mark.parametrize("c, l", [(1, 16), (1, 17), (3, 33), (2, 50)])
def test_shapes_dtypes_and_exact_lengths(c, l):
    X, y = series(n=9, c=c, l=l)
    m = NCVQ(**TINY).fit(X, y)
    s = m.encode(X[:5])
    n_tokens = m.tokenizer_.n_tokens
    assert s.shape == (5, n_tokens) and s.dtype == np.int64 and 0 <= s.min() and s.max() < 8
    assert m.tokenizer_.grid[0] * m.tokenizer_.grid[1] == n_tokens and m.tokenizer_.codebook.shape == (8, 8)
    for X_hat in (m.decode(s), m.reconstruct(X[:5])): assert X_hat.shape == (5, c, l) and X_hat.dtype == np.float32 and np.isfinite(X_hat).all()
    assert_allclose(m.decode(s), m.reconstruct(X[:5]), atol=1e-5)
    for Z in (m.transform(X), m.features(X), m.features(X, quantised=False)): assert Z.shape == (9, 16) and Z.dtype == np.float32
    assert np.array_equal(m.transform(X), m.features(X)) and not np.array_equal(m.features(X), m.features(X, quantised=False))
    for X_new in (m.sample(4), m.sample(4, y=0), m.sample(y=[0, 1, 1, 0]), m.sample(4, [1, 1, 1, 1])): assert X_new.shape == (4, c, l) and X_new.dtype == np.float32
    assert m.sample_tokens(2).dtype == np.int64 and m.sample_tokens(2).shape == (2, n_tokens)
    assert list(m.classes_) == [0, 1] and m.n_features_in_ == l


def test_what_comes_out_does_not_depend_on_company(model):
    X, _ = series(n=300)
    assert np.array_equal(model.encode(X)[[3, 270]], model.encode(X[[3, 270]]))
    assert_allclose(model.transform(X)[[3, 270]], model.transform(X[[3, 270]]), atol=1e-6)


def test_features_are_mean_and_maximum_of_the_codes(model):
    X, _ = series()
    s = torch.from_numpy(model.encode(X))
    z_q = model.tokenizer_.codebook[s]  # (n, n_tokens, d)
    assert_allclose(model.transform(X), torch.cat([z_q.mean(1), z_q.amax(1)], 1).numpy(), atol=1e-5)


def test_two_dimensional_lists_and_other_types_are_read(model):
    X, y = series()
    flat = NCVQ(**TINY).fit(X[:, 0].astype(np.float64).tolist(), y.tolist())
    assert fingerprint(flat) == fingerprint(model)
    assert np.array_equal(flat.encode(X[:, 0]), model.encode(X))
    pd = pytest.importorskip("pandas")
    assert fingerprint(NCVQ(**TINY).fit(pd.DataFrame(X[:, 0]), pd.Series(y))) == fingerprint(model)
    assert fingerprint(NCVQ(**TINY).fit(torch.from_numpy(X), torch.from_numpy(y))) == fingerprint(model)


def test_units_are_given_back():
    "Powers of two, so that standardised series are the same to the bit."
    X, y = series()
    X = np.round(X * 256) / 256
    a, b = NCVQ(**TINY).fit(X, y), NCVQ(**TINY).fit(64 * X, y)
    assert np.array_equal(a.encode(X), b.encode(64 * X))
    assert_allclose(b.reconstruct(64 * X), 64 * a.reconstruct(X), rtol=1e-4, atol=1e-3)
    assert_allclose(b.sample(5, random_state=1), 64 * a.sample(5, random_state=1), rtol=1e-4, atol=1e-3)
    shifted = NCVQ(**TINY).fit(X + 1024, y).sample(5, random_state=1)
    assert 1022 < shifted.min() and shifted.max() < 1026


@pytest.mark.parametrize("y", [np.array(["up", "down"])[np.arange(12) % 2], [-1, 1] * 6, ["one"] * 12, [7] * 12, [f"class {i}" for i in range(12)], np.array([0., 1.] * 6),
                               np.array(["1", "2"] * 6, object), [True, False] * 6], ids=["strings", "-1 and 1", "one string", "one number", "all different", "floats", "objects", "booleans"])
def test_labels_of_every_kind(y, tmp_path):
    m = fitted(y)
    assert set(m.classes_.tolist()) == set(np.unique(y).tolist())
    X_new = m.sample(3, y=m.classes_[0], random_state=0)
    assert X_new.shape == (3, 1, 33) and m.sample(2, random_state=0).shape == (2, 1, 33)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert again.classes_.tolist() == m.classes_.tolist() and again.classes_.dtype.kind == m.classes_.dtype.kind
    assert np.array_equal(again.sample(3, y=list(y)[0], random_state=0), m.sample(3, y=list(y)[0], random_state=0))


def test_without_labels(tmp_path):
    m = fitted(None)
    assert m.classes_ is None and m.sample(2, random_state=0).shape == (2, 1, 33)
    with says("y was given", "without labels"): m.sample(2, y=0)
    m.save(tmp_path / "m")
    assert NCVQ.load(tmp_path / "m").classes_ is None


def test_classes_steer_the_samples():
    "Two classes with tokens of their own: a prior that is trained a little longer keeps them apart."
    X = np.where(np.arange(40)[:, None, None] % 2, 1, -1) * np.sin(np.linspace(0, 6, 32)) + 0.01 * np.random.default_rng(0).normal(size=(40, 1, 32))
    m = NCVQ(None, None, **{**TINY, "epochs": (200, 250), "prior_dropout": 0.0, "lr": 3e-3}).fit(X, np.arange(40) % 2)
    mean = [m.sample(20, y=c, random_state=0)[:, 0].mean(0) @ np.sin(np.linspace(0, 6, 32)) for c in (0, 1)]
    assert mean[0] < 0 < mean[1]


# scikit-learn

def test_parameters_are_stored_untouched_and_cloned():
    given = dict(epochs=(2, 3), batch_size=[4, 5], lr=(1e-3, 2e-3), augment=len, random_state=np.random.default_rng(0))
    m = NCVQ("barlow", **given)
    assert all(getattr(m, k) is v for k, v in given.items())
    import inspect
    names = set(inspect.signature(NCVQ).parameters)
    assert set(m.get_params()) == names and set(vars(m)) == names
    copy = clone(m)
    assert copy.get_params()["epochs"] == (2, 3) and copy.ssl == "barlow" and not hasattr(copy, "tokenizer_")
    assert m.set_params(ssl="vicreg", n_codes=5) is m and (m.ssl, m.n_codes) == ("vicreg", 5)
    with pytest.raises(ValueError, match="n_cods"): m.set_params(n_cods=3)
    with pytest.raises(TypeError): NCVQ("barlow", "warp", 8)  # the rest is keyword-only


def test_clone_of_a_fitted_model_learns_the_same(model):
    copy = clone(model)
    assert copy.get_params() == model.get_params() and fingerprint(copy.fit(*series())) == fingerprint(model)


def test_pipelines_and_grid_search(model):
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    X, y = series(n=16)
    pipe = make_pipeline(NCVQ(**TINY), KNeighborsClassifier(1))
    search = GridSearchCV(pipe, {"ncvq__n_codes": [4, 6]}, cv=2, error_score="raise").fit(X[:, 0], y)
    assert 0 <= search.best_score_ <= 1 and len(search.predict(X)) == 16
    assert len(search.best_estimator_[0].get_feature_names_out()) == 16
    assert np.array_equal(NCVQ(**TINY).fit_transform(*series()), model.transform(series()[0]))
    frame = clone(model).set_output(transform="pandas").fit(*series()).transform(series()[0])
    assert frame.shape == (12, 16) and frame.columns[0].startswith("ncvq")


def test_the_thesis_settings():
    m = NCVQ.thesis("barlow", "slice", random_state=3)
    p = m.get_params()
    assert (p["ssl"], p["augment"], p["n_fft"], p["dim"], p["n_res_blocks"], p["n_codes"], p["decay"], p["commitment"], p["aug_weight"]) == ("barlow", "slice", 8, 64, 4, 32, 0.9, 1.0, 0.1)
    assert (p["projector_dim"], p["prior_dim"], p["prior_depth"], p["prior_heads"], p["prior_dropout"], p["p_unconditional"]) == (4096, 256, 4, 2, 0.0, 0.2)
    assert (p["sampling_steps"], p["choice_temperature"], p["guidance_scale"], p["epochs"], p["batch_size"], p["lr"], p["weight_decay"]) == (10, 4.0, 1.0, 1000, (128, 256), 1e-3, 1e-3)
    assert NCVQ.thesis(epochs=5).epochs == 5


# randomness

def test_equal_seeds_give_equal_models_and_others_others(model):
    assert fingerprint(fitted()) == fingerprint(model) == fingerprint(fitted(random_state=np.int64(0)))
    assert fingerprint(fitted(random_state=1)) != fingerprint(model)
    one, two = (fitted(random_state=np.random.default_rng(5)) for _ in range(2))
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(fitted(random_state=None)) != fingerprint(fitted(random_state=None))


def test_the_number_of_the_callers_draws_before_does_not_matter(model):
    random.random(), np.random.rand(3), torch.rand(3)
    assert fingerprint(fitted()) == fingerprint(model)


def test_samples_follow_their_random_state(model):
    a = model.sample(4, random_state=1)
    assert np.array_equal(a, model.sample(4, random_state=1)) and not np.array_equal(a, model.sample(4, random_state=2))
    assert not np.array_equal(model.sample(40), model.sample(40))
    rng = np.random.default_rng(3)
    assert not np.array_equal(model.sample(4, random_state=rng), model.sample(4, random_state=rng))


def test_global_generators_are_left_alone(tmp_path):
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    before = global_state()
    X, y = series()
    m = NCVQ(**{**TINY, "random_state": None, "validation_fraction": 0.25}).fit(X, y, run_dir=tmp_path / "run")
    m.encode(X), m.decode(m.encode(X)), m.transform(X), m.reconstruct(X), m.sample(3), m.sample(3, random_state=0), m.save(tmp_path / "m"), NCVQ.load(tmp_path / "m").sample(2)
    assert global_state() == before


def test_nothing_moves_outside_fit(model, tmp_path):
    X, y = series(seed=5)
    before = fingerprint(model)
    for _ in range(2): model.encode(3 * X), model.decode(model.encode(X)), model.reconstruct(X), model.transform(X + 1), model.features(X, quantised=False), model.sample(5), model.sample(y=y)
    model.save(tmp_path / "m")
    assert fingerprint(model) == before and not model.tokenizer_.training and not model.prior_.training


# each stage alone

def test_stages_can_be_fitted_one_by_one(model):
    X, y = series()
    m = NCVQ(**TINY)
    with pytest.raises(NotFittedError): m.fit_prior(X, y)
    m.fit_tokenizer(X, y)
    assert not hasattr(m, "prior_") and m.encode(X).shape[0] == 12
    with pytest.raises(NotFittedError): m.sample(3)
    assert fingerprint(m.fit_prior(X, y)) == fingerprint(model)


def test_a_tokenizer_alone_is_saved_and_loaded(tmp_path):
    X, y = series()
    m = NCVQ(**TINY).fit_tokenizer(X)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert np.array_equal(again.encode(X), m.encode(X)) and not hasattr(again, "prior_")
    with pytest.raises(NotFittedError): again.sample(1)
    assert fingerprint(again.fit_prior(X, y)) == fingerprint(m.fit_prior(X, y))


def test_fitting_the_tokenizer_anew_forgets_the_prior():
    X, y = series()
    m = fitted()
    m.fit_tokenizer(X)
    with pytest.raises(NotFittedError): m.sample(1)


def test_changed_parameters_do_not_break_a_fitted_model():
    "The networks know their own sizes."
    X, y = series()
    m = fitted()
    s = m.encode(X)
    m.set_params(n_codes=4, dim=16)
    assert m.decode(s).shape == X.shape
    m.fit_prior(X, y)
    assert m.sample(2).shape == (2, 1, 33)


def test_an_interrupted_refit_leaves_no_mixture(monkeypatch):
    "Either the model of before, or none; not the old networks with the new scaler."
    X, y = series()
    m = fitted()
    want = m.reconstruct(X)
    def interrupted(*args, **kw): raise KeyboardInterrupt
    monkeypatch.setattr(generator, "train", interrupted)
    with pytest.raises(KeyboardInterrupt): m.fit(100 * X, y)
    try: got = m.reconstruct(X)
    except NotFittedError: return
    assert_allclose(got, want, atol=1e-5)


# validation split

def test_an_interrupted_prior_leaves_the_old_one_with_its_classes(monkeypatch):
    m, (X, y) = fitted(np.array(["sit", "walk"])[series()[1]]), series()
    before, state = m.sample(3, "walk", random_state=0), fingerprint(m)
    def stop(*a, **kw): raise KeyboardInterrupt
    with monkeypatch.context() as c:
        c.setattr(generator, "train", stop)
        with pytest.raises(KeyboardInterrupt): m.fit_prior(X, np.array(["a", "b", "c"])[np.arange(12) % 3])
    assert m.classes_.tolist() == ["sit", "walk"] and len(m.class_prior_) == 2 and fingerprint(m) == state
    np.testing.assert_array_equal(m.sample(3, "walk", random_state=0), before)


def test_validation_split(model):
    m = fitted(validation_fraction=0.25)
    assert "valid_loss" in m.history_["tokenizer"] and "valid_loss" in m.history_["prior"] and np.isfinite(m.history_["prior"]["valid_loss"]).all()
    assert "valid_loss" not in model.history_["prior"]


@pytest.mark.parametrize("ssl", [None, "barlow", "vicreg", "vibcreg"])
@pytest.mark.parametrize("fraction, batch", [(0.05, 128), (0.42, 4)], ids=["one series held out", "one series in the last batch"])
def test_small_validation_splits_work(ssl, fraction, batch):
    m = fitted(None, ssl=ssl, validation_fraction=fraction, batch_size=batch)
    assert np.isfinite(m.history_["tokenizer"]["valid_loss"]).all()


@pytest.mark.parametrize("ssl", [None, "barlow", "vicreg", "vibcreg"])
def test_two_and_three_series_are_enough(ssl):
    for n in (2, 3): assert NCVQ(ssl, **TINY).fit(*series(n=n)).sample(2, random_state=0).shape == (2, 1, 33)


def test_constant_and_repeated_series():
    for X in (np.ones((6, 32)), np.zeros((6, 1, 32)), np.repeat(series(n=1)[0], 6, 0), np.full((6, 32), 1e6)):
        m = NCVQ("barlow", **TINY).fit(X)
        assert_allclose(m.sample(2).mean(), X.mean(), atol=3 + 1e-3 * abs(X.mean()))


# bad input

@pytest.mark.parametrize("make, parts", [
    (lambda X: np.where(np.arange(33) == 3, np.nan, X), ["X", "NaN"]),
    (lambda X: np.where(np.arange(33) == 3, np.inf, X), ["X", "inf"]),
    (lambda X: X[0, 0], ["X", "shape (33,)"]),
    (lambda X: X[None], ["X", "shape"]),
    (lambda X: X[:, :, :7], ["X", "length 7", "8"]),
    (lambda X: X[:0], ["X", "empty"]),
    (lambda X: X[:1], ["X", "1 series", "2"]),
    (lambda X: X.astype(str), ["X", "dtype"]),
    (lambda X: None, ["X", "None"]),
    (lambda X: [x[0, :20 + i] for i, x in enumerate(X)], ["X", "unequal length"]),
], ids=["nan", "inf", "one series", "four axes", "too short", "empty", "a single one", "text", "none", "ragged"])
def test_bad_series(make, parts, model):
    X, y = series()
    with says(*parts): NCVQ(**TINY).fit(make(X))
    for method in (model.encode, model.transform, model.reconstruct, model.features):
        bad = make(X)
        if isinstance(bad, np.ndarray) and bad.shape == (1, 1, 33): continue  # one series is enough here
        with says("X"): method(bad)


@pytest.mark.parametrize("y, parts", [(range(5), ["y", "5 labels", "12"]), ([None] * 12, ["y"]), ([0.5] * 12, ["y", "0.5"]), (np.zeros((12, 3)), ["y", "shape (12, 3)"]),
                                      (["a"] * 11 + [""], ["y[11]", "missing"]), ([np.nan] * 12, ["y", "missing"])])
def test_bad_labels(y, parts):
    with says(*parts): NCVQ(**TINY).fit(series()[0], y)


def test_series_of_another_shape(model):
    for X in (np.zeros((3, 1, 32)), np.zeros((3, 2, 33))):
        for method in (model.encode, model.transform, model.reconstruct):
            with says("X has", "trained on 1 of length 33"): method(X)
        with says("X has", "trained on"): model.fit_prior(X)


@pytest.mark.parametrize("s, parts", [(np.zeros((2, 3), int), ["s must", "(2, 3)"]), (np.zeros(40, int), ["s must"]), (np.zeros((2, 40)), ["float64"]), (np.full((2, 40), 8), ["0 to 7", "8"]),
                                      (np.full((2, 40), -1), ["-1"]), (np.zeros((0, 40), int), ["s"]), ("text", ["s must"])], ids=["width", "rank", "float", "too great", "negative", "empty", "text"])
def test_bad_tokens(model, s, parts):
    assert model.tokenizer_.n_tokens == 40
    with says(*parts): model.decode(s)


@pytest.mark.parametrize("kw, parts", [(dict(n=0), ["n must", "0"]), (dict(n=-1), ["n must"]), (dict(), ["n must", "None"]), (dict(n=2.5), ["n must", "2.5"]), (dict(y=0), ["n must"]),
                                       (dict(n=2, y=5), ["y", "5", "0, 1"]), (dict(n=2, y="a"), ["y", "'a'"]), (dict(n=3, y=[0, 1]), ["y", "3"]), (dict(y=[]), ["y"]), (dict(y=[[0]]), ["y", "(1, 1)"]),
                                       (dict(n=1, sampling_steps=0), ["sampling_steps"]), (dict(n=1, random_state="x"), ["random_state"]), (dict(n=1, random_state=-1), ["random_state"]),
                                       (dict(n=1, guidance_scale="x"), ["guidance_scale"]), (dict(n=1, choice_temperature="x"), ["choice_temperature"]),
                                       (dict(n=1, guidance_scale=float("nan")), ["guidance_scale"]), (dict(n=1, choice_temperature=-1), ["choice_temperature"])], ids=str)
def test_bad_samples(model, kw, parts):
    with says(*parts): model.sample(**kw)


def test_unknown_labels_are_shown_as_they_were_given(words):
    with says("'lie'", "'sit', 'stand up'") as e: words.sample(2, y="lie")
    assert "np." not in str(e.value)
    with says("y") as e: words.sample(2, y=3)
    assert "np." not in str(e.value)


def test_not_fitted(tmp_path):
    m, X = NCVQ(**TINY), series()[0]
    for call in (lambda: m.encode(X), lambda: m.decode(np.zeros((1, 20), int)), lambda: m.transform(X), lambda: m.reconstruct(X), lambda: m.features(X), lambda: m.sample(1), lambda: m.save(tmp_path / "m"),
                 lambda: m.fit_prior(X)):
        with pytest.raises(NotFittedError): call()
    assert not (tmp_path / "m").exists()


nan, inf = float("nan"), float("inf")
BAD = dict(
    ssl=["x", 3, True], augment=["x", 3], n_fft=[7, 0, -8, "8", 8.0, None], dim=[0, -1, 2.5, "8", None], n_res_blocks=[-1, 1.5, "1", None], n_codes=[0, -1, 1.5, "8", None],
    decay=[-0.1, 1.0, 2, "x", None, nan], revive_below=[-1, "x", None, nan], orthogonality=[-1, 2, "x", None], commitment=[-1, "x", None, nan], aug_weight=[-1, "x", nan], ssl_weight=[-1, "x", nan],
    projector_dim=[0, -1, 2.5, "x", None], prior_dim=[0, -1, 1.5, "x", None], prior_depth=[-1, 1.5, "x", None], prior_heads=[0, -1, 1.5, "x", None], prior_dropout=[-0.1, 1.5, "x", None],
    finetune_codebook=["x"], compile=["x", None, 1], mask_schedule=["x", None, 3, len], p_unconditional=[-1, 2, "x", None], sampling_steps=[0, -1, 1.5, "x", None], choice_temperature=[-1, "x", None, nan], guidance_scale=["x", None, nan], unconditional=["x", None],
    epochs=[0, -1, "x", (1, 2, 3), (1,), nan, inf, (1, 0)], batch_size=[0, -1, "x", 2.5, 0.5, (1, 2, 3), None], lr=[0, -1, "x", None, inf, nan, (1,), (1e-3, 0)], weight_decay=[-1, "x", None, nan, (1, 2, 3), (0, -1)],
    validation_fraction=[-0.1, 1, 1.5, "x", None, nan], precision=["x", 16, "float16", None], device=["x", 3, None, "meta"], random_state=[-1, 1.5, "x"])


def test_no_parameter_is_left_out_below(): assert set(NCVQ().get_params()) - set(BAD) == {"verbose"}


@pytest.mark.parametrize("name, value", [(k, v) for k, vs in BAD.items() for v in vs], ids=lambda v: repr(v) if not callable(v) else v.__name__)
def test_bad_parameters_are_named_before_any_training(name, value, monkeypatch):
    def begun(*args, **kw): raise AssertionError(f"training has begun with {name}={value!r}")
    monkeypatch.setattr(generator, "train", begun)
    with says(name): NCVQ(**{**TINY, name: value}).fit(*series())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    with says("device", "cuda"): NCVQ(**{**TINY, "device": "cuda"}).fit(*series())


def test_batches_of_one_are_refused_where_series_are_compared():
    with says("batch_size", "2"): NCVQ("barlow", **{**TINY, "batch_size": 1}).fit(*series())
    assert NCVQ(None, **{**TINY, "batch_size": 1, "epochs": 1}).fit(*series(n=3)).sample(1).shape == (1, 1, 33)


def test_whitening_needs_whole_groups():
    with says("projector_dim", "64", "100"): NCVQ("vibcreg", **{**TINY, "projector_dim": 100}).fit(*series())


def test_a_prior_without_a_null_class_says_so():
    m, (X, y) = fitted(p_unconditional=0.0), series()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m.sample(4, random_state=0), m.sample(4, 1, random_state=0)
    gappy = X.copy()
    gappy[:, 0, 5:9] = np.nan
    with pytest.warns(UserWarning, match="p_unconditional=0"): m.impute(gappy, random_state=0)
    with pytest.warns(UserWarning, match="p_unconditional=0"): m.sample(4, 1, guidance_scale=2.0, random_state=0)
    with pytest.warns(UserWarning, match="p_unconditional=0"): m.set_params(unconditional="null").sample(4, random_state=0)


def test_bad_views_are_named():
    with says("augment", "shape"): NCVQ("barlow", lambda x, generator: x[..., :-1], **TINY).fit(*series())


# saved models

def test_a_saved_model_is_the_model(words, tmp_path):
    X, _ = series(seed=3)
    words.save(tmp_path / "deep" / "m")
    assert sorted(p.name for p in (tmp_path / "deep" / "m").iterdir()) == ["README.md", "config.json", "prior.safetensors", "tokenizer.safetensors"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["m"]
    for again in (NCVQ.load(tmp_path / "deep" / "m"), NCVQ.load(str(tmp_path / "deep" / "m"))):
        assert fingerprint(again) == fingerprint(words) and again.get_params() == {**words.get_params()}
        assert again.history_ == words.history_ and again.classes_.tolist() == ["sit", "stand up"]
        assert np.array_equal(again.encode(X), words.encode(X)) and np.array_equal(again.transform(X), words.transform(X)) and np.array_equal(again.reconstruct(X), words.reconstruct(X))
        assert np.array_equal(again.sample(4, y="sit", random_state=2), words.sample(4, y="sit", random_state=2))
        assert not again.tokenizer_.training and not again.prior_.training
        again.save(tmp_path / "twice")
        assert {p.name: p.read_bytes() for p in (tmp_path / "twice").iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "deep" / "m").iterdir()}
    config = json.loads((tmp_path / "deep" / "m" / "config.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert {"format", "library", "settings", "scaler", "classes", "data"} <= set(config)


def test_fitting_a_loaded_model_again_gives_the_same(words, tmp_path):
    words.save(tmp_path / "m")
    again = clone(NCVQ.load(tmp_path / "m"))
    assert fingerprint(again.fit(series()[0], np.array(["sit", "stand up"])[series()[1]])) == fingerprint(words)


def test_units_and_settings_survive(tmp_path):
    X, y = series(c=2)
    m = NCVQ("barlow", lambda x, generator: x, **{**TINY, "batch_size": (5, 6), "epochs": (2, 1), "guidance_scale": 2.0, "random_state": np.random.default_rng(1)}).fit(X * [[100], [1]] + [[-1000], [5]], y)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert np.array_equal(again.sample(3, random_state=0), m.sample(3, random_state=0)) and again.batch_size == (5, 6) and again.guidance_scale == 2
    assert again.sample(3)[:, 0].mean() < -700


def test_saving_over_a_model_replaces_it_and_over_anything_else_is_refused(model, words, tmp_path):
    path = tmp_path / "m"
    words.save(path), model.save(path)
    assert fingerprint(NCVQ.load(path)) == fingerprint(model) and [p.name for p in tmp_path.iterdir()] == ["m"]
    (tmp_path / "empty").mkdir()
    model.save(tmp_path / "empty")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "file"):
        with says("path", name): model.save(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work" and (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', '{"format": 1, "name": "somebody else\'s"}', "no json"])
def test_another_programs_folder_with_a_config_is_not_overwritten(model, tmp_path, config):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(config)
    (tmp_path / "bert" / "weights.bin").write_bytes(b"precious")
    with says("path", "bert"): model.save(tmp_path / "bert")
    assert (tmp_path / "bert" / "weights.bin").read_bytes() == b"precious"


def test_files_of_the_users_beside_a_model_are_not_deleted(model, tmp_path):
    model.save(tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    try: model.save(tmp_path / "m")
    except ValueError: pass
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("where", range(6))
def test_a_failed_save_leaves_the_model_that_is_there(model, words, tmp_path, monkeypatch, where):
    "The disk is full, or renaming fails, at every step of the way."
    from pathlib import Path
    words.save(tmp_path / "m")
    calls = [0]
    def failing(f):
        def g(*args, **kw):
            calls[0] += 1
            if calls[0] == where + 1: raise OSError(28, "No space left on device")
            return f(*args, **kw)
        return g
    monkeypatch.setattr(os, "replace", failing(os.replace)), monkeypatch.setattr(Path, "rename", failing(Path.rename))
    with pytest.raises(OSError): model.save(tmp_path / "m")
    monkeypatch.undo()
    assert fingerprint(NCVQ.load(tmp_path / "m")) == fingerprint(words)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_saving_into_the_current_folder(model, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    try: model.save(".")
    except ValueError as e: assert "path" in str(e)
    else: assert fingerprint(NCVQ.load(tmp_path / "here")) == fingerprint(model)
    model.save("m")
    assert fingerprint(NCVQ.load("m")) == fingerprint(model)


def edit(f):
    "A change of the parsed config.json."
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        got = f(config)
        (folder / "config.json").write_text(json.dumps(config if got is None else got))
    return change


def put(*keys, value):
    "A value at a place of config.json."
    def f(config):
        for k in keys[:-1]: config = config[k]
        config[keys[-1]] = value
    return edit(f)


def drop(*keys):
    def f(config):
        for k in keys[:-1]: config = config[k]
        del config[keys[-1]]
    return edit(f)


def tensors(f, name="tokenizer.safetensors"):
    "A change of the weights, with a hash to match, as an attacker or a well-meaning script would do it."
    def change(folder):
        t = from_bytes((folder / name).read_bytes())
        f(t)
        blob = to_bytes(t)
        (folder / name).write_bytes(blob)
        put("sha256", name, value=hashlib.sha256(blob).hexdigest())(folder)
    return change


def bytes_of(name, f): return lambda folder: (folder / name).write_bytes(f((folder / name).read_bytes()))
def flip(i): return lambda b: b[:i] + bytes([b[i] ^ 8]) + b[i + 1:] if i >= 0 else b[:i] + bytes([b[i] ^ 8]) + (b[i + 1:] if i < -1 else b"")


DAMAGE = {
    **{f"{n} {what}": f for n in ("tokenizer.safetensors", "prior.safetensors", "config.json") for what, f in {
        "missing": (lambda n: lambda d: (d / n).unlink())(n), "empty": bytes_of(n, lambda b: b""), "truncated": bytes_of(n, lambda b: b[:len(b) // 2]),
        "short of a byte": bytes_of(n, lambda b: b[:-1]), "a bit flipped early": bytes_of(n, flip(3)), "noise": bytes_of(n, lambda b: bytes(range(256))),
        "a folder": (lambda n: lambda d: ((d / n).unlink(), (d / n).mkdir()))(n)}.items()},
    "tokenizer.safetensors a bit flipped late": bytes_of("tokenizer.safetensors", flip(-5)), "prior.safetensors a bit flipped late": bytes_of("prior.safetensors", flip(-5)),
    "tensor missing": tensors(lambda t: t.pop("vq.codebook")), "tensor too many": tensors(lambda t: t.update(extra=torch.zeros(3))),
    "tensor of another shape": tensors(lambda t: t.update({"vq.codebook": torch.zeros(9, 8)})), "prior's tensor of another shape": tensors(lambda t: t.update(position=torch.zeros(2, 2)), "prior.safetensors"),
    "weights exchanged": lambda d: ((d / "tokenizer.safetensors").rename(d / "x"), (d / "prior.safetensors").rename(d / "tokenizer.safetensors"), (d / "x").rename(d / "prior.safetensors")),
    "newer format": put("format", value=99), "format no number": put("format", value="1"), "format true": put("format", value=True), "format nought": put("format", value=0),
    "config a list": edit(lambda c: [1]), "config null": edit(lambda c: "null"), "nested deeply": bytes_of("config.json", lambda b: b"[" * 100_000),
    **{f"no {k}": drop(k) for k in ("format", "settings", "seed", "data", "scaler", "classes", "modules", "history", "sha256")},
    **{f"{k} a number": put(k, value=5) for k in ("settings", "data", "scaler", "classes", "modules", "history", "sha256")},
    **{f"{k} empty": put(k, value={}) for k in ("settings", "data", "scaler", "modules", "sha256")},
    "unknown setting": put("settings", "magic", value=1), "unknown key": put("surprise", value=1), "unknown module": put("modules", "critic", value={}), "unknown size": put("modules", "tokenizer", "magic", value=1),
    "no tokenizer": drop("modules", "tokenizer"), "prior without hash": drop("sha256", "prior.safetensors"), "prior without sizes": drop("modules", "prior"),
    "another length": put("modules", "tokenizer", "length", value=40), "length of the data": put("data", "length", value=40), "channels of the data": put("data", "channels", value=2), "more codes": put("modules", "tokenizer", "n_codes", value=9),
    "size nought": put("modules", "tokenizer", "dim", value=0), "size negative": put("modules", "prior", "dim", value=-1), "size a word": put("modules", "prior", "depth", value="x"), "size null": put("modules", "tokenizer", "n_fft", value=None),
    "one class too many": put("classes", value=["a", "b", "c"]), "classes nested": put("classes", value=[["a"], "b"]), "no classes": put("classes", value=[]),
    "scale nought": put("scaler", "std", value=[0.0]), "scale nan": put("scaler", "std", value=[float("nan")]), "scale of two channels": put("scaler", "std", value=[1.0, 1.0]), "mean a word": put("scaler", "mean", value=["x"]), "mean missing": put("scaler", "mean", value=[]),
    "hash of another file": put("sha256", "../../etc/passwd", value="0" * 64), "hash of an absolute path": put("sha256", "/etc/passwd", value="0" * 64), "hash a number": put("sha256", "tokenizer.safetensors", value=1),
    "history no columns": put("history", value={"tokenizer": 3}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_models_are_refused(words, tmp_path, damage):
    words.save(tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises((ValueError, FileNotFoundError)) as e: NCVQ.load(tmp_path / "m")
    assert str(tmp_path / "m") in str(e.value)


@pytest.mark.parametrize("old, new", [('"mean": [', '"mean": [1'), ('"n_codes": 8', '"n_codes": 7'), ('"guidance_scale": 1.0', '"guidance_scale": 9.0'), ('"sit"', '"sat"')])
def test_a_changed_character_of_the_config_is_noticed(words, tmp_path, old, new):
    words.save(tmp_path / "m")
    text = (tmp_path / "m" / "config.json").read_text()
    text = text if old in text else json.dumps(json.loads(text))
    if old not in text: pytest.skip("written in another way")
    (tmp_path / "m" / "config.json").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match="config.json"): NCVQ.load(tmp_path / "m")


@pytest.mark.parametrize("keys, size", [(("prior", "n_tokens"), 10_000_000), (("prior", "n_codes"), 20_000_000), (("tokenizer", "n_codes"), 20_000_000), (("tokenizer", "dim"), 3000), (("prior", "n_classes"), 10_000_000),
                                        (("tokenizer", "n_res_blocks"), 10**12), (("prior", "depth"), 10**12)], ids=str)
def test_sizes_in_the_config_allocate_nothing_before_they_are_checked(words, tmp_path, keys, size):
    "About a gigabyte each; in a process of its own, whose peak is measured and limited."
    words.save(tmp_path / "m")
    put("modules", *keys, value=size)(tmp_path / "m")
    code = """if True:
        import resource, sys, torch
        from ncvq_nb import NCVQ
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try: NCVQ.load(sys.argv[1])
        except ValueError: print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
        else: print("loaded")"""
    try: out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired: pytest.fail("still busy building networks")
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) < 200, f"{out.stdout} MB"


def test_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"): NCVQ.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="config.json"): NCVQ.load(tmp_path)
    (tmp_path / "f").write_text("x")
    with pytest.raises((FileNotFoundError, ValueError), match="no folder"): NCVQ.load(tmp_path / "f")


# runs

def cut(stage, step, monkeypatch):
    "Ctrl-C in a given training step of a given stage; a checkpoint at every line of the history."
    cls = {"tokenizer": generator.TokenizerLoss, "prior": generator.MaskGITLoss}[stage]
    forward, calls = cls.forward, [0]
    def counted(self, *args, **kw):
        if self.training: calls[0] += 1
        if calls[0] > step: raise KeyboardInterrupt
        return forward(self, *args, **kw)
    monkeypatch.setattr(cls, "forward", counted)


@pytest.fixture
def often(monkeypatch):
    original = generator.train
    monkeypatch.setattr(generator, "train", lambda *args, **kw: original(*args, **{**kw, "checkpoint_every": 0, "log_every": 2}))


@pytest.mark.parametrize("valid", [0.0, 0.25])
@pytest.mark.parametrize("stage, step", [("tokenizer", 0), ("tokenizer", 1), ("tokenizer", 5), ("prior", 0), ("prior", 5), ("prior", 6)])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path, often, stage, step, valid):
    X, y = series()
    kw = {**TINY, "batch_size": 5, "epochs": 4, "validation_fraction": valid}
    whole = NCVQ(**kw).fit(X, y, run_dir=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as m:
        cut(stage, step, m)
        with pytest.raises(KeyboardInterrupt): NCVQ(**kw).fit(X, y, run_dir=tmp_path / "cut")
    again = NCVQ(**kw).fit(X, y, run_dir=tmp_path / "cut")
    assert fingerprint(again) == fingerprint(whole)
    for s in ("tokenizer", "prior"):
        assert again.history_[s]["loss"] == whole.history_[s]["loss"] and again.history_[s]["step"] == whole.history_[s]["step"]
        assert (tmp_path / "cut" / s / "history.csv").read_text().splitlines()[0].startswith("step,epoch,lr,seconds,loss")
    assert np.array_equal(again.sample(3, random_state=0), whole.sample(3, random_state=0))


def test_a_run_without_a_seed_goes_on_with_the_one_it_had(tmp_path, often):
    X, y = series()
    kw = {**TINY, "random_state": None}
    with pytest.MonkeyPatch.context() as m:
        cut("prior", 2, m)
        with pytest.raises(KeyboardInterrupt): NCVQ(**kw).fit(X, y, run_dir=tmp_path)
    one = NCVQ(**kw).fit(X, y, run_dir=tmp_path)
    assert fingerprint(one) == fingerprint(NCVQ(**kw).fit(X, y, run_dir=tmp_path)) == fingerprint(fitted(random_state=one.seed_))


@pytest.mark.parametrize("change", [dict(n_codes=9), dict(epochs=4), dict(ssl=None), dict(random_state=1), dict(prior_dim=64), dict(lr=2e-3), dict(augment="slice")], ids=str)
def test_a_run_with_other_settings_is_refused(tmp_path, change):
    X, y = series(n=4, l=16)
    NCVQ(**{**TINY, "epochs": 1}).fit(X, y, run_dir=tmp_path)
    name, value = next(iter(change.items()))
    with says(str(tmp_path), name, repr(value), "take another folder"): NCVQ(**{**TINY, "epochs": 1, **change}).fit(X, y, run_dir=tmp_path)


def test_a_run_on_other_data_is_refused(tmp_path):
    X, y = series(n=4, l=16)
    NCVQ(**{**TINY, "epochs": 1}).fit(X, y, run_dir=tmp_path)
    for X2, y2 in ((X + 1, y), (X[:3], y[:3]), (X, 1 - y), (X, None)):
        with says(str(tmp_path), "data"): NCVQ(**{**TINY, "epochs": 1}).fit(X2, y2, run_dir=tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_damaged_settings_of_a_run_are_named(tmp_path, text):
    X, y = series(n=4, l=16)
    NCVQ(**{**TINY, "epochs": 1}).fit(X, y, run_dir=tmp_path)
    (tmp_path / "settings.json").write_text(text)
    with says("settings.json"): NCVQ(**{**TINY, "epochs": 1}).fit(X, y, run_dir=tmp_path)


def test_a_run_in_a_file_or_over_a_damaged_checkpoint(tmp_path, often):
    X, y = series()
    whole = NCVQ(**TINY).fit(X, y, run_dir=tmp_path / "run")
    newest = sorted((tmp_path / "run" / "prior").glob("checkpoint-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.warns(UserWarning, match="damaged"): assert fingerprint(NCVQ(**TINY).fit(X, y, run_dir=tmp_path / "run")) == fingerprint(whole)
    (tmp_path / "file").write_text("x")
    with pytest.raises((ValueError, OSError)): NCVQ(**TINY).fit(X, y, run_dir=tmp_path / "file")


def test_bfloat16_runs_and_stays_near():
    m = fitted(precision="bfloat16")
    assert m.tokenizer_.codebook.dtype == torch.float32 and np.isfinite(m.sample(3)).all()
    assert abs(m.history_["tokenizer"]["loss"][0] / fitted().history_["tokenizer"]["loss"][0] - 1) < 0.05


def test_epochs_batches_and_pairs():
    X, y = series(n=10)
    steps = lambda m: (m.history_["tokenizer"]["step"][-1], m.history_["prior"]["step"][-1])
    assert steps(NCVQ(**{**TINY, "epochs": (2, 3), "batch_size": (5, 4)}).fit(X, y)) == (4, 8)  # 3 × 10 / 4 = 7.5
    assert steps(NCVQ(**{**TINY, "epochs": 0.01}).fit(X, y)) == (1, 1)
    m = NCVQ(**{**TINY, "epochs": (2, 4), "batch_size": 5}).fit(X, y)
    assert m.history_["tokenizer"]["epoch"][-1] == 2 and m.history_["prior"]["epoch"][-1] == 4


def test_samples_without_a_label_have_the_classes_of_training(tmp_path):
    X, y = series(n=12)
    y = np.array([0] * 9 + [1] * 3)
    m = NCVQ(**TINY).fit(X, y)
    assert m.class_prior_.tolist() == [0.75, 0.25]
    drawn = m._classes_of(4000, None, 0)
    assert abs((drawn == 1).mean() - 0.25) < 0.03
    assert set(m.set_params(unconditional="null")._classes_of(10, None, 0)) == {2}
    m.save(tmp_path / "m")
    assert NCVQ.load(tmp_path / "m").class_prior_.tolist() == [0.75, 0.25]


def test_views_that_work_in_place_change_neither_the_users_series_nor_the_original():
    X, y = series()
    X = np.ascontiguousarray(X, np.float32)
    before = X.copy()
    in_place, copying = NCVQ("barlow", lambda x, generator: x.mul_(2), **TINY).fit(X, y), NCVQ("barlow", lambda x, generator: x * 2, **TINY).fit(X, y)
    assert np.array_equal(X, before)
    assert in_place.history_["tokenizer"]["loss"] == copying.history_["tokenizer"]["loss"]


# compiled

@pytest.mark.slow
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="there is no C++ compiler")
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=imitated)])
def test_a_compiled_prior_is_the_same_prior(tmp_path, precision):
    X, y = np.random.default_rng(0).normal(size=(12, 32)), np.arange(12) % 2
    small = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=32, prior_depth=1, epochs=(1, 30), batch_size=6, random_state=0, precision=precision)
    plain, compiled = NCVQ(**small).fit(X, y), NCVQ(**small, compile=True).fit(X, y)
    assert compiled.prior_._compiled_call_impl is not None and plain.prior_._compiled_call_impl is None
    assert list(compiled.prior_.state_dict()) == list(plain.prior_.state_dict())
    np.testing.assert_allclose(compiled.history_["prior"]["loss"], plain.history_["prior"]["loss"], rtol=1e-3 if precision == "float32" else .05)
    S = compiled.sample_tokens(5, random_state=1)
    assert S.shape == (5, compiled.tokenizer_.n_tokens) and np.array_equal(S, compiled.sample_tokens(5, random_state=1))
    compiled.save(tmp_path / "model")
    assert not NCVQ.load(tmp_path / "model").compile and pickle.loads(pickle.dumps(compiled)).prior_._compiled_call_impl is None


def test_compile_without_a_compiler_is_said_before_training(monkeypatch):
    monkeypatch.setattr(generator.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="compile=True needs a C.. compiler"): NCVQ(compile=True).fit(np.random.default_rng(0).normal(size=(6, 32)))
    with pytest.raises(ValueError, match="compile must be True or False, found 'yes'"): NCVQ(compile="yes").fit(np.random.default_rng(0).normal(size=(6, 32)))


def test_bfloat16_is_used_for_samples_too():
    X = np.random.default_rng(0).normal(size=(6, 32))
    model, seen = NCVQ(None, None, dim=8, n_res_blocks=1, n_codes=8, prior_dim=16, prior_depth=1, epochs=1, random_state=0).fit(X), []
    model.prior_.blocks[0].qkv.register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    for precision in ("float32", "bfloat16"): model.set_params(precision=precision).sample(2, random_state=0)
    assert set(seen[:20]) == {torch.float32} and set(seen[20:]) == {torch.bfloat16}


def noisy(sigma): return lambda x, generator=None: gaussian_noise(x, generator, sigma=sigma)


VIEWS = [functools.partial(gaussian_noise, sigma=0.05), functools.partial(gaussian_noise, sigma=3.0), compose(flip, gaussian_noise), compose(gaussian_noise, flip), noisy(0.05), noisy(3.0),
         lambda x, generator=None: x * 2, lambda x, generator=None: x * 3, lambda x, generator=None, k=2: x * k, lambda x, generator=None, k=3: x * k, flip, gaussian_noise]


def test_callables_are_told_apart_by_what_they_do():
    assert len({_spelled(v) for v in VIEWS}) == len(VIEWS)
    assert _spelled(noisy(0.05)) == _spelled(VIEWS[4]) and "gaussian_noise" in _spelled(VIEWS[0]) and "sigma=0.05" in _spelled(VIEWS[0])
    def again(n): return again(n - 1) if n else 0  # carries itself along
    assert _spelled(again) == _spelled(again)


def test_names_of_callables_are_the_same_in_another_process():
    program = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); from test_estimator import VIEWS, _spelled; print(*map(_spelled, VIEWS), sep='|')"
    out = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "|".join(map(_spelled, VIEWS)).replace("__main__", "test_estimator")


def test_a_run_with_another_callable_is_refused(tmp_path):
    X, y = series()
    NCVQ("barlow", VIEWS[0], **TINY).fit_tokenizer(X, y, run_dir=tmp_path)
    with says("augment was", "sigma=0.05", "sigma=3.0"): NCVQ("barlow", VIEWS[1], **TINY).fit_tokenizer(X, y, run_dir=tmp_path)


def test_a_loaded_model_whose_view_was_a_callable(tmp_path):
    def warp(x, generator=None): return x * 2  # no other than the library's by name
    X, y = series()
    NCVQ("barlow", warp, **TINY).fit(X, y).save(tmp_path / "m")
    m = NCVQ.load(tmp_path / "m")
    assert m.augment.startswith("test_estimator.") and "warp" in m.augment and m.augment[-9:-1] in (tmp_path / "m" / "README.md").read_text()
    m.fit_prior(X, y)  # makes no views
    with says("augment must be", m.augment): m.fit(X, y)
    m.set_params(augment=warp).fit(X, y)


def test_a_run_of_the_prior_on_other_labels_or_series_is_refused(tmp_path):
    X, y = series()
    m = NCVQ(**TINY).fit(X, y, run_dir=tmp_path / "q")
    for other in ((X, 1 - y), (X + 1, y)):
        with says("other settings", "fingerprint"): m.fit_prior(*other, run_dir=tmp_path / "q")
    m.fit_prior(X, y, run_dir=tmp_path / "q")
    assert "prior_digest" not in m.data_
    m.fit_prior(X, 1 - y)
    m.save(tmp_path / "m")
    assert m.data_["prior_digest"] != m.data_["digest"] and NCVQ.load(tmp_path / "m").data_ == m.data_ and m.data_["prior_digest"] in (tmp_path / "m" / "README.md").read_text()
    alone = NCVQ(**TINY).fit_tokenizer(X, run_dir=tmp_path / "r").fit_prior(X, y, run_dir=tmp_path / "r")
    NCVQ(**TINY).fit_tokenizer(X, run_dir=tmp_path / "r").fit_prior(X, y, run_dir=tmp_path / "r")  # goes on
    with says("fingerprint"): alone.fit_prior(X, 1 - y, run_dir=tmp_path / "r")


def test_a_tokenizer_without_a_prior_says_what_is_missing():
    X, y = series()
    m = NCVQ(**TINY).fit_tokenizer(X, y)
    for call in (lambda: m.sample(2), lambda: m.impute(X)):
        with says("has a tokenizer, but no prior yet", "fit_prior", kind=NotFittedError): call()
    with says("not fitted", kind=NotFittedError): NCVQ(**TINY).sample(2)


def test_a_validation_split_that_cannot_be_is_named():
    X, y = series()
    with says("validation_fraction=0.3", "set it to 0"): NCVQ(**{**TINY, "validation_fraction": 0.3}).fit(X, np.arange(len(X)))
