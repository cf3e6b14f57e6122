"""What do guidance and temperatures give on held-out training series? One prior a data set.

    OMP_NUM_THREADS=1 python tests/drivers/guidance.py GunPoint ECG5000 ArrowHead \\
        ItalyPowerDemand TwoPatterns Wafer SonyAIBORobotSurface2 --out nbs/results/guidance.csv

Three tenths of the training series of each class are held out. A default model is trained on the
rest, its tokenizer for a thousand steps, and samples at least six hundred series with the labels
of those held out, by each of SETTINGS. FID, precision and recall are those to the held-out series;
agreement is the share of samples in which the classifier behind FID sees the class asked for.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from levers import validation_split

from ncvq_nb import NCVQ
from ncvq_nb.evaluation.diversity import diversity_scores
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.metrics import fid

SETTINGS = {
    "no guidance": dict(guidance_scale=1.0),
    "guidance 1.3": dict(guidance_scale=1.3),
    "guidance 1.6": dict(guidance_scale=1.6),
    "temperature 0.9": dict(guidance_scale=1.0, temperature=0.9),
    "temperature 0.8": dict(guidance_scale=1.0, temperature=0.8),
    "choice temperature 2": dict(guidance_scale=1.0, choice_temperature=2.0),
    "guidance 1.3, temperature 0.9": dict(guidance_scale=1.3, temperature=0.9),
    "guidance 1.3, choice temperature 3": dict(guidance_scale=1.3, choice_temperature=3.0),
    "guidance 1.3, choice temperature 2": dict(guidance_scale=1.3, choice_temperature=2.0),
}
COLUMNS = ("data", "setting", "fid", "agreement", "precision", "recall", "seconds")
STEPS = 1000  # of the tokenizer


def rows(name):
    "One row for each setting."
    data = validation_split(find_dataset(name))
    n, fcn = len(data.X_train), fcn_for(data)
    model = NCVQ(random_state=0, epochs=(STEPS * min(64, n) / n, None))
    model.fit(data.X_train, data.y_train)
    y = np.tile(data.y_test, max(1, 600 // len(data.y_test)))
    real = fcn.features(data.X_test)
    for setting, how in SETTINGS.items():
        began = time.perf_counter()
        new = fcn.features(model.sample(y=y, random_state=0, **how))
        took = time.perf_counter() - began
        agreed = fcn.classes_[fcn.probabilities(new).argmax(1)] == y
        scores = {k: v.mean() for k, v in diversity_scores(real, new, 5).items()}
        found = fid(real, new), agreed.mean(), scores["precision"], scores["recall"], took
        yield name, setting, *(f"{v:.4f}" for v in found)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--out", type=Path, required=True, help="table; more rows for one that is there")
    args = p.parse_args()
    new = not args.out.exists()
    with open(args.out, "a", newline="", buffering=1) as file:  # line by line
        out = csv.writer(file)
        if new:
            out.writerow(COLUMNS)
        for name in args.data:
            for row in rows(name):
                out.writerow(row)
                print(*row, flush=True)


if __name__ == "__main__":
    main()
