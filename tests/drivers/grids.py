"""Grids whose processes are killed: forks of one process, which imports everything once.

    python grids.py FOLDER     # prints what became of them, as JSON
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # which the optimiser imports; once is enough

sys.path.insert(0, str(Path(__file__).parents[1]))
from toys import SETTINGS, as_dataset, noise

import ncvq_nb as nv
from ncvq_nb import NCVQ, run_grid
from ncvq_nb.engine.checkpoints import load_checkpoint

DATA = as_dataset(noise(), noise(seed=1), name="noise")
QUICK = dict(n_resamples=5, cas_total=20, fcn=dict(max_steps=3), checkpoint_every=0)
TINY = {**SETTINGS, "sampling_steps": 4, "batch_size": 6}
ENOUGH = 10**6
calls, last = 0, ENOUGH


def fatal(x, generator):
    "A view that kills its process when it is made for the `last`-th time."
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def start(settings, seeds, folder, kill_at=ENOUGH):
    "A grid in a process of its own, which ends with the number of cells that failed."
    global last
    last = kill_at  # not in the view itself, which would be another one then
    if not (pid := os.fork()):
        results = run_grid([DATA], {"s": settings}, seeds, folder, **QUICK)
        os._exit(len(results.failed))
    return pid


def ended(pid):
    "The exit status of a process; that of a signal is negative."
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fatal_cells(folder):
    "A cell that kills whoever comes, and one whose processes are killed but get on."
    settings = {**TINY, "epochs": (8, 2), "ssl": "vibcreg", "augment": nv.Named("fatal", fatal)}

    def outcome(name, kill_at):
        return ended(start(settings, [0], folder / name, kill_at))

    at_once = [outcome("one", 2) for _ in range(5)]
    (error,) = (folder / "one").glob("*/*/*/error.txt")
    message = error.read_text(encoding="utf-8").splitlines()[-1]
    (error.parent / "begun.txt").unlink()
    again = [outcome("one", 2), outcome("one", ENOUGH)]
    left = [p.name for p in error.parent.glob("*.txt")]
    later = []
    while later[-1:] != [0] and len(later) < 20:
        later.append(outcome("two", 5))
    return dict(at_once=at_once, message=message, again=again, left=left, later=later)


def shared_folder(folder):
    "One process is killed in a cell, and two others share the folder then."
    settings = {**TINY, "epochs": (30, 2)}
    killed = start(settings, [2, 0], folder)
    stage = folder / "noise" / "s" / "2" / "run" / "tokenizer"
    while not list(stage.glob("checkpoint-*")):
        time.sleep(0.01)
    os.kill(killed, signal.SIGKILL)
    status = [ended(killed)]
    seconds = load_checkpoint(stage, {})[1]["history"]["seconds"]
    others = [start(settings, seeds, folder) for seeds in ([0, 1, 2], [2, 1, 3])]
    status += map(ended, others)
    found = NCVQ.load(folder / "noise" / "s" / "2" / "model").history_["tokenizer"]["seconds"]
    return dict(status=status, seconds=list(seconds), found=list(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    fatal_ones, shared = fatal_cells(place / "fatal"), shared_folder(place / "shared")
    (place / "found.json").write_text(json.dumps(dict(fatal=fatal_ones, shared=shared)))
