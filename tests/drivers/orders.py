"""What does the order of tokens give on held-out training series, with labels and without?

    OMP_NUM_THREADS=1 python tests/drivers/orders.py TwoPatterns ECG5000 Wafer \\
        --keep runs/orders --out nbs/results/orders.csv

and the same with `GunPoint TwoPatterns --without_labels`. Three tenths of the training series of
each class are held out. A default model of the rest is trained, or read from --keep, and samples at
least six hundred series twice, by each of ORDERS. FID, precision and recall are those to the
held-out series; agreement is the share of samples in which the classifier behind FID sees the class
asked for. Lines are appended to the table.
"""

import argparse
from pathlib import Path

import numpy as np
from levers import appended_lines, validation_split

from ncvq_nb import NCVQ
from ncvq_nb.evaluation.diversity import diversity_scores
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.metrics import fid

ORDERS = {str(v): dict(choice_temperature=v) for v in (1, 4, 10, 20)}
ORDERS["random"] = dict(order="random")
COLUMNS = "dataset series labels setting seed FID agreement precision recall".split()


def trained(data, folder, labels):
    "A default model, from its folder or anew."
    if folder.exists():
        return NCVQ.load(folder)
    model = NCVQ(random_state=0).fit(data.X_train, data.y_train if labels else None)
    model.save(folder)
    return model


def judged(model, data, fcn, labels, seed, how):
    "FID, agreement, precision and recall of samples."
    y = np.tile(data.y_test, max(1, 600 // len(data.y_test)))
    asked = dict(y=y) if labels else dict(n=max(600, len(data.y_test)))
    real, new = data.X_test, model.sample(**asked, random_state=seed, **how)
    real, new = fcn.features(real), fcn.features(new)
    agreed = fcn.classes_[fcn.probabilities(new).argmax(1)] == y if labels else np.nan
    scores = {k: v.mean() for k, v in diversity_scores(real, new, 5).items()}
    return fid(real, new), np.mean(agreed), scores["precision"], scores["recall"]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--without_labels", action="store_true")
    p.add_argument("--keep", type=Path, required=True, help="folder for models")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    labels = not args.without_labels
    with appended_lines(args.out, COLUMNS) as add:
        for name in args.data:
            data = validation_split(find_dataset(name))
            fcn = fcn_for(data)
            folder = args.keep / (name if labels else f"{name}-without-labels")
            model = trained(data, folder, labels)
            for setting, how in ORDERS.items():
                for seed in (0, 1):
                    found = (f"{v:.4g}" for v in judged(model, data, fcn, labels, seed, how))
                    add(name, len(data.X_train), int(labels), setting, seed, *found)


if __name__ == "__main__":
    main()
