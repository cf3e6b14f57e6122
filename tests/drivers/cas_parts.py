"""Where is the accuracy of a classifier lost that is trained on samples?

    OMP_NUM_THREADS=1 python tests/drivers/cas_parts.py runs/defaults --data ArrowHead ECG5000 \\
        --out nbs/results/cas_parts.csv

For each model of a grid that `run_grid` wrote (data set/setting/seed/model), classifiers as CAS has
them are trained on each of PARTS and judged by the test series. Lines are appended to the table.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from levers import appended_lines

from ncvq_nb import NCVQ
from ncvq_nb.estimator.observation import drawn_noise
from ncvq_nb.estimator.sampling import class_indices, decode_tokens
from ncvq_nb.evaluation.cas import cas, cas_labels
from ncvq_nb.evaluation.fcn import most_steps
from ncvq_nb.io.archive import find_dataset


def reconstructions(model, X, y, times, seed):
    "Series through the tokenizer and back, so many times, with the noise that samples get."
    s, y = model.encode(X), np.tile(y, times)
    s = torch.from_numpy(np.tile(s, (times, 1)))
    noise = drawn_noise(model, class_indices(model, None, y, seed), 1.0, seed)
    return decode_tokens(model, s, None, noise), y


def parts(model, data, seed):
    "Name → series and labels to learn from."
    X, y = data.X_train, data.y_train
    labels = cas_labels(y)
    yield "real", X, y
    yield "reconstructed", model.reconstruct(X), y
    yield "with noise", *reconstructions(model, X, y, -(-len(labels) // len(y)), seed)
    for name, how in dict(samples={}, unguided=dict(guidance_scale=1)).items():
        yield name, model.sample(y=labels, random_state=seed, **how), labels


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("grid", type=Path, help="folder of a grid")
    p.add_argument("--data", nargs="+", help="only these data sets")
    p.add_argument("--n", type=int, default=1, help="classifiers of each kind [1]")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    with appended_lines(args.out, "dataset seed part classifier accuracy".split()) as add:
        for path in sorted(args.grid.glob("*/*/*/model")):
            dataset, seed = path.parts[-4], path.parts[-2]
            if args.data and dataset not in args.data:
                continue
            model, data = NCVQ.load(path), find_dataset(dataset)
            steps = most_steps(len(data.X_train), len(data.classes))
            for i in range(args.n):
                for name, X, y in parts(model, data, i):
                    right = cas(X, y, data.X_test, data.y_test, max_steps=steps, random_state=i)
                    add(dataset, seed, name, i, f"{right:.4g}")


if __name__ == "__main__":
    main()
