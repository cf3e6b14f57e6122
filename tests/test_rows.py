"""Rows of a report: the interval of a mean over sets, and rows whose values are known"""

import math
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose

from conftest import THOROUGH
from ncvq_nb.evaluation.rows import (
    RealFeatures,
    agreement_row,
    codebook_rows,
    correct,
    fid_rows,
    largest_class,
    mean_over_sets,
    memorisation_rows,
    reconstruction_rows,
    roughness_rows,
)
from ncvq_nb.metrics import bootstrap_interval, fid, inception_score
from toys import walks


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_interval_of_a_mean_over_sets_is_as_wide_as_that_mean_spreads():
    "The chance of the generated sets averages out, that of the real series does not."
    trials, n_worlds = (30, 200) if THOROUGH else (12, 120)
    r, n, d, m = rng(), 60, 8, 10

    def world():
        return r.normal(size=(n, d)), [r.normal(0.5, 1.2, size=(n, d)) for _ in range(m)]

    means = [np.mean([fid(S, T) for S in sets]) for T, sets in (world() for _ in range(n_worlds))]
    held, width, one = 0, [], []
    for i in range(trials):
        T, sets = world()
        interval = partial(bootstrap_interval, n_resamples=40, random_state=i)
        value, low, high = mean_over_sets(sets, fid, interval, T)
        assert value == pytest.approx(np.mean([fid(S, T) for S in sets])) and low < value < high
        held += low <= np.mean(means) <= high
        width.append(high - low)
        one.append(np.ptp(interval(fid, sets[0], T, method="spread")))
    true = 3.92 * np.std(means)
    said = held, true, np.mean(width), np.mean(one)
    assert held >= 0.8 * trials, said
    assert 0.75 * true < np.mean(width) < 1.25 * true < np.mean(one), said


def test_the_interval_of_the_inception_score_narrows_with_the_sets():
    sets = np.split(rng().dirichlet([0.3, 0.3, 0.3], size=800), 8)

    def score(P):
        return inception_score(P, n_splits=5, random_state=0)[0]

    def width(k, seed):
        interval = partial(bootstrap_interval, random_state=seed, n_resamples=100)
        return np.ptp(mean_over_sets(sets[:k], score, interval)[1:])

    two, eight = (np.mean([width(k, seed) for seed in range(3)]) for k in (2, 8))
    assert 0.4 < eight / two < 0.65  # nothing is shared: half the width for four times the sets


def test_codebook_rows_are_what_a_count_finds():
    s = rng().integers(0, 5, (20, 6)) * 2
    p = np.array([(s == k).mean() for k in range(16)])
    for kind in (np.int64, np.uint16):
        usage, perplexity = codebook_rows(s.astype(kind), 16)
        assert_allclose(usage.value, 5 / 16)
        assert_allclose(perplexity.value, math.exp(-sum(q * math.log(q) for q in p if q)))
        assert perplexity.ceiling == 16
    for bad in (np.array([[16]]), np.array([[-1]]), np.array([[0.5]]), np.array([[True]])):
        with pytest.raises(ValueError, match="from 0 to 15, found"):
            codebook_rows(bad, 16)


def test_an_accuracy_is_as_many_ones_and_its_floor_the_largest_class():
    assert correct(0.75, 8).tolist() == [1] * 6 + [0] * 2
    assert correct(1 / 3, 3).sum() == 1
    floor = largest_class(np.array(list("aab")), np.array(list("abbb")))
    assert (floor.kind, floor.value) == ("floor", 0.25)


INTERVAL = partial(bootstrap_interval, n_resamples=3)


