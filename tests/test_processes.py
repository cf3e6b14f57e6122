"""Two real processes that train one model end where one process with the joint batch ends."""
import os, subprocess, sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from numpy.testing import assert_allclose

sys.path.insert(0, str(Path(__file__).parent / "drivers"))
import team as driver

from ncvq_nb import NCVQ, generator

pytestmark = pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo")
ENV = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")} | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def launch(n, *what, **env):
    return subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", *map(str, what)], env={**ENV, **env}, capture_output=True, text=True, timeout=300)


def started(n, folder, case, **env):
    r = launch(n, driver.__file__, folder, case, **env)
    assert r.returncode == 0, r.stderr[-3000:]
    found = dict(np.load(folder / f"{case}.npz"))
    assert found.pop("size") == n
    return found


def alike(one, two, rtol=2e-3):
    assert one.keys() == two.keys()
    for k, v in one.items():
        if k.endswith("tokens"): assert (v == two[k]).mean() > .98, k
        elif k.endswith(("reconstruction", "samples")): assert np.median(np.abs(v - two[k])) < rtol * v.std(), k  # a token on the border between two codes may fall either way
        elif not k.endswith("grad_norm"): assert_allclose(two[k], v, rtol=rtol, atol=rtol * max(np.abs(v).max(), 1e-6), err_msg=k)


@pytest.fixture(scope="module")
def alone():
    X, y = driver.walks()
    return {k: v for ssl in driver.METHODS for k, v in driver.outcome(NCVQ(ssl, **driver.TINY).fit(X, y), X, f"{ssl}/").items()}


def test_two_processes_under_accelerate_give_losses_and_codebook_of_one(tmp_path, alone):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    r = subprocess.run([Path(sys.executable).parent / "accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", driver.__file__, tmp_path, "methods"],
                       env=ENV, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-3000:]
    two = dict(np.load(tmp_path / "methods.npz"))
    assert two.pop("size") == 2
    alike(alone, two)
    for ssl in driver.METHODS: assert_allclose(two[f"{ssl}/codebook"], alone[f"{ssl}/codebook"], atol=2e-4), assert_allclose(two[f"{ssl}/tokenizer/loss"], alone[f"{ssl}/tokenizer/loss"], rtol=1e-4)


def test_half_precision_with_series_held_out(tmp_path):
    X, _ = driver.walks()
    one, two = driver.outcome(driver.half().fit(X), X), started(2, tmp_path, "half")
    assert_allclose(two["tokenizer/loss"], one["tokenizer/loss"], rtol=.1)
    assert_allclose(two["tokenizer/valid_loss"][-1], one["tokenizer/valid_loss"][-1], rtol=.1)
    assert_allclose(two["prior/loss"][:3], one["prior/loss"][:3], rtol=.02)


@pytest.mark.parametrize("stage, last", [("tokenizer", 13), ("prior", 22)])
def test_a_run_that_two_processes_began_is_finished_by_one(tmp_path, monkeypatch, alone, stage, last):
    r = launch(2, driver.__file__, tmp_path, "cut", STAGE=stage, LAST=str(last))
    assert r.returncode != 0 and not (tmp_path / "cut.npz").exists()
    kept = sorted(p.name for p in (tmp_path / "run" / stage).glob("checkpoint-*"))
    assert kept and int(kept[-1][11:19]) == last // 4 * 4
    monkeypatch.setattr(generator, "train", partial(generator.train, **driver.OFTEN))
    X, y = driver.walks()
    m = NCVQ("vibcreg", **driver.TINY).fit(X, y, run_dir=tmp_path / "run")
    assert_allclose(m.tokenizer_.codebook, alone["vibcreg/codebook"], atol=5e-4)
    at = m.history_["prior"]["step"]
    assert at == [*range(4, at[-1], 4), at[-1]] and at[-1] == len(alone["vibcreg/prior/loss"])
    assert_allclose(m.history_["prior"]["loss"][0], alone["vibcreg/prior/loss"][:4].mean(), rtol=2e-3)
    assert not [p for p in (tmp_path / "run").rglob(".*") if p.name != ".lock"]


def test_what_cannot_be_shared_is_said_by_all(tmp_path):
    started(2, tmp_path, "odds and ends")
    one, two = (dict(np.load(tmp_path / f"odds {rank}.npz")) for rank in (0, 1))
    assert one["seed"] == two["seed"]  # without a seed all take that of the first
    for found in (one, two):
        assert "X must be the same in all 2 processes" in str(found["series"])
        assert "random_state must be the same in all 2 processes" in str(found["settings"])
        assert "batch_size must be a multiple of the 2 processes that share it, found 15" in str(found["uneven"])
        assert "started 2 times" in str(found["grid"])
        assert str(found["not finite"]).startswith("NonFiniteError: tokenizer: ")
    assert [f"{tmp_path}" in str(found["not finite"]) for found in (one, two)] == [True, False] and (tmp_path / "run" / "tokenizer" / "failure.safetensors").exists()


def test_the_command_writes_one_model(tmp_path):
    X, y = driver.walks()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    options = [f"--{k}={v}" for k, v in driver.TINY.items()]
    r = launch(2, Path(sys.executable).parent / "ncvq_train", tmp_path / "data.npz", "--out", tmp_path / "run", "--quiet", *options)
    assert r.returncode == 0, r.stderr[-3000:]
    assert r.stdout.count("model:") == 1
    m, one = NCVQ.load(tmp_path / "run" / "model"), NCVQ(**driver.TINY).fit(X, y)
    assert_allclose(m.history_["prior"]["loss"], one.history_["prior"]["loss"], rtol=2e-3)
