"""The same on every device there is: what is trained, written and read on one is used on the other.

Without a GPU, only the CPU is tried.
"""

import ctypes
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ncvq_nb import NCVQ, evaluate
from ncvq_nb.engine.optimisers import adamw
from ncvq_nb.engine.runtime import find_device, own_device
from ncvq_nb.engine.stepper import Stepper
from ncvq_nb.evaluation.fcn import FCNClassifier
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from conftest import by_night
from toys import (
    DRIVERS,
    as_dataset,
    fingerprint,
    forked,
    noise,
    posix,
    script,
    tiny,
    walks,
)

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, gpu])]
METHODS = [(None, None), ("barlow", "warp"), ("vicreg", "slice"), ("vibcreg", "gauss")]


SIZES = dict(dim=16, n_codes=16, projector_dim=64, prior_dim=32)  # enough to learn in 30 steps


def made(ssl, augment, **changes):
    "A model of thirty steps for each stage, not yet fitted."
    return tiny(ssl, augment, **SIZES, batch_size=16, epochs=20, **changes)


# Which device


@pytest.mark.parametrize("env, device", [({}, "cuda"), ({"LOCAL_RANK": "3"}, "cuda:3")])
def test_a_process_has_the_gpu_of_its_local_rank(monkeypatch, env, device):
    for k in ("LOCAL_RANK", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(k, raising=False)
    for k, v in env.items():
        monkeypatch.setenv(k, v)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert own_device() == torch.device(device)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert own_device() == find_device("auto") == find_device(None) == torch.device("cpu")


# Memory


@posix
@pytest.mark.skipif(sys.platform != "linux", reason="the C library may not be glibc")
def test_freed_memory_stays_while_a_loop_runs_and_goes_afterwards():
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library is not glibc")
    found = script(DRIVERS / "memory.py")
    (kept, inside, after), (given_back, *_), (left, *_) = found.values()
    pages = 2**26 / os.sysconf("SC_PAGE_SIZE")  # of one block
    assert kept < 3 * pages and min(given_back, left) > 4 * pages and inside - after > 60


# The same everywhere


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ssl, augment", METHODS)
def test_everything_a_model_does(tmp_path, device, ssl, augment):
    X, y = walks()
    model = made(ssl, augment, device=device).fit(X, y, run_dir=tmp_path / "run")
    modules = model.tokenizer_, model.prior_
    assert {p.device.type for module in modules for p in module.parameters()} == {device}
    for h in model.history_.values():
        loss = np.array(h["loss"])  # one batch is unlike another
        assert np.isfinite(loss).all() and loss[-5:].mean() < loss[:5].mean()
    s, Z, X_new = model.encode(X), model.transform(X), model.sample(5, y=1, random_state=0)
    gap = np.where(np.arange(64) // 8 == 3, np.nan, X)
    completed, observed = model.impute(gap, random_state=0), ~np.isnan(gap)
    for a in (s, Z, X_new, completed):
        assert isinstance(a, np.ndarray) and np.isfinite(a).all()
    assert (completed[observed] == X[observed]).all()

    model.save(tmp_path / "model")
    other = NCVQ.load(tmp_path / "model", device="cpu")
    assert (other.encode(X) == s).mean() > 0.99
    assert_allclose(other.decode(s), model.decode(s), atol=1e-3 * X.std())
    assert_allclose(other.transform(X), Z, rtol=0.01, atol=0.01 * Z.std())

    again = made(ssl, augment, device=device).fit(X, y, run_dir=tmp_path / "run")
    assert (again.encode(X) == s).all()  # both stages from their last checkpoints
    assert (again.sample(5, y=1, random_state=0) == X_new).all()


@pytest.mark.cuda
@gpu
def test_a_run_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    X, step = walks()[0], Stepper.step

    class Cut(Exception):
        pass

    def cut(self, i, *args):
        if i == 13:
            raise Cut
        return step(self, i, *args)

    def losses(folder):
        how = dict(run_dir=tmp_path / folder, log_every=4, checkpoint_every=0)
        return made("barlow", "warp", device="cuda").fit_tokenizer(X, **how).history_["tokenizer"]

    whole = losses("whole")
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Stepper, "step", cut)
        losses("cut")
    continued = losses("cut")
    assert continued["step"] == whole["step"] == [4, 8, 12, 16, 20, 24, 28, 30]
    # cuDNN sums in any order where networks are this small: 1e-3 was seen on an H200
    assert_allclose(continued["loss"], whole["loss"], rtol=0.01)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision, rtol", [("float32", 2e-3), ("bfloat16", 0.1)])
def test_first_losses_are_those_of_the_cpu(device, precision, rtol):
    x = torch.from_numpy(walks()[0])

    def losses(device, precision):
        torch.manual_seed(0)
        tok = Tokenizer(2, 64, dim=16, n_res_blocks=1, n_codes=16)
        objective = TokenizerLoss(tok, ssl="vibcreg", projector_dim=64)
        # the views are the series, and no code is replaced: other devices draw other numbers
        objective.init_codebook(x, torch.Generator().manual_seed(0))
        objective.tokenizer.bands[0].vq.dead_code_threshold = 0
        objective.to(device, memory_format=torch.channels_last).train()
        stepper = Stepper(objective, adamw(objective, 1e-3, 1e-5), precision)
        gen, batch = torch.Generator(device), [x.to(device)]
        return [float(stepper.step(i, batch, gen)[0].loss) for i in range(10)]

    assert_allclose(losses(device, precision), losses("cpu", "float32"), rtol=rtol)


@pytest.mark.cuda
@gpu
def test_captured_training_is_training(tmp_path):
    "`compile=True` on a GPU: both stages as CUDA graphs, the prior compiled too; also continued."
    X, y = walks()

    def fit(compiled):
        model = made("barlow", "warp", device="cuda", compile=compiled)
        return model.fit(X, y, run_dir=tmp_path / str(compiled))

    model, plain = fit(True), fit(False)
    for stage in ("tokenizer", "prior"):
        one, two = model.history_[stage]["loss"][:5], plain.history_[stage]["loss"][:5]
        assert_allclose(one, two, rtol=0.02)
    new = model.sample(5, y=1, guidance_scale=2.0, random_state=0)
    assert new.shape == (5, 2, 64)
    assert np.array_equal(fit(True).encode(X), model.encode(X))


# The same whatever PyTorch is set to


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def both(*states):
    stack = ExitStack()
    for state in states:
        stack.enter_context(state)
    return stack


STATES = {
    "no gradients, float16, deterministic": lambda: both(
        torch.no_grad(), default_dtype(torch.float16), deterministic()
    ),
    "inference, another device": lambda: both(torch.inference_mode(), default_device("meta")),
    "float64, another device": lambda: both(default_dtype(torch.float64), torch.device("meta")),
    "bfloat16, autocast": lambda: both(
        default_dtype(torch.bfloat16), torch.autocast("cpu", torch.bfloat16)
    ),
}

BY_DAY = ("no gradients, float16, deterministic", "float64, another device")


def own_view(x, generator):
    "What a user may write: no dtype, no device, and numbers from the global generator."
    ramp = torch.full((), 0.1) * torch.linspace(0, 1, x.shape[-1]) + torch.tensor([0.3])
    return x * (1 + 0.1 * torch.randn(len(x), 1, 1)) + ramp


def everything(folder, augment):
    "All that a model gives, as bytes."
    X, y = walks(n=16, length=32)
    settings = dict(batch_size=6, prior_dropout=0.2, validation_fraction=0.25, orthogonality=0.1)
    m = tiny("vibcreg", augment, **settings).fit(X, y, run_dir=folder / "run")
    m.save(folder / "model")
    m = NCVQ.load(folder / "model")
    gap = np.where(np.arange(32) == 5, np.nan, X)
    how = dict(n_resamples=2, cas_total=6, fcn=dict(max_steps=3), cache_dir=False, verbose=False)
    report = evaluate(m, as_dataset((X, y)), random_state=0, **how)
    arrays = dict(
        tokens=m.encode(X),
        features=m.transform(X),
        series=m.reconstruct(X),
        samples=m.sample(4, random_state=0, guidance_scale=2.0),
        completed=m.impute(gap, random_state=0),
        band=m.impute(X, rows=[1], random_state=0),
    )
    found = {k: v.tobytes() for k, v in arrays.items()}
    return {**found, "model": fingerprint(m), "report": json.dumps(report.to_dict())}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    "The same in the state that PyTorch starts with, with a named view and with a user's own."
    views = dict(warp="warp", own=own_view)
    return {k: everything(tmp_path_factory.mktemp(k), view) for k, view in views.items()}


@pytest.mark.parametrize(
    "state", [k if k in BY_DAY else pytest.param(k, marks=by_night("two states")) for k in STATES]
)
def test_the_callers_state_changes_no_number(tmp_path, plain, state):
    "Gradients off, another default dtype or device, autocast, deterministic algorithms."
    name = "own" if state.startswith("float64") else "warp"
    with STATES[state]():
        found = everything(tmp_path, own_view if name == "own" else "warp")
    assert [k for k, v in plain[name].items() if found[k] != v] == []


# Threads and forks


def own_noise(x, generator):
    return x + 0.1 * torch.randn(x.shape)


def test_threads_neither_wait_for_a_training_nor_draw_from_one_another(tmp_path):
    """A fit in a thread is the fit alone, and what another thread draws meanwhile is its own.

    A view that draws from the global generator has a turn at it in each step, and no longer: models
    are loaded and classifiers trained while it is held.
    """
    X, y = noise()
    how = dict(prior_dropout=0.5, batch_size=6, epochs=10)
    alone = tiny(None, **how).fit(X, y)
    alone.save(tmp_path / "m")
    inside, go_on = threading.Event(), threading.Event()

    def waits(x, generator):
        inside.set()
        assert go_on.wait(60)
        return own_noise(x, generator)

    want, drawn = torch.Generator().manual_seed(7), []
    with torch.random.fork_rng(devices=[]), ThreadPoolExecutor(2) as pool:
        torch.manual_seed(7)
        fits = pool.submit(lambda: tiny(None, **how).fit(X, y))
        while not fits.done():
            drawn.append(torch.rand(3))
        assert fingerprint(fits.result()) == fingerprint(alone)
        assert len(drawn) > 9 and all(torch.equal(torch.rand(3, generator=want), d) for d in drawn)
        try:
            held = pool.submit(lambda: tiny("barlow", waits, batch_size=6).fit_tokenizer(X))
            assert inside.wait(60)
            others = pool.submit(lambda: NCVQ.load(tmp_path / "m"))
            assert fingerprint(others.result(60)) == fingerprint(alone)
            classifier = pool.submit(lambda: FCNClassifier(max_steps=2).fit(X, y))
            fit = pool.submit(lambda: tiny(None, **how).fit(X, y))
            assert classifier.result(60) and fingerprint(fit.result(60)) == fingerprint(alone)
        finally:
            go_on.set()
        assert held.result(60)


@posix
def test_a_fork_works_after_two_threads_and_beside_a_training(tmp_path):
    "OpenMP's threads are gone in a fork and waited for all the same; locks of others are held."
    X, y = walks()
    n, stop = torch.get_num_threads(), threading.Event()
    torch.set_num_threads(2)

    def train(*_):
        while not stop.is_set():
            tiny("barlow", own_noise).fit(*noise())
            stop.wait(0.01)

    def work():
        other = NCVQ.load(tmp_path / "m")
        s = other.encode(X)  # with as many threads as there are
        tiny("barlow", own_noise).fit(X, y)
        other.save(tmp_path / "again")
        return torch.get_num_threads(), len(s), torch.rand(3).tolist()

    try:
        tiny().fit(X, y).save(tmp_path / "m")  # now this thread has its pool of threads
        with torch.random.fork_rng(devices=[]), ThreadPoolExecutor(1) as pool:
            torch.manual_seed(7)
            training = pool.submit(train)
            found = forked(work, 60)
            stop.set()
            training.result(60)
    finally:
        torch.set_num_threads(n)
    drawn = torch.rand(3, generator=torch.Generator().manual_seed(7)).tolist()
    assert found == (0, dict(result=[1, len(X), drawn]))
