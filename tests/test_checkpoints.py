"""Checkpoints: damage and forgery are noticed and passed over, a failed write harms nothing."""

import json
import os
import pickle
import shutil
import signal
import time

import pytest
import torch
from forging import Payload, by_torch, with_head
from fuzzing import REFUSED, damage, fuzz, tried
from safetensors import safe_open
from toys import posix, sines, tiny

from ncvq_nb.engine.checkpoints import load_checkpoint, locked_folder, save_checkpoint


def save_two(folder):
    "Checkpoints of steps 3 and 6; the newer one's path."
    for step in (3, 6):
        meta = dict(step=step, seconds=0.0, settings=dict(lr=1), history={}, best=None)
        save_checkpoint(folder, step, dict(a=torch.full((50,), float(step))), meta)
    return sorted(folder.glob("checkpoint-*"))[-1]


DAMAGE = {
    "truncated": lambda b: b[:-10],
    "header only": lambda b: b[:50],
    "empty": lambda b: b"",
    "bad header": lambda b: b"\xff" * 20 + b[20:],
    "one byte of the header": lambda b: b[:9] + b"#" + b[10:],
    "one bit of the weights": lambda b: b[:-3] + bytes([b[-3] ^ 16]) + b[-2:],
}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_is_passed_over(tmp_path, spoil):
    newest = save_two(tmp_path)
    newest.write_bytes(spoil(newest.read_bytes()))
    with pytest.warns(UserWarning, match="checkpoint-00000006.*damaged"):
        tensors, meta = load_checkpoint(tmp_path, dict(lr=1))
    assert meta["step"] == 3 and (tensors["a"] == 3).all()


def test_all_checkpoints_damaged_means_from_the_beginning(tmp_path):
    (tmp_path / "checkpoint-00000003.safetensors").write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="damaged"):
        assert load_checkpoint(tmp_path, {}) is None
    assert load_checkpoint(tmp_path / "nowhere", {}) is None


def test_a_failed_write_leaves_the_checkpoints_that_are_there(tmp_path, monkeypatch):
    save_two(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        save_checkpoint(tmp_path, 9, dict(a=torch.ones(3)), dict(step=9, settings={}))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


# Any damage

TENSORS = {"w": torch.arange(12.0).reshape(3, 4), "n": torch.tensor(3)}
META = dict(step=3, seconds=1.5, settings={"n": 1, "lr": 0.001}, best=None)
META |= dict(history={"step": [1, 2, 3], "loss": [0.5, 0.25, 0.125]})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@fuzz(550, spoil=damage())
def test_a_checkpoint_with_any_damage_is_the_same_or_passed_over(home, spoil):
    shutil.rmtree(run := home / "run", ignore_errors=True)
    save_checkpoint(run, 3, TENSORS, META)
    path = run / "checkpoint-00000003.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    found = tried(lambda: load_checkpoint(run, {"n": 1}), str(run))
    if found is None or found is REFUSED:
        return
    tensors, meta = found
    assert meta == META and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], v) for k, v in TENSORS.items())
    assert all(tensors[k].dtype == v.dtype for k, v in TENSORS.items())


# Forgeries


def save_one(folder, meta=None):
    "A checkpoint of step 3; its path."
    whole = dict(step=3, seconds=0.0, settings={"n": 1}, history={}, best=None)
    save_checkpoint(folder, 3, {"w": torch.ones(2)}, whole if meta is None else meta)
    return folder / "checkpoint-00000003.safetensors"


def is_passed_over(folder):
    with pytest.warns(UserWarning, match="checkpoint-00000003.*damaged"):
        return load_checkpoint(folder, {"n": 1}) is None


def test_a_pickle_is_no_checkpoint(tmp_path):
    path, marker = save_one(tmp_path), tmp_path / "pwned"
    by_torch(path, marker)
    assert is_passed_over(tmp_path)
    path.write_bytes(pickle.dumps(Payload(marker)))
    assert is_passed_over(tmp_path) and not marker.exists()


@posix
def test_a_pipe_is_no_checkpoint(tmp_path):
    os.mkfifo(tmp_path / "checkpoint-00000003.safetensors")
    assert is_passed_over(tmp_path)


@pytest.mark.parametrize(
    "meta",
    [
        [],
        {},
        3,
        "x",
        "null",
        {"settings": 3},
        {"settings": {"n": 1}},
        {"settings": {"n": 1}, "step": "x", "seconds": 0.0, "history": {}, "best": None},
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_say_what_it_is_is_passed_over(tmp_path, meta):
    save_one(tmp_path, meta=meta)
    assert is_passed_over(tmp_path)


CHANGES = {'step\\": 3': 'step\\": 2', 'seconds\\": 0.0': 'seconds\\": 9.0'}
CHANGES |= {'"shape":[2]': '"shape":[1,2]', '"w"': '"v"'}


@pytest.mark.parametrize("old, new", CHANGES.items())
def test_a_changed_head_of_a_checkpoint_is_noticed(tmp_path, old, new):
    path = save_one(tmp_path)
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(with_head(content, lambda head: head.replace(old, new, 1)))
    assert is_passed_over(tmp_path)


CODEBOOK = "objective.tokenizer.bands.0.vq.codebook"


def test_a_checkpoint_of_other_networks_is_named(tmp_path):
    "Its settings are right, its tensors are not."
    X, y = sines(n=6)
    tiny(epochs=1).fit_tokenizer(X, y, run_dir=tmp_path)
    path = max((tmp_path / "tokenizer").glob("checkpoint-*"))
    with safe_open(path, "pt") as f:
        meta, good = json.loads(f.metadata()["ncvq_nb"]), {k: f.get_tensor(k) for k in f.keys()}
    without = {k: v for k, v in good.items() if k != CODEBOOK}
    for other in (
        without,
        {**good, CODEBOOK: torch.zeros(1, 1)},
        {**good, "optimiser.999.step": torch.zeros(())},
        {**good, "optimiser.x": torch.zeros(())},
    ):
        save_checkpoint(path.parent, meta["step"], other, meta)
        with pytest.raises(ValueError, match="tokenizer"):
            tiny(epochs=1).fit_tokenizer(X, y, run_dir=tmp_path)


# One process at a time


@posix
def test_two_processes_do_not_train_in_one_folder(tmp_path):
    pid = os.fork()
    if not pid:
        with locked_folder(tmp_path / "run" / "tokenizer"):
            (tmp_path / "locked").touch()
            time.sleep(60)
        os._exit(1)
    try:
        while not (tmp_path / "locked").exists():
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match="in use by another process"):
            tiny(epochs=1).fit_tokenizer(*sines(), run_dir=tmp_path / "run")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    m = tiny(epochs=1).fit_tokenizer(*sines(), run_dir=tmp_path / "run")
    assert m.history_, "the lock fell with its process"


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path):
    for name in (".checkpoint-00000003.1.ab.safetensors", ".history.1.ab.csv", ".mine"):
        (tmp_path / name).write_text("half")
    with locked_folder(tmp_path):
        assert sorted(p.name for p in tmp_path.glob(".*")) == [".lock", ".mine"]
