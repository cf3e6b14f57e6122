"""What does each setting give? One changed after the other, measured on held-out training series.

    OMP_NUM_THREADS=1 python tests/drivers/levers.py TwoPatterns ECG5000 --keep runs/levers \\
        --out nbs/results/levers.csv

Three tenths of the training series of each class are held out, and models are trained on the rest
and evaluated on them: what is chosen so has never seen the test series. Each setting of LEVERS
contains those before it. A run that was cut off goes on where it stopped.
"""

import argparse
import csv
from contextlib import contextmanager
from pathlib import Path

from ncvq_nb import Dataset, holdout, run_grid
from ncvq_nb.io.archive import find_dataset

EARLIER = dict(n_fft=8, width=8, n_codes=32, observation_noise=0.0, warmup=0.0)
EARLIER |= dict(optimizer="adamw", lr=1e-3, weight_decay=1e-5)
LEVERS = {
    "earlier defaults": {},
    "256 codes": dict(n_codes=256),
    "n_fft 4, 16 columns": dict(n_fft=4, width=16),
    "lr 4e-3 for the tokenizer, warm-up": dict(lr=(4e-3, 1e-3), warmup=0.05),
    "observation noise": dict(observation_noise=1.0),
    "Muon": dict(optimizer="muon", lr=(2e-3, 4e-3), weight_decay=0.3),
}
ASIDE = {"prior dropout 0.3": dict(prior_dropout=0.3)}  # on top of all of them


def settings():
    "Name → parameters of `NCVQ`."
    found, so_far = {}, dict(EARLIER)
    for name, change in LEVERS.items():
        so_far = so_far | change
        found[name] = dict(so_far)
    return found | {name: so_far | change for name, change in ASIDE.items()}


def validation_split(data, share=0.3):
    "A data set whose test series are held-out training series."
    kept, held = holdout(data.y_train, share, random_state=0)
    X, y = data.X_train, data.y_train
    return Dataset(f"{data.name} held out", X[kept], y[kept], X[held], y[held])


@contextmanager
def appended_lines(path, columns):
    "A function that adds a line to a table, which is begun where there is none, and prints it."
    new = not path.exists()
    with open(path, "a", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        if new:
            out.writerow(columns)

        def add(*line):
            out.writerow(line)
            file.flush()
            print(*line, flush=True)

        yield add


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--settings", nargs="+", default=list(settings()), choices=list(settings()))
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    p.add_argument("--keep", type=Path, required=True, help="folder for runs and models")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    datasets = [validation_split(find_dataset(name)) for name in args.data]
    asked = {k: v for k, v in settings().items() if k in args.settings}
    results = run_grid(datasets, asked, args.seeds, args.keep, conditional=True, verbose=False)
    results.save(args.out)
    print(results.table("reconstruction error", "SVM quantised", "FID", "CAS", "roughness"))


if __name__ == "__main__":
    main()
