"""Roughness: against SciPy's spectrum, noise and smoothing of known size, and what it refuses"""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import uniform_filter1d
from scipy.signal import periodogram

from ncvq_nb.evaluation.roughness import fine_power, roughness
from toys import says, walks


def test_smoothed_series_are_seen_and_equal_ones_are_one():
    X, _ = walks(40, 64)
    assert roughness(X, X) == {"roughness": 1, "high_frequency_power": 1}
    found = [roughness(uniform_filter1d(X, k, axis=2), X) for k in (3, 9)]
    assert 0.4 < found[0]["roughness"] < 0.7 and found[1]["roughness"] < 0.4
    assert 1 > found[0]["high_frequency_power"] > found[1]["high_frequency_power"]
    noisy = X + np.random.default_rng(9).normal(0, 2**0.5, X.shape)
    assert roughness(noisy, X)["roughness"] == pytest.approx(5**0.5, rel=0.05)  # 1 + 4
    other, _ = walks(40, 64, seed=1)
    assert roughness(other, X)["roughness"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("length", [3, 8, 33, 64])
def test_the_spectrum_is_that_of_a_periodogram(length):
    X, _ = walks(3, length, 2)
    window = np.hanning(length + 2)[1:-1]
    centred = X.astype(float) - X.mean(2, keepdims=True)
    how = dict(detrend=False, scaling="spectrum", return_onesided=False)
    f, P = periodogram(centred, window=window, **how)
    half = slice(0, length // 2 + 1)
    upper = np.abs(f[half]) * length > length // 8
    expected = P[..., half][..., upper].sum(-1).mean(1) * window.sum() ** 2
    steps, power = fine_power(X)
    assert_allclose(power, expected, rtol=1e-5)
    assert_allclose(steps, np.square(np.diff(X)).mean((1, 2)), rtol=1e-5)


def test_units_do_not_matter_and_every_channel_counts_alike():
    (X, _), (new, _) = walks(20, 30), walks(20, 30, seed=1)
    units = np.array([[1e3], [1e-3]])
    scaled = roughness(new * units, X * units)
    assert_allclose([*scaled.values()], [*roughness(new, X).values()], rtol=1e-3)


def test_what_has_no_roughness():
    X = np.zeros((3, 1, 9))
    assert all(np.isnan(v) for v in roughness(X + 1, X).values())
    with says("X_real has series of length 2"):
        roughness(X[..., :2], X[..., :2])
    with says("X_new has (channels, length) (1, 8)"):
        roughness(X[..., :8], X)
