"""Ctrl-C while a model is trained: what was learned is kept, said, saved, and gone on from."""

import json
import os
import pickle
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from toys import as_dataset, fingerprint, fitted, posix, says, sines, tiny

from ncvq_nb import NCVQ, evaluate, training
from ncvq_nb.engine.checkpoints import load_checkpoint, of_prefix
from ncvq_nb.engine.interrupts import Interrupted, handing_on, held_interrupts
from ncvq_nb.estimator import stages

X, Y = sines()
QUIET = dict(cache_dir=False, verbose=False)
TEN = dict(batch_size=5, epochs=4)  # ten steps in each stage


@pytest.fixture(autouse=True, scope="module")
def foreground():
    "As in a terminal; a process that was started in the background ignores Ctrl-C."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_evaluation_ends_between_two_parts_where_its_thread_is_to_end():
    "A thread of a grid hears what the main thread heard."
    asked, model = [], SimpleNamespace(sample=lambda n, y=None, random_state=None: X[:n])

    def heard():
        asked.append(True)
        return len(asked) > 2

    with pytest.raises(KeyboardInterrupt):
        handing_on(heard).run(evaluate, model, as_dataset((X, Y)), fcn=dict(max_steps=1), **QUIET)
    assert len(asked) == 3


def press(stage, step):
    "Ctrl-C once a stage has come to a step, from a log that is handed to `fit`."

    def log(name, row):
        if (name, row["step"]) == (stage, step):
            signal.raise_signal(signal.SIGINT)

    return log


def interrupted(stage, step, model=None, **kw):
    "A model whose `fit` was interrupted there, and the error."
    model = tiny(**TEN) if model is None else model
    with pytest.raises(KeyboardInterrupt) as e:
        model.fit(X, Y, log_with=press(stage, step), **kw)
    return model, e.value


@pytest.fixture(scope="module")
def whole():
    return tiny(**TEN).fit(X, Y, log_every=3)


# The signal


def test_another_handler_and_another_thread_are_left_alone():
    def mine(*args):
        heard.append("mine")

    heard, before = [], signal.signal(signal.SIGINT, mine)
    try:
        with held_interrupts() as asked:
            signal.raise_signal(signal.SIGINT)
            assert heard == ["mine"] and not asked()
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)

    def elsewhere():
        with held_interrupts():
            heard.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert heard[1] is before


def test_an_error_within_is_not_replaced():
    with pytest.raises(ZeroDivisionError), held_interrupts():
        signal.raise_signal(signal.SIGINT)
        1 / 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# The model


def test_the_unfinished_prior_is_kept_and_marked(tmp_path, whole):
    m, error = interrupted("prior", 4)
    assert isinstance(error, Interrupted) and "prior was interrupted at step 4 of 10" in str(error)
    again = pickle.loads(pickle.dumps(error))  # as from another process
    assert vars(again) == vars(error) and str(again) == str(error)
    assert m.interrupted_ == dict(prior=[4, 10]) and m.history_["prior"]["step"][-1] == 4
    assert "interrupted: prior at step 4 of 10" in repr(m)
    assert m.sample(2, y=1).shape == (2, 1, 33)
    assert np.array_equal(m.encode(X), whole.encode(X))
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert again.interrupted_ == m.interrupted_ and fingerprint(again) == fingerprint(m)
    card = (tmp_path / "m" / "README.md").read_text()
    assert "interrupted**: prior at step 4 of 10" in card
    again.fit_prior(X, Y)
    assert not hasattr(again, "interrupted_") and "interrupted" not in repr(again)
    again.save(tmp_path / "m")
    assert "interrupted" not in json.loads((tmp_path / "m" / "config.json").read_text())


def test_the_unfinished_tokenizer_is_kept_without_a_prior(tmp_path):
    m, _ = interrupted("tokenizer", 6)
    assert m.interrupted_ == dict(tokenizer=[6, 10]) and m.reconstruct(X).shape == X.shape
    with says("no prior since its training was interrupted", "step 6 of 10", kind=NotFittedError):
        m.sample(2)
    m.fit_prior(X, Y)
    assert m.interrupted_ == dict(tokenizer=[6, 10]), "the tokenizer is still unfinished"
    assert m.sample(2).shape == (2, 1, 33)
    assert not hasattr(m.fit(X, Y), "interrupted_")


def test_the_end_of_a_stage_is_no_unfinished_stage(whole):
    m, _ = interrupted("prior", 10)
    assert not hasattr(m, "interrupted_") and fingerprint(m) == fingerprint(whole)


