"""Plots of odd input, what they leave untouched, and what they refuse"""
import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ncvq_nb import plots
from ncvq_nb.plots import (new_figure, plot_augmentations, plot_codebook, plot_embedding, plot_history, plot_reconstructions, plot_samples,
                           plot_series, plot_spectrogram, plot_tokens, relative_error, save_figure)


def rng(): return np.random.default_rng(0)


def walk(n=12, c=1, l=24): return rng().normal(size=(n, c, l)).cumsum(-1)


def history(n=60):
    return {"tokenizer": {"step": list(range(n)), "epoch": [0] * n, "lr": [1e-3] * n, "seconds": list(np.arange(n) * .1), "loss": list(np.linspace(9, .1, n)),
                          "val_loss": [None if i % 10 else 1. for i in range(n)], "perplexity": [4.] * n},
            "prior": {"step": list(range(n)), "loss": [float("nan") if i % 3 else 2. + i / 60 for i in range(n)], "lr": [1e-3] * n}}


def every_plot(c=1, n=12, labels=None):
    "One call of each function on series with `c` channels"
    X = walk(n, c); y = np.arange(n) % 2 if labels is None else labels; s = rng().integers(0, 8, (n, 12))
    yield lambda: plot_series(X, y)
    yield lambda: plot_samples(X, y, X, y, X, y)
    yield lambda: plot_reconstructions(X, X + .1, y)
    yield lambda: plot_history(history())
    yield lambda: plot_codebook(rng().normal(size=(8, 3)), np.arange(8))
    yield lambda: plot_tokens(s, (3, 4), 8, X=X, y=y)
    yield lambda: plot_embedding(rng().normal(size=(n, 2)), y, ["real"] * n)
    yield lambda: plot_spectrogram(rng().normal(size=(n, 2 * c, 5, 9)), y=y, X=X)
    yield lambda: plot_augmentations(X, {"flip": X[..., ::-1], "scale": 2 * X})


def drawn(fig):
    "The figure as pixels, drawn for real"
    fig.set_dpi(40)
    canvas = FigureCanvasAgg(fig); canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].min(-1)


def titles(fig): return [ax.get_title(loc) for ax in fig.axes for loc in ("left", "right") if ax.get_title(loc)]


# ---- every plot, odd input

@pytest.mark.parametrize("c,n,labels", [(3, 5, ["a very long label $x_1$, with maths"] * 5), (1, 1, None)])
def test_every_plot_draws(c, n, labels):
    for f in every_plot(c, n, labels):
        fig = f()
        assert isinstance(fig, Figure) and drawn(fig).min() < 128


def test_every_plot_fits_one_column():
    X, y = walk(), np.arange(12) % 2
    for f, a in ((plot_series, (X, y)), (plot_samples, (X, y, X, y, X, y)), (plot_reconstructions, (X, X + .1, y)), (plot_history, (history(),)),
                 (plot_codebook, (np.eye(32), np.ones(32))), (plot_tokens, (np.zeros((4, 12), int), (3, 4), 8)), (plot_embedding, (np.eye(2),)),
                 (plot_spectrogram, (np.ones((2, 2, 5, 9)),)), (plot_augmentations, (X, {"a": X}))):
        fig = f(*a, width=3.4)
        assert fig.get_figwidth() == 3.4
        drawn(fig)


def test_constant_series():
    X = np.full((4, 1, 20), 3.)
    assert relative_error(X, X).tolist() == [0] * 4
    fig = plot_reconstructions(X, X + np.array([0, 0, 1, 1])[:, None, None])
    assert titles(fig).count("error 0 %") == 2 and titles(fig).count("constant series missed") == 2
    for f in (lambda: plot_series(X), lambda: plot_samples(X, None, X, None, X, None), lambda: plot_spectrogram(np.zeros((2, 2, 5, 9)))): drawn(f())


def test_missing_values_are_gaps():
    X = walk(); X[:, :, 5:8] = np.nan
    for f in (lambda: plot_series(X), lambda: plot_samples(X, None, None, None, X, None), lambda: plot_reconstructions(X, X)): drawn(f())
    assert np.isnan(plot_series(X).axes[0].lines[0].get_ydata()[5:8]).all()


