"""Training curves of complete, patchy and old histories"""

import numpy as np
import pytest

from figures import drawn, headings, history
from ncvq_nb.plots import plot_history
from toys import says


def strips(fig):
    "The strips below the losses, from top to bottom."
    return [ax.get_title("left") for ax in fig.axes if ax.get_title("left")][1:]


def test_two_stages():
    fig = plot_history(history())
    assert [a.get_yscale() for a in fig.axes[:2]] == ["log", "linear"]
    (valid,) = [l for l in fig.axes[0].lines if l.get_label() == "valid_loss"]
    assert valid.get_xdata().tolist() == list(range(0, 60, 10)) and valid.get_marker() == "o"
    assert len(fig.axes) == 5  # two losses, two rates, one perplexity
    assert [a.get_xlabel() for a in fig.axes] == ["", "", "", "step", "step"]  # the lowest ones
    assert headings(fig)[0] == "tokenizer · 59 steps · 6 s"


@pytest.mark.parametrize("prefix", ["valid_", "val_"])
def test_validation_has_the_colour_of_what_it_validates(prefix):
    loss = {"loss": [3.0, 2.0], f"{prefix}loss": [None, 2.5], f"{prefix}accuracy": [0.1, 0.9]}
    fig = plot_history(loss)
    assert [line.get_color() for line in fig.axes[0].lines] == ["k", "k"]
    assert strips(fig) == ["accuracy"]


def test_diagnostics_are_strips():
    names = ["lr", "perplexity", "projection_std", "grad_norm", "usage", "accuracy"]
    fig = plot_history({"loss": [2.0, 1.0], **{k: [1.0, 2.0] for k in names}})
    assert [line.get_label() for line in fig.axes[0].lines] == ["loss"]
    shown = {"learning rate", "gradient norm", *names[1:3], *names[4:]} - {"projection_std"}
    assert set(strips(fig)) == shown | {"projection std"}


@pytest.mark.parametrize("prefix", ["", "valid_"])
def test_histories_saved_before(prefix):
    "The standard deviation of the projections was called `spread`."
    new = plot_history({"loss": [2.0, 1.0], f"{prefix}projection_std": [0.5, 0.6]})
    old = plot_history({"loss": [2.0, 1.0], f"{prefix}spread": [0.5, 0.6]})
    assert strips(old) == strips(new) == ["projection std"]
    assert old.axes[1].lines[0].get_ydata().tolist() == [0.5, 0.6]
    assert strips(plot_history({"loss": [2.0, 1.0], "spread": [1, 2]}, strips=("spread",)))


@pytest.mark.parametrize(
    "patchy",
    [
        {"loss": [1.0, None, 3.0]},
        {"a": {"step": [], "loss": []}},
        {"a": {"loss": [float("nan")] * 4}},
        {"a": {"step": [1], "loss": [2.0]}},
        {"a": {"loss": [-1.0, 0.0, 1.0], "valid_accuracy": [0, 0.5, 1]}},
        {"a": {"loss": [1.0, 2.0], "$x_1$": [0.0, 0.0], "lr": [0.0, 0.0]}, "$b$": {}},
    ],
)
def test_gaps(patchy):
    drawn(plot_history(patchy))


def test_settings():
    assert plot_history({"loss": [1.0, 100.0]}, log=False).axes[0].get_yscale() == "linear"
    assert plot_history({"loss": [1.0, 2.0]}, log=True).axes[0].get_yscale() == "log"
    v = np.arange(30.0) ** 2
    assert len(plot_history({"loss": v}, window=0).axes[0].lines) == 1
    raw, mean = plot_history({"loss": v}, window=1).axes[0].lines
    np.testing.assert_allclose(mean.get_ydata()[1:-1], v[1:-1] + 2 / 3)


@pytest.mark.parametrize(
    "bad, words",
    [
        ({}, "history must be a non-empty dict"),
        ([1, 2], "history must be a non-empty dict of stages, found list"),
        ({"a": {"step": [1, 2], "loss": [1]}}, "history['a']: all columns must be equally long"),
        ({"a": {"loss": ["high"]}}, "history['a']['loss'] must be a list of numbers"),
    ],
)
def test_errors_name_the_argument(bad, words):
    with says(words):
        plot_history(bad)
