"""What the tests of plots share: one call of every plot, and a figure as pixels and texts."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ncvq_nb import plots
from toys import walks


def history(n=60):
    "Two stages as a run logs them: validation now and then, a prior with gaps."
    step = list(range(n))
    tokenizer = dict(step=step, epoch=[0] * n, lr=[1e-3] * n, seconds=[0.1 * i for i in step])
    tokenizer |= dict(
        loss=list(np.linspace(9, 0.1, n)),
        valid_loss=[None if i % 10 else 1.0 for i in step],
        perplexity=[4.0] * n,
    )
    gaps = [float("nan") if i % 3 else 2.0 + i / 60 for i in step]
    return {"tokenizer": tokenizer, "prior": dict(step=step, loss=gaps, lr=[1e-3] * n)}


def every_plot(n=6, channels=1, labels=None, **kwargs):
    "One call of each function on n series; `kwargs` go to all."
    X, y = walks(n, 24, channels)
    y, rng = y if labels is None else labels, np.random.default_rng(0)
    s = rng.integers(0, 8, (n, 12))
    u = rng.normal(size=(n, 2 * channels, 5, 9))
    points = rng.normal(size=(n, 2))
    yield lambda: plots.plot_series(X, y, **kwargs)
    yield lambda: plots.plot_samples(X, y, X, y, X, y, **kwargs)
    yield lambda: plots.plot_reconstructions(X, X + 0.1, y, **kwargs)
    yield lambda: plots.plot_history(history(), **kwargs)
    yield lambda: plots.plot_codebook(rng.normal(size=(8, 3)), np.arange(8), **kwargs)
    yield lambda: plots.plot_tokens(s, (3, 4), 8, X=X, y=y, **kwargs)
    yield lambda: plots.plot_embedding(points, y, ["real"] * n, **kwargs)
    yield lambda: plots.plot_spectrogram(u, y=y, X=X, **kwargs)
    yield lambda: plots.plot_augmentations(X, {"flip": X[..., ::-1], "scale": 2 * X}, **kwargs)


def drawn(fig):
    "The figure as pixels, drawn for real."
    fig.set_dpi(40)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].min(-1)


def headings(fig):
    "What stands above the panels, left and right."
    found = [ax.get_title(side) for ax in fig.axes for side in ("left", "right")]
    return [text for text in found if text]
