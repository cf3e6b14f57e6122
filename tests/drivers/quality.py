"""Does training end on the fast path where it ends in the reference implementation?

    OMP_NUM_THREADS=1 python tests/drivers/quality.py GunPoint --out nbs/results/quality.csv

Trains default models on a data set by both, evaluates them, and writes one table of all runs. A
run that was cut off goes on where it stopped, if its folder is kept by --keep.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

from ncvq_nb import NCVQ, run_grid
from ncvq_nb.bench.reference import ReferenceLoss
from ncvq_nb.estimator import stages
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.tokenizer import TokenizerLoss
from ncvq_nb.training import train

PATHS = {
    "reference": dict(),
    "float32": dict(),
    "bfloat16 compiled": dict(precision="bfloat16", compile=True),
}
SHOWN = ("reconstruction error", "SVM quantised", "FID", "IS", "CAS")


def train_reference(objective, data, settings, *, ssl, **how):
    "`train`, but stage 1 in the reference implementation; its weights are handed over at the end."
    if not isinstance(objective, TokenizerLoss):
        return train(objective, data, settings, **how)
    plain = ReferenceLoss(objective, ssl, objective.augment)
    history = train(plain, data, settings, **how)
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
    datasets = [find_dataset(d) for d in args.data]
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        for name, settings in PATHS.items():
            how = partial(train_reference, ssl=NCVQ().ssl) if name == "reference" else train
            with patch.object(stages, "train", how):
                results = run_grid(datasets, {name: settings | extra}, args.seeds, folder)
        results.save(args.out)
    print(results.table(*SHOWN))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
