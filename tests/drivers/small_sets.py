"""Longer training of the prior, or augmented views for it: what do they give on a small set?

    OMP_NUM_THREADS=1 python tests/drivers/small_sets.py runs/defaults/ArrowHead/default/0/model \\
        ArrowHead --steps 600 1500 --views 1 8 --out nbs/results/small_sets.csv

The tokenizer of a saved model stays; priors are trained on its tokens of the training series, or of
these and warped views of them, and their samples are judged as `evaluate` does, by one classifier
each. With 0 steps there is no prior, and these series are judged in place of samples. Lines are
appended to the table.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from ncvq_nb import NCVQ
from ncvq_nb.augment import AUGMENTATIONS
from ncvq_nb.evaluation.cas import cas, cas_labels
from ncvq_nb.evaluation.fcn import fcn_for, most_steps
from ncvq_nb.evaluation.memorisation import memorisation
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.metrics import fid

COLUMNS = "dataset seed views steps CAS agreement FID memorisation copies".split()


def with_views(X, y, k):
    "Series, and k - 1 warped views of each."
    gen, x = torch.Generator().manual_seed(1), torch.as_tensor(X)
    views = [AUGMENTATIONS["warp"](x, gen).numpy() for _ in range(k - 1)]
    return np.concatenate([X, *views]).astype(np.float32), np.tile(y, k)


def judged(data, fcn, S, y):
    "CAS, agreement, FID, memorisation and near copies of samples."
    most = most_steps(len(data.y_train), len(fcn.classes_))
    score = cas(S, y, data.X_test, data.y_test, max_steps=most, random_state=0)
    distance = fid(fcn.features(data.X_test), fcn.features(S))
    found = memorisation(S, X_train=data.X_train, X_test=data.X_test)
    return score, (fcn.predict(S) == y).mean(), distance, found["share"], found["copies"]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model", type=Path)
    p.add_argument("data")
    p.add_argument("--steps", nargs="+", type=int, default=[600, 1500])
    p.add_argument("--views", nargs="+", type=int, default=[1])
    p.add_argument("--dropout", type=float, default=0.0, help="of the prior; not in the table")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    data = find_dataset(args.data)
    fcn, y = fcn_for(data), cas_labels(data.y_train)
    new = not args.out.exists()
    with open(args.out, "a", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        if new:
            out.writerow(COLUMNS)
        for k in args.views:
            X, y_train = with_views(data.X_train, data.y_train, k)
            for steps in args.steps:
                S, labels = X, y_train
                if steps:
                    model = NCVQ.load(args.model)
                    epochs = 1, steps * min(model.batch_size, len(X)) / len(X)
                    model.set_params(random_state=args.seed, epochs=epochs)
                    model.set_params(prior_dropout=args.dropout).fit_prior(X, y_train)
                    S, labels = model.sample(y=y, random_state=args.seed), y
                found = judged(data, fcn, S, labels)
                line = data.name, args.seed, k, steps, *(f"{v:.4g}" for v in found)
                out.writerow(line)
                file.flush()
                print(*line, flush=True)


if __name__ == "__main__":
    main()
