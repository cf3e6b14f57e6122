"""Ranks over data sets: Demšar's worked example, SciPy, and definitions gone through by force."""

import itertools

import numpy as np
import pytest
from matplotlib.text import Text
from scipy.stats import friedmanchisquare, rankdata, wilcoxon

from ncvq_nb.evaluation.ranks import (
    average_ranks,
    friedman_test,
    holm,
    nemenyi_distance,
    pairwise_p,
    rank_groups,
    rank_methods,
    signed_rank_p,
)
from toys import says

# Demšar (2006), table 6: AUC of C4.5, +m, +cf, +m+cf. The eleventh 0.975 has the better rank.
AUC = """
.763 .768 .771 .798  .599 .591 .590 .569  .954 .971 .968 .967  .628 .661 .654 .657
.882 .888 .886 .898  .936 .931 .916 .931  .661 .668 .609 .685  .583 .583 .563 .625
.775 .838 .866 .875  1    1    1    1     .940 .962 .965 .962  .619 .666 .614 .669
.972 .981 .9751 .975 .957 .978 .946 .970
"""
TREES = np.array(AUC.split(), dtype=float).reshape(14, 4)


def scores(seed, n=8, k=5, levels=None):
    "Scores of which many are equal, or none."
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, k)) if levels is None else rng.integers(0, levels, (n, k))


def test_the_example_of_the_paper():
    assert average_ranks(TREES) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=1e-3)
    found = friedman_test(TREES)
    assert found["chi2"] == pytest.approx(friedmanchisquare(*TREES.T).statistic)
    untied = found["chi2"] * (1 - 78 / (14 * 60))  # by his formula, which has no ties
    assert untied == pytest.approx(9.28, abs=0.005)
    assert 13 * untied / (14 * 3 - untied) == pytest.approx(3.69, abs=0.005)
    assert nemenyi_distance(14, 4) == pytest.approx(1.25, abs=0.005)
    # against C4.5, section 3.2.2: the first two are rejected at 0.05, the third is not
    assert holm([0.016, 0.019, 0.607]) == pytest.approx([0.048, 0.048, 0.607])
    # section 3.1.3: rejected at 0.05, with the smaller sum 12 of 105
    assert 0.005 < signed_rank_p(TREES[:, 0], TREES[:, 1]) < 0.02


@pytest.mark.parametrize("n", [2, 5, 9, 14])
def test_signed_ranks_without_ties_are_those_of_scipy(n):
    a, b = np.random.default_rng(n).normal(size=(2, n)) + [[0.4], [0]]
    assert signed_rank_p(a, b) == pytest.approx(wilcoxon(a, b, method="exact").pvalue)
    assert signed_rank_p(b, a) == signed_rank_p(a, b)


@pytest.mark.parametrize("seed", range(8))
def test_signed_ranks_with_ties_go_through_all_signs(seed):
    d = np.random.default_rng(seed).integers(-3, 4, 8).astype(float)
    ranks = rankdata(abs(d)) * (d != 0)
    sums = np.array([np.dot(ranks, s) for s in itertools.product([-1, 1], repeat=8)])
    wanted = np.mean(abs(sums) >= abs(ranks @ np.sign(d)) - 1e-9)
    assert signed_rank_p(d, np.zeros(8)) == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_its_steps_reject(seed):
    p = np.random.default_rng(seed).random(7) ** 4
    for alpha in (0.01, 0.05, 0.2):
        rejected, left = set(), sorted(range(7), key=lambda i: p[i])
        while left and p[left[0]] <= alpha / len(left):
            rejected.add(left.pop(0))
        assert {i for i, v in enumerate(holm(p)) if v <= alpha} == rejected


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_the_longest_stretches_without_a_difference(seed):
    rng, k = np.random.default_rng(seed), 6
    p = np.triu(rng.random((k, k)) ** 2, 1)
    p, ranks = p + p.T + np.eye(k), rng.permutation(k) + 1
    order = np.argsort(ranks)
    alike = [
        set(order[i:j].tolist())
        for i in range(k)
        for j in range(i + 2, k + 1)
        if all(p[a, b] >= 0.05 for a, b in itertools.combinations(order[i:j], 2))
    ]
    longest = [g for g in alike if not any(g < other for other in alike)]
    assert [set(g) for g in rank_groups(ranks, p)] == longest