def test_sixty_classes():
    X, y = walk(120), np.arange(120) % 60
    fig = plot_samples(X, y, X, y, X, y, title="many")
    assert fig.get_suptitle() == "many · first 9 of 60 classes" and len(fig.axes) == 27 and fig.get_figheight() < 10
    assert plot_series(X, y).get_suptitle() == "first 9 of 60 classes"
    fig = plot_embedding(rng().normal(size=(120, 2)), y)
    assert "first 8 of 60 classes" in fig.get_suptitle() and [t.get_text() for t in fig.legends[0].get_texts()][-1] == "52 more"
    assert sum(len(l.get_xdata()) for l in fig.axes[0].lines) == 120


def test_three_channels_are_rows_with_their_own_axis():
    X = walk(12, 3) * np.array([1, 1000, .001])[:, None]; y = np.arange(12) % 2
    fig = plot_samples(X, y, X, y, X, y); axs = np.array(fig.axes).reshape(6, 3)
    assert [a.get_ylabel() for a in axs[:, 0]] == ["channel 0", "channel 1", "channel 2"] * 2
    lims = [[a.get_ylim() for a in row] for row in axs]
    assert lims[1][0] == lims[1][2] == lims[4][1] and lims[0][0] != lims[1][0]
    assert "first 9 of 12 channels" in plot_samples(*[walk(4, 12), None] * 3).get_suptitle()


def test_samples_show_what_was_given():
    X, y = walk(10), np.repeat([0, 1], 5)
    fig = plot_samples(X, y, X, y, X[:6], y[:6], n_lines=3); axs = np.array(fig.axes).reshape(2, 3)
    assert [len(a.lines) for a in axs[0]] == [4, 5, 5]        # three series, the mean, and beside train its mean once more
    np.testing.assert_allclose(axs[0, 0].lines[3].get_ydata(), X[:5, 0].mean(0))
    np.testing.assert_allclose(axs[1, 1].lines[-1].get_ydata(), X[5:, 0].mean(0))
    band = axs[0, 0].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [np.quantile(X[:5, 0], .05, axis=0).min(), np.quantile(X[:5, 0], .95, axis=0).max()])
    assert axs[1, 2].get_title("right") == "n = 1"


def test_empty_class_missing_set_and_mixed_labels():
    X = walk(6)
    fig = plot_samples(X, [0, 0, 0, 1, 1, 1], X[:3], [0, 0, 0], X[:0], None)
    assert [t.get_text() for a in fig.axes for t in a.texts] == ["no series"] * 3
    assert len(plot_samples(X, None, None, None, X, None).axes) == 2                                  # pooled, two columns
    fig = plot_samples(X, [1, 1, 1, 2, 2, 2], None, None, X, "1")                                    # one label for all, as text
    assert [a.get_title("right") for a in fig.axes] == ["n = 3", "n = 6", "n = 3", "n = 0"]
    assert [a.get_title("right") for a in plot_samples(X, [0] * 6, None, None, X, None).axes] == ["n = 6", "n = 6"]


def test_reconstructions_run_from_best_to_worst():
    X = walk(40); X_hat = X * (1 + np.linspace(0, .5, 40)[::-1, None, None])
    e = relative_error(X, X_hat)
    fig = plot_reconstructions(X, X_hat, n=3)
    for a, i in zip(fig.axes, (e.argmin(), None, e.argmax())):
        if i is not None: np.testing.assert_array_equal(a.lines[0].get_ydata(), X[i, 0])
    np.testing.assert_array_equal(plot_reconstructions(X, X_hat, n=3, pick="first").axes[2].lines[1].get_ydata(), X_hat[2, 0])
    want = ((X - X_hat) ** 2).mean((1, 2)) / X.var((1, 2))
    np.testing.assert_allclose(e, want)


def test_history_with_gaps():
    fig = plot_history(history())
    assert [a.get_yscale() for a in fig.axes[:2]] == ["log", "linear"]
    val = [l for l in fig.axes[0].lines if l.get_label() == "val_loss"][0]
    assert val.get_xdata().tolist() == list(range(0, 60, 10)) and val.get_marker() == "o"
    assert len(fig.axes) == 5                                                                          # two losses, two rates, one perplexity
    fig = plot_history({"loss": [3., 2.], "valid_loss": [None, 2.5], "valid_accuracy": [.1, .9]})
    assert [l.get_color() for l in fig.axes[0].lines] == ["k", "k"] and fig.axes[1].get_title("left") == "accuracy"
    for h in ({"loss": [1., None, 3.]}, {"a": {"step": [], "loss": []}}, {"a": {"loss": [float("nan")] * 4}}, {"a": {"step": [1], "loss": [2.]}},
              {"a": {"loss": [-1., 0., 1.], "val_accuracy": [0, .5, 1]}}): drawn(plot_history(h))
    assert plot_history({"loss": [1., 100.]}, log=False).axes[0].get_yscale() == "linear"


