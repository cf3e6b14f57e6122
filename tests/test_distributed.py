"""Two real processes that train one model end where one process with the joint batch ends."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from numpy.testing import assert_allclose

from conftest import THOROUGH
from ncvq_nb import NCVQ
from toys import DRIVERS, ENV, walks

sys.path.insert(0, str(DRIVERS))
import process_group as driver

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo"
)
UNGROUPED = {k: v for k, v in ENV.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
UNGROUPED["ACCELERATE_USE_CPU"] = "true"


def launch(program, *args, n=2, **env):
    "Start a program n times as one group, as torchrun does; exit codes, outputs and errors."
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    env = {**UNGROUPED, **env, "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = []
    for r in range(n):
        place = dict(RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE=str(n))
        command = [sys.executable, program, *map(str, args)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(command, env={**env, **place}, **pipes))
    said = [p.communicate(timeout=300) for p in started]
    return [(p.returncode, *words) for p, words in zip(started, said)]


def of_mark(found, mark):
    return {k.removeprefix(f"{mark}/"): v for k, v in found.items() if k.startswith(f"{mark}/")}


def alike(one, two, rtol=2e-3):
    "A token on the border between two codes may fall either way."
    assert one.keys() == two.keys()
    for k, v in one.items():
        if k.endswith("tokens"):
            assert (v == two[k]).mean() > 0.98, k
        elif k.endswith(("reconstruction", "samples")):
            assert np.median(np.abs(v - two[k])) < rtol * v.std(), k
        elif not k.endswith("grad_norm"):
            assert_allclose(two[k], v, rtol=rtol, atol=rtol * max(np.abs(v).max(), 1e-6), err_msg=k)


@pytest.fixture(scope="module")
def alone():
    "What one process ends in, for every method."
    X, y = walks()
    fitted = {ssl: driver.model(ssl).fit(X, y) for ssl in driver.METHODS}
    return {k: v for ssl, m in fitted.items() for k, v in driver.outcome(m, X, f"{ssl}/").items()}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    "What two processes under accelerate end in, what each of them said, and their folder."
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    folder = tmp_path_factory.mktemp("together")
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    accelerate = Path(sys.executable).parent / "accelerate"
    command = [accelerate, "launch", *options, driver.__file__, folder, "together"]
    r = subprocess.run(command, env=UNGROUPED, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-3000:]
    said = [json.loads((folder / f"said-{rank}.json").read_text()) for rank in (0, 1)]
    return dict(np.load(folder / "outcome.npz")), said, folder


@pytest.mark.parametrize("ssl", driver.METHODS, ids=str)
def test_two_processes_under_accelerate_end_where_one_ends(together, alone, ssl):
    one, two = of_mark(alone, ssl), of_mark(together[0], ssl)
    alike(one, two)
    assert_allclose(two["codebook"], one["codebook"], atol=2e-4)
    assert_allclose(two["tokenizer/loss"], one["tokenizer/loss"], rtol=1e-4)


def test_half_precision_with_series_held_out(together):
    X, _ = walks()
    one = driver.outcome(driver.half().fit(X), X)
    two = of_mark(together[0], "half")
    assert_allclose(two["tokenizer/loss"], one["tokenizer/loss"], rtol=0.1)
    assert_allclose(two["tokenizer/valid_loss"][-1], one["tokenizer/valid_loss"][-1], rtol=0.1)
    assert_allclose(two["prior/loss"][:3], one["prior/loss"][:3], rtol=0.02)


def test_what_cannot_be_distributed_is_said_by_all(together):
    _, by_rank, folder = together
    assert by_rank[0]["seed"] == by_rank[1]["seed"]  # without a seed all take that of the first
    for said in by_rank:
        assert "X must be the same in all 2 processes" in said["series"]
        assert "random_state must be the same in all 2 processes" in said["settings"]
        assert "batch_size must be a multiple of the 2 processes that share it" in said["uneven"]
        assert "found 15" in said["uneven"]
        assert "started 2 times" in said["grid"]
        assert said["not_finite"].startswith("NonFiniteError: tokenizer: ")
    assert [str(folder) in said["not_finite"] for said in by_rank] == [True, False]
    assert (folder / "run" / "tokenizer" / "failure.safetensors").exists()


CUTS = [("prior", 22), *([("tokenizer", 13)] if THOROUGH else [])]


@pytest.mark.parametrize("stage, last", CUTS)
def test_a_run_that_two_processes_began_is_finished_by_one(tmp_path, alone, stage, last):
    ends = launch(driver.__file__, tmp_path, "cut", STAGE=stage, LAST=str(last))
    assert all(code != 0 for code, *_ in ends)
    kept = sorted(p.name for p in (tmp_path / "run" / stage).glob("checkpoint-*"))
    assert kept and int(kept[-1][11:19]) == last // 4 * 4
    m = driver.model("vibcreg").fit(*walks(), run_dir=tmp_path / "run", **driver.OFTEN)
    assert_allclose(m.tokenizer_.codebook, alone["vibcreg/codebook"], atol=5e-4)
    prior, at = m.history_["prior"], m.history_["prior"]["step"]
    assert at == [*range(4, at[-1], 4), at[-1]] and at[-1] == len(alone["vibcreg/prior/loss"])
    assert_allclose(prior["loss"][0], alone["vibcreg/prior/loss"][:4].mean(), rtol=2e-3)
    assert not [p for p in (tmp_path / "run").rglob(".*") if p.name != ".lock"]


def test_the_command_writes_one_model_and_one_log(together, alone):
    _, by_rank, folder = together
    assert [said["command"].count("model:") for said in by_rank] == [1, 0]
    history = NCVQ.load(folder / "out" / "model").history_["prior"]
    # rounding decides a token here and there, and updates of a fixed length carry that on
    assert_allclose(history["loss"], alone[f"{NCVQ().ssl}/prior/loss"], rtol=1e-2)
    if driver.LOGGED:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        assert len([*folder.glob("out/logs/events*")]) == 1
        curves = EventAccumulator(str(folder / "out" / "logs")).Reload()
        values = [e.value for e in curves.Scalars("prior/loss")]
        assert values == np.float32(history["loss"]).tolist()
