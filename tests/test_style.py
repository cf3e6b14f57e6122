"""The look of figures: it leaves the user's settings alone, and files are whole and equal"""

import io
import os
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import nbclient
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from figures import every_plot
from ncvq_nb.drawing.style import new_figure, save_figure
from ncvq_nb.plots import plot_codebook, plot_embedding, plot_series
from toys import global_state, says

# ---- settings of the user


def test_no_state_leaks():
    import matplotlib.pyplot as plt

    with plt.style.context("dark_background"):
        plt.rcParams["font.size"] = 23
        before, numbers, seeds = dict(plt.rcParams), plt.get_fignums(), global_state()
        for f in every_plot():
            fig = f()
            assert fig.get_facecolor() == (1, 1, 1, 1)  # our look, not the user's
            assert fig.axes[0].yaxis.label.get_fontsize() < 10
            assert dict(plt.rcParams) == before
        fig._repr_png_()
        assert dict(plt.rcParams) == before
        assert plt.get_fignums() == numbers and global_state() == seeds


def test_settings_come_back_after_an_error():
    before = dict(mpl.rcParams)
    with pytest.raises(ValueError):
        plot_codebook(np.eye(3), [1, 2])
    assert dict(mpl.rcParams) == before


def test_threads_do_not_mix_settings():
    before, X = dict(mpl.rcParams), np.arange(12).reshape(3, 4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: plot_series(X, [0, 1, 1])._repr_png_(), range(4)))
    assert dict(mpl.rcParams) == before


def test_notebook_shows_each_figure_once():
    plain = ["plot_series([[1., 2., 3.]])", "fig = plot_series([[1., 2., 3.]])", "fig"]
    first = "import sys\nfrom ncvq_nb.plots import plot_series"
    pyplot = "print('matplotlib.pyplot' in sys.modules)"
    cells = [first, *plain, pyplot, "import matplotlib.pyplot as plt", *plain]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(nb, timeout=120, kernel_name="python3").execute()
    shown = [sum("image/png" in o.get("data", {}) for o in c.outputs) for c in nb.cells]
    assert shown == [0, 1, 0, 1, 0, 0, 1, 0, 1]
    assert nb.cells[4].outputs[0].text.strip() == "False"  # plotting does not bring pyplot


# ---- files


@pytest.mark.parametrize(
    "suffix, magic",
    [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")],
)
def test_saved_files_are_valid_and_equal(tmp_path, suffix, magic):
    X = [[1.0, 2.0, 4.0]]
    a, b = (save_figure(plot_series(X), tmp_path / "new" / f"{k}.{suffix}") for k in "ab")
    assert a.read_bytes()[: len(magic)] == magic and a.read_bytes() == b.read_bytes()
    assert sorted(p.name for p in a.parent.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]
    if suffix == "png":
        assert abs(Image.open(a).width - 7 * 150) <= 1
    if suffix == "pdf":
        assert b"%%EOF" in a.read_bytes()[-10:]
    if suffix == "svg":
        assert ET.parse(a).getroot().tag.endswith("svg")
    umask = os.umask(0)
    os.umask(umask)
    if os.name == "posix":
        assert a.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_figure(new_figure(1, 1), tmp_path / "a.png")
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):
        save_figure(new_figure(2, 1), path)
    monkeypatch.undo()
    fig = new_figure(2, 1)
    monkeypatch.setattr(fig, "savefig", fail)
    with pytest.raises(OSError):
        save_figure(fig, path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_any_matplotlib_figure_is_saved(tmp_path):
    fig = Figure()
    fig.subplots().plot([1, 2])
    assert save_figure(fig, str(tmp_path / "plain.png"), dpi=50).exists()


def test_many_points_stay_small(tmp_path):
    points = np.random.default_rng(0).normal(size=(20000, 2))
    path = save_figure(plot_embedding(points, np.arange(20000) % 3), tmp_path / "e.pdf")
    assert path.stat().st_size < 200_000


def test_save_figure_refuses(tmp_path):
    with says("path must end in .png, .pdf or .svg, found 'figure.gif'"):
        save_figure(new_figure(1, 1), tmp_path / "figure.gif")
    with says("fig must be a matplotlib Figure, found str"):
        save_figure("figure", tmp_path / "figure.png")


def test_a_notebook_shows_more_dots_than_points():
    png, shown = new_figure(7, 2)._repr_png_()
    assert Image.open(io.BytesIO(png)).size == (1050, 300)
    assert shown == dict(width=672, height=192)
