"""What does each option of decoding give? One saved model, one option changed at a time.

    OMP_NUM_THREADS=1 python tests/drivers/decoding.py gunpoint/model GunPoint --out table.csv

Every setting samples series with the labels of the test set, by several seeds. The classifier of
real series that is behind FID says how many are of the class that was asked for. Roughness is the
standard deviation of first differences, as a share of that of test series. Other settings are given
by `--settings`, as pairs `name=value` joined by `+`; rows are stored as they come.
"""

import argparse
import csv
import os
import time

import numpy as np

from ncvq_nb import NCVQ
from ncvq_nb.engine.commands import parse_value
from ncvq_nb.estimator.settings import SAMPLING_RULES
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.io.markup import markdown_table
from ncvq_nb.metrics import fid

GUIDED = ("constant", "linear", "cosine")
SETTINGS = [
    "as fitted",
    *(f"temperature={v}" for v in (0.7, 0.8, 0.9, 1.1)),
    *(f"top_p={v}" for v in (0.8, 0.9, 0.95, 0.99)),
    *(f"choice_temperature={v}" for v in (0.0, 1.0, 4.0)),
    *(f"sampling_steps={v}" for v in (10, 40)),
    *(f"order={v}" for v in ("random", "halton")),
    "order=halton+sampling_steps=40",
    "order=halton+top_p=0.95",
    *(f"revisions={n}+revise_share={q}" for n, q in ((1, 0.1), (4, 0.1), (4, 0.25), (10, 0.1))),
    "order=halton+revisions=4+revise_share=0.1",
    *(f"guidance_scale={w}+guidance_schedule={k}" for w in (1.5, 3.0) for k in GUIDED),
]
COLUMNS = ("data", "setting", "seed", "agreement", "fid", "roughness", "seconds")


def roughness(X):
    return np.diff(X, axis=-1).std()


def measured(fcn, data, X, y):
    "Agreement with the labels asked for, FID and roughness, beside test series."
    E_test, E = fcn.features(data.X_test), fcn.features(X)
    found = fcn.classes_[fcn.probabilities(E).argmax(1)]
    return (found == y).mean(), fid(E_test, E), roughness(X) / roughness(data.X_test)


def decoding_of(setting):
    "The keywords that a setting stands for."
    if setting == "as fitted":
        return {}
    return {k: parse_value(v) for k, v in (pair.split("=") for pair in setting.split("+"))}


def rows(model, data, args):
    "One row for each setting and seed, real test series and their reconstructions first."
    fcn = fcn_for(data, **({} if args.fcn_steps is None else dict(max_steps=args.fcn_steps)))
    y = np.resize(data.y_test, max(args.n, len(data.y_test)))  # in the shares of the test set
    yield "test series", "", *measured(fcn, data, data.X_test, data.y_test), 0.0
    X_hat = model.reconstruct(data.X_test)
    yield "reconstructions", "", *measured(fcn, data, X_hat, data.y_test), 0.0
    for setting in args.settings:
        for seed in range(args.seeds):
            began = time.perf_counter()
            X = model.sample(y=y, random_state=seed, **decoding_of(setting))
            took = time.perf_counter() - began
            yield setting, seed, *measured(fcn, data, X, y), took


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model", help="folder of a model")
    p.add_argument("data", help="the data set that it was trained on")
    known = ", ".join(SAMPLING_RULES)
    p.add_argument("--settings", nargs="+", default=SETTINGS, help=f"pairs of {known}")
    p.add_argument("--seeds", type=int, default=3, help="of samples")
    p.add_argument("--n", type=int, default=1000, help="series, at least as many as test series")
    p.add_argument("--fcn_steps", type=int, help="of the classifier, instead of its default")
    p.add_argument("--out", help="table to be written, one row for each setting and seed")
    args = p.parse_args()
    model, data, found = NCVQ.load(args.model), find_dataset(args.data), {}
    file = open(args.out or os.devnull, "w", newline="", buffering=1)  # line by line
    out = csv.writer(file)
    out.writerow(COLUMNS)
    for setting, seed, *values in rows(model, data, args):
        out.writerow([data.name, setting, seed, *(f"{v:.5f}" for v in values)])
        found.setdefault(setting, []).append(values)
        print(setting, seed, *(f"{v:.3f}" for v in values), flush=True)
    table = []
    for setting, values in found.items():
        cells = (f"{np.mean(v):.3f} ± {np.std(v):.3f}" for v in zip(*values))
        table.append([setting, *cells])
    print(markdown_table(["setting", *COLUMNS[3:]], table))


if __name__ == "__main__":
    main()
