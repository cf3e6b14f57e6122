"""aeon's own checks of a transformer of collections, and its data in the estimator; an extra."""

import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import ncvq_nb.interop.aeon as module
from ncvq_nb import NCVQ, read_dataset
from ncvq_nb.interop.aeon import NCVQTransformer
from toys import says, sines, tiny

needs_aeon = pytest.mark.skipif(
    find_spec("aeon") is None,
    reason="aeon is an extra: pip install 'ncvq_nb[aeon]', on Python 3.11 or newer",
)
MODEL = tiny(epochs=1)


def checks():
    if find_spec("aeon") is None:
        return [pytest.param(None, marks=needs_aeon)]
    from aeon.testing.estimator_checking import parametrize_with_checks

    mark = parametrize_with_checks([NCVQTransformer])
    return [pytest.param(c, id=mark.kwargs["ids"](c)) for c in mark.args[1]]


@pytest.mark.parametrize("check", checks())
def test_aeons_own_checks(check):
    check()


def test_without_aeon_there_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(module, "BaseCollectionTransformer", None)
    with says("aeon", "ncvq_nb[aeon]", kind=ImportError):
        NCVQTransformer()


def test_importing_the_package_does_not_import_extras():
    extras = "{'aeon', 'numba', 'huggingface_hub', 'dask'}"
    code = f"import sys, ncvq_nb; print({extras} & set(sys.modules))"
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout.strip() == "set()", r.stdout + r.stderr


@needs_aeon
def test_features_are_those_of_the_model():
    X, y = sines(channels=2)
    t = NCVQTransformer(MODEL)
    Z = t.fit_transform(X, y)
    assert np.array_equal(Z, NCVQ(**MODEL.get_params()).fit(X, y).transform(X))
    assert np.array_equal(Z, t.transform(X))
    assert not hasattr(MODEL, "tokenizer_")  # the copy was fitted
    assert np.array_equal(pickle.loads(pickle.dumps(t)).transform(X), Z)
    assert t.get_params()["model__n_codes"] == 8 and t.get_tag("output_data_type") == "Tabular"


@needs_aeon
def test_aeons_pipelines_and_classifiers():
    from aeon.pipeline import make_pipeline
    from aeon.transformations.collection import Normalizer
    from sklearn.linear_model import LogisticRegression

    X, y = sines(n=16)
    pipe = make_pipeline(Normalizer(), NCVQTransformer(MODEL), LogisticRegression())
    assert set(pipe.fit(X, y.astype(str)).predict(X)) <= {"0", "1"}


@needs_aeon
@pytest.mark.parametrize("name", ["GunPoint", "BasicMotions"])
def test_aeons_data_is_ours(name):
    "The same series; aeon makes labels lower case, a file's stay as they are written."
    import aeon.datasets

    X, y = aeon.datasets.load_classification(name, split="train")
    file = read_dataset(Path(aeon.datasets.__file__).parent / "data" / name / f"{name}_TRAIN.ts")
    assert np.array_equal(file.X_train, X.astype(np.float32)) and file.X_test is not None
    assert np.char.lower(file.y_train.astype(str)).tolist() == y.tolist()
    m = tiny(epochs=0.1).fit(X, y)
    assert m.classes_.tolist() == sorted(set(y.tolist()))
    assert m.sample(2, y=y[0]).shape == (2, *X.shape[1:])


@needs_aeon
def test_series_of_unequal_length_are_refused_by_name():
    X = [np.zeros((1, 20 + i)) for i in range(4)]
    with says("unequal length"):
        NCVQTransformer(MODEL).fit(X)
    with says("unequal length"):
        MODEL.fit(X)
