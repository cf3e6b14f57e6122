"""No step is taken on numbers that are none: who is to blame is named, what was good is kept."""

import json
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from toys import noise, says, tiny

from ncvq_nb import training
from ncvq_nb.data import Standardiser, holdout
from ncvq_nb.engine import failures
from ncvq_nb.engine.failures import NonFiniteError
from ncvq_nb.engine.objective import Losses, Objective
from ncvq_nb.engine.stepper import Stepper
from ncvq_nb.training import TrainingSettings, train


def spoil(which, value=float("nan")):
    "An augmentation that makes the view of one series, known by its first value, useless."
    return lambda x, generator: torch.where(x[..., :1] == which, value, x)


class Slope(Objective):
    "A finite loss whose gradient is none: the square root at 0."

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x, generator=None):
        if self.training:
            self.seen += 1
        return Losses((self.w[0] * x).square().sum().sqrt() + self.w.sum())


class Counter(Objective):
    "Counts its steps, and at the last of them loses its number."

    def __init__(self, last):
        super().__init__()
        self.w, self.last = torch.nn.Parameter(torch.ones(3)), last
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x, generator=None):
        if self.training:
            self.seen += 1
        late = torch.where(self.seen > self.last, torch.inf, 0.0)
        return Losses(self.w.square().sum() + late * self.w[0])


@pytest.mark.parametrize("ssl", ["barlow", "vicreg", "vibcreg"])
@pytest.mark.parametrize("q", [0.0, 0.25])
def test_a_series_that_makes_the_loss_nan_is_named(tmp_path, ssl, q):
    X, y = noise()
    bad = int(holdout(y, q, random_state=0)[0][4]) if q else 4  # a row of X that is trained on
    z = Standardiser().fit(X).transform(X)[bad, 0, 0]
    m = tiny(ssl, spoil(z), batch_size=6, validation_fraction=q)
    with pytest.raises(NonFiniteError) as e:
        m.fit(X, y, run_dir=tmp_path / "run")
    assert e.value.series == [bad]
    for said in (f"series {bad} alone gives no number", "ssl", "tokenizer"):
        assert said in str(e.value)
    path = tmp_path / "run" / "tokenizer" / "failure.safetensors"
    assert e.value.path == path and str(path) in str(e.value)
    kept = load_file(path)
    state = [v for k, v in kept.items() if k.startswith("objective.")]
    assert state and all(v.isfinite().all() for v in state), "this is not the state before the step"
    assert kept["rows"][~kept["loss_of_each"].isfinite()].tolist() == [bad]
    at = kept["rows"].tolist().index(bad)
    assert torch.equal(kept["batch.0"][at, 0, 0], torch.tensor(z))
    with safe_open(path, "pt") as f:
        meta = json.loads(f.metadata()["ncvq_nb"])
    assert meta["step"] == e.value.step and "ssl" in meta["wrong"]


def test_training_that_runs_away_is_stopped():
    with pytest.raises(NonFiniteError, match="(?s)step.*before the optimiser moved.*Lower lr") as e:
        tiny(lr=1e12, epochs=100, batch_size=6).fit(*noise())
    assert e.value.path is None and e.value.series


def test_the_error_goes_from_process_to_process():
    facts = dict(step=3, series=[1, 2], terms={"loss": float("inf")}, path=Path("x"))
    again = pickle.loads(pickle.dumps(NonFiniteError("lost", **facts)))
    assert str(again) == "lost" and {k: getattr(again, k) for k in facts} == facts


def test_a_gradient_that_is_no_number_is_refused_and_running_averages_go_back():
    o = Slope()
    with says("the gradient of w became no number", kind=NonFiniteError):
        train(o, (torch.zeros(4),), TrainingSettings(steps=3, batch_size=2))
    assert torch.equal(o.w, torch.ones(3)) and o.seen == 0
    train(o, (torch.ones(4),), TrainingSettings(steps=3, batch_size=2))
    assert o.seen == 3


class Power(Objective):
    "Its loss is finite at the start, and nowhere far from it; and a buffer that grows."

    def __init__(self, growth=0.0):
        super().__init__()
        self.w, self.growth = torch.nn.Parameter(torch.zeros(3)), growth
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x, generator=None):
        if self.training:
            self.seen += self.growth
        return Losses((self.w - x).square().sum())


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize(
    "lr, said", [(1e39, "no finite numbers in w"), (1e30, "a loss of inf on its own batch")]
)
def test_a_last_step_that_overflows_is_an_error_too(tmp_path, monkeypatch, defer, lr, said):
    "After it nobody asks for a loss any more. No checkpoint of that state is kept."
    monkeypatch.setattr(training, "Stepper", partial(Stepper, defer=defer))
    settings, x = TrainingSettings(steps=1, lr=lr, batch_size=2), (torch.ones(4, 3),)
    for _ in range(2):  # also where the run is taken up
        with says("the last step, 0", said, f"Lower lr (now {lr:.3g})", kind=NonFiniteError) as e:
            train(Power(), x, settings, folder=tmp_path)
    assert e.value.step == 0 and not [*tmp_path.glob("*.safetensors")]


def test_buffers_count_too_unless_the_run_goes_back_to_its_best_moment():
    settings, x = TrainingSettings(steps=3, batch_size=2, log_every=1), (torch.ones(4, 3),)
    with says("the last step, 2, left no finite numbers in seen", kind=NonFiniteError):
        train(Power(1.2e38), x, settings)
    best = Power(1.2e38)
    train(best, x, replace(settings, keep_best=True), valid=(torch.zeros(4, 3),))
    assert 0 < best.seen < 3e38


def test_no_model_is_returned_whose_features_are_none():
    X, y = noise()
    for stage, lr in (("tokenizer", (1e38, 1e-3)), ("prior", (1e-3, 1e38))):
        with says(f"{stage}: the last step, 0", "Lower lr", kind=NonFiniteError):
            tiny(lr=lr, epochs=1).fit(X, y)


@pytest.mark.parametrize("defer", [False, True])
def test_the_state_before_a_refused_step_is_kept(tmp_path, monkeypatch, defer):
    "Also where it is noticed later, which is what happens on a GPU."
    monkeypatch.setattr(training, "Stepper", partial(Stepper, defer=defer))
    settings = TrainingSettings(steps=40, batch_size=2, log_every=10)
    with pytest.raises(NonFiniteError, match="loss became inf at step 17") as e:
        train(Counter(17), (torch.zeros(8),), settings, folder=tmp_path)
    kept = load_file(e.value.path)
    assert e.value.step == 17 and kept["objective.seen"] == 17


def test_where_nothing_can_be_written_the_error_still_comes(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failures, "write_atomically", full)
    with pytest.raises(NonFiniteError, match="could not be kept: .*No space left") as e:
        train(Slope(), (torch.zeros(4),), TrainingSettings(steps=3), folder=tmp_path / "a")
    assert e.value.path is None
