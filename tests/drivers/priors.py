"""What does a setting of the prior give, on held-out training series?

    OMP_NUM_THREADS=1 python tests/drivers/priors.py TwoPatterns Wafer --seeds 0 --steps 760 1900 \\
        --settings '{"optimizer": "adamw", "lr": 0.001}' '{}' --keep runs/priors --out priors.csv

Three tenths of the training series of each class are held out. A default tokenizer is trained on
the rest, once for a set and a seed, and kept; priors are trained on its tokens. Each is asked for
the pseudo log-likelihood of held-out series, and for 600 samples or so of their classes: their
Fréchet distance from the held-out series, the share that the classifier takes for what was asked
for, and the share of near copies of training series, as reports have it. Lines are appended to the
table.

With --series 50, fifty series are trained on and up to four hundred others held out: a small set
whose held-out part is not small. A setting `"mix": 0.5` is the driver's own: the prior learns from
twenty times as many token sequences, of the latents of each series moved by up to that share
towards those of another of its class (SMOTE, Chawla et al. 2002, in the latent space).
"""

import argparse
import json
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from levers import appended_lines, validation_split

from ncvq_nb import NCVQ, Dataset, holdout
from ncvq_nb.estimator import stages
from ncvq_nb.estimator.settings import of_stage
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.evaluation.memorisation import memorisation
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.metrics import fid

COLUMNS = "dataset seed setting steps seconds NLL FID agreement copies".split()
VIEWS = 20  # token sequences of a series, where they are mixed


def small_split(data, n):
    "A data set of n training series, whose test series are up to 400 of the others."
    X, y = data.X_train, data.y_train
    kept, held = holdout(y, 1 - n / len(y), random_state=0)
    held = np.random.default_rng(0).permutation(held)[:400]
    return Dataset(f"{data.name} {n}", X[kept], y[kept], X[held], y[held])


@torch.no_grad()
def mixed_tokens(model, x, y, most):
    "Tokens of the series (n, c, l), and of VIEWS - 1 mixtures of each with another of its class."
    (band,), rng = model.tokenizer_.bands, np.random.default_rng(0)
    z = stages.batched(lambda x: model.tokenizer_.latents(x)[0].float(), x)
    own = np.tile(np.arange(len(x)), VIEWS)
    other = np.array([rng.choice(np.flatnonzero(y == y[i])) for i in own])
    share = torch.from_numpy(rng.uniform(0, most, len(own))).float().view(-1, 1, 1, 1)
    share[: len(x)] = 0
    mixed = torch.lerp(z[own], z[other], share)
    return stages.batched(lambda z: band.vq(z).s.flatten(1), mixed)


def trained(model, X, y, steps, most=None):
    "The model with a prior on the tokens of the series, or of mixtures of them."
    n, views = len(X), 1 if most is None else VIEWS
    batch = min(of_stage(model.batch_size, 1), n * views)
    model.set_params(epochs=(None, steps * batch / (n * views)))
    if most is None:
        return model.fit_prior(X, y)
    how = dict(observed_tokens=lambda m, x, *_: mixed_tokens(m, x[:n], y, most))
    with patch.multiple(stages, **how):
        return model.fit_prior(np.tile(X, (views, 1, 1)), np.tile(y, views))


def tokenizer(data, seed, folder):
    "The model whose tokenizer is trained, from its folder or anew."
    if folder.exists():
        return NCVQ.load(folder)
    model = NCVQ(random_state=seed, epochs=(None, 0)).fit_tokenizer(data.X_train)
    model.save(folder)
    return model


def judged(model, data, fcn):
    "Nats of a held-out series, FID, agreement and near copies."
    y = np.tile(data.y_test, max(1, 600 // len(data.y_test)))
    X = model.sample(y=y, random_state=0)
    nll = -model.score_samples(data.X_test[:300], data.y_test[:300]).mean()
    distance = fid(fcn.features(data.X_test), fcn.features(X))
    copies = memorisation(X, X_train=data.X_train, X_test=data.X_test)["copies"]
    return nll, distance, (fcn.predict(X) == y).mean(), copies


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    p.add_argument("--settings", nargs="+", type=json.loads, default=[{}], help="JSON of NCVQ's")
    p.add_argument("--steps", nargs="+", type=int, required=True)
    p.add_argument("--series", type=int, help="to train on, instead of seven tenths")
    p.add_argument("--keep", type=Path, required=True, help="folder for the tokenizers")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    with appended_lines(args.out, COLUMNS) as add:
        for whole in map(find_dataset, args.data):
            name, data = whole.name, validation_split(whole)
            fcn = fcn_for(data)  # of seven tenths, whatever is trained on
            if args.series is not None:
                name, data = f"{name} {args.series}", small_split(whole, args.series)
            for seed in args.seeds:
                for setting, steps in ((s, k) for k in args.steps for s in args.settings):
                    model = tokenizer(data, seed, args.keep / f"{name}-{seed}")
                    known = {k: v for k, v in setting.items() if k != "mix"}
                    model.set_params(**known, random_state=seed)
                    began = time.perf_counter()
                    trained(model, data.X_train, data.y_train, steps, setting.get("mix"))
                    seconds = time.perf_counter() - began
                    found = (f"{v:.4g}" for v in (seconds, *judged(model, data, fcn)))
                    add(name, seed, json.dumps(setting), steps, *found)


if __name__ == "__main__":
    main()
