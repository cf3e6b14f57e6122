"""scikit-learn's own checks of an estimator, and the tools its users put one into."""
import pickle

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from ncvq_nb import NCVQ
from test_estimator import TINY, fingerprint, says, series

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
TOY = NCVQ(n_fft=2, dim=4, n_res_blocks=0, n_codes=4, projector_dim=8, prior_dim=8, prior_depth=1, prior_heads=1, epochs=1, sampling_steps=1, device="cpu", random_state=0)  # the checks' series have 2 to 20 values


@parametrize_with_checks([TOY])  # all of them: none is expected to fail
def test_scikit_learns_own_checks(estimator, check): check(estimator)


def test_all_of_them_are_run():
    "Thirty checks at least come with every supported version; the tags hide none of them."
    from sklearn.utils.estimator_checks import check_estimator
    assert len(list(check_estimator(TOY, generate_only=True)) if VERSION < (1, 6) else check_estimator(TOY, on_skip=None)) > 30


@pytest.fixture(scope="module")
def model(): return NCVQ(**TINY).fit(*series(n=16))


def test_what_it_is(model):
    assert isinstance(model, BaseEstimator) and not is_classifier(model) and not is_regressor(model)
    if VERSION < (1, 6): return
    from sklearn.base import is_clusterer, is_outlier_detector
    from sklearn.utils import get_tags
    tags = get_tags(model)
    assert not is_clusterer(model) and not is_outlier_detector(model) and tags.estimator_type is None
    assert tags.input_tags.two_d_array and tags.input_tags.three_d_array and not tags.input_tags.sparse and not tags.input_tags.allow_nan
    assert tags.transformer_tags.preserves_dtype == ["float32"] and not tags.target_tags.required


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_over_method_and_size(n_jobs):
    X, y = series(n=16)
    pipe = Pipeline([("codes", NCVQ(**TINY)), ("scale", StandardScaler()), ("clf", LogisticRegression())])
    search = GridSearchCV(pipe, {"codes__ssl": [None, "vicreg"], "codes__n_codes": [4, 6]}, cv=2, n_jobs=n_jobs, error_score="raise", scoring=make_scorer(accuracy_score)).fit(X, y)
    assert len(search.cv_results_["params"]) == 4 and np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_["codes"]
    assert {"codes__ssl": best.ssl, "codes__n_codes": best.n_codes} == search.best_params_ and best.tokenizer_.codebook.shape == (best.n_codes, 8)
    again = NCVQ(**{**TINY, **{k.removeprefix("codes__"): v for k, v in search.best_params_.items()}}).fit(X, y)
    assert fingerprint(best) == fingerprint(again)  # also where another process may have trained it


def test_scores_do_not_depend_on_the_number_of_processes():
    X, y = series(n=16)
    scores = [cross_val_score(make_pipeline(NCVQ(**TINY), LogisticRegression()), X[:, 0], y, cv=4, n_jobs=n, error_score="raise") for n in (1, 2)]
    assert scores[0].shape == (4,) and np.array_equal(*scores)
    assert set(cross_val_predict(make_pipeline(NCVQ(**TINY), RandomForestClassifier(5, random_state=0)), X, y, cv=2)) <= {0, 1}


def test_a_pipeline_ends_where_two_calls_end(model):
    X, y = series(n=16)
    clf = make_pipeline(NCVQ(**TINY), LogisticRegression()).fit(X, y)
    assert np.array_equal(clf.predict_proba(X), LogisticRegression().fit(model.transform(X), y).predict_proba(model.transform(X)))
    cut = Pipeline([("cut", FunctionTransformer(lambda X: X[..., :16])), ("codes", clone(model))]).fit(X, y)
    assert cut["codes"].n_features_in_ == 16 and cut.transform(X).shape == (16, 16)
    assert FeatureUnion([("a", clone(model)), ("b", clone(model).set_params(ssl=None))]).fit(X, y).transform(X).shape == (16, 32)


