"""Does a decoder that learns from disturbed tokens decode samples better? On held-out series.

    OMP_NUM_THREADS=1 python tests/drivers/swaps.py GunPoint ArrowHead ItalyPowerDemand \\
        SonyAIBORobotSurface2 ECG5000 --out nbs/results/swaps.csv

Three tenths of the training series of each class are held out, and a default model is trained on
the rest, its tokenizer for 750 steps. While it learns, a share of the code vectors that its decoder
gets are swapped for those of other places of the batch ("swap"), or all get normal noise, its
standard deviation a share of theirs ("noise"). Error and FID of the held-out series'
reconstructions, then FID of at least six hundred samples with their labels, and the share of
samples in which the classifier behind FID sees the class asked for.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from levers import appended_lines, validation_split
from tokenizers import judged

from ncvq_nb import NCVQ
from ncvq_nb.autoencoder import Decoder
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.metrics import fid

SETTINGS = [("as it is", 0.0), ("swap", 0.05), ("swap", 0.2), ("noise", 0.2)]
COLUMNS = ("data", "disturbed", "share", "seed", "error", "FID tokenizer", "FID", "agreement")
STEPS = 750  # of the tokenizer


def swapped(z, share):
    "A share of the vectors of grids (b, dim, f, t), each from some other place."
    places = z.detach().permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    others = places[torch.randperm(len(places))].reshape(len(z), *z.shape[2:], -1)
    chosen = torch.rand(len(z), 1, *z.shape[2:]) < share
    return torch.where(chosen, others.permute(0, 3, 1, 2), z)


def noisy(z, share):
    "Grids (b, dim, f, t) with noise of a share of their standard deviation."
    return z + share * z.detach().std() * torch.randn_like(z)


class Disturbed:
    "Decoders that get disturbed grids while they learn."

    def __init__(self, kind, share):
        self.plain, self.share = Decoder.forward, share
        self.change = {"swap": swapped, "noise": noisy}.get(kind)

    def __enter__(self):
        def forward(decoder, z):
            learns = decoder.training and torch.is_grad_enabled()
            return self.plain(decoder, self.change(z, self.share) if learns else z)

        if self.change is not None:
            Decoder.forward = forward

    def __exit__(self, *_):
        Decoder.forward = self.plain


def row(data, name, seed, kind, share):
    "A model that is trained so, and how it did."
    n, fcn = len(data.X_train), fcn_for(data)
    model = NCVQ(random_state=seed, epochs=(STEPS * min(64, n) / n, None))
    torch.manual_seed(seed)
    with Disturbed(kind, share):
        model.fit_tokenizer(data.X_train, data.y_train)
    error, found, *_ = judged(model, data, fcn)
    model.fit_prior(data.X_train, data.y_train)
    y = np.tile(data.y_test, max(1, 600 // len(data.y_test)))
    new = fcn.features(model.sample(y=y, random_state=0))
    agreed = (fcn.classes_[fcn.probabilities(new).argmax(1)] == y).mean()
    scores = error, found, fid(fcn.features(data.X_test), new), agreed
    return name, kind, share, seed, *(f"{v:.4g}" for v in scores)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    p.add_argument("--out", type=Path, required=True, help="table; more rows for one that is there")
    args = p.parse_args()
    with appended_lines(args.out, COLUMNS) as add:
        for seed in args.seeds:
            for name in args.data:
                data = validation_split(find_dataset(name))
                for kind, share in SETTINGS:
                    add(*row(data, name, seed, kind, share))


if __name__ == "__main__":
    main()
