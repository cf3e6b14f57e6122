"""What does a setting of the prior give, on held-out training series?

    OMP_NUM_THREADS=1 python tests/drivers/priors.py TwoPatterns Wafer --seeds 0 --steps 760 1900 \\
        --settings '{"optimizer": "adamw", "lr": 0.001}' '{}' --keep runs/priors --out priors.csv

Three tenths of the training series of each class are held out. A default tokenizer is trained on
the rest, once for a set and a seed, and kept; priors are trained on its tokens. Each is asked for
the pseudo log-likelihood of held-out series, and for 600 samples or so of their classes: their
Fréchet distance from the held-out series, the share that the classifier takes for what was asked
for, and the share of near copies of training series, as reports have it. Lines are appended to the
table.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from levers import appended_lines, validation_split

from ncvq_nb import NCVQ
from ncvq_nb.estimator.settings import of_stage
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.evaluation.memorisation import memorisation
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.metrics import fid

COLUMNS = "dataset seed setting steps seconds NLL FID agreement copies".split()


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
    copies = memorisation(data.X_train, X, data.X_test)["copies"]
    return nll, distance, (fcn.predict(X) == y).mean(), copies


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    p.add_argument("--settings", nargs="+", type=json.loads, default=[{}], help="JSON of NCVQ's")
    p.add_argument("--steps", nargs="+", type=int, required=True)
    p.add_argument("--keep", type=Path, required=True, help="folder for the tokenizers")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    with appended_lines(args.out, COLUMNS) as add:
        for data in map(validation_split, map(find_dataset, args.data)):
            fcn, n = fcn_for(data), len(data.X_train)
            name = data.name.removesuffix(" held out")
            for seed in args.seeds:
                for setting, steps in ((s, k) for k in args.steps for s in args.settings):
                    model = tokenizer(data, seed, args.keep / f"{name}-{seed}")
                    model.set_params(**setting, random_state=seed)
                    batch = of_stage(model.batch_size, 1)
                    model.set_params(epochs=(None, steps * min(batch, n) / n))
                    began = time.perf_counter()
                    model.fit_prior(data.X_train, data.y_train)
                    seconds = time.perf_counter() - began
                    found = (f"{v:.4g}" for v in (seconds, *judged(model, data, fcn)))
                    add(name, seed, json.dumps(setting), steps, *found)


if __name__ == "__main__":
    main()
