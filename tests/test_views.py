"""Series, spectrograms and augmented views: what is drawn is what was given"""

import numpy as np
import pytest

from figures import drawn, headings
from ncvq_nb.plots import plot_augmentations, plot_series, plot_spectrogram
from toys import says, walks


def test_missing_values_are_gaps():
    X = walks(2, 24, 1)[0]
    X[:, :, 5:8] = np.nan
    fig = plot_series(X)
    assert np.isnan(fig.axes[0].lines[0].get_ydata()[5:8]).all()
    drawn(fig)


def test_first_classes_and_channels():
    X, _ = walks(120, 24, 12)
    fig = plot_series(X[:, 0], np.arange(120) % 60)
    assert fig.get_suptitle() == "first 9 of 60 classes"
    assert headings(fig)[:2] == ["class 0", "2 of 2"]
    assert plot_series(X[:4], n=2).get_suptitle() == "first 9 of 12 channels"


def test_spectrogram_layout():
    re, im = np.full((1, 2, 3), 3.0), np.full((1, 2, 3), 4.0)
    u = np.stack([re, im, 0 * re, im / 10], 1)  # channels: 5 and 0.4
    a = [x.images[0].get_array() for x in plot_spectrogram(u, db=False).axes[:2]]
    np.testing.assert_allclose(a[0], 5)
    np.testing.assert_allclose(a[1], 0.4)
    np.testing.assert_allclose(plot_spectrogram(u, floor=-20).axes[1].images[0].get_array(), -20)


def test_series_above_spectrograms_share_an_axis_that_holds_all():
    X = np.stack([np.linspace(-1, 1, 20), np.linspace(-9, 9, 20)])
    fig = plot_spectrogram(np.ones((2, 2, 5, 9)), X=X)
    low, high = fig.axes[0].get_ylim()
    assert fig.axes[1].get_ylim() == (low, high) and low < -9 and high > 9
    drawn(fig)


def test_silence():
    drawn(plot_spectrogram(np.zeros((2, 2, 5, 9))))
    drawn(plot_spectrogram(np.zeros((2, 2, 5, 9)), db=False))


def test_views_of_another_length():
    X, _ = walks(3, 24, 3)
    fig = plot_augmentations(X, {"half": X[..., ::2], "double": np.repeat(X, 2, -1)}, n=1)
    assert [len(ax.lines[1].get_xdata()) for ax in fig.axes] == [12, 48] * 2
    assert fig.get_suptitle() == "first 2 of 3 channels"


X, U = walks(4, 24, 1)[0], np.zeros((2, 2, 5, 9))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plot_series(X, [1]), "y must hold one label per series (4)"),
        (lambda: plot_series(X, n=0), "n must be a whole number of at least 1, found 0"),
        (lambda: plot_series(X, fig="here"), "fig must be a matplotlib Figure"),
        (lambda: plot_spectrogram(np.zeros((2, 3, 5, 9))), "u must have an even number"),
        (lambda: plot_spectrogram(np.zeros((2, 2))), "u must be (n, 2c, f, t)"),
        (lambda: plot_spectrogram(U, floor=3), "floor must be negative"),
        (lambda: plot_spectrogram(U, X=X[:3]), "X must hold 2 series of 1 channels"),
        (lambda: plot_augmentations(X, {}), "views must be a non-empty dict"),
        (lambda: plot_augmentations(X, {"a": X[:2]}), "views['a'] must hold 4 series of 1"),
    ],
)
def test_errors_name_the_argument(call, words):
    with says(words):
        call()
