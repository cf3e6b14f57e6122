"""The same on every device there is: what is trained, written and read on one is used on the other.

Without a GPU, only the CPU is tried.
"""

import ctypes
import os
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ncvq_nb import NCVQ
from ncvq_nb.engine.runtime import find_device, own_device
from ncvq_nb.engine.stepper import Stepper, adamw
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from toys import DRIVERS, posix, script, tiny, walks

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
        assert np.isfinite(h["loss"]).all() and h["loss"][-1] < h["loss"][0]
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
    # sums on a GPU come in any order
    assert_allclose(continued["loss"], whole["loss"], rtol=1e-3)


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
        objective.tokenizer.vq.dead_code_threshold = 0
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
