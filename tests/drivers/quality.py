"""Does the fast path end where the textbook ends? Trains default models on a data set by both, judges them, and writes one table of all runs.

    OMP_NUM_THREADS=1 python tests/drivers/quality.py GunPoint --out nbs/results/quality.csv

A run that was cut off goes on where it stopped; the models are kept in a folder beside the table only with --keep.
"""
import argparse, tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

from ncvq_nb import NCVQ, generator
from ncvq_nb.bench import TextbookLoss
from ncvq_nb.experiments import Results, find_dataset, run_grid
from ncvq_nb.tokenizer import TokenizerLoss
from ncvq_nb.training import train

PATHS = {"textbook": dict(), "float32": dict(), "bfloat16 compiled": dict(precision="bfloat16", compile=True)}


def train_by_the_textbook(objective, data, *, ssl, **settings):
    "`train`, but stage 1 runs in the textbook formulation, and its weights go into the objective at the end."
    if not isinstance(objective, TokenizerLoss): return train(objective, data, **settings)
    plain = TextbookLoss(objective, ssl, objective.augment)
    plain.vitals = lambda: {}
    history = train(plain, data, **settings)
    objective.tokenizer.load_state_dict(plain.tokenizer.state_dict())
    objective.tokenizer.eval()
    return history


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--keep", type=Path, help="folder for runs and models")
    p.add_argument("--epochs", type=float, help="instead of the default, for a trial")
    args = p.parse_args()
    extra = {} if args.epochs is None else dict(epochs=args.epochs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        for name, settings in PATHS.items():
            how = partial(train_by_the_textbook, ssl=NCVQ().ssl) if name == "textbook" else train
            with patch.object(generator, "train", how): run_grid([find_dataset(d) for d in args.data], {name: settings | extra}, args.seeds, folder)
        results = Results.read(folder)
        results.save(args.out)
    print(results.table("reconstruction error", "SVM quantised", "FID", "IS", "CAS"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