def test_the_best_moment_is_what_stays(monkeypatch):
    plain = training.evaluate_loss

    def rising(objective, *args, **kw):
        "A loss that is lowest after five steps of the prior, whatever the machine rounds."
        found = plain(objective, *args, **kw)
        seen.append(isinstance(objective, stages.MaskGITLoss))
        return abs(sum(seen) - 5) if seen[-1] else found

    monkeypatch.setattr(training, "evaluate_loss", rising)
    wild, found = tiny(batch_size=5, epochs=12, validation_fraction=0.25), []
    for step in (12, 5):
        seen = []
        m, _ = interrupted("prior", step, clone(wild))
        found.append((int(np.argmin(m.history_["prior"]["valid_loss"])), fingerprint(m)))
    assert found[0] == found[1] and found[0][0] == 4


@pytest.mark.parametrize("stage", ["tokenizer", "prior"])
@pytest.mark.parametrize("warm", [False, True])
def test_a_fitted_model_stays_what_it_was_where_training_anew_is_interrupted(stage, warm):
    m = fitted().set_params(warm_start=warm)
    state = fingerprint(m.set_params(warm_start=False))
    with pytest.raises(KeyboardInterrupt) as e:
        m.set_params(warm_start=warm).fit(100 * X, Y, log_with=press(stage, 1), log_every=1)
    if warm and stage == "prior":  # it went on with what was there
        assert "it learned is kept" in str(e.value) and m.interrupted_ == dict(prior=[1, 3])
        return
    assert "the model is what it was before" in str(e.value)
    assert fingerprint(m.set_params(warm_start=False)) == state and not hasattr(m, "interrupted_")


def test_a_first_fit_keeps_what_it_has_learned_until_it_is_interrupted():
    m = tiny()
    for stage in ("tokenizer", "prior"):
        with pytest.raises(KeyboardInterrupt, match="what it learned is kept"):
            m.fit(X, Y, log_with=press(stage, 1), log_every=1)
        assert m.interrupted_ == {stage: [1, 3]}
    first = tiny().fit_tokenizer(X)
    with pytest.raises(KeyboardInterrupt, match="what it learned is kept"):
        first.fit_prior(X, Y, log_with=press("prior", 1), log_every=1)
    assert first.sample(2).shape == (2, 1, 33)


def test_an_interruption_before_the_first_step_leaves_what_was_there(monkeypatch):
    def stop(*args, **kw):
        raise KeyboardInterrupt

    m = fitted(warm_start=True)
    state = fingerprint(m)
    monkeypatch.setattr(stages.TokenizerLoss, "forward", stop)
    with pytest.raises(KeyboardInterrupt, match="before its first step"):
        m.fit(X + 3, Y)
    assert fingerprint(m) == state and m.reconstruct(X).mean() < 1
    with pytest.raises(KeyboardInterrupt):
        (cold := tiny()).fit(X, Y)
    with pytest.raises(NotFittedError):
        cold.encode(X)


# The run


@pytest.mark.parametrize("stage, step", [("tokenizer", 5), ("prior", 4)])
def test_a_run_goes_on_to_what_it_would_have_been(tmp_path, whole, monkeypatch, stage, step):
    "Also where a line of the history has only two of its three steps."
    objective = dict(tokenizer=stages.TokenizerLoss, prior=stages.MaskGITLoss)[stage]
    forward, calls = objective.forward, []

    def counted(self, *args, **kw):
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(signal.SIGINT)
        return forward(self, *args, **kw)

    how = dict(run_dir=tmp_path, checkpoint_every=1e9, log_every=3)
    with monkeypatch.context() as patch:
        patch.setattr(objective, "forward", counted)
        said = f"interrupted at step {step} .*goes on from .*{stage}"
        with pytest.raises(KeyboardInterrupt, match=said):
            tiny(**TEN).fit(X, Y, **how)
    again = tiny(**TEN).fit(X, Y, **how)
    assert fingerprint(again) == fingerprint(whole) and not hasattr(again, "interrupted_")
    for name, h in whole.history_.items():
        assert list(again.history_[name]) == list(h)
        assert again.history_[name]["loss"] == h["loss"], "sums between two lines go on, too"


@posix
def test_a_real_signal_between_two_lines(tmp_path):
    "Ctrl-C at any moment: the checkpoint is that of a whole step, and so is what is kept."
    began = []

    def log(name, row):
        if not began:
            began.append(threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)))
            began[0].start()

    m = tiny(epochs=1e6)
    with pytest.raises(KeyboardInterrupt, match="tokenizer was interrupted"):
        m.fit(X, Y, run_dir=tmp_path, log_every=50, checkpoint_every=1e9, log_with=log)
    step = m.interrupted_["tokenizer"][0]
    assert m.history_["tokenizer"]["step"][-1] == step > 50
    tensors, meta = load_checkpoint(tmp_path / "tokenizer", {})
    assert meta["step"] == step and meta["history"]["step"][-1] <= step
    for k, v in of_prefix("objective.tokenizer", tensors).items():
        assert torch.equal(v, m.tokenizer_.state_dict()[k]), k


def test_clones_know_nothing_of_it():
    m, _ = interrupted("prior", 4)
    assert not hasattr(clone(m), "interrupted_")
