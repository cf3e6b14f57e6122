"""Every plot on odd input; samples, reconstructions and embeddings show what was given"""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from figures import drawn, every_plot, headings, history
from ncvq_nb import plots
from ncvq_nb.plots import (
    new_figure,
    plot_embedding,
    plot_history,
    plot_reconstructions,
    plot_samples,
    unexplained_variance,
)
from toys import says, walks

# ---- every plot


def test_all_plots_are_offered_here():
    given = {"augmentations", "reconstructions", "samples", "series", "spectrogram"}
    made = {"codebook", "embedding", "history", "tokens"}
    others = {"new_figure", "save_figure", "unexplained_variance"}
    assert {f"plot_{name}" for name in given | made} | others == set(plots.__all__)


def test_every_plot_draws_and_reads_no_formulas():
    names = [f"a very long label $x_{i}$, with maths" for i in range(3)]
    for f in every_plot(3, 2, names, title="costs in $ and $"):
        fig = f()
        assert isinstance(fig, Figure) and drawn(fig).min() < 128
        texts = [t for t in fig.findobj(Text) if "$" in t.get_text() and t.get_visible()]
        ours = [t for t in texts if "mathdefault" not in t.get_text()]  # numbers at the axes
        assert ours and not any(t.get_parse_math() for t in ours)


def test_labels_are_shown_as_text():
    "Not as formulas, which may not be well-formed."
    odd = ["$\\frac$", "$$", "$a$ $\\", "a\\b", "<script>", "\\undefined{", "_^_", "%d %s {0}"]
    (X, _), y = walks(16, 24, 1), np.array(odd * 2)
    drawn(plot_samples(X, y, X, y, X, y, title=" ".join(odd)))
    drawn(plot_embedding(X[:, 0, :2], y, title=odd[0]))
    drawn(plot_reconstructions(X[:1], X[:1], y[:1], title=odd[2]))


def test_every_plot_fits_one_column():
    for f in every_plot(1, width=3.4):
        fig = f()
        assert fig.get_figwidth() == 3.4
        drawn(fig)


def test_subfigures_make_a_page():
    page = new_figure(7, 5)
    top, low = page.subfigures(2, 1)
    X, y = walks(4, 24, 1)
    assert plot_samples(X, y, X, y, X, y, fig=top) is top
    plot_history(history(), fig=low)
    assert len(top.axes) == 6 and len(page.axes) == 11
    drawn(page)


def test_input_is_not_changed():
    X, y = walks(6, 24, 1)
    X[0, 0, 0] = np.inf
    keep = X.copy()
    plot_samples(X, y, X, y, X, y)
    plot_reconstructions(X, X, y)
    np.testing.assert_array_equal(X, keep)


def test_constant_series_and_missing_values():
    X = np.full((4, 1, 20), 3.0)
    X[:, :, 5:8] = np.nan
    fig = plot_reconstructions(X, X + np.array([0, 0, 1, 1])[:, None, None])
    found = headings(fig)
    assert found.count("0 % unexplained") == 2 and found.count("constant series missed") == 2
    drawn(fig)
    drawn(plot_samples(X, None, None, None, X, None))


# ---- samples


def test_samples_show_what_was_given():
    X, y = walks(10, 24, 1)[0].astype(float), np.repeat([0, 1], 5)
    axs = np.array(plot_samples(X, y, X, y, X[:6], y[:6], n_lines=3).axes).reshape(2, 3)
    # three series and the mean; in the other columns also the mean of the training series
    assert [len(a.lines) for a in axs[0]] == [4, 5, 5]
    np.testing.assert_allclose(axs[0, 0].lines[3].get_ydata(), X[:5, 0].mean(0))
    np.testing.assert_allclose(axs[1, 1].lines[-1].get_ydata(), X[5:, 0].mean(0))
    band = axs[0, 0].collections[0].get_paths()[0].vertices[:, 1]
    low, high = np.quantile(X[:5, 0], (0.05, 0.95), axis=0)
    np.testing.assert_allclose([band.min(), band.max()], [low.min(), high.max()])
    assert axs[1, 2].get_title("right") == "n = 1"


def test_sixty_classes():
    X, y = walks(120, 24, 1)[0], np.arange(120) % 60
    fig = plot_samples(X, y, X, y, X, y, title="many")
    assert fig.get_suptitle() == "many · first 9 of 60 classes"
    assert len(fig.axes) == 27 and fig.get_figheight() < 10
    points = np.random.default_rng(0).normal(size=(120, 2))
    fig = plot_embedding(points, y)
    assert "first 8 of 60 classes" in fig.get_suptitle()
    assert fig.legends[0].get_texts()[-1].get_text() == "52 more"
    assert sum(len(line.get_xdata()) for line in fig.axes[0].lines) == 120


