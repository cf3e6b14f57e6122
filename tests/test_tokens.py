"""Codebooks and token maps: what is drawn is what was given"""

import numpy as np
import pytest

from figures import drawn
from ncvq_nb.plots import plot_codebook, plot_tokens
from ncvq_nb.vq import codebook_usage
from toys import says, walks


def test_codebook_facts():
    e = np.array([[1.0, 0], [0, 2], [0, 0], [-3, 0]])
    usage, cosines, _ = plot_codebook(e, [1, 3, 0, 4]).axes
    assert "3 of 4 codes used" in usage.get_title("left")
    np.testing.assert_allclose([p.get_height() for p in usage.patches], [50, 37.5, 12.5, 0])
    S = np.ma.filled(cosines.images[0].get_array().astype(float), np.nan)
    np.testing.assert_allclose(S[:3, :3], [[1, 0, -1], [0, 1, 0], [-1, 0, 1]])  # codes 3, 1, 0
    assert np.isnan(S[3]).all()  # code 2 has no direction
    assert [t.get_text() for t in usage.get_xticklabels()] == ["3", "1", "0", "2"]
    assert plot_codebook(np.eye(8), np.zeros(8)).axes[0].get_title("left") == "no tokens counted"


def test_perplexity_is_that_of_the_reports():
    s = np.random.default_rng(0).integers(0, 8, 100) // 2
    counts, perplexity = codebook_usage(s, 8)
    title = plot_codebook(np.eye(8), counts).axes[0].get_title("left")
    assert title == f"4 of 8 codes used, perplexity {perplexity:.1f}"
    assert "perplexity 8.0" in plot_codebook(np.eye(8), np.ones(8) / 2).axes[0].get_title("left")


@pytest.mark.parametrize("K", [1, 300])
def test_small_and_large_codebooks(K):
    drawn(plot_codebook(np.random.default_rng(0).normal(size=(K, 4)), np.arange(K) + 1))


def test_token_map_lies_as_the_tokens_do():
    s = np.array([[0, 1, 2, 3, 4, -1]])
    (image,) = plot_tokens(s, (2, 3), 5).axes[0].images
    shown = np.ma.filled(image.get_array(), 99).tolist()
    assert image.origin == "lower" and shown == [[0, 1, 2], [3, 4, 99]]
    masked = plot_tokens(np.where(s < 0, 5, s), (2, 3), 5).axes[0]
    assert [t.get_text() for t in masked.texts] == ["0", "1", "2", "3", "4", "·"]
    fig = plot_tokens(s, (2, 3), 5, X=walks(1, 31, 1)[0])
    assert fig.axes[0].get_xlim() == fig.axes[1].get_xlim() == (0, 31)


@pytest.mark.parametrize("n", [1, 7])
def test_any_number_of_maps(n):
    fig = plot_tokens(np.zeros((n, 6), int), (2, 3), 5, X=walks(n, 9, 2)[0], n=n)
    assert len(fig.axes) == 2 * n + 1
    assert len({ax.get_ylim() for ax in fig.axes if ax.lines}) == 1  # all series on one axis
    drawn(fig)


X, S = walks(4, 24, 1)[0], np.zeros((4, 6), int)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plot_codebook(np.eye(3), [1, 2]), "counts must hold one number per code (3)"),
        (lambda: plot_codebook(np.eye(3), [1, -2, 0]), "counts must be finite and not negative"),
        (lambda: plot_codebook(np.ones(3), np.ones(3)), "codebook must be (K, d)"),
        (lambda: plot_tokens(S, (2, 4), 5), "grid is 2 × 4"),
        (lambda: plot_tokens(S, (6,), 5), "grid must be"),
        (lambda: plot_tokens(S + 9, (2, 3), 5), "s must lie in 0 … 4"),
        (lambda: plot_tokens(S + 0.5, (2, 3), 5), "s must hold whole numbers"),
        (lambda: plot_tokens(S, (2, 3), 5, X=X[:3]), "X must hold one series per row of s (4)"),
        (
            lambda: plot_tokens(S, (2, 3), 5, codebook=np.eye(4)),
            "codebook must have n_codes = 5 rows",
        ),
    ],
)
def test_errors_name_the_argument(call, words):
    with says(words):
        call()
