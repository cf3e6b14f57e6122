"""Windows of one recording, the sines, and the unit interval"""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ncvq_nb import recording_windows
from ncvq_nb.evaluation.window_sets import check_windows, sine_windows, unit_scale
from toys import global_state, says, walks


def test_windows_are_those_of_a_loop():
    X = np.random.default_rng(0).normal(size=(50, 3)) * [1, 100, 1e-3] + [0, 5, 1e-2]
    low, high = X.min(0), X.max(0)
    for length, stride in ((24, 1), (10, 7), (50, 3), (1, 1)):
        found = recording_windows(X, length, stride=stride)
        starts = range(0, 50 - length + 1, stride)
        expected = [((X[i : i + length] - low) / (high - low)).T for i in starts]
        assert found.dtype == np.float32 and found.shape == (len(starts), 3, length)
        assert_allclose(found, expected, atol=2e-6)
    raw = recording_windows(X, 10, scale=False)
    assert_array_equal(raw[3], X[3:13].T.astype(np.float32))
    assert_array_equal(recording_windows(X[:, 0]), recording_windows(X[:, :1]))


@pytest.mark.parametrize(
    "X, how, parts",
    [
        (np.zeros((6, 100)), {}, ("6 time steps", "100 channels", "transpose X")),
        (np.zeros((2, 30, 3)), {}, ("X has shape (2, 30, 3)", "(time, channels)")),
        (np.full((30, 2), np.nan), {}, ("X",)),
        (np.zeros((30, 2)), dict(length=0), ("length must be", "0")),
        (np.zeros((30, 2)), dict(stride=1.5), ("stride must be", "1.5")),
    ],
)
def test_recordings_that_are_none(X, how, parts):
    with says(*parts):
        recording_windows(X, **how)


def test_masked_steps_are_no_numbers():
    X = np.ma.masked_equal(np.where(np.arange(60) == 30, -999, np.sin(np.arange(60))), -999)
    for scale in (True, False):
        with says("X", "NaN"):
            recording_windows(X, scale=scale)


def test_recordings_far_from_zero_are_scaled_before_they_are_rounded():
    X = np.random.default_rng(0).normal(size=(50, 2))
    assert_allclose(recording_windows(1e9 + X), recording_windows(X), atol=2e-6)


def test_sines_are_those_of_their_formula():
    before = global_state()
    X, again = sine_windows(200, 30, 2), sine_windows(200, 30, 2)
    assert_array_equal(X, again)
    assert (X != sine_windows(200, 30, 2, random_state=1)).any()
    angle = np.arcsin(2 * X.astype(float) - 1)
    phase, f = angle[:, :, 0], np.diff(angle[:, :, :8], axis=2)  # below a quarter of a period
    assert_allclose(f, f[:, :, :1].repeat(7, 2), atol=2e-5)
    for v in (phase, f[:, :, 0]):
        assert 0 <= v.min() + 1e-5 < 0.005 and 0.095 < v.max() < 0.1
        assert_allclose(v.mean(), 0.05, atol=0.005)
    assert_allclose(np.corrcoef(phase.ravel(), f[:, :, 0].ravel())[0, 1], 0, atol=0.15)
    assert global_state() == before
    with says("n must be"):
        sine_windows(0)


def test_all_sets_have_the_scale_of_the_real_one():
    real, _ = walks(20, 12, 2)
    wide, shifted = unit_scale(real * 3 + 5, real * 3 + 5, real * 3 + 100)[1:]
    assert_allclose(wide, unit_scale(real)[0], atol=1e-6)
    assert wide.min() == 0 and wide.max() == 1 and shifted.min() > 1
    constant = np.ones((20, 2, 12))
    scaled = unit_scale(constant, constant + 2)
    assert_array_equal(scaled[0], 0 * constant)
    assert_array_equal(scaled[1], 0 * constant + 2)


def test_windows_that_no_score_can_be_computed_for():
    real, _ = walks(20, 12, 2)
    for new, parts in (
        (real[:9], ("new has 9 windows", "at least 10")),
        (real[:, :1], ("new has (channels, length)", "(1, 12)", "(2, 12)")),
        (real[:, :, 1:], ("new has (channels, length)", "(2, 11)")),
        (np.where(real > 0, real, np.inf), ("new", "infinite")),
        ([["a"]], ("new",)),
    ):
        with says(*parts):
            check_windows(real, new=new)
    with says("real has 3 windows"):
        check_windows(real[:3], new=real)
    with says("real", "length"):
        check_windows(real[:, :, :1], new=real[:, :, :1])
    with says("held_out has (channels, length)"):
        check_windows(real, new=real, held_out=real[:, :1])