def test_codebook_facts():
    e = np.array([[1., 0], [0, 2], [0, 0], [-3, 0]])
    fig = plot_codebook(e, [1, 3, 0, 4])
    assert "3 of 4 codes used" in fig.axes[0].get_title("left")
    np.testing.assert_allclose([p.get_height() for p in fig.axes[0].patches], [50, 37.5, 12.5, 0])
    S = np.ma.filled(fig.axes[1].images[0].get_array().astype(float), np.nan)                          # order of use: 3, 1, 0, 2
    np.testing.assert_allclose(S[:3, :3], [[1, 0, -1], [0, 1, 0], [-1, 0, 1]])
    assert np.isnan(S[3]).all()
    assert "perplexity 8.0" in plot_codebook(np.eye(8), np.ones(8)).axes[0].get_title("left")
    assert plot_codebook(np.eye(8), np.zeros(8)).axes[0].get_title("left") == "no tokens counted"
    drawn(plot_codebook(rng().normal(size=(300, 4)), np.arange(300))); drawn(plot_codebook([[1., 2]], [5]))


def test_token_map_lies_as_the_tokens_do():
    s = np.array([[0, 1, 2, 3, 4, -1]])
    im = plot_tokens(s, (2, 3), 5).axes[0].images[0]
    assert im.origin == "lower" and np.ma.filled(im.get_array(), 99).tolist() == [[0, 1, 2], [3, 4, 99]]
    assert [t.get_text() for t in plot_tokens(np.where(s < 0, 5, s), (2, 3), 5).axes[0].texts] == ["0", "1", "2", "3", "4", "·"]
    fig = plot_tokens(s, (2, 3), 5, X=walk(1, 1, 31))
    assert fig.axes[0].get_xlim() == fig.axes[1].get_xlim() == (0, 31)
    for n_series in (2, 3, 5, 7): drawn(plot_tokens(np.zeros((n_series, 6), int), (2, 3), 5, n=n_series))


def test_embedding_markers():
    Z, kind = rng().normal(size=(20, 2)), np.repeat(["sampled", "real"], 10)
    fig = plot_embedding(Z, np.arange(20) % 2, kind)
    filled = [l for l in fig.axes[0].lines if len(l.get_xdata()) and l.get_markerfacecolor() != "none"]
    assert sorted(np.concatenate([l.get_xdata() for l in filled])) == sorted(Z[10:, 0])
    assert {l.get_marker() for l in fig.axes[0].lines} == {"o", "s"}