def test_three_channels_are_rows_with_their_own_axis():
    X, y = walks(12, 24, 3)
    X = X * np.array([1, 1000, 0.001])[:, None]
    axs = np.array(plot_samples(X, y, X, y, X, y).axes).reshape(6, 3)
    assert [a.get_ylabel() for a in axs[:, 0]] == ["channel 0", "channel 1", "channel 2"] * 2
    assert axs[3, 0].get_title("right") == "class 1 · n = 6"
    limits = [[a.get_ylim() for a in row] for row in axs]
    assert limits[1][0] == limits[1][2] == limits[4][1] and limits[0][0] != limits[1][0]
    many = np.repeat(X, 4, axis=1)
    assert "first 9 of 12 channels" in plot_samples(*[many, None] * 3).get_suptitle()


def test_empty_class_missing_set_and_mixed_labels():
    X = walks(6, 24, 1)[0]
    fig = plot_samples(X, [0, 0, 0, 1, 1, 1], X[:3], [0, 0, 0], X[:0], None)
    assert [t.get_text() for a in fig.axes for t in a.texts] == ["no series"] * 3

    def numbers(*sets):
        return [a.get_title("right") for a in plot_samples(*sets).axes]

    # without labels all are pooled; one label, here as text, stands for all series of a set
    assert numbers(X, None, None, None, X, None) == ["n = 6", "n = 6"]
    assert numbers(X, [0] * 6, None, None, X, None) == ["n = 6", "n = 6"]
    mixed = numbers(X, [1, 1, 1, 2, 2, 2], None, None, X, "1")
    assert mixed == ["n = 3", "n = 6", "n = 3", "n = 0"]


# ---- reconstructions


def test_unexplained_variance_of_a_series_is_a_share_of_its_own():
    X = walks(8, 24, 2)[0].astype(float)
    X_hat = X + 0.1 * walks(8, 24, 2, seed=1)[0]
    missed = ((X - X_hat) ** 2).mean((1, 2))
    np.testing.assert_allclose(unexplained_variance(X, X_hat), missed / X.var(2).mean(1))
    scale = np.arange(1, 9)[:, None, None]
    found = unexplained_variance(scale * X + 7, scale * X_hat + 7)
    np.testing.assert_allclose(found, unexplained_variance(X, X_hat))


def test_reconstructions_run_from_best_to_worst():
    X = walks(40, 24, 1)[0]
    X_hat = X * (1 + np.linspace(0, 0.5, 40)[::-1, None, None])
    e = unexplained_variance(X, X_hat)
    fig = plot_reconstructions(X, X_hat, n=3)
    for ax, i in ((fig.axes[0], e.argmin()), (fig.axes[2], e.argmax())):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), X[i, 0])
    assert fig.get_suptitle().startswith("best to worst of 40, median unexplained variance")
    assert not any("error" in t.get_text() for t in fig.findobj(Text))
    third = plot_reconstructions(X, X_hat, n=3, pick="first").axes[2]
    np.testing.assert_allclose(third.lines[1].get_ydata(), X_hat[2, 0])


# ---- embeddings


def test_embedding_markers():
    Z, kind = np.random.default_rng(0).normal(size=(20, 2)), np.repeat(["sampled", "real"], 10)
    lines = plot_embedding(Z, np.arange(20) % 2, kind).axes[0].lines
    filled = [line.get_xdata() for line in lines if line.get_markerfacecolor() != "none"]
    assert sorted(np.concatenate(filled)) == sorted(Z[10:, 0])
    assert {line.get_marker() for line in lines} == {"o", "s"}


# ---- clear errors

X, Y = walks(4, 24, 1)[0], [0, 0, 1, 1]
Z = np.zeros((4, 2))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plot_samples(*[None] * 6), "X_train, X_test and X_new are all None"),
        (lambda: plot_samples(X, Y, X, Y, walks(4)[0], Y), "same number of channels"),
        (lambda: plot_samples(X, Y, X, Y, X, Y[:2]), "y_new must hold one label"),
        (lambda: plot_samples(*[X, Y] * 3, band=(0.9, 0.1)), "band must be two rising quantiles"),
        (lambda: plot_reconstructions(X, X[:, :, :5]), "X_hat must have the shape of X"),
        (lambda: plot_reconstructions(X, X, pick="best"), "pick must be 'spread' or 'first'"),
        (lambda: plot_embedding(np.zeros((4, 3))), "Z2 must be (n, 2)"),
        (lambda: plot_embedding(Z, [1]), "labels must hold one label"),
        (lambda: plot_embedding(Z, None, [1]), "kind must hold one label"),
        (lambda: plot_embedding(np.zeros((5, 2)), None, list("abcde")), "kind must have at most 4"),
    ],
)
def test_errors_name_the_argument(call, words):
    with says(words):
        call()