def test_names_of_features_and_frames(model):
    pd, X = pytest.importorskip("pandas"), series(n=16)[0]
    names = [f"ncvq{i}" for i in range(16)]
    assert model.get_feature_names_out().tolist() == names
    framed = pickle.loads(pickle.dumps(model)).set_output(transform="pandas")  # of a fitted one
    frame = framed.transform(pd.DataFrame(X[:, 0], index=[f"heart {i}" for i in range(16)]))
    assert frame.columns.tolist() == names and frame.index[3] == "heart 3" and np.array_equal(frame.to_numpy(), model.transform(X)) and set(map(str, frame.dtypes)) == {"float32"}
    pipe = make_pipeline(NCVQ(**TINY), StandardScaler()).set_output(transform="pandas").fit(*series(n=16))
    assert pipe.get_feature_names_out().tolist() == names == pipe.transform(X).columns.tolist()
    with pytest.raises(AttributeError): clone(model).get_feature_names_out()


def test_pickle_and_joblib_keep_the_model(model, tmp_path):
    X, _ = series(n=5, seed=4)
    joblib.dump(model, tmp_path / "m.joblib")
    for again in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "m.joblib")):
        assert fingerprint(again) == fingerprint(model) and again.get_params() == model.get_params()
        assert np.array_equal(again.transform(X), model.transform(X)) and np.array_equal(again.sample(3, random_state=0), model.sample(3, random_state=0))
    again.sample(1), again.set_params(dim=4)
    assert model.dim == 8  # nothing is shared
    check_is_fitted(again)


def test_it_shows_itself(model):
    html, text = clone(model).set_params(n_codes=77)._repr_html_(), repr(NCVQ(n_codes=77))
    assert "NCVQ" in html and "n_codes" in html and "77" in html and html.count("<div") == html.count("</div>")
    assert text == "NCVQ(n_codes=77)"
    assert "Pipeline" in (pipe := make_pipeline(model, LogisticRegression())._repr_html_()) and "NCVQ" in pipe


@pytest.mark.parametrize("X, kind, parts", [
    (lambda X: X * 1j, ValueError, ["X", "Complex data not supported", "complex64", "channels"]),
    (lambda X: np.where(np.arange(33) == 2, {"a": 1}, X[:, 0].astype(object)), TypeError, ["X", "object", "dict"]),
    (lambda X: np.where(np.arange(33) == 2, "1", X[:, 0].astype(object)), TypeError, ["X", "object"]),
    (lambda X: X[0, 0], ValueError, ["X has shape (33,)", "Reshape your data", "X[None]"]),
    (lambda X: X[:, 0, :0], ValueError, ["X has 0 feature(s)", "(16, 0)", "8", "empty"]),
    (lambda X: X[:, 0, :7], ValueError, ["X has 7 feature(s)", "minimum of 8", "n_fft"]),
    (lambda X: X[:1], ValueError, ["X has 1 series", "n_samples=1", "2"]),
], ids=["complex", "objects", "text among objects", "flat", "empty", "short", "a single one"])
def test_words_scikit_learn_looks_for(X, kind, parts):
    with says(*parts, kind=kind): NCVQ(**TINY).fit(X(series(n=16)[0]))


def test_sparse_matrices_and_objects_are_no_surprise(model):
    sparse, X = pytest.importorskip("scipy.sparse"), series(n=16)[0]
    for make in (sparse.csr_matrix, sparse.coo_array):
        for call in (NCVQ(**TINY).fit, model.transform, model.encode):
            with says("X is sparse", "toarray", kind=TypeError): call(make(X[:, 0]))
    assert np.array_equal(model.transform(X.astype(object)), model.transform(X))
    with says("X has 32 features, but NCVQ is expecting 33 features as input", "trained on 1 of length 33"): model.transform(X[:, 0, :32])
    with says("X has 2 channels of length 33, but the model was trained on 1"): model.transform(np.concatenate([X, X], 1))
