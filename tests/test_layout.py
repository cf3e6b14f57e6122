"""What plots take, and the texts they write"""

import numpy as np
import pytest
import torch

from figures import drawn, headings
from ncvq_nb.drawing.layout import (
    check_figure,
    check_whole,
    panel_grid,
    plottable_labels,
    plottable_series,
    short_label,
    short_labels,
)
from ncvq_nb.plots import plot_series
from toys import says


def test_torch_tensors():
    gen = torch.Generator().manual_seed(0)
    X = torch.randn(4, 2, 16, generator=gen, requires_grad=True)
    assert plottable_series(X).shape == (4, 2, 16)
    drawn(plot_series(X, torch.tensor([0, 0, 1, 1])))
    fig = plot_series([X[0, 0].detach().numpy(), X[1, 0, :9].tolist()])  # of unequal lengths
    assert [np.isfinite(line.get_ydata()).sum() for line in fig.axes[0].lines] == [16, 9]


def test_what_is_not_finite_is_missing():
    X = np.array([[1, np.inf, -np.inf, np.nan]])
    np.testing.assert_equal(plottable_series(X)[0, 0], [1, np.nan, np.nan, np.nan])
    assert X[0, 1] == np.inf  # the input is not changed


def test_large_labels_keep_their_digits():
    labels = [1234567, np.int64(1234568), 2.0, "sit", True]
    texts = ["class 1234567", "class 1234568", "class 2", "sit", "True"]
    assert [short_label(v) for v in labels] == texts


@pytest.mark.parametrize("dtype", [object, float, int])
def test_labels_of_a_column_of_objects_are_what_they_are(dtype):
    y = np.array([2, 10] * 3, dtype)
    assert headings(plot_series(np.zeros((6, 9)), y))[::2] == ["class 2", "class 10"]
    y = np.array([2.0, 10.0] * 3, object)
    assert plottable_labels(y, 6).tolist() == [2, 10] * 3


def test_texts_are_cut_so_that_they_stay_apart():
    same = ["one and the same long name"] * 2
    assert short_labels(same, 12) == [short_label(same[0], 12)] * 2  # of two series of one class
    names = [f"measurement of the sensor number {i}" for i in range(12)]
    texts = short_labels(names, 14)
    assert len(set(texts)) == 12 and max(map(len, texts)) == 14
    names = [f"an even longer name {i} that ends alike" for i in range(12)]
    assert len(set(short_labels(names, 14))) == 12
    assert short_labels(["a\n  b", 3, 4.5]) == ["a b", "class 3", "class 4.5"]


@pytest.mark.parametrize("width", [7, 3.4])
def test_a_title_stays_in_the_figure(width):
    name = "Sensor readings in $ and % of all hours of a year " * 5
    fig = plot_series([[1, 2, 3]], title=name, width=width)
    drawn(fig)
    box = fig._suptitle.get_window_extent()
    assert 0 <= box.x0 and box.x1 <= fig.bbox.width and fig.get_suptitle().endswith("…")
    assert len(fig.get_suptitle().splitlines()) == 2 and not fig._suptitle.get_parse_math()


def test_panels_that_nobody_needs_are_gone():
    fig, axs = panel_grid(None, 4, 3, 7, 1, block=2)
    assert axs.shape == (4, 2) and len(fig.axes) == 8 and set(fig.axes) == set(axs.flat)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plottable_series([1.0, 2.0]), "X must be (n, length) or"),
        (lambda: plottable_series(np.zeros((0, 5))), "X is empty"),
        (lambda: plottable_series(np.zeros((3, 0)), empty=True), "X is empty"),
        (lambda: plottable_series([[1, 2], [[3], [4]]], "X_new"), "X_new[1] has 2 channels"),
        (lambda: plottable_series([["a", "b"]]), "X must hold numbers"),
        (lambda: plottable_series(np.ones((2, 3)) + 1j), "X must hold real numbers"),
        (lambda: plottable_labels([1], 4), "y must hold one label per series (4)"),
        (lambda: plottable_labels([None, 1], 2), "y has missing labels"),
        (lambda: check_whole(0, "n"), "n must be a whole number of at least 1, found 0"),
        (lambda: check_whole(2.5, "n"), "n must be a whole number"),
        (lambda: check_figure("here"), "fig must be a matplotlib Figure or SubFigure, found str"),
    ],
)
def test_errors_name_the_argument(call, words):
    with says(words):
        call()
