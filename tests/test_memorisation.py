"""Are samples nearer to training series? Against loops, copies, and series of the same process"""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fuzzing import REFUSED, fuzz, hostile_series, series, tried
from hypothesis import strategies as st
from ncvq_nb.data import check_series
from ncvq_nb.evaluation.memorisation import memorisation, nearest_distance
from toys import noise, walks


def rng(seed=0):
    return np.random.default_rng(seed)


def test_memorisation_is_what_loops_find():
    (X, _), (X_test, _) = walks(30, 9, 2), walks(30, 9, 2, seed=1)
    new, _ = walks(17, 9, 2, seed=2)
    sd = X.std((0, 2), dtype=float)[:, None]

    def nearest(Y, S):
        return np.array([min(math.sqrt((((x - s) / sd) ** 2).sum()) for s in S) for x in Y])

    a, b, held = nearest(new, X), nearest(new, X_test), nearest(X_test, X)
    found = memorisation(new, X, X_test)
    assert_allclose(found["share"], np.mean(a < b), atol=1e-9)
    assert_allclose(found["ratio"], np.median(a / b), rtol=1e-5)
    assert_allclose(found["copies"], np.mean(a < np.quantile(held, 0.01)), atol=1e-9)


def test_memorisation_tells_copies_from_held_out_series():
    train, test, unseen = (walks(n, 12, 1, seed=n)[0] for n in (40, 120, 400))
    assert memorisation(train, train, test) == {"share": 1, "ratio": 0, "copies": 1}
    assert memorisation(test, train, test)["share"] < 0.4
    found = memorisation(unseen, train, test)
    assert abs(found["share"] - 0.5) < 0.08 and abs(found["ratio"] - 1) < 0.1
    assert found["copies"] < 0.08
    swapped = memorisation(unseen, test, train)
    assert abs(found["share"] + swapped["share"] - 1) < 0.1
    scaled = memorisation(unseen * 1000, train * 1000, test * 1000)
    assert scaled["share"] == pytest.approx(found["share"], abs=0.01)


def test_near_copies_are_nearer_than_the_nearest_hundredth_of_the_test_series():
    train = np.array([0.0, *range(1000, 1299)])
    test = np.arange(10, 60, 0.5)  # 10.5 and more from train, all but one
    new = np.array([3.0, 9.0, 11.0, 20.0, 1100.2])
    found = memorisation(*(x[:, None, None] for x in (new, train, test)))
    assert found["copies"] == pytest.approx(3 / 5)


def test_a_replay_is_seen_where_test_series_stand_in_train_too():
    "Their distance 0, or nearly 0 after rounding, says nothing of how near strangers come."
    train, _ = walks(100, 12, 1)
    for noise_of_rounding in (0, 1e-8):
        test = np.concatenate([train[:5] + noise_of_rounding, walks(95, 12, 1, seed=1)[0]])
        assert memorisation(train, train, test)["copies"] == 1
        assert memorisation(walks(200, 12, 1, seed=2)[0], train, test)["copies"] < 0.08
    assert memorisation(train, train, train)["copies"] == 1


def test_series_in_train_and_test_alike_count_half():
    X, _ = noise(10, 8)
    assert memorisation(X, X, X)["share"] == 0.5


def test_the_nearest_distance_is_exact_for_duplicates():
    A = rng().normal(size=(50, 30)) * 1e3
    assert_array_equal(nearest_distance(A, A), 0)
    B = rng(1).normal(size=(33, 30)) * 1e3
    expected = [min(np.linalg.norm(a - b) for b in B) for a in A]
    assert_allclose(nearest_distance(A, B, rows=7), expected, rtol=1e-12)


def test_memorisation_refuses():
    X, _ = noise(4, 8)
    with pytest.raises(ValueError, match="n_draws must be .* found 0"):
        memorisation(X, X, X, n_draws=0)
    with pytest.raises(ValueError, match="n_draws must be .* found 1.5"):
        memorisation(X, X, X, n_draws=1.5)
    with pytest.raises(ValueError, match="X_new has .channels, length."):
        memorisation(X[:, :7], X, X)


@pytest.mark.filterwarnings("ignore:.*float32 is too coarse:UserWarning")
@fuzz(
    80,
    A=series(sizes=((1, 6), (1, 2), (1, 20)), scales=st.integers(-44, 38)),
    seed=st.integers(0, 2**32),
    n=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    other=st.one_of(st.none(), hostile_series()),
    n_draws=st.integers(0, 3),
)
def test_memorisation_is_a_share_or_refused(A, seed, n, other, n_draws):
    (X, want), r = A, rng(seed)
    new, test = (np.resize(want, (k, *want.shape[1:])) * r.uniform(0.5, 1, (k, 1, 1)) for k in n)
    new = new if other is None else other
    names = ("X_new", "X_train", "X_test", "X lies", "n_draws")
    m = tried(lambda: memorisation(new, X, test, n_draws=n_draws), *names)
    if m is not REFUSED:
        assert n_draws and 0 <= m["share"] <= 1 and 0 <= m["copies"] <= 1 and m["ratio"] >= 0
    if other is None and n_draws and tried(lambda: check_series(want), "X") is not REFUSED:
        assert m is not REFUSED
