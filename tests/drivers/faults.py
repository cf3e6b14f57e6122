"""Write a model, a report, a table, a figure or a whole run while the n-th call that touches the disk goes wrong, for every n, or every so many of a run: faults.py FOLDER KIND EVERY.

A call goes wrong in three ways: "error" (it fails), "full" (half of the bytes are written, then there is no space) and "kill" (half of the
bytes are written, then the process is killed). Every fault happens in a fork of its own, over a fresh copy of good files. Prints a JSON list of
what was found.
"""
import errno, functools, json, os, shutil, signal, sys, warnings
from pathlib import Path

import numpy as np

import ncvq_nb as nv
from ncvq_nb import generator
from ncvq_nb.experiments import Results
from ncvq_nb.metrics import Report, Row

base, kind, stride = Path(sys.argv[1]).absolute(), sys.argv[2], int(sys.argv[3])
generator.train = functools.partial(generator.train, checkpoint_every=0, log_every=4)


def model(seed, **kw):
    X, y = np.random.default_rng(0).normal(size=(12, 24)).astype(np.float32), np.arange(12) % 2
    return nv.NCVQ(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=4, batch_size=6, random_state=seed).fit(X, y, **kw)


WRITE = dict(  # folder, "old" or "new"; both differ in content
    model=lambda d, age: MODELS[age].save(d / "model"),
    report=lambda d, age: Report(age, [Row("FID", 1.0)]).save(d / "report"),
    table=lambda d, age: Results([dict(dataset=age, setting="s", seed=0, FID=1.0)]).save(d / "table.csv"),
    figure=lambda d, age: nv.plots.save_figure(nv.plots.plot_series(np.full((2, 9), age == "old")), d / "figure.png"),
    run=lambda d, age: age == "new" and model(1, run_dir=d / "run").save(d / "run" / "model"))


def age(d):
    "Which state is there, read as a user would: old, new, or why it cannot be read."
    try:
        if kind == "model": return {0: "old", 1: "new"}[nv.NCVQ.load(d / "model").seed_]
        if kind == "report": return Report.load(d / "report").name
        if kind == "table": return Results.load(d / "table.csv")[0]["dataset"]
        if kind == "figure": return FIGURES[(d / "figure.png").read_bytes()]
        bad = [p for p in (d / "run").glob("*/checkpoint-*") if not generator.train.func.__globals__["load_checkpoint"](p.parent, {})]
        return f"{bad} cannot be read" if bad else "old"
    except Exception as e: return f"{type(e).__name__}: {e}"


def forked(work):
    "Run in a fork; its exit status and what it said."
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try: answer = dict(result=work())
            except OSError as e: answer = dict(error=str(e))
            except BaseException as e: answer = dict(crash=repr(e))
        os.write(w, json.dumps({**answer, "said": [str(x.message) for x in said]}).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f: text = f.read()
    return os.waitpid(pid, 0)[1], json.loads(text or "{}")


def with_fault(n, how, work):
    "Do the work with the n-th call going wrong; returns how many calls there were."
    calls = [0]
    def faulty(original, write=False):
        def call(*args, **kw):
            if isinstance(args[0], int) or str(args[0]).startswith(str(base)):
                calls[0] += 1
                if calls[0] == n + 1:
                    if write and how != "error":
                        with open(args[0], "wb") as f: f.write(args[1][:len(args[1]) // 2])
                    if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
                    raise OSError(errno.ENOSPC, "No space left on device")
            return original(*args, **kw)
        return call
    for owner, name in ((os, "replace"), (os, "fsync"), (Path, "rename"), (Path, "write_bytes"), (Path, "mkdir")):
        setattr(owner, name, faulty(getattr(owner, name), name == "write_bytes"))
    work()
    return calls[0]


if kind == "model": MODELS = dict(zip(("old", "new"), (forked(lambda s=s: model(s).save(base / f"m{s}")) and nv.NCVQ.load(base / f"m{s}") for s in (0, 1))))
good, whole = base / "good", base / "whole"
good.mkdir(), whole.mkdir()
WRITE[kind](good, "old")
WRITE["figure"](whole, "new"), WRITE["figure"](whole / "old", "old")
FIGURES = {(whole / "figure.png").read_bytes(): "new", (whole / "old" / "figure.png").read_bytes(): "old"}
if kind == "run": forked(lambda: WRITE[kind](whole, "new"))
shutil.copytree(good, base / "count")
count = forked(lambda: with_fault(-1, None, lambda: WRITE[kind](base / "count", "new")))[1]["result"]
found = []
for how in ("error", "full", "kill") if kind != "run" else ("full", "kill"):
    for n in range(0, count, 1 if kind != "run" else stride):
        d = base / f"{how}{n}"
        shutil.copytree(good, d)
        status, told = forked(lambda: with_fault(n, how, lambda: WRITE[kind](d, "new")))
        row = dict(how=how, n=n, of=count, killed=os.WIFSIGNALED(status), **told, age=forked(lambda: age(d))[1])
        row["left"] = [str(p.relative_to(d)) for p in d.rglob(".*") if p.name != ".lock"]
        if kind in ("run", "model"):  # again, on a disk that works
            forked(lambda: WRITE[kind](d, "new"))
            where = ("run/model",) * 2 if kind == "run" else ("model",) * 2
            source = whole / where[0] if kind == "run" else base / "m1"
            row["same"] = all((d / where[0] / f"{p}.safetensors").read_bytes() == (source / f"{p}.safetensors").read_bytes() for p in ("tokenizer", "prior"))
            row["left_after"] = [str(p.relative_to(d)) for p in d.rglob(".*") if p.name != ".lock"]
        found.append(row)
        shutil.rmtree(d)
print(json.dumps(found))