def test_spectrogram_layout():
    re, im = np.full((1, 2, 3), 3.), np.full((1, 2, 3), 4.)
    u = np.stack([re, im, 0 * re, im / 10], 1)                                                         # channels: 5 and 0.4
    a = [x.images[0].get_array() for x in plot_spectrogram(u, db=False).axes[:2]]
    np.testing.assert_allclose(a[0], 5); np.testing.assert_allclose(a[1], .4)
    np.testing.assert_allclose(plot_spectrogram(u, floor=-20).axes[1].images[0].get_array(), -20)


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    X = torch.randn(4, 2, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    drawn(plot_series(X, torch.tensor([0, 0, 1, 1])))


def test_many_points_stay_small(tmp_path):
    p = save_figure(plot_embedding(rng().normal(size=(20000, 2)), np.arange(20000) % 3), tmp_path / "e.pdf")
    assert p.stat().st_size < 200_000


# ---- nothing leaks

def test_no_state_leaks():
    import matplotlib.pyplot as plt
    with plt.style.context("dark_background"):
        plt.rcParams["font.size"] = 23
        before, nums, seed = dict(plt.rcParams), plt.get_fignums(), np.random.get_state()[1].copy()
        for f in every_plot():
            fig = f()
            assert fig.get_facecolor() == (1, 1, 1, 1) and fig.axes[0].yaxis.label.get_fontsize() < 10      # our look, not the user's
            fig._repr_png_()
            assert dict(plt.rcParams) == before
        assert plt.get_fignums() == nums and (np.random.get_state()[1] == seed).all()
    with pytest.raises(ValueError): plot_series([[1., 2.]], n=0)
    assert dict(mpl.rcParams)["font.size"] != 8


def test_settings_come_back_after_an_error():
    before = dict(mpl.rcParams)
    with pytest.raises(ValueError): plot_codebook(np.eye(3), [1, 2])
    assert dict(mpl.rcParams) == before


def test_input_is_not_changed():
    X = walk(); X[0, 0, 0] = np.inf; keep = X.copy(); y = np.arange(12) % 2
    plot_samples(X, y, X, y, X, y); plot_reconstructions(X, X, y)
    np.testing.assert_array_equal(X, keep)


def test_plotting_does_not_bring_pyplot():
    code = """import sys
import ncvq_nb.plots as p
there = "matplotlib.pyplot" in sys.modules
p.plot_series([[1., 2., 3.]])._repr_png_()
assert there or "matplotlib.pyplot" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_do_not_mix_settings():
    from concurrent.futures import ThreadPoolExecutor
    before = dict(mpl.rcParams)
    with ThreadPoolExecutor(4) as pool: list(pool.map(lambda i: plot_series(walk(), np.arange(12) % 3)._repr_png_(), range(8)))
    assert dict(mpl.rcParams) == before


def test_subfigures_make_a_page():
    page = new_figure(7, 5); top, low = page.subfigures(2, 1)
    X = walk(); y = np.arange(12) % 2
    assert plot_samples(X, y, X, y, X, y, fig=top) is top
    plot_history(history(), fig=low)
    assert len(top.axes) == 6 and len(page.axes) == 11
    drawn(page)


def test_notebook_shows_each_figure_once():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = ["from ncvq_nb.plots import plot_series", "plot_series([[1., 2., 3.]])", "fig = plot_series([[1., 2., 3.]])", "fig",
             "import matplotlib.pyplot as plt", "plot_series([[1., 2., 3.]])", "fig = plot_series([[1., 2., 3.]])", "fig"]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(nb, timeout=120, kernel_name="python3").execute()
    assert [sum("image/png" in o.get("data", {}) for o in c.outputs) for c in nb.cells] == [0, 1, 0, 1] * 2


# ---- files

@pytest.mark.parametrize("suffix,magic", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_saved_files_are_valid_and_equal(tmp_path, suffix, magic):
    a, b = (save_figure(plot_series(walk()), tmp_path / "new" / f"{k}.{suffix}") for k in "ab")
    assert a.read_bytes()[:len(magic)] == magic and a.read_bytes() == b.read_bytes()
    assert sorted(p.name for p in a.parent.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]
    if suffix == "png": assert abs(Image.open(a).width - 7 * 150) <= 1
    if suffix == "pdf": assert b"%%EOF" in a.read_bytes()[-10:]
    if suffix == "svg":
        import xml.etree.ElementTree as ET
        assert ET.parse(a).getroot().tag.endswith("svg")
    umask = os.umask(0); os.umask(umask)
    if os.name == "posix": assert a.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    p = save_figure(plot_series(walk()), tmp_path / "a.png"); old = p.read_bytes()
    def fail(*a, **k): raise OSError("disk full")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError): save_figure(plot_series(2 * walk()), p)
    monkeypatch.undo()
    fig = plot_series(walk()); monkeypatch.setattr(fig, "savefig", fail)
    with pytest.raises(OSError): save_figure(fig, p)
    assert p.read_bytes() == old and list(tmp_path.iterdir()) == [p]


def test_any_matplotlib_figure_is_saved(tmp_path):
    fig = Figure(); fig.subplots().plot([1, 2])
    assert save_figure(fig, str(tmp_path / "plain.png"), dpi=50).exists()


# ---- clear errors

X, Y, S = walk(4), [0, 0, 1, 1], np.zeros((4, 6), int)

@pytest.mark.parametrize("call,words", [
    (lambda: plot_series([1., 2.]), "X must be .n, length. or"),
    (lambda: plot_series(np.zeros((0, 5))), "X is empty"),
    (lambda: plot_series(np.zeros((3, 0))), "X is empty"),
    (lambda: plot_series([[1, 2], [3]]), "X must be a regular array"),
    (lambda: plot_series([["a", "b"]]), "X must hold numbers"),
    (lambda: plot_series(X + 1j), "X must hold real numbers"),
    (lambda: plot_series(X, [1]), r"y must hold one label per series \(4\)"),
    (lambda: plot_series(X, n=0), "n must be a whole number of at least 1, found 0"),
    (lambda: plot_series(X, n=2.5), "n must be a whole number"),
    (lambda: plot_series(X, fig="here"), "fig must be a matplotlib Figure"),
    (lambda: plot_samples(None, None, None, None, None, None), "X_train, X_test and X_new are all None"),
    (lambda: plot_samples(X, Y, X, Y, walk(4, 2), Y), "same number of channels"),
    (lambda: plot_samples(X, Y, X, Y, X, Y[:2]), "y_new must hold one label"),
    (lambda: plot_samples(X, Y, X, Y, X, Y, band=(.9, .1)), "band must be two rising quantiles"),
    (lambda: plot_reconstructions(X, X[:, :, :5]), "X_hat must have the shape of X"),
    (lambda: plot_reconstructions(X, X, pick="best"), "pick must be 'spread' or 'first', found 'best'"),
    (lambda: plot_history({}), "history must be a non-empty dict"),
    (lambda: plot_history([1, 2]), "history must be a non-empty dict"),
    (lambda: plot_history({"a": {"step": [1, 2], "loss": [1]}}), r"history\['a'\]: all columns must be equally long"),
    (lambda: plot_history({"a": {"loss": ["high"]}}), r"history\['a'\]\['loss'\] must be a list of numbers"),
    (lambda: plot_codebook(np.eye(3), [1, 2]), r"counts must hold one number per code \(3\), found 2"),
    (lambda: plot_codebook(np.eye(3), [1, -2, 0]), "counts must be finite and not negative"),
    (lambda: plot_codebook(np.ones(3), np.ones(3)), "codebook must be .K, d."),
    (lambda: plot_tokens(S, (2, 4), 5), "grid is 2 × 4"),
    (lambda: plot_tokens(S, (6,), 5), "grid must be"),
    (lambda: plot_tokens(S + 9, (2, 3), 5), "s must lie in 0 … 4"),
    (lambda: plot_tokens(S + .5, (2, 3), 5), "s must hold whole numbers"),
    (lambda: plot_tokens(S, (2, 3), 5, X=walk(3)), "X must hold one series per row of s"),
    (lambda: plot_tokens(S, (2, 3), 5, codebook=np.eye(4)), "codebook must have n_codes = 5 rows"),
    (lambda: plot_embedding(np.zeros((4, 3))), "Z2 must be .n, 2."),
    (lambda: plot_embedding(np.zeros((4, 2)), [1]), "labels must hold one label"),
    (lambda: plot_embedding(np.zeros((4, 2)), None, [1]), "kind must hold one label"),
    (lambda: plot_embedding(np.zeros((5, 2)), None, list("abcde")), "kind must have at most 4"),
    (lambda: plot_spectrogram(np.zeros((2, 3, 5, 9))), "u must have an even number of channels"),
    (lambda: plot_spectrogram(np.zeros((2, 2))), "u must be"),
    (lambda: plot_spectrogram(np.zeros((2, 2, 5, 9)), floor=3), "floor must be negative"),
    (lambda: plot_spectrogram(np.zeros((2, 2, 5, 9)), X=walk(3)), "X must hold 2 series of 1 channels"),
    (lambda: plot_augmentations(X, {}), "views must be a non-empty dict"),
    (lambda: plot_augmentations(X, {"flip": X[:2]}), r"views\['flip'\] must hold 4 series"),
    (lambda: save_figure(plot_series(X), "figure.gif"), "path must end in .png, .pdf or .svg, found 'figure.gif'"),
    (lambda: save_figure("figure", "figure.png"), "fig must be a matplotlib Figure, found str"),
])
def test_errors_name_the_argument(call, words):
    with pytest.raises((ValueError, TypeError), match=words): call()


def test_large_labels_keep_their_digits():
    assert [plots._short(v) for v in (1234567, np.int64(1234568), 2.0, "sit", True)] == ["class 1234567", "class 1234568", "class 2", "sit", "True"]


def test_labels_of_a_column_of_objects_are_what_they_are():
    X = np.zeros((6, 9))
    titles = lambda y: [a.get_title(loc="left") for a in plots.plot_series(X, y).axes]
    assert titles(np.array([2, 10] * 3, object)) == titles(np.array([2., 10.] * 3, object)) == titles(np.array([2, 10] * 3)) == ["class 2", "class 10"]
    with pytest.raises(ValueError, match="y has missing labels"): plots.plot_series(X, [None, 1] * 3)
