"""The estimator as a whole: what it gives, scikit-learn's rules, seeds, saved models."""

import functools
import inspect
import json
import os
import pickle
import random
import shutil
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
import torch
from conftest import THOROUGH, by_night, imitated
from forging import config, read, seal, weights
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from sklearn.utils.validation import check_is_fitted
from toys import (
    DRIVERS,
    TINY,
    as_dataset,
    fingerprint,
    fitted,
    global_state,
    noise,
    says,
    script,
    sines,
    spare_cpp,
    tiny,
)

from ncvq_nb import NCVQ, evaluate, present
from ncvq_nb.engine.runtime import can_compile
from ncvq_nb.metrics import probe

NAMES = ["sit", "stand up"]
LITTLE = dict(n_resamples=2, cas_total=12, fcn=dict(max_steps=2))
QUICK = dict(**LITTLE, cache_dir=False, verbose=False)


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def named():
    return fitted(names=NAMES)


# What comes out


def double(x, generator=None):
    return x * 2


def double_in_place(x, generator=None):
    return x.mul_(2)


@pytest.mark.parametrize("ssl", [None, "barlow", "vicreg", "vibcreg"])
@pytest.mark.parametrize("augment", [None, "warp", "slice", "gauss", double])
def test_every_method(ssl, augment):
    m = tiny(ssl, augment, aug_weight=0.1).fit(*sines(n=7, length=16))
    assert m.sample(3, y=1, random_state=0).shape == (3, 1, 16)
    assert all(np.isfinite(v).all() for h in m.history_.values() for v in h.values())
    for term in ("ssl", "augmented"):
        assert (term in m.history_["tokenizer"]) == (ssl is not None)


@pytest.mark.parametrize("c, l", [(1, 16), (1, 17), (3, 33), (2, 50)])
def test_shapes_dtypes_and_exact_lengths(c, l):
    X, y = sines(n=9, channels=c, length=l)
    m = tiny().fit(X, y)
    assert list(m.classes_) == [0, 1] and m.n_features_in_ == l
    s, n_tokens = m.encode(X[:5]), m.tokenizer_.n_tokens
    assert s.shape == (5, n_tokens) and s.dtype == np.int64 and 0 <= s.min() and s.max() < 8
    assert np.prod(m.tokenizer_.grid) == n_tokens and m.tokenizer_.codebook.shape == (8, 8)
    for X_hat in (m.decode(s), m.reconstruct(X[:5])):
        assert X_hat.shape == (5, c, l) and X_hat.dtype == np.float32 and np.isfinite(X_hat).all()
    assert_allclose(m.decode(s), m.reconstruct(X[:5]), atol=1e-5)
    before = m.features(X, quantised=False)
    for Z in (m.transform(X), m.features(X), before):
        assert Z.shape == (9, 16) and Z.dtype == np.float32
    assert np.array_equal(m.transform(X), m.features(X))
    assert not np.array_equal(m.features(X), before)
    asked = [dict(n=4), dict(n=4, y=0), dict(y=[0, 1, 1, 0]), dict(n=4, y=[1, 1, 1, 1])]
    for ask in asked:
        X_new = m.sample(**ask)
        assert X_new.shape == (4, c, l) and X_new.dtype == np.float32
    s = m.sample_tokens(2)
    assert s.dtype == np.int64 and s.shape == (2, n_tokens)


def test_what_comes_out_does_not_depend_on_company(model):
    X, _ = sines(n=300)
    assert np.array_equal(model.encode(X)[[3, 270]], model.encode(X[[3, 270]]))
    assert_allclose(model.transform(X)[[3, 270]], model.transform(X[[3, 270]]), atol=1e-6)


def test_features_are_mean_and_maximum_of_the_codes(model):
    X, _ = sines()
    z_q = model.tokenizer_.codebook[torch.from_numpy(model.encode(X))]  # (n, n_tokens, d)
    assert_allclose(model.transform(X), torch.cat([z_q.mean(1), z_q.amax(1)], 1), atol=1e-5)


def test_units_are_given_back():
    "Powers of two, so that standardised series are the same to the bit."
    X, y = sines()
    X = np.round(X * 256) / 256
    near = functools.partial(assert_allclose, rtol=1e-4, atol=1e-3)
    a, b = tiny().fit(X, y), tiny().fit(64 * X, y)
    assert np.array_equal(a.encode(X), b.encode(64 * X))
    near(b.reconstruct(64 * X), 64 * a.reconstruct(X))
    near(b.sample(5, random_state=1), 64 * a.sample(5, random_state=1))
    shifted = tiny().fit(X + 1024, y).sample(5, random_state=1)
    assert 1020 < shifted.min() and shifted.max() < 1028


