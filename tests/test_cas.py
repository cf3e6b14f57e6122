"""Classification accuracy score: the labels that are generated for it, and what it measures"""

import numpy as np
import pytest
from scipy import stats

from fuzzing import REFUSED, fuzz, labels, tried
from hypothesis import strategies as st
from ncvq_nb.data import check_labels
from ncvq_nb.evaluation.cas import accuracy_interval, cas, cas_labels
from toys import global_state, sines


def test_cas_labels_keep_the_proportions():
    y = np.array(["a"] * 24 + ["b"] * 26)
    found = cas_labels(y)
    assert [(c, int((found == c).sum())) for c in "ab"] == [("a", 480), ("b", 520)]
    assert len(cas_labels(np.arange(7))) == 1001
    assert len(cas_labels([0, 1] * 800)) == 1600
    assert len(cas_labels(y, at_least=1)) == 50
    with pytest.raises(ValueError, match="at_least must be .* found 'x'"):
        cas_labels(y, at_least="x")
    for bad, message in ((None, "y_train is None"), ([], "y_train is empty"), (3, "y_train")):
        with pytest.raises(ValueError, match=message):
            cas_labels(bad)


def test_cas_is_the_accuracy_of_a_classifier_that_saw_synthetic_series_only():
    (X, y), test = sines(40, 20), sines(60, 20, seed=1)
    settings, before = dict(max_steps=60, batch_size=16), global_state()
    assert cas(X, y, *test, **settings) > 0.9 and cas(X, 1 - y, *test, **settings) < 0.1
    assert global_state() == before
    with pytest.raises(ValueError, match="y_new has one class only"):
        cas(X, np.zeros(40, int), *test)
    with pytest.raises(ValueError, match="channels, length"):
        cas(X[..., :9], y, *test)


@pytest.mark.parametrize("spread", [0.0, 0.04])
def test_the_interval_covers_other_classifiers_and_other_series(spread):
    "Three classifiers, anew each time: the accuracy that they come from is in it as promised."
    r, held = np.random.default_rng(0), []
    for _ in range(300):
        skill, hard = r.normal(0, spread, (3, 1)), r.uniform(-0.2, 0.2, 300)
        low, high = accuracy_interval((r.random((3, 300)) < 0.7 + skill + hard).astype(float))
        held.append(low <= 0.7 <= high)
    assert 0.91 < np.mean(held) <= 1


def test_the_interval_of_one_classifier_is_that_of_a_mean():
    correct = np.arange(100) < 80
    low, high = accuracy_interval(correct[None].astype(float), 0.9)
    half = stats.t.ppf(0.95, 99) * stats.sem(correct)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half))
    assert accuracy_interval(np.zeros((2, 5))) == (0, 0)
    assert accuracy_interval(np.array([[1.0]])) == (1, 1)
    three = np.array([[1.0] * 4, [0.0] * 4, [1.0] * 4])  # all spread is that of classifiers
    assert accuracy_interval(three) == (0, 1)


ANY_LABELS = st.one_of(labels(), st.just((0, None)), st.just((0, 5)))


@fuzz(80, y=ANY_LABELS, at_least=st.integers(0, 50))
def test_every_class_is_generated_or_the_labels_are_refused(y, at_least):
    out = tried(lambda: cas_labels(y[1], at_least=at_least), "y_train")
    if out is not REFUSED:
        assert len(out) >= max(at_least, len(y[0]))
        assert set(out.tolist()) == set(check_labels(y[1], len(y[0])).tolist())
