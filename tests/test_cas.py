"""Classification accuracy score: the labels that are generated for it, and what it measures"""

import numpy as np
import pytest

from fuzzing import REFUSED, fuzz, labels, tried
from hypothesis import strategies as st
from ncvq_nb.data import check_labels
from ncvq_nb.evaluation.cas import cas, cas_labels
from toys import global_state, sines


def test_cas_labels_keep_the_proportions():
    y = np.array(["a"] * 24 + ["b"] * 26)
    found = cas_labels(y)
    assert [(c, int((found == c).sum())) for c in "ab"] == [("a", 480), ("b", 520)]
    assert len(cas_labels(np.arange(7))) == 1001
    assert len(cas_labels([0, 1] * 800)) == 1600
    assert len(cas_labels(y, at_least=1)) == 50
    for bad, message in ((None, "y_train is None"), ([], "y_train is empty"), (3, "y_train")):
        with pytest.raises(ValueError, match=message):
            cas_labels(bad)


def test_cas_is_the_accuracy_of_a_classifier_that_saw_synthetic_series_only():
    (X, y), test = sines(40, 20), sines(60, 20, seed=1)
    settings, before = dict(max_steps=60, batch_size=16), global_state()
    assert cas(X, y, *test, **settings) > 0.9 and cas(X, 1 - y, *test, **settings) < 0.1
    assert global_state() == before
    with pytest.raises(ValueError, match="one class only"):
        cas(X, np.zeros(40, int), *test)
    with pytest.raises(ValueError, match="channels, length"):
        cas(X[..., :9], y, *test)


ANY_LABELS = st.one_of(labels(), st.just((0, None)), st.just((0, 5)))


@fuzz(80, y=ANY_LABELS, at_least=st.integers(0, 50))
def test_every_class_is_generated_or_the_labels_are_refused(y, at_least):
    out = tried(lambda: cas_labels(y[1], at_least=at_least), "y_train")
    if out is not REFUSED:
        assert len(out) >= max(at_least, len(y[0]))
        assert set(out.tolist()) == set(check_labels(y[1], len(y[0])).tolist())