LABELS = {
    "strings": np.array(["up", "down"] * 6),
    "-1 and 1": [-1, 1] * 6,
    "one string": ["one"] * 12,
    "one number": [7] * 12,
    "all different": [f"class {i}" for i in range(12)],
    "floats": np.array([0.0, 1.0] * 6),
    "objects": np.array(["1", "2"] * 6, object),
    "booleans": [True, False] * 6,
}


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS.keys())
def test_labels_of_every_kind(y, tmp_path):
    m = tiny().fit(sines()[0], y)
    assert set(m.classes_.tolist()) == set(np.unique(y).tolist())
    assert m.sample(3, y=m.classes_[0], random_state=0).shape == (3, 1, 33)
    assert m.sample(2, random_state=0).shape == (2, 1, 33)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert again.classes_.tolist() == m.classes_.tolist()
    assert again.classes_.dtype.kind == m.classes_.dtype.kind
    one, other = (v.sample(3, y=list(y)[0], random_state=0) for v in (again, m))
    assert np.array_equal(one, other)


def test_without_labels_there_are_no_classes(tmp_path):
    m = tiny(validation_fraction=0.05).fit(sines()[0])  # which holds out a single series
    assert m.classes_ is None and m.sample(2, random_state=0).shape == (2, 1, 33)
    assert all(np.isfinite(h["valid_loss"]).all() for h in m.history_.values())
    m.save(tmp_path / "m")
    assert NCVQ.load(tmp_path / "m").classes_ is None


def test_views_that_work_in_place_change_neither_the_users_series_nor_the_original():
    X, y = sines()
    before = X.copy()
    in_place, copying = (tiny("barlow", view).fit(X, y) for view in (double_in_place, double))
    assert np.array_equal(X, before)
    assert in_place.history_["tokenizer"]["loss"] == copying.history_["tokenizer"]["loss"]


def test_what_is_not_fitted_says_so(tmp_path):
    m, X = tiny(), sines()[0]
    calls = [
        lambda: m.encode(X),
        lambda: m.decode(np.zeros((1, 20), int)),
        lambda: m.transform(X),
        lambda: m.reconstruct(X),
        lambda: m.features(X),
        lambda: m.sample(1),
        lambda: m.save(tmp_path / "m"),
        lambda: m.fit_prior(X),
    ]
    for call in calls:
        with pytest.raises(NotFittedError):
            call()
    assert not (tmp_path / "m").exists()


# Parameters, as scikit-learn wants them


def test_parameters_are_stored_untouched_and_cloned():
    pairs = dict(epochs=(2, 3), batch_size=[4, 5], lr=(1e-3, 2e-3))
    given = dict(**pairs, augment=len, random_state=np.random.default_rng(0))
    m = NCVQ("barlow", **given)
    assert all(getattr(m, k) is v for k, v in given.items())
    names = set(inspect.signature(NCVQ).parameters)
    assert set(m.get_params()) == names and set(vars(m)) == names
    copy = clone(m)
    assert copy.get_params()["epochs"] == (2, 3) and copy.ssl == "barlow"
    assert not hasattr(copy, "tokenizer_")
    assert m.set_params(ssl="vicreg", n_codes=5) is m and (m.ssl, m.n_codes) == ("vicreg", 5)
    with pytest.raises(ValueError, match="n_cods"):
        m.set_params(n_cods=3)
    with pytest.raises(TypeError):
        NCVQ("barlow", "warp", 8)  # the rest is keyword-only


def test_a_clone_of_a_fitted_model_learns_the_same(model):
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert fingerprint(copy.fit(*sines())) == fingerprint(model)


# scikit-learn's own checks

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
TOY = NCVQ(
    dim=4,
    n_res_blocks=0,
    n_codes=4,
    projector_dim=8,
    prior_dim=8,
    prior_depth=1,
    prior_heads=1,
    epochs=1,
    sampling_steps=1,
    device="cpu",
    random_state=0,
)  # the checks' series have 2 to 20 values: the window is as long as they allow


