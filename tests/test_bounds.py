"""What comes back keeps to the limits, the scale and the whole numbers that were asked for."""

import copy
import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)
from toys import fingerprint, fitted, says, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.estimator.bounds import TRANSFORMERS, restored, standardised
from ncvq_nb.estimator.model_folder import config_digest
from ncvq_nb.estimator.settings import settings_of


def counts(n=12, length=24, channels=2, seed=0):
    "Counts of two channels, each 0 half of the time, the second a hundred times larger."
    wave = sines(n, length, channels, seed)[0].clip(0)
    return np.rint(wave * np.array([[5], [500]]))[:, :channels].astype("float32")


@pytest.fixture(scope="module")
def model():
    return tiny(epochs=(80, 20), lr=3e-3).fit(counts())


@pytest.fixture(scope="module")
def logged():
    return tiny(transformer="log1p").fit(counts())


def given_back(model, X):
    "All ways on which series come back."
    gap = X.copy()
    gap[..., 5:9] = np.nan
    s = model.encode(X)
    yield model.sample(40, random_state=0)
    yield model.decode(s)
    yield model.reconstruct(X)
    yield model.impute(gap, random_state=0)
    yield model.impute(X, rows=[1], random_state=0)


# Limits and whole numbers


def test_all_that_comes_back_is_within_the_limits(model):
    X, m = counts(), copy.copy(model)
    low, high = X.min((0, 2)), X.max((0, 2))
    free = m.sample(40, random_state=0)
    assert (free.min((0, 2)) < low).all()
    m.set_params(clip="train")
    for new in given_back(m, X):
        assert (new.min((0, 2)) >= low).all() and (new.max((0, 2)) <= high).all()
        assert new.dtype == np.float32
    assert_allclose(m.sample(40, random_state=0), free.clip(low[:, None], high[:, None]))
    m.set_params(clip=(0.1, None), integers=True)
    for new in given_back(m, np.maximum(X, 1)):
        assert new.min() >= 1 and np.array_equal(new, np.rint(new)) and new.dtype == np.float32
    m.set_params(clip=(None, 0.1), integers=False)  # in float32 0.1 is greater, and 0.7 is less
    assert max(float(new.max()) for new in given_back(m, np.minimum(X, 0))) <= 0.1
    assert float(m.set_params(clip=(0.7, None)).sample(9, random_state=0).min()) >= 0.7


def test_what_was_observed_stays_beyond_a_limit(model):
    X = counts(seed=1) + np.float32(0.25)
    X[0, 0, 0] = 1000
    gap = X.copy()
    gap[..., 5:9] = np.nan
    m = copy.copy(model).set_params(clip=(0, 5), integers=True)
    new, seen = m.impute(gap, random_state=0), ~np.isnan(gap)
    assert np.array_equal(new[seen], X[seen])
    assert set(np.unique(new[~seen])) <= set(range(6))


def test_bounds_change_nothing_that_is_learned():
    plain, kept = tiny().fit(counts()), tiny(clip=(-1e9, 1e9)).fit(counts())
    assert fingerprint(kept) == fingerprint(plain)
    assert np.array_equal(kept.sample(5, random_state=0), plain.sample(5, random_state=0))
    assert not {"clip", "integers", "transformer"} & set(settings_of(plain))
    assert settings_of(kept)["clip"] == [-1e9, 1e9]


# Transformers


def test_log1p_is_what_it_would_be_by_hand(logged):
    assert logged.sample(200, random_state=0).min() > -1
    by_hand = tiny().fit(np.log1p(counts().astype(float)))
    assert fingerprint(by_hand) == fingerprint(logged)
    X = counts(seed=2)
    assert np.array_equal(by_hand.encode(np.log1p(X.astype(float))), logged.encode(X))
    new = logged.sample(5, random_state=0)
    assert_allclose(np.expm1(by_hand.sample(5, random_state=0)), new, rtol=1e-6)


