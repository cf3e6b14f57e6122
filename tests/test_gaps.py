"""Gaps and ends: lists of unequal length, NaN and masks become one array, filled as others fill."""

import numpy as np
import pytest
from toys import as_dataset, noise, says, sines

from ncvq_nb.data import Standardiser, check_series
from ncvq_nb.io.gaps import fill_gaps, is_unequal, series_ends, trimmed, unequal_ends, with_nan

nan = np.nan


def gappy(X, share=0.4, seed=0):
    return np.where(np.random.default_rng(seed).random(X.shape) < share, nan, X)


def test_filled_as_numpy_interpolates():
    X = gappy(noise(40, 20, 2)[0])
    filled, t = fill_gaps(X), np.arange(20)
    assert filled.dtype == X.dtype == np.float32
    for x, f in zip(X.reshape(-1, 20), filled.reshape(-1, 20)):
        seen = ~np.isnan(x)
        np.testing.assert_allclose(f, np.interp(t, t[seen], x[seen]), rtol=1e-5, atol=1e-6)
        assert (f[seen] == x[seen]).all()


def test_filled_as_pandas_interpolates():
    pd = pytest.importorskip("pandas")
    X = gappy(noise(9, 30)[0], share=0.6)[:, None]
    how = dict(axis=1, limit_direction="both")
    np.testing.assert_allclose(fill_gaps(X)[:, 0], pd.DataFrame(X[:, 0]).interpolate(**how), 1e-4)


def test_what_is_whole_is_not_touched():
    X = noise(5, 9, 2)[0]
    assert fill_gaps(X) is X and with_nan(X) is X and check_series(X, missing=True) is X
    alone = X.copy()
    alone[2, 1] = nan
    assert (fill_gaps(alone, [7, 8])[2, 1] == 8).all()


@pytest.mark.parametrize("form", ["list", "tuple", "objects", "column", "tensors", "ints"])
def test_forms_of_unequal_series(form):
    series = [np.arange(3.0), np.arange(5.0), np.arange(4.0)]
    want = np.array([[0, 1, 2, nan, nan], [0, 1, 2, 3, 4], [0, 1, 2, 3, nan]])[:, None]
    objects = np.empty(3, object)
    objects[:] = series
    if form == "column":
        objects = pytest.importorskip("pandas").Series(objects, index=list("abc"))
    if form == "tensors":
        series = [pytest.importorskip("torch").tensor(s) for s in series]
    if form == "ints":
        series = [s.astype(int).tolist() for s in series]
    X = dict(tuple=tuple(series), objects=objects, column=objects).get(form, series)
    assert is_unequal(X)
    np.testing.assert_array_equal(check_series(X, missing=True), want)
    assert [len(x[0]) for x in trimmed(want)] == [3, 5, 4]
    with says("X holds series of unequal length (3 to 5)"):
        check_series(X)


def test_gaps_inside_are_no_ends():
    X = np.ones((3, 2, 6))
    X[0, :, 4:] = nan
    assert unequal_ends(X).tolist() == [4, 6, 6]
    X[0, 0, 4] = 1  # its channels end at different places
    assert unequal_ends(X) is None and series_ends(X).tolist() == [5, 6, 6]
    assert unequal_ends(X, listed=True).tolist() == [5, 6, 6]
    assert unequal_ends(np.ones((3, 2, 6))) is None


@pytest.mark.parametrize(
    "X, parts",
    [
        ([np.zeros(3), np.zeros((2, 4))], ["X[1] has 2 channels, X[0] 1"]),
        ([np.zeros(3), np.zeros((1, 2, 4))], ["X[1] has shape (1, 2, 4)"]),
        ([np.zeros(3), []], ["X[1] has shape (0,)", "not empty"]),
        ([["a", "b"], ["c"]], ["X[0] has dtype", "real numbers"]),
        ([np.zeros((9, 2)), np.zeros((8, 2))], ["(9, 2), (8, 2)", "[x.T for x in X]"]),
        ([[1.0, 2], [nan]], ["X has no observed sample in series 1"]),
        ([[1.0, np.inf], [2.0]], ["1 infinite value, the first in series 0, channel 0"]),
    ],
)
def test_lists_that_are_refused(X, parts):
    with says(*parts):
        check_series(X, missing=True)


def test_scale_counts_observed_samples():
    X = gappy(7 + 3 * noise(30, 40, 2)[0])
    s = Standardiser().fit(fill_gaps(X), ~np.isnan(X))
    np.testing.assert_allclose(s.mean_, np.nanmean(X.astype(float), (0, 2)))
    np.testing.assert_allclose(s.std_, np.nanstd(X.astype(float), (0, 2)))


def test_a_dataset_of_unequal_lengths():
    X, y = sines(n=6, length=20)
    train, test = ([x[:, : 20 - i - less] for i, x in enumerate(X)] for less in (0, 3))
    data = as_dataset((train, y), (test, y))
    assert data.X_train.shape == data.X_test.shape == (6, 1, 20)
    assert series_ends(data.X_test).tolist() == [17, 16, 15, 14, 13, 12]
    assert "data:image/png" in data._repr_html_()