@parametrize_with_checks([TOY])  # all of them: none is expected to fail
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_all_of_them_are_run():
    "Thirty checks at least come with every supported version; the tags hide none of them."
    if VERSION < (1, 6):
        checks = check_estimator(TOY, generate_only=True)
    else:
        from sklearn.utils.estimator_checks import estimator_checks_generator

        checks = estimator_checks_generator(TOY)
    assert len(list(checks)) > 30


def test_what_it_is(model):
    assert isinstance(model, BaseEstimator)
    assert not is_classifier(model) and not is_regressor(model)
    if VERSION < (1, 6):
        return
    from sklearn.base import is_clusterer, is_outlier_detector
    from sklearn.utils import get_tags

    tags = get_tags(model)
    assert not is_clusterer(model) and not is_outlier_detector(model)
    assert tags.estimator_type is None and not tags.target_tags.required
    takes = tags.input_tags
    assert takes.two_d_array and takes.three_d_array and not takes.sparse and takes.allow_nan
    assert tags.transformer_tags.preserves_dtype == ["float32"]


# What its users put an estimator into


@pytest.fixture(scope="module")
def sixteen():
    "Series enough for folds."
    return sines(n=16)


@pytest.fixture(scope="module")
def of_sixteen(sixteen):
    return tiny().fit(*sixteen)


def test_grid_search_over_method_and_size_in_one_process_and_in_two(sixteen):
    steps = [("codes", tiny()), ("scale", StandardScaler()), ("clf", LogisticRegression())]
    grid = [
        {"codes__ssl": [ssl], "codes__n_codes": [n]} for ssl, n in ((None, 4), ("vicreg", 6))
    ]
    how = dict(cv=2, error_score="raise", scoring=make_scorer(accuracy_score))
    one, two = (
        GridSearchCV(Pipeline(steps), grid, n_jobs=n_jobs, **how).fit(*sixteen) for n_jobs in (1, 2)
    )
    for k in ("split0_test_score", "split1_test_score", "mean_test_score"):
        assert one.cv_results_[k].shape == (2,) and np.isfinite(one.cv_results_[k]).all()
        assert np.array_equal(one.cv_results_[k], two.cv_results_[k])
    chosen = {k.removeprefix("codes__"): v for k, v in one.best_params_.items()}
    alone = fingerprint(tiny(**chosen).fit(*sixteen))
    for search in (one, two):
        best = search.best_estimator_["codes"]
        assert (best.ssl, best.n_codes) == (chosen["ssl"], chosen["n_codes"])
        assert best.tokenizer_.codebook.shape == (best.n_codes, 8) and fingerprint(best) == alone


def test_cross_validation(sixteen):
    X, y = sixteen
    pipe = make_pipeline(tiny(), LogisticRegression())
    scores = cross_val_score(pipe, X[:, 0], y, cv=4, error_score="raise")
    assert scores.shape == (4,) and (0 <= scores).all() and (scores <= 1).all()
    forest = make_pipeline(tiny(), RandomForestClassifier(5, random_state=0))
    assert set(cross_val_predict(forest, X, y, cv=2)) <= {0, 1}


def test_a_pipeline_ends_where_two_calls_end(of_sixteen, sixteen):
    (X, y), m = sixteen, of_sixteen
    Z = m.transform(X)
    for last in (LogisticRegression(), KNeighborsClassifier(1)):
        clf = make_pipeline(tiny(), last).fit(X, y)
        assert np.array_equal(clf.predict_proba(X), clone(last).fit(Z, y).predict_proba(Z))
    assert np.array_equal(tiny().fit_transform(X, y), Z)
    first = FunctionTransformer(lambda X: X[..., :16])
    cut = Pipeline([("cut", first), ("codes", clone(m))]).fit(X, y)
    assert cut["codes"].n_features_in_ == 16 and cut.transform(X).shape == (16, 16)
    union = FeatureUnion([("a", clone(m)), ("b", clone(m).set_params(ssl=None))])
    assert union.fit(X, y).transform(X).shape == (16, 32)