@pytest.mark.parametrize(
    "transformer",
    [
        "log1p",
        FunctionTransformer(np.sqrt, np.square),
        MinMaxScaler((-1, 1)),
        PowerTransformer(),
        QuantileTransformer(n_quantiles=200, output_distribution="normal"),
        make_pipeline(FunctionTransformer(np.log1p, np.expm1), StandardScaler()),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_the_way_there_and_back(transformer):
    X = counts(n=30)
    m = tiny(transformer=transformer, epochs=0.1).fit(X)
    back = restored(m, standardised(m, X))
    assert (np.sqrt(((back - X) ** 2).mean((0, 2))) < 0.01 * X.std((0, 2))).all()
    assert m.transformer is transformer and not hasattr(transformer, "n_features_in_")
    again = pickle.loads(pickle.dumps(m))
    assert np.array_equal(again.sample(2, random_state=0), m.sample(2, random_state=0))
    assert type(clone(m).transformer) is type(transformer)
    gap = X.copy()
    gap[0, 0, :3] = gap[1, 1, 20:] = np.nan
    assert np.isfinite(m.impute(gap, random_state=0)).all()


def test_shares_stay_between_0_and_1():
    X = 1 / (1 + np.exp(-2 * sines()[0]))
    m = tiny(transformer="logit").fit(X)
    new = m.sample(50, random_state=0)
    assert 0 < new.min() and new.max() < 1
    m.encode(new)  # also at the very ends
    far = TRANSFORMERS["logit"].inverse_transform(np.array([[-1e3, 1e3]])).astype(np.float32)
    assert 0 < far.min() and far.max() < 1
    gap = X.copy()
    gap[0, 0, :5] = np.nan
    assert np.isfinite(m.impute(gap)).all()


class Squeezed(MinMaxScaler):
    "One column out of all."

    def transform(self, X):
        return X.mean(1, keepdims=True)


@pytest.mark.parametrize(
    "transformer, said",
    [
        (FunctionTransformer(np.log1p), "inverse_func"),
        (KBinsDiscretizer(3, encode="ordinal", strategy="uniform"), "does not come back"),
        (Squeezed(), "as many columns"),
        ("log", "series 0, channel"),
        ("logit", "'logit' between 0 and 1"),
        ("sqrt", "'log', 'log1p', 'logit'"),
        (np.log, "inverse_transform"),
        (MinMaxScaler, "inverse_transform"),
    ],
    ids=str,
)
def test_a_transformer_that_cannot_work_is_named(transformer, said):
    m = tiny(transformer=transformer)
    with says("transformer", said):
        m.fit(counts())
    assert not hasattr(m, "tokenizer_")


def test_values_out_of_the_domain_are_named(logged):
    X = counts()
    X[3, 1, 4] = -2
    with says("transformer", "-2", "series 3, channel 1, time step 4"):
        logged.encode(X)


def test_what_overflows_is_said_or_cut_off():
    m = tiny(transformer="log", epochs=0.1).fit(np.exp(20 * sines()[0].astype(float)))
    z = np.full((1, 1, 33), 20, "float32")
    with says("finite float32", "clip='train'"):
        restored(m, z)
    m.set_params(clip="train")
    assert restored(m, z).max() == m.limits_[1, 0]


# Stored


def test_a_saved_model_keeps_its_bounds(logged, tmp_path):
    m = copy.copy(logged).set_params(clip="train", integers=True)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m", device="cpu")
    assert again.get_params()["transformer"] == "log1p" and again.integers is True
    assert np.array_equal(again.limits_, m.limits_)
    assert np.array_equal(again.sample(9, random_state=0), m.sample(9, random_state=0))
    again.set_params(clip=(0, 3)).save(tmp_path / "m")
    assert NCVQ.load(tmp_path / "m").clip == (0, 3)


def test_a_transformer_of_ones_own_is_not_saved(tmp_path):
    m = tiny(transformer=PowerTransformer(), epochs=0.1).fit(counts())
    with says("PowerTransformer", "cannot be saved", "'log1p'"):
        m.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
    m = tiny(transformer=FunctionTransformer(np.log1p, np.expm1), epochs=0.1).fit(counts())
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m", device="cpu")
    assert again.transformer == "log1p"
    assert np.array_equal(again.sample(3, random_state=0), m.sample(3, random_state=0))
    m.set_params(transformer=None).save(tmp_path / "m")  # what it was fitted with counts
    assert NCVQ.load(tmp_path / "m").transformer == "log1p"


def change(folder, edit):
    "Change a saved configuration, and seal it again."
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    config["sha256"]["config.json"] = config_digest(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_models_of_earlier_versions_are_read(model, tmp_path):
    model.save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert not {"clip", "integers", "transformer"} & set(config["settings"])
    change(tmp_path / "m", lambda c: [c["scaler"].pop(k) for k in ("min", "max")])
    old = NCVQ.load(tmp_path / "m", device="cpu")
    assert np.array_equal(old.sample(3, random_state=0), model.sample(3, random_state=0))
    with says("clip='train'", "earlier version", "clip=(low, high)"):
        old.set_params(clip="train").sample(3)
    assert old.set_params(clip=(0, 1)).sample(3).max() <= 1
    old.save(tmp_path / "again")
    assert "min" not in json.loads((tmp_path / "again" / "config.json").read_text())["scaler"]


@pytest.mark.parametrize("limits", [dict(min=[0.0]), dict(max=None), dict(min=[9e9, 0.0])])
def test_damaged_limits_are_refused(model, tmp_path, limits):
    model.save(tmp_path / "m")
    change(tmp_path / "m", lambda c: c["scaler"].update(limits))
    with says("limits", "least and greatest"):
        NCVQ.load(tmp_path / "m")


def test_a_run_folder_tells_transformers_apart(tmp_path):
    X, quick = counts(), dict(epochs=0.1)
    first = tiny(transformer=PowerTransformer(), **quick).fit(X, run_dir=tmp_path / "run")
    used = PowerTransformer().fit(X[:, 0])  # fitted elsewhere, yet the same
    again = tiny(transformer=used, **quick).fit(X, run_dir=tmp_path / "run")
    assert fingerprint(again) == fingerprint(first)
    for other in (PowerTransformer(standardize=False), "log1p", None):
        with says("transformer was", "PowerTransformer"):
            tiny(transformer=other, **quick).fit(X, run_dir=tmp_path / "run")


def test_a_bound_that_is_set_later_is_checked(model):
    m = copy.copy(model)
    for bad in ("test", (1, 0), (None, None), (0, float("nan")), 3, (0, 1, 2)):
        with says("clip must be"):
            m.set_params(clip=bad).sample(1)
    with says("no whole number"):
        m.set_params(clip=(0.2, 0.8), integers=True).sample(1)


def test_labels_and_classes_are_not_touched():
    m = fitted(transformer=MinMaxScaler(), clip="train")
    assert m.sample(4, y=1).shape == (4, 1, 33) and m.classes_.tolist() == [0, 1]
