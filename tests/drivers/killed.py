"""Train in forks, end them at random moments, start them again: killed.py FOLDER SSL KILLS SEED

Prints as JSON how many steps had been done in both stages at each kill. The kernel ends a process
when it has used so much time of a processor, at any point of its work and without a word. A fork of
a process that has trained with one thread already saves the seconds of a fresh interpreter.
"""

import json
import os
import random
import signal
import sys
import warnings
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a fork waits for ever for other threads, which it has not

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from ncvq_nb import cli
from toys import OPTIONS, sines, tiny

torch.set_num_threads(1)  # a process with more of them must not be forked
folder, ssl = Path(sys.argv[1]), None if sys.argv[2] == "none" else sys.argv[2]
n_kills, seed = map(int, sys.argv[3:])
rng = random.Random(seed)
X, y = sines(n=20, length=32)


def fit(out):
    "18 epochs of 20 series in batches of 8: 45 steps a stage, a checkpoint every third of them."
    m = tiny(ssl, prior_dropout=0.1, batch_size=8, epochs=18, random_state=3)
    m.fit(X, y, run_dir=out, log_every=3, checkpoint_every=0).save(out / "model")


def command(out):
    "50 steps a stage; checkpoints and lines of the history as often as a command writes them."
    last = ["--batch_size", "8", "--epochs", "20", "--quiet"]
    cli.train([str(folder / "data.npz"), "--out", str(out), *OPTIONS, *last])


def seconds(work, out, limit=0.0):
    "Do the work in a fork: the seconds of a processor that it took, or None if it was killed."
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        warnings.simplefilter("error")  # a checkpoint that was written is whole
        signal.setitimer(signal.ITIMER_PROF, limit)  # 0 is none
        try:
            work(out)
        except BaseException as e:
            print(repr(e), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status, used = os.wait4(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGPROF
        return None
    assert status == 0, "a process failed on its own"
    return used.ru_utime + used.ru_stime


def steps(out):
    "Steps done in each stage, as the newest checkpoints say."
    found = [[*(out / s).glob("checkpoint-*.safetensors")] for s in ("tokenizer", "prior")]
    return [max([0, *(int(p.stem.split("-")[1]) for p in paths)]) for paths in found]


def kill_often(work, n):
    "The steps that had been done at each of n kills, in folders WORK0, WORK1 … that end whole."
    name, found, finished = work.__name__, [], 0
    whole = seconds(work, folder / f"{name}_whole")
    while len(found) < n:
        out = folder / f"{name}{finished}"
        if seconds(work, out, rng.uniform(0.1, 0.9) * whole) is None:
            found.append(steps(out))
        else:
            finished += 1
    seconds(work, folder / f"{name}{finished}")
    return found


np.savez(folder / "data.npz", X=X, y=y)
tiny().fit(X, y)  # what PyTorch does once is done before the forks
print(json.dumps(dict(fit=kill_often(fit, n_kills), command=kill_often(command, 2))))
