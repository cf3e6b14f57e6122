"""How many samples may be missing in training? Delete some of real series, and test on whole ones.

    OMP_NUM_THREADS=1 python tests/drivers/gaps.py ItalyPowerDemand GunPoint

Small tokenizers are trained on series of which a share was deleted, as single samples or as one run
in each series, and once more on the same series with lines across their gaps, taken for data. Both
are tested on series of which nothing was deleted.
"""

import argparse
import time

import numpy as np

from ncvq_nb import NCVQ, load_ucr
from ncvq_nb.io.gaps import fill_gaps
from ncvq_nb.io.markup import markdown_table
from ncvq_nb.metrics import probe, reconstruction_error

SIZES = dict(dim=16, n_res_blocks=1, projector_dim=32, lr=3e-3)
SHARES = (0.1, 0.3, 0.5, 0.7)


def delete(X, share, kind, seed):
    "X (n, c, l) with a share of the samples of each series gone, in all channels alike."
    rng, X, l = np.random.default_rng(seed), X.copy(), X.shape[-1]
    for x in X:
        k = round(share * l)
        a = rng.integers(l - k + 1)
        gone = rng.permutation(l)[:k] if kind == "single samples" else slice(a, a + k)
        x[:, gone] = np.nan
    return X


def scores(data, X, steps, seed):
    "Reconstruction error of whole test series, and accuracy of an SVM on their representations."
    epochs = steps * min(32, len(X)) / len(X)
    model = NCVQ(**SIZES, batch_size=32, epochs=epochs, random_state=seed).fit_tokenizer(X)
    error = reconstruction_error(data.X_test, model.reconstruct(data.X_test))["relative"]
    Z, Z_test = model.transform(X), model.transform(data.X_test)
    return error, probe(Z, data.y_train, Z_test, data.y_test)["svm"]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--steps", type=int, default=200)
    args = p.parse_args()
    began, rows = time.perf_counter(), []
    for name in args.data:
        data = load_ucr(name)
        kinds = [("nothing", 0.0), *((k, s) for k in ("single samples", "runs") for s in SHARES)]
        for kind, share in kinds:
            found = []
            for seed in range(args.seeds):
                X = delete(data.X_train, share, kind, seed)
                found.append(scores(data, X, args.steps, seed))
                if share:
                    found[-1] += scores(data, fill_gaps(X), args.steps, seed)
            cells = [f"{np.mean(v):.3f}" for v in zip(*found)]
            rows.append([name, kind, f"{100 * share:.0f} %", *cells, *[""] * (4 - len(cells))])
            print(*rows[-1], f"{time.perf_counter() - began:.0f} s", flush=True)
    heads = ["data", "deleted", "share", "error", "SVM", "error, lines", "SVM, lines"]
    print(markdown_table(heads, rows))


if __name__ == "__main__":
    main()
