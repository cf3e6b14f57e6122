"""What does guidance do to a classifier that learns from samples? On held-out training series.

    OMP_NUM_THREADS=1 python tests/drivers/cas_guidance.py ECG5000 \\
        --keep runs/orders --out nbs/results/cas_guidance.csv

and the same with `TwoPatterns --n 60`, by which the model sees so many series only, and at most
four hundred others judge; else three tenths are held out. A default model is trained, or read from
--keep, and samples by each guidance scale what CAS asks for, with several seeds. Lines are
appended.
"""

import argparse
from pathlib import Path

import numpy as np
from levers import appended_lines, validation_split
from orders import trained

from ncvq_nb import Dataset, holdout
from ncvq_nb.evaluation.cas import cas, cas_labels
from ncvq_nb.evaluation.fcn import fcn_for, most_steps
from ncvq_nb.evaluation.memorisation import memorisation
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.metrics import fid

COLUMNS = "dataset series guidance seed CAS agreement FID copies".split()


def few(data, n, most=400):
    "About `n` training series of a data set, and at most so many others as its test series."
    kept, rest = holdout(data.y_train, 1 - n / len(data.y_train), random_state=0)
    held = np.random.default_rng(0).permutation(rest)[:most]
    X, y = data.X_train, data.y_train
    held = held[np.isin(y[held], y[kept])]
    return Dataset(f"{data.name} {n}", X[kept], y[kept], X[held], y[held])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--n", type=int, help="series to train on [seven tenths]")
    p.add_argument("--scales", type=float, nargs="+", default=[1.0, 1.3])
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of samples")
    p.add_argument("--keep", type=Path, required=True, help="folder for models")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    with appended_lines(args.out, COLUMNS) as add:
        for name in args.data:
            whole = find_dataset(name)
            data = few(whole, args.n) if args.n else validation_split(whole)
            fcn, y = fcn_for(data), cas_labels(data.y_train)
            model = trained(data, args.keep / (f"{name}-{args.n}" if args.n else name), True)
            most = most_steps(len(data.X_train), len(data.classes))
            real = fcn.features(data.X_test)
            for seed in args.seeds:
                for scale in args.scales:
                    new = model.sample(y=y, random_state=seed, guidance_scale=scale)
                    how = dict(max_steps=most, random_state=seed)
                    right = cas(new, y, data.X_test, data.y_test, **how)
                    agreed = (fcn.predict(new) == y).mean()
                    copies = memorisation(new, X_train=data.X_train, X_test=data.X_test)["copies"]
                    found = right, agreed, fid(real, fcn.features(new)), copies
                    add(name, len(data.X_train), scale, seed, *(f"{v:.4g}" for v in found))


if __name__ == "__main__":
    main()
