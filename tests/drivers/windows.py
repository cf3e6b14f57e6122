"""Default models on windows of one recording, by the scores that such generators are compared by.

    OMP_NUM_THREADS=1 python tests/drivers/windows.py Stocks stocks.csv --seeds 0 \\
        --keep runs/windows --out nbs/results/windows.csv

The recording is a table with a row for each time step; columns that are no numbers are left out. A
default model is trained on all windows of 24 steps, without labels, or read from --keep if it is
there, and as many samples are scored against them, once for each --sampling: settings of `sample`
as JSON, {} for the model's own. Other runs that the table has stay.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np

from ncvq_nb import NCVQ, recording_windows, window_scores
from ncvq_nb.engine.runtime import find_device
from ncvq_nb.evaluation.run_table import RunTable
from ncvq_nb.io.storage import write_with_checksum

COLUMNS = ("dataset", "setting", "method", "augment", "seed", "metric", "reference", "value")
COLUMNS += ("seconds", "device")


def recording(path):
    "(time, channels): the columns of numbers."
    with open(path, newline="") as file:
        _, *rows = csv.reader(file)

    def is_number(text):
        try:
            return np.isfinite(float(text))
        except ValueError:
            return False

    kept = [i for i in range(len(rows[0])) if all(is_number(row[i]) for row in rows)]
    return np.array([[float(row[i]) for i in kept] for row in rows])


def trained(X, seed, folder):
    "A default model, from its folder or anew."
    if folder.exists():
        return NCVQ.load(folder)
    model = NCVQ(random_state=seed).fit(X)
    model.save(folder)
    return model


def scored(name, model, X, seed, sampling):
    "The rows of a run; `seconds` are those of sampling and scores."
    began = time.perf_counter()
    new = model.sample(len(X), random_state=seed, **sampling)
    report = window_scores(X, new, random_state=seed)
    took = round(time.perf_counter() - began, 1)
    setting = "+".join(f"{k}={v}" for k, v in sampling.items()) or "default"
    run = dict(dataset=name, setting=setting, method=setting, augment="", seed=seed)
    run |= dict(seconds=took, device=find_device(model.device).type)
    for row in report.rows:
        values = [("", row.value), ("low", row.low), ("high", row.high)]
        values += [(r.kind, r.value) for r in row.references]
        for kind, value in values:
            yield run | dict(metric=row.metric, reference=kind, value=f"{value:.5f}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("name", help="of the recording, in the table")
    p.add_argument("file", type=Path, help="table (.csv)")
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    p.add_argument("--sampling", type=json.loads, nargs="+", default=[{}], help="JSON")
    p.add_argument("--keep", type=Path, required=True, help="folder for models")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    X = recording_windows(recording(args.file))
    found = list(RunTable.load(args.out)) if args.out.exists() else []
    for seed, sampling in ((s, k) for s in args.seeds for k in args.sampling):
        model = trained(X, seed, args.keep / f"{args.name}-{seed}")
        new = [*scored(args.name, model, X, seed, sampling)]
        keys = [[r[k] for k in ("dataset", "setting", "seed")] for r in (*found, new[0])]
        found = [r for r, k in zip(found, keys) if k != keys[-1]] + new
        lines = [",".join(COLUMNS), *(",".join(str(r[c]) for c in COLUMNS) for r in found)]
        write_with_checksum(args.out, "\n".join(lines) + "\n")
    for r in found:
        print(r["dataset"], r["setting"], r["seed"], r["metric"], r["reference"], r["value"])


if __name__ == "__main__":
    main()
