"""Class shares: weights by hand, labels as exact as their number allows"""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ncvq_nb.evaluation.shares import class_weights, effective_number, labels_like_test
from toys import says


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", [int, str, float])
def test_weighted_classes_have_the_wanted_shares(kind):
    y = rng().choice([1, 2, 3], 200, p=[0.6, 0.3, 0.1]).astype(kind)
    like = rng(1).choice([1, 2, 3, 4], 90, p=[0.1, 0.2, 0.3, 0.4]).astype(kind)
    w = class_weights(y, like)
    shares = [w[y == c].sum() / w.sum() for c in np.unique(y)]
    wanted = np.array([(like == c).sum() for c in np.unique(y)])
    assert_allclose(shares, wanted / wanted.sum())
    assert_allclose(w.mean(), 1) and all(len(set(w[y == c])) == 1 for c in np.unique(y))


def test_no_weights_where_none_are_needed_or_none_help():
    y = np.repeat(["a", "b"], [4, 8])
    for like in (y[::4], np.array(["x", "y"]), np.array([], "U1")):
        assert class_weights(y, like) is None
    one = class_weights(np.array(list("abbb")), np.array(["a"]))  # a single series would count
    assert one is None
    w = class_weights(y, np.array(["a", "c"]))
    assert_allclose(w, [3] * 4 + [0] * 8)
    assert effective_number(w) == pytest.approx(4)
    assert effective_number(np.ones(9)) == pytest.approx(9)


def test_labels_like_test_are_as_exact_as_their_number_allows():
    y_test = np.repeat([5, 6, 7], [20, 9, 3])
    assert sorted(labels_like_test([5, 6, 7], y_test, 32, rng())) == sorted(y_test)
    assert set(labels_like_test([5, 7], y_test, 23, rng())) == {5, 7}
    for n in (2, 7, 50):
        labels = labels_like_test([5, 6, 7], y_test, n, rng(n))
        assert len(labels) == n
        for c, k in {5: 20, 6: 9, 7: 3}.items():
            assert abs((labels == c).sum() - n * k / 32) < 1
    with says("no class of the test set occurs in the train set"):
        labels_like_test([1], y_test, 4, rng())
