"""What does a setting of the tokenizer give, on held-out training series?

    OMP_NUM_THREADS=1 python tests/drivers/tokenizers.py TwoPatterns ECG5000 --seeds 0 \\
        --settings '{"aug_weight": 0.1}' '{"aug_weight": 0}' --out tokenizers.csv

Three tenths of the training series of each class are held out. The tokenizer alone is trained on
the rest, and asked for the held-out ones: their reconstructions, and probes on their codes. Lines
are appended to the table.
"""

import argparse
import json
from pathlib import Path

from levers import appended_lines, validation_split

from ncvq_nb import NCVQ
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.metrics import fid, probe

COLUMNS = "dataset seed setting steps error FID KNN SVM accuracy".split()


def judged(model, data, fcn):
    "Relative error, FID, probes and accuracy of the classifier, on the series held out."
    X_hat = model.reconstruct(data.X_test)
    error = ((X_hat - data.X_test) ** 2).mean() / data.X_test.var()
    distance = fid(fcn.features(data.X_test), fcn.features(X_hat))
    Z, Z_test = (model.features(X) for X in (data.X_train, data.X_test))
    found = probe(Z, data.y_train, Z_test, data.y_test)
    return error, distance, found["knn"], found["svm"], (fcn.predict(X_hat) == data.y_test).mean()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    p.add_argument("--settings", nargs="+", type=json.loads, default=[{}], help="JSON of NCVQ's")
    p.add_argument("--steps", type=int, default=1000)
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    with appended_lines(args.out, COLUMNS) as add:
        for data in map(validation_split, map(find_dataset, args.data)):
            fcn, n = fcn_for(data), len(data.X_train)
            for seed in args.seeds:
                for setting in args.settings:
                    model = NCVQ(**setting, random_state=seed)
                    model.set_params(epochs=(args.steps * min(model.batch_size, n) / n, 0))
                    model.fit_tokenizer(data.X_train)
                    name = data.name.removesuffix(" held out")
                    found = (f"{v:.4g}" for v in judged(model, data, fcn))
                    add(name, seed, json.dumps(setting), args.steps, *found)


if __name__ == "__main__":
    main()