@pytest.mark.parametrize("levels", [None, 3])
def test_ranks_do_not_depend_on_scale_or_order(levels):
    s, names = scores(1, levels=levels), list("abcde")
    found, order = rank_methods(s, names), [3, 1, 4, 0, 2]
    mixed = rank_methods(np.exp(s)[::-1][:, order], [names[i] for i in order])
    assert mixed.ranks == pytest.approx(found.ranks[order])
    opposite = rank_methods(-s, names, "lower")
    assert opposite.ranks == pytest.approx(found.ranks)
    assert opposite.p == pytest.approx(found.p)
    assert found.ranks.sum() == pytest.approx(15)
    assert (found.p == found.p.T).all() and (np.diag(found.p) == 1).all()


@pytest.mark.parametrize("n, k", [(2, 3), (3, 3), (4, 3)])
def test_friedman_on_few_data_sets_goes_through_all_orders(n, k):
    s = np.arange(n * k).reshape(n, k) ** 2 % 7
    orders = [rankdata(s, axis=1)[:, list(o)] for o in itertools.permutations(range(k))]
    sums = [
        np.square(sum(orders[o][i] for i, o in enumerate(which))).sum()
        for which in itertools.product(range(len(orders)), repeat=n)
    ]
    wanted = np.mean(np.array(sums) >= np.square(orders[0].sum(0)).sum())
    assert friedman_test(s)["p"] == pytest.approx(wanted, abs=0.02)
    alike = rank_methods([[1, 2, 3]] * 2, list("abc"))
    assert "As a whole they are not told apart" in alike.summary()


def test_rounding_breaks_no_ties():
    tenths = [0.1 + 0.2, 0.3, 0.4]
    assert rank_methods([tenths] * 4, list("abc"), "lower").ranks.tolist() == [1.5, 1.5, 3]
    a, b = np.array([0.768, 0.931, 0.5, 0.7]), np.array([0.763, 0.936, 0.4, 0.6])  # 5, −5, 100, 100
    assert signed_rank_p(a, b) == signed_rank_p([5, 0, 100, 100], [0, 5, 0, 0])


def test_equal_methods_are_not_told_apart():
    found = rank_methods(np.ones((6, 3)), list("abc"))
    assert found.ranks.tolist() == [2, 2, 2] and (found.p == 1).all()
    assert found.groups == [[0, 1, 2]] and found.friedman["F_p"] == 1
    always = rank_methods(np.arange(3) + np.arange(9)[:, None], list("abc"))
    assert always.groups == [] and always.friedman["F_p"] == 0
    assert "Pairs told apart at 0.05 (Wilcoxon, Holm): 3" in always.summary()


def test_too_few_data_sets_are_said_to_be_too_few():
    found = rank_methods(scores(0, n=5, k=3), list("abc"))
    assert found.least_p == 3 / 16 and "No pair could be told apart" in found.summary()
    assert (pairwise_p(scores(0, n=5, k=3)) >= 3 / 16 - 1e-12).all()


def test_the_diagram_names_every_method_and_draws_every_group():
    names = [f"method {i}" for i in range(7)]
    found = rank_methods(scores(3, n=10, k=7), names)
    fig = found.plot()
    texts = " ".join(t.get_text() for t in fig.findobj(Text))
    assert all(f"{n}" in texts and f"{r:.2f}" in texts for n, r in zip(names, found.ranks))
    bars = [x for x in fig.axes[0].lines if x.get_linewidth() == 2.5]
    ends = [found.ranks[[g[0], g[-1]]] for g in found.groups]
    assert len(bars) == len(ends) > 0
    for bar, (low, high) in zip(bars, ends):
        assert bar.get_xdata() == pytest.approx([low - 0.03, high + 0.03])
    assert found.table().count("\n") == 8


def test_bad_input_is_named():
    with says("scores", "shape (3,)"):
        average_ranks([1, 2, 3])
    with says("scores", "numbers"):
        average_ranks([["a", "b"], ["c", "d"]])
    with says("no finite value", "data set 0 and method 1", "2 such"):
        average_ranks([[1, np.nan], [np.inf, 2]])
    with says("better", "'lower'", "'best'"):
        average_ranks(TREES, "best")
    with says("names", "4 different names"):
        rank_methods(TREES, ["a", "a", "b", "c"])
    with says("alpha", "between 0 and 1", "1.5"):
        rank_methods(TREES, "abcd", alpha=1.5)
    with says("p must be", "from 0 to 1"):
        holm([0.5, np.nan])
    with says("at least 3 methods", "found 2"):
        friedman_test(TREES[:, :2])
    with says("fig must be"):
        rank_methods(TREES, "abcd").plot(fig=3)