def test_names_of_features_and_frames(of_sixteen, sixteen):
    pd, (X, y), m = pytest.importorskip("pandas"), sixteen, of_sixteen
    names = [f"ncvq{i}" for i in range(16)]
    assert m.get_feature_names_out().tolist() == names
    framed = pickle.loads(pickle.dumps(m)).set_output(transform="pandas")  # of a fitted one
    frame = framed.transform(pd.DataFrame(X[:, 0], index=[f"heart {i}" for i in range(16)]))
    assert frame.columns.tolist() == names and frame.index[3] == "heart 3"
    assert np.array_equal(frame.to_numpy(), m.transform(X))
    assert set(map(str, frame.dtypes)) == {"float32"}
    pipe = make_pipeline(tiny(), StandardScaler()).set_output(transform="pandas").fit(X, y)
    assert pipe.get_feature_names_out().tolist() == names == pipe.transform(X).columns.tolist()
    before = clone(m).set_output(transform="pandas").fit(X, y).transform(X)
    assert before.shape == (16, 16) and before.columns.tolist() == names
    with pytest.raises(AttributeError):
        clone(m).get_feature_names_out()


def test_pickle_and_joblib_keep_the_model(model, tmp_path):
    X, _ = sines(n=5, seed=4)
    joblib.dump(model, tmp_path / "m.joblib")
    for again in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "m.joblib")):
        assert fingerprint(again) == fingerprint(model)
        assert again.get_params() == model.get_params()
        assert np.array_equal(again.transform(X), model.transform(X))
        assert np.array_equal(again.sample(3, random_state=0), model.sample(3, random_state=0))
    again.sample(1)
    again.set_params(dim=4)
    assert model.dim == 8  # nothing is shared
    check_is_fitted(again)


def test_it_shows_itself(model):
    assert repr(NCVQ(n_codes=77)) == "NCVQ(n_codes=77)"
    html = clone(model).set_params(n_codes=77)._repr_html_()
    assert "NCVQ" in html and "n_codes" in html and "77" in html
    assert html.count("<div") == html.count("</div>")
    pipe = make_pipeline(model, LogisticRegression())._repr_html_()
    assert "Pipeline" in pipe and "NCVQ" in pipe


# Random seeds


def test_equal_seeds_give_equal_models_and_others_others(model):
    same = fingerprint(model)
    assert fingerprint(fitted()) == same == fingerprint(fitted(random_state=np.int64(0)))
    assert fingerprint(fitted(random_state=1)) != same
    one, two = (fitted(random_state=np.random.default_rng(5)) for _ in range(2))
    assert fingerprint(one) == fingerprint(two)
    one, two = (fitted(random_state=None) for _ in range(2))
    assert fingerprint(one) != fingerprint(two)


def test_the_number_of_the_callers_draws_before_does_not_matter(model):
    random.random()
    np.random.rand(3)
    torch.rand(3)
    assert fingerprint(fitted()) == fingerprint(model)


def test_global_generators_are_left_alone(tmp_path):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    before, (X, y) = global_state(), sines()
    m = tiny(random_state=None, validation_fraction=0.25).fit(X, y, run_dir=tmp_path / "run")
    m.decode(m.encode(X))
    m.transform(X)
    m.reconstruct(X)
    m.sample(3)
    m.sample(3, random_state=0)
    m.save(tmp_path / "m")
    NCVQ.load(tmp_path / "m").sample(2)
    assert global_state() == before


def test_everything_twice_in_one_process_gives_the_same():
    "Whatever other generators are at."
    data, out = as_dataset(noise(), noise(seed=1)), []
    for _ in range(2):
        m = tiny(batch_size=6).fit(data.X_train, data.y_train)
        report = evaluate(m, data, random_state=0, **QUICK)
        new = m.sample(3, random_state=1)
        out.append((fingerprint(m), new.tobytes(), json.dumps(report.to_dict())))
        random.random()
        np.random.rand(3)
        torch.rand(3)
    assert out[0] == out[1]