@pytest.mark.parametrize("length, n_rows", [(1, 2), (2, 3), (6, 3), (24, 3)])
def test_the_constant_series_has_a_relative_error_of_one(length, n_rows):
    (X, _), (X_test, _) = walks(8, length), walks(5, length, seed=1)
    rows = reconstruction_rows(X_test, X_test, X_test, INTERVAL)
    assert [r.value for r in rows] == [0] * n_rows
    constants = {r.metric: r.references[0] for r in rows}
    assert all(c.kind == "constant" for c in constants.values())
    if length > 1:
        per_channel = ((X_test - X.mean((0, 2), keepdims=True)) ** 2).mean((0, 2))
        found = reconstruction_rows(X, X_test, X_test, INTERVAL)[1].references[0].value
        assert_allclose(found, np.mean(per_channel / X_test.var((0, 2))), rtol=1e-5)


def test_a_channel_that_train_lacks_is_compared_with_zero():
    X, X_test = rng().normal(size=(2, 6, 2, 12))
    X[:, 1] = np.nan
    row = reconstruction_rows(X, X_test, X_test, INTERVAL)[0]
    means = [[X[:, 0].mean()], [0]]
    assert row.references[0].value == pytest.approx(np.square(X_test - means).mean(), rel=1e-5)


def test_one_test_series_has_no_halves():
    (X, _), (X_test, _) = walks(6, 9), walks(1, 9, seed=1)
    rows = memorisation_rows(X, X_test, X, None, INTERVAL, rng())
    assert [r.metric for r in rows] == ["memorisation", "near copies"] and rows[0].floor == 0.5


def test_the_interval_of_fid_is_that_of_a_mean_over_sets():
    "Its short cut, one root for all sets, is exact to a millionth; equal weights change nothing."
    E, T, *sets = (rng(i).normal(size=(20, 6)) for i in range(5))
    interval = partial(bootstrap_interval, n_resamples=20)
    plain, weighted = (
        fid_rows(RealFeatures(E, T, test_weights=w), sets, None, interval, rng())[0]
        for w in (None, np.full(20, 3.0))
    )
    ends = mean_over_sets(sets, fid, interval, T)
    assert_allclose((plain.value, plain.low, plain.high), ends, atol=1e-6)
    assert_allclose((weighted.value, weighted.low, weighted.high), ends, atol=1e-6)


def test_agreement_has_the_class_shares_of_the_samples():
    labels, right = np.repeat([0, 1], [30, 10]), np.array([1.0, 1, 0, 0])  # all 0, no 1
    agreed, weights = (np.arange(40) < 20).astype(float), np.array([1.5, 1.5, 0.5, 0.5])
    row = agreement_row(agreed, labels, right, weights, None, INTERVAL)
    assert (row.value, row.floor, row.ceiling) == (0.5, 0.75, 0.75)


def test_what_a_tokenizer_does_stands_beside_what_samples_are():
    "Reconstructions that are smooth and shrunk: too smooth, and near copies without being copies."
    (X, _), (X_test, _), (new, _) = (walks(60, 32, 1, seed=i) for i in range(3))
    smooth = (X_test[..., [0, *range(31)]] + X_test) / 4
    rows = memorisation_rows(X, X_test, new, smooth, INTERVAL, rng())
    rows += roughness_rows(X, X_test, new, smooth, None, INTERVAL)
    found = {r.metric: {"new": r.value} | {v.kind: v.value for v in r.references} for r in rows}
    assert found["near copies"]["tokenizer"] > found["near copies"]["new"] + 0.05
    assert found["roughness"]["tokenizer"] < 0.5 < 0.9 < found["roughness"]["new"] < 1.1
    assert abs(found["high-frequency power"]["train"] - 1) < 0.2
    weights = np.r_[np.ones(30), np.zeros(30)]
    half = roughness_rows(X, X_test, new, smooth, weights, INTERVAL)[0]
    alone = roughness_rows(X, X_test[:30], new, smooth[:30], None, INTERVAL)[0]
    assert half.value == pytest.approx(alone.value)
    assert half.references[1].value == pytest.approx(alone.references[1].value)
    assert roughness_rows(X[..., :2], X_test[..., :2], new[..., :2], None, None, INTERVAL) == []
