"""Precision, recall, density and coverage against loops, with their invariances and errors"""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fuzzing import REFUSED, features, fuzz, tried
from hypothesis import strategies as st
from ncvq_nb.evaluation.diversity import class_diversity, distances, diversity
from toys import global_state


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def global_generators_stay():
    before = global_state()
    yield
    assert global_state() == before


def dist(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def loops(real, new, k):
    "The four metrics as their definitions say, in plain Python."

    def radius(A):
        others = [[dist(a, b) for j, b in enumerate(A) if j != i] for i, a in enumerate(A)]
        return [sorted(d)[k - 1] for d in others]

    R, N = radius(real), radius(new)
    inside = [[dist(b, a) <= r for a, r in zip(real, R)] for b in new]  # (m, n)
    within = [[dist(a, b) <= r for b, r in zip(new, N)] for a in real]  # (n, m)
    return {
        "precision": np.mean([any(row) for row in inside]),
        "recall": np.mean([any(row) for row in within]),
        "density": np.mean([sum(row) / k for row in inside]),
        "coverage": np.mean([any(column) for column in zip(*inside)]),
    }


@pytest.mark.parametrize("k, n, m", [(1, 20, 30), (3, 30, 12), (5, 25, 25)])
def test_diversity_is_what_loops_find(k, n, m):
    real, new = rng(k).normal(size=(n, 3)), rng(k + 9).normal(0.5, 1.3, size=(m, 3))
    found, expected = diversity(real, new, k=k), loops(real, new, k)
    assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-12)


def test_diversity_of_more_rows_than_a_chunk():
    real, new = rng().normal(size=(1100, 2)), rng(1).normal(size=(40, 2))
    whole, parts = (np.concatenate([*distances(real, new, rows=r)]) for r in (2000, 7))
    assert_allclose(parts, whole, rtol=1e-12)
    assert [len(d) for d in distances(real, new)] == [1024, 76]
    within = np.sort(np.concatenate([*distances(real, real, rows=2000)]), axis=1)[:, 5]
    inside = whole <= within[:, None]
    found = diversity(real, new)
    assert found["precision"] == inside.any(0).mean() and found["coverage"] == inside.any(1).mean()
    assert_allclose(found["density"], inside.sum(0).mean() / 5)


def test_diversity_sees_identity_collapse_distance_and_no_order_or_units():
    A, far = rng().normal(size=(60, 4)), rng(1).normal(size=(60, 4)) + 100
    same = diversity(A, A)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    assert set(diversity(A, far).values()) == {0.0}
    assert diversity(A, np.repeat(A[:1], 60, 0))["coverage"] < 0.3
    B = rng(2).normal(size=(50, 4))
    for other in (diversity(A[::-1], B[::-1]), diversity(A * 8, B * 8)):
        assert_allclose(list(other.values()), list(diversity(A, B).values()), rtol=1e-12)


def test_balls_contain_their_surface():
    A = np.zeros((7, 2))  # every radius is 0
    assert_allclose(list(diversity(A, A).values()), [1, 1, 7 / 5, 1])


def test_diversity_with_fewer_new_series_at_a_time():
    real = rng().normal(size=(80, 3))
    new = np.sort(rng(1).normal(size=(400, 3)), 0)  # in an order that the choice must not follow
    few, all_of_them = diversity(real, new, n_new=20), diversity(real, new)
    groups = [new[rng(i).permutation(400)[:20]] for i in range(20)]
    mean = np.mean([diversity(real, group)["coverage"] for group in groups])
    assert_allclose(few["coverage"], mean, atol=0.06)
    assert few["precision"] == all_of_them["precision"]
    assert few["coverage"] < all_of_them["coverage"]


def test_class_diversity_is_the_mean_over_classes():
    real, new = rng().normal(size=(60, 3)), rng(1).normal(size=(44, 3))
    y, z = np.array(list("ab"))[np.arange(60) % 2], np.array(list("ab"))[np.arange(44) % 2]
    parts = [loops(real[y == c], new[z == c], 5) for c in "ab"]
    found = class_diversity(real, y, new, z)
    for name in parts[0]:
        assert_allclose(found[name], np.mean([p[name] for p in parts]), rtol=1e-12)
    assert class_diversity(real, y, new, z, n_new={"a": 0}) != found


def test_class_diversity_of_small_and_missing_classes():
    real, new = rng().normal(size=(9, 3)), rng(1).normal(size=(6, 3))
    y, z = [0] * 5 + [1] * 3 + [2], [0] * 3 + [2] * 2 + [3]
    found = class_diversity(real, y, new, z)  # class 0 alone has two on both sides, and k = 2
    assert_allclose(list(found.values()), [loops(real[:5], new[:3], 2)[k] for k in found])
    none = class_diversity(real, [0] * 9, new, [1] * 6)
    assert all(math.isnan(v) for v in none.values())


def test_diversity_refuses():
    A = rng().normal(size=(6, 3))
    with pytest.raises(ValueError, match="at least two"):
        diversity(A, A[:1])
    with pytest.raises(ValueError, match="k must be .* found 0"):
        diversity(A, A, k=0)
    with pytest.raises(ValueError, match="new has 2 features"):
        diversity(A, A[:, :2])
    with pytest.raises(ValueError, match="n_new must be None or a .* of at least 2, found 1"):
        diversity(A, A, n_new=1)
    with pytest.raises(ValueError, match="k must be .* found 'x'"):
        diversity(A, A, k="x")
    with pytest.raises(ValueError, match=r"n_new\[0\] must be .* found 2.5"):
        class_diversity(A, np.arange(len(A)) % 2, A, np.arange(len(A)) % 2, n_new={0: 2.5})
    with pytest.raises(ValueError, match="k must be .* found 0"):
        class_diversity(A, [0, 1] * 3, A, [0, 1] * 3, k=0)


@fuzz(
    300,
    A=features(),
    B=features(),
    k=st.integers(0, 6),
    n_new=st.one_of(st.none(), st.integers(0, 8)),
)
def test_shares_of_every_kind_of_features_are_shares(A, B, k, n_new):
    v = tried(lambda: diversity(A, B, k=k, n_new=n_new), "real", "new", "k must", "series")
    if v is not REFUSED:
        assert all(0 <= v[name] <= 1 for name in ("precision", "recall", "coverage"))
        assert v["density"] >= 0
    if not (hasattr(A, "__len__") and hasattr(B, "__len__")):
        return
    y, z = ([i % 2 for i in range(len(Z))] for Z in (A, B))
    z = {5: ["a"] * len(B), 6: None}.get(k, z)  # labels of another type, and none
    found = tried(lambda: class_diversity(A, y, B, z, k=max(k, 1)), "real", "new", "y_")
    if found is not REFUSED:
        assert k < 5 and all(math.isnan(x) or x >= 0 for x in found.values())