def test_nothing_that_looks_at_a_model_changes_it(tmp_path):
    "Neither the model, nor the generators of the caller."
    data = as_dataset(noise(), noise(seed=1))
    X, y = data.X_train, data.y_train
    m = tiny(batch_size=6).fit(X, y)
    m.save(tmp_path / "m")
    modules = [*m.tokenizer_.modules(), *m.prior_.modules()]
    looks = dict(
        encode=lambda: m.encode(9 * X),
        decode=lambda: m.decode(m.encode(X)),
        reconstruct=lambda: m.reconstruct(X),
        transform=lambda: m.transform(X + 1),
        continuous=lambda: m.features(X, quantised=False),
        sample=lambda: m.sample(3),
        of_class=lambda: m.sample(3, 1, guidance_scale=2.0),
        of_labels=lambda: m.sample(y=y),
        impute=lambda: m.impute(np.where(np.arange(24) == 3, np.nan, X)),
        evaluate=lambda: evaluate(m, data, **QUICK),
        present=lambda: present(m, data, tmp_path / "p", **LITTLE),
        probe=lambda: probe(m.transform(X), y, m.transform(X), y),
        save=lambda: m.save(tmp_path / "m"),
        load=lambda: NCVQ.load(tmp_path / "m").sample(2),
    )
    before, generators = fingerprint(m), global_state()
    for name, look in looks.items():
        look()
        assert fingerprint(m) == before and global_state() == generators, name
        assert not any(p.training for p in modules), name


@pytest.mark.slow
@by_night("half a minute of rounds, and fewer show no slope")
def test_memory_stays_flat():
    pytest.importorskip("psutil", reason="psutil measures memory")
    rounds = int(os.environ.get("NCVQ_SOAK") or 60)
    n, mb, files = np.array(script(DRIVERS / "soak.py", rounds)).T
    growth = np.polyfit(n[1:], mb[1:], 1)[0]  # MB a round; the first ones fill caches
    assert growth < 0.1, f"{growth:.3f} MB a round: {mb.round(1).tolist()}"
    assert files[-1] <= files[0] + 2, f"open files: {files.tolist()}"


# Saved models


@pytest.fixture(scope="module")
def saved(named, tmp_path_factory):
    "The folder of a model with named classes; to be copied before it is changed."
    path = tmp_path_factory.mktemp("saved") / "deep" / "m"
    named.save(path)
    return path


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "m"))


