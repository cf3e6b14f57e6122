"""Is Gaussian noise of a decoder right? Kurtosis of residuals, and what the noise does to FID.

    OMP_NUM_THREADS=1 python tests/drivers/noise.py TwoPatterns ECG5000 GunPoint Wafer

Default tokenizers are trained on seven tenths of the training series of each class. The others go
through the tokens and back, as they are and with the whole noise added, and are compared with
themselves through a classifier of the seven tenths. The test series are not looked at.
"""

import argparse

import numpy as np
import torch
from levers import validation_split

from ncvq_nb import NCVQ
from ncvq_nb.estimator import observation
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.evaluation.roughness import roughness
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.io.markup import markdown_table
from ncvq_nb.metrics import fid


def kurtosis(r):
    "Of residuals of any shape; 3 for Gaussian ones."
    return float((r**4).mean() / (r**2).mean() ** 2)


def compared(data, seed):
    "Kurtosis of the training residuals, FID without and with noise, roughness without and with."
    model = NCVQ(random_state=seed, epochs=None).fit_tokenizer(data.X_train)
    fcn, n_classes = fcn_for(data, random_state=0), len(np.unique(data.y_train))
    E, X_hat = fcn.features(data.X_test), model.reconstruct(data.X_test)
    r = data.X_train - model.reconstruct(data.X_train)
    y, y_test = (
        torch.from_numpy(np.searchsorted(np.unique(data.y_train), labels))
        for labels in (data.y_train, data.y_test)
    )
    x = torch.from_numpy(model.scaler_.transform(data.X_train))
    observation.TAILS = 1e9  # the whole noise, whatever the tails
    noise = observation.fit_noise(model.tokenizer_, x, y, n_classes, None, seed)
    e = noise(y_test, torch.Generator().manual_seed(seed)).numpy()
    noisy = X_hat + e * model.scaler_.std_[:, None].astype("float32")
    sets = X_hat, noisy
    rough = (roughness(S, data.X_test)["roughness"] for S in sets)
    return kurtosis(r), *(fid(fcn.features(S), E) for S in sets), *rough


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    args, rows = p.parse_args(), []
    for name in args.data:
        data = validation_split(find_dataset(name))
        for seed in args.seeds:
            rows.append([name, seed, *(f"{v:.3g}" for v in compared(data, seed))])
            print(*rows[-1], flush=True)
    heads = ["data", "seed", "kurtosis", "FID", "FID, noise", "roughness", "roughness, noise"]
    print(markdown_table(heads, rows))


if __name__ == "__main__":
    main()
