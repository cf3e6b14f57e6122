"""Runs that are killed: the same command again ends in the same bytes."""
import json, os, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import pytest

from ncvq_nb import NCVQ
from conftest import THOROUGH

DRIVERS, ENV = Path(__file__).parent / "drivers", {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
posix = pytest.mark.skipif(os.name != "posix", reason="kill -9 and fork are POSIX")


def waves(n=20, l=32):
    rng, t = np.random.default_rng(0), np.linspace(0, 1, l)
    y = np.arange(n) % 2
    return (np.sin(2 * np.pi * (2 + 2 * y)[:, None] * t) + 0.1 * rng.normal(size=(n, l))).astype(np.float32), y


def same_run(a, b):
    for name in ("tokenizer", "prior"): assert (a / "model" / f"{name}.safetensors").read_bytes() == (b / "model" / f"{name}.safetensors").read_bytes(), name
    one, two = NCVQ.load(a / "model"), NCVQ.load(b / "model")
    for stage in ("tokenizer", "prior"):
        for column in set(one.history_[stage]) - {"seconds"}: assert one.history_[stage][column] == two.history_[stage][column], (stage, column)
        last = [max((d / stage).glob("checkpoint-*")) for d in (a, b)]
        assert_same_tensors(*last)
    assert np.array_equal(one.sample(4, random_state=1), two.sample(4, random_state=1))
    left = [p.name for p in [*b.rglob(".*")] if p.name != ".lock"]
    assert not left, f"left behind: {left}"


def assert_same_tensors(a, b):
    "Checkpoints: parameters, moving averages and the optimiser's moments."
    from safetensors.numpy import load_file
    a, b = load_file(a), load_file(b)
    assert a.keys() == b.keys() and any(k.startswith("optimiser.") for k in a) and all(np.array_equal(a[k], b[k]) for k in a)


KILLS = 10 if THOROUGH else 4  # of each of four methods


@posix
@pytest.mark.parametrize("i, ssl", list(enumerate(["none", "barlow", "vicreg", "vibcreg"])))
def test_a_run_killed_at_random_moments_ends_in_the_same_bytes(tmp_path, i, ssl):
    X, y = waves()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    r = subprocess.run([sys.executable, DRIVERS / "killed.py", tmp_path, ssl, str(KILLS), str(i)], env=ENV, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-2000:]
    told = json.loads(r.stdout.splitlines()[-1])
    assert len(told["kills"]) == KILLS
    tokenizer, prior = zip(*told["kills"])
    assert any(0 < s < 45 for s in tokenizer) or any(0 < s < 45 for s in prior), "no kill hit a stage between its first and its last step"
    for k in range(told["runs"]): same_run(tmp_path / "whole", tmp_path / f"cut{k}")


@posix
def test_the_installed_command_continues_a_killed_run(tmp_path):
    X, y = waves()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    command = lambda out: [Path(sys.executable).parent / "ncvq_train", tmp_path / "data.npz", "--out", tmp_path / out, "--dim", "8", "--n_res_blocks", "1", "--n_codes", "8", "--projector_dim", "16",
                           "--prior_dim", "16", "--prior_depth", "1", "--batch_size", "8", "--epochs", "100", "--random_state", "0", "--quiet"]
    for stage in ("tokenizer", "prior"):
        p = subprocess.Popen(command("cut"), env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while p.poll() is None and not list((tmp_path / "cut" / stage).glob("checkpoint-*")): time.sleep(0.01)
        p.send_signal(signal.SIGKILL)
        assert p.wait() == -signal.SIGKILL, f"it ended before it could be killed in stage {stage}: {p.stderr.read().decode()[-1000:]}"
    for out in ("cut", "whole"): subprocess.run(command(out), env=ENV, check=True, capture_output=True)
    same_run(tmp_path / "whole", tmp_path / "cut")


@posix
def test_two_processes_do_not_train_in_one_folder(tmp_path):
    code = "import sys, time; from pathlib import Path; from ncvq_nb.training import alone_in\nwith alone_in(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    p = subprocess.Popen([sys.executable, "-c", code, tmp_path / "run" / "tokenizer"], env=ENV, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "in\n"
    X, y = waves()
    model = NCVQ(dim=8, n_res_blocks=1, projector_dim=16, prior_dim=16, prior_depth=1, epochs=1, random_state=0)
    try:
        with pytest.raises(RuntimeError, match="in use by another process"): model.fit(X, y, run_dir=tmp_path / "run")
    finally: p.kill(), p.wait()
    model.fit(X, y, run_dir=tmp_path / "run")  # the lock fell with its process