def contents(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


def test_a_saved_model_is_the_model(named, saved, tmp_path):
    X, _ = sines(seed=3)
    weights = [f"{k}.safetensors" for k in ("noise", "prior", "tokenizer")]
    assert sorted(p.name for p in saved.iterdir()) == ["README.md", "config.json", *weights]
    assert [p.name for p in saved.parent.iterdir()] == ["m"]
    for again in (NCVQ.load(saved), NCVQ.load(str(saved))):
        assert fingerprint(again) == fingerprint(named)
        assert again.get_params() == {**named.get_params(), "n_fft": 8}
        assert again.history_ == named.history_
        assert again.classes_.tolist() == NAMES
        for method in ("encode", "transform", "reconstruct"):
            assert np.array_equal(getattr(again, method)(X), getattr(named, method)(X))
        one, other = (m.sample(4, y="sit", random_state=2) for m in (again, named))
        assert np.array_equal(one, other)
        assert not again.tokenizer_.training and not again.prior_.training
        again.save(tmp_path / "twice")
        assert contents(tmp_path / "twice") == contents(saved)

    def no_number(constant):
        pytest.fail(f"{constant} is no JSON")

    config = json.loads((saved / "config.json").read_text(), parse_constant=no_number)
    assert {"format", "library", "settings", "scaler", "classes", "data"} <= set(config)


def test_fitting_a_loaded_model_again_gives_the_same(named, saved):
    again = clone(NCVQ.load(saved)).fit(*sines(names=NAMES))
    assert fingerprint(again) == fingerprint(named)


def test_units_and_settings_survive(tmp_path):
    X, y = sines(channels=2)
    pairs = dict(batch_size=(5, 6), epochs=(2, 1))
    m = tiny(
        "barlow", double, **pairs, guidance_scale=2.0, random_state=np.random.default_rng(1)
    ).fit(X * [[100], [1]] + [[-1000], [5]], y)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert np.array_equal(again.sample(3, random_state=0), m.sample(3, random_state=0))
    assert again.batch_size == (5, 6) and again.guidance_scale == 2
    assert again.sample(3)[:, 0].mean() < -700


def test_a_loaded_model_whose_view_was_a_callable(tmp_path):
    def warp(x, generator=None):  # no other than the library's by name
        return x * 2

    X, y = sines()
    tiny("barlow", warp).fit(X, y).save(tmp_path / "m")
    m = NCVQ.load(tmp_path / "m")
    assert m.augment.startswith("test_generator.") and "warp" in m.augment
    assert m.augment[-9:-1] in (tmp_path / "m" / "README.md").read_text()
    m.fit_prior(X, y)  # makes no views
    with says("augment must be", m.augment):
        m.fit(X, y)
    m.set_params(augment=warp).fit(X, y)


# What saving replaces, and what it leaves


def test_saving_over_a_model_replaces_it_and_over_anything_else_is_refused(model, folder):
    model.save(folder)
    assert fingerprint(NCVQ.load(folder)) == fingerprint(model)
    base = folder.parent
    assert [p.name for p in base.iterdir()] == ["m"]
    (base / "empty").mkdir()
    model.save(base / "empty")
    (base / "thesis").mkdir()
    chapter, file = base / "thesis" / "chapter1.tex", base / "file"
    chapter.write_text("years of work")
    file.write_text("x")
    for name in ("thesis", "file"):
        with says("path", name):
            model.save(base / name)
    assert chapter.read_text() == "years of work" and file.read_text() == "x"


@pytest.mark.parametrize(
    "config", ['{"model_type": "bert"}', '{"format": 1, "name": "somebody else\'s"}', "no json"]
)
def test_another_programs_folder_with_a_config_is_not_overwritten(model, tmp_path, config):
    path = tmp_path / "bert"
    path.mkdir()
    (path / "config.json").write_text(config)
    (path / "weights.bin").write_bytes(b"precious")
    with says("path", "bert"):
        model.save(path)
    assert (path / "weights.bin").read_bytes() == b"precious"


def test_files_of_the_users_beside_a_model_are_not_deleted(model, folder):
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    with says("path", "not just a saved model"):
        model.save(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("where", range(5))
def test_a_failed_save_leaves_the_model_that_is_there(model, named, folder, monkeypatch, where):
    "The disk is full before any of the files, or before the step from old to new."
    calls = [0]

    def failing(f):
        def g(*args, **kw):
            calls[0] += 1
            if calls[0] == where + 1:
                raise OSError(28, "No space left on device")
            return f(*args, **kw)

        return g

    before = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", failing(Path.write_bytes))
        patch.setattr(Path, "rename", failing(Path.rename))
        with pytest.raises(OSError, match=f"No space left on device: '{folder}'"):
            model.save(folder)
    assert contents(folder) == before
    assert fingerprint(NCVQ.load(folder)) == fingerprint(named)
    assert [p.name for p in folder.parent.iterdir()] == ["m"]


def test_saving_into_the_current_folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save(".")
    assert fingerprint(NCVQ.load(".")) == fingerprint(model)
    (tmp_path / "notes.txt").write_text("mine")
    with says("path", "notes.txt is in it"):
        model.save(".")
    model.save("m")
    assert fingerprint(NCVQ.load("m")) == fingerprint(model)


# Damaged models: what is not in the tests of model folders and of their configurations


def edit(change):
    "A change of the parsed config.json, whose digest is left alone."

    def f(folder):
        c = read(folder)
        got = change(c)
        (folder / "config.json").write_text(json.dumps(c if got is None else got))

    return f


def bytes_of(name, f):
    "A change of the bytes of a file."
    return lambda folder: (folder / name).write_bytes(f((folder / name).read_bytes()))


def flipped(i):
    "One bit of one byte is another."

    def f(content):
        changed = bytearray(content)
        changed[i] ^= 8
        return bytes(changed)

    return f


def without(name):
    return lambda folder: (folder / name).unlink()


def as_folder(name):
    "A folder where there should be a file."

    def change(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def exchange(folder):
    tokenizer, prior = (folder / f"{name}.safetensors" for name in ("tokenizer", "prior"))
    tokenizer.rename(folder / "x")
    prior.rename(tokenizer)
    (folder / "x").rename(prior)


def sealed_exchange(folder):
    exchange(folder)
    seal(folder)


def other_codebook(tensors):
    tensors["bands.0.vq.codebook"] = torch.zeros(9, 8)


def other_positions(tensors):
    tensors["position"] = torch.zeros(2, 2)


FILES = ("tokenizer.safetensors", "prior.safetensors", "config.json")
PARTS = ("settings", "data", "scaler", "modules", "history", "classes")
DAMAGE = {
    **{f"{n} missing": without(n) for n in FILES},
    **{f"{n} a folder": as_folder(n) for n in FILES},
    **{f"{n} empty": bytes_of(n, lambda b: b"") for n in FILES},
    **{f"{n} truncated": bytes_of(n, lambda b: b[: len(b) // 2]) for n in FILES},
    **{f"{n} short of a byte": bytes_of(n, lambda b: b[:-1]) for n in FILES},
    **{f"{n} a bit flipped early": bytes_of(n, flipped(3)) for n in FILES},
    **{f"{n} a bit flipped late": bytes_of(n, flipped(-5)) for n in FILES},
    **{f"{n} noise": bytes_of(n, lambda b: bytes(range(256))) for n in FILES},
    "codebook of another shape": weights(other_codebook),
    "positions of another shape": weights(other_positions, "prior.safetensors"),
    "weights exchanged": exchange,
    "weights exchanged and sealed": sealed_exchange,
    "format a word": config("format", value="1"),
    "no format": config("format", drop=True),
    "config a list": edit(lambda c: [1]),
    "config a word": edit(lambda c: "null"),
    "nested deeply from the start": bytes_of("config.json", lambda b: b"[" * 100_000),
    **{f"{k} a number": config(k, value=5) for k in PARTS},
    **{f"{k} empty": config(k, value={}) for k in PARTS if k != "settings"},  # these have defaults
    "settings empty, not sealed": edit(lambda c: c.update(settings={})),
    "hashes a number": edit(lambda c: c.update(sha256=5)),
    "hashes empty": edit(lambda c: c.update(sha256={})),
    "no hashes": edit(lambda c: c.pop("sha256") and None),
    "prior without hash": config("sha256", "prior.safetensors", drop=True),
    "prior without sizes": config("modules", "prior", drop=True),
    "tokenizer of an unknown size": config("modules", "tokenizer", "magic", value=1),
    "tokenizer of another length": config("modules", "tokenizer", "length", value=40),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_models_are_refused(folder, damage):
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError)) as e:
        NCVQ.load(folder)
    assert str(folder) in str(e.value)


@pytest.mark.parametrize(
    "old, new",
    [
        ('"mean": [', '"mean": [1'),
        ('"n_codes": 8', '"n_codes": 7'),
        ('"guidance_scale": 1.3', '"guidance_scale": 9.3'),
        ('"sit"', '"sat"'),
    ],
)
def test_a_changed_character_of_the_config_is_noticed(folder, old, new):
    file = folder / "config.json"
    text = json.dumps(read(folder))
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match="config.json is (not what was saved|damaged)"):
        NCVQ.load(folder)


def test_where_there_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        NCVQ.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="config.json"):
        NCVQ.load(tmp_path)
    (tmp_path / "f").write_text("x")
    with pytest.raises((FileNotFoundError, ValueError), match="no folder"):
        NCVQ.load(tmp_path / "f")


# Precision, and the compiled prior


def test_bfloat16_runs_and_stays_near(model):
    m = fitted(precision="bfloat16")
    assert m.tokenizer_.codebook.dtype == torch.float32 and np.isfinite(m.sample(3)).all()
    first, exact = (v.history_["tokenizer"]["loss"][0] for v in (m, model))
    assert abs(first / exact - 1) < 0.05


IN_BFLOAT16 = [imitated, by_night("a minute of compiling")]


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="there is no C++ compiler")
@pytest.mark.parametrize(
    "precision, rtol", [("float32", 1e-3), pytest.param("bfloat16", 0.05, marks=IN_BFLOAT16)]
)
def test_a_compiled_prior_is_the_same_prior(tmp_path, precision, rtol, monkeypatch):
    if not THOROUGH:
        spare_cpp(monkeypatch)
    small = {**TINY, "epochs": (1, 30), "batch_size": 6, "precision": precision}
    plain, compiled = (NCVQ(**small, compile=c).fit(*sines(length=32)) for c in (False, True))
    assert compiled.prior_._compiled_call_impl is not None
    assert plain.prior_._compiled_call_impl is None
    assert list(compiled.prior_.state_dict()) == list(plain.prior_.state_dict())
    losses = [m.history_["prior"]["loss"] for m in (compiled, plain)]
    assert_allclose(*losses, rtol=rtol)
    S = compiled.sample_tokens(5, random_state=1)
    assert S.shape == (5, compiled.tokenizer_.n_tokens)
    assert np.array_equal(S, compiled.sample_tokens(5, random_state=1))
    compiled.save(tmp_path / "model")
    assert NCVQ.load(tmp_path / "model").compile == "auto"
    assert pickle.loads(pickle.dumps(compiled)).prior_._compiled_call_impl is None
