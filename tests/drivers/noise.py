"""What does observation noise do? FID of reconstructions without it, and with it, drawn two ways.

    OMP_NUM_THREADS=1 python tests/drivers/noise.py TwoPatterns ECG5000 GunPoint Wafer

Tokenizers are trained for 1,000 steps on seven tenths of the training series of each class. The
others go through the tokens and back, and are compared with themselves through a classifier of the
seven tenths: as they are, with noise from one Gaussian for each class, and with noise from groups
of few residuals. In these two the noise has its whole power; `scaled` is what samples get. The test
series are not looked at. Small sets are repeated until there are 600 series.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from levers import validation_split

from ncvq_nb import NCVQ
from ncvq_nb.estimator import observation
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.io.markup import markdown_table
from ncvq_nb.metrics import fid

HEADS = ["data", "seed", "kurtosis", "without", "Gaussian", "mixture", "mixture, scaled"]
KINDS = (None, 1e9), (observation.GROUP, 1e9), (observation.GROUP, observation.TAILS)


def kurtosis(r):
    "Of residuals of any shape; 3 for Gaussian ones."
    return float((r**4).mean() / (r**2).mean() ** 2)


def fitted(data, seed, keep, steps=1000):
    "The tokenizer of a data set, read from `keep` where it is there."
    path = None if keep is None else keep / f"{data.name}-{seed}"
    if path is not None and path.exists():
        return NCVQ.load(path)
    model, n = NCVQ(random_state=seed), len(data.X_train)
    model.set_params(epochs=(steps * min(model.batch_size, n) / n, 0)).fit_tokenizer(data.X_train)
    if path is not None:
        model.save(path)
    return model


def compared(data, seed, keep):
    "Kurtosis of the training residuals, then FID without noise, and with noise of three kinds."
    model, fcn = fitted(data, seed, keep), fcn_for(data)
    classes, y = np.unique(data.y_train, return_inverse=True)
    x = torch.from_numpy(model.scaler_.transform(data.X_train))
    X_hat, E = model.reconstruct(data.X_test), fcn.features(data.X_test)
    times = -(-600 // len(X_hat))
    y_test = torch.from_numpy(np.searchsorted(classes, data.y_test)).repeat(times)
    found = [kurtosis(data.X_train - model.reconstruct(data.X_train)), fid(fcn.features(X_hat), E)]
    for observation.GROUP, observation.TAILS in KINDS:
        about = x, torch.from_numpy(y), len(classes), None, seed
        noise = observation.fit_noise(model.tokenizer_, *about)
        e = noise(y_test, torch.Generator().manual_seed(seed)).numpy()
        S = np.tile(X_hat, (times, 1, 1)) + e * model.scaler_.std_[:, None].astype("float32")
        found.append(fid(fcn.features(S), E))
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    p.add_argument("--keep", type=Path, help="folder for the tokenizers, to try other noise later")
    args, rows = p.parse_args(), []
    for name in args.data:
        data = validation_split(find_dataset(name))
        for seed in args.seeds:
            rows.append([name, seed, *(f"{v:.3g}" for v in compared(data, seed, args.keep))])
            print(*rows[-1], flush=True)
    print(markdown_table(HEADS, rows, "lr" + "r" * (len(HEADS) - 2)))


if __name__ == "__main__":
    main()
