"""Write files while the n-th call that touches the disk goes wrong: faults.py FOLDER EVERY KIND...

A KIND is "model", "report", "table", "figure" (each call in turn) or "run" (every so many of them).
A call goes wrong in three ways: "error" (it fails), "full" (half of the bytes are written, then
there is no space) and "kill" (half of the bytes are written, then the process, a fork, is killed).
Every fault happens over a fresh copy of good files. Prints a JSON list of what was found.
"""

import errno
import json
import os
import shutil
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import ncvq_nb as nv
from ncvq_nb.drawing.style import save_figure
from ncvq_nb.engine.checkpoints import load_checkpoint
from ncvq_nb.evaluation.report import Row
from ncvq_nb.plots import plot_series
from toys import forked, noise, tiny

torch.set_num_threads(1)  # a process with more of them must not be forked
base, stride, kinds = Path(sys.argv[1]).absolute(), int(sys.argv[2]), sys.argv[3:]
SEEDS = dict(old=0, new=1)


def model(age, **kw):
    m = tiny(epochs=4, batch_size=6, random_state=SEEDS[age])
    return m.fit(*noise(), log_every=4, checkpoint_every=0, **kw)


def save_run(d, age):
    if age == "new":
        model(age, run_dir=d / "run").save(d / "run" / "model")


def save_report(d, age):
    nv.Report(age, [Row("FID", 1.0)]).save(d / "report")


def save_table(d, age):
    nv.Results([dict(dataset=age, setting="s", seed=0, FID=1.0)]).save(d / "table.csv")


def draw(d, age):
    save_figure(plot_series(np.full((2, 9), age == "old")), d / "figure.png")


WRITE = dict(
    model=lambda d, age: MODELS[age].save(d / "model"),
    report=save_report,
    table=save_table,
    figure=draw,
    run=save_run,
)


def damaged_checkpoints(d):
    found = [p for p in (d / "run").glob("*/checkpoint-*") if not load_checkpoint(p.parent, {})]
    return f"{found} cannot be read" if found else "old"


READ = dict(  # which state is there, as a user would see it
    model=lambda d: {seed: age for age, seed in SEEDS.items()}[nv.NCVQ.load(d / "model").seed_],
    report=lambda d: nv.Report.load(d / "report").name,
    table=lambda d: nv.Results.load(d / "table.csv")[0]["dataset"],
    figure=lambda d: FIGURES[(d / "figure.png").read_bytes()],
    run=damaged_checkpoints,
)


def listened(work):
    "The result of the work or its error, and the warnings that were heard."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            answer = dict(result=work())
        except OSError as e:
            answer = dict(error=str(e))
        except Exception as e:
            answer = dict(crash=repr(e))
    return {**answer, "said": [str(x.message) for x in said]}


TOUCHING = [
    (os, "replace"),
    (os, "fsync"),
    (Path, "rename"),
    (Path, "write_bytes"),
    (Path, "mkdir"),
]


def with_fault(n, how, work):
    "Do the work with the n-th call going wrong; returns how many calls there were."
    calls = [0]

    def faulty(original, write=False):
        def call(*args, **kw):
            if isinstance(args[0], int) or str(args[0]).startswith(str(base)):
                calls[0] += 1
                if calls[0] == n + 1:
                    go_wrong(args, write)
            return original(*args, **kw)

        return call

    def go_wrong(args, write):
        if write and how != "error":
            with open(args[0], "wb") as f:
                f.write(args[1][: len(args[1]) // 2])
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, "No space left on device")

    originals = [getattr(owner, name) for owner, name in TOUCHING]
    for (owner, name), original in zip(TOUCHING, originals):
        setattr(owner, name, faulty(original, name == "write_bytes"))
    try:
        work()
    finally:
        for (owner, name), original in zip(TOUCHING, originals):
            setattr(owner, name, original)
    return calls[0]


def left(d):
    "Temporary files."
    return [str(p.relative_to(d)) for p in d.rglob(".*") if p.name != ".lock"]


def same_weights(a, b):
    names = ("tokenizer.safetensors", "prior.safetensors")
    return all((a / n).read_bytes() == (b / n).read_bytes() for n in names)


def find(kind, how, n, of):
    "What is there after a fault."
    d = base / f"{kind}-{how}{n}"
    shutil.copytree(base / "good" / kind, d)

    def spoilt():
        return listened(lambda: with_fault(n, how, lambda: WRITE[kind](d, "new")))

    status, told = 0, {}
    if how == "kill":
        status, told = forked(spoilt)
    else:
        told = spoilt()
    row = dict(kind=kind, how=how, n=n, of=of, killed=os.WIFSIGNALED(status), **told)
    row |= dict(age=age_of(kind, d), left=left(d))
    if kind in ("run", "model"):  # again, on a disk that works
        WRITE[kind](d, "new")
        where = Path("run", "model") if kind == "run" else Path("model")
        row |= dict(same=same_weights(d / where, base / "whole" / where), left_after=left(d))
    shutil.rmtree(d)
    return row


def age_of(kind, d):
    "Old, new, or why it cannot be read."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return READ[kind](d)
        except Exception as e:
            return f"{type(e).__name__}: {e}"


def count(kind):
    "How many calls there are without a fault."
    d = base / f"{kind}-count"
    shutil.copytree(base / "good" / kind, d)
    return with_fault(-1, None, lambda: WRITE[kind](d, "new"))


MODELS = {age: model(age) for age in SEEDS}  # what PyTorch does once is done before the forks
FIGURES = {}
for kind in kinds:
    (base / "good" / kind).mkdir(parents=True)
    (base / "whole").mkdir(exist_ok=True)
    WRITE[kind](base / "good" / kind, "old")
    WRITE[kind](base / "whole", "new")
if "figure" in kinds:
    paths = dict(old=base / "good" / "figure", new=base / "whole")
    FIGURES = {(p / "figure.png").read_bytes(): age for age, p in paths.items()}
found = []
for kind in kinds:
    of = count(kind)
    ways = ("full", "kill") if kind == "run" else ("error", "full", "kill")
    for how in ways:
        for n in range(0, of, stride if kind == "run" else 1):
            found.append(find(kind, how, n, of))
print(json.dumps(found))
