"""Series from the models of a grid, and where they lie beside real ones, for the pages of results.

    OMP_NUM_THREADS=1 python tests/drivers/panels.py runs/defaults --out nbs/results/panels.npz

Of every data set: six new series for each of its first four classes, and the first two principal
components of up to 150 test series and as many samples of the same classes, of the series
themselves and of their features. Components are those of the test series.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ncvq_nb import NCVQ
from ncvq_nb.io.archive import find_dataset

CLASSES, EACH, POINTS = 4, 6, 150


def components(real, new):
    "Two coordinates of both, and the share of the variance of `real` that they have."
    scale = StandardScaler().fit(real)
    pca = PCA(2, random_state=0).fit(scale.transform(real))
    share = pca.explained_variance_ratio_.sum()
    return *(pca.transform(scale.transform(Z)).astype("float16") for Z in (real, new)), share


def drawn(model, data):
    "What the pages show of a model, by name."
    classes = model.classes_[:CLASSES]
    X = model.sample(y=np.repeat(classes, EACH), random_state=0).reshape(len(classes), EACH, -1)
    found = dict(samples=X.astype("float16"), classes=classes)
    rows = np.random.default_rng(0).permutation(len(data.X_test))[:POINTS]
    real, y = data.X_test[rows], data.y_test[rows]
    new = model.sample(y=y, random_state=1)
    pairs = dict(series=(real, new), features=(model.features(real), model.features(new)))
    for name, pair in pairs.items():
        parts = components(*(Z.reshape(len(Z), -1) for Z in pair))
        found |= zip((f"{name} real", f"{name} new", f"{name} share"), parts)
    return found | {"of class": np.searchsorted(model.classes_, y).astype("uint8")}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("grids", nargs="+", type=Path, help="folders of grids")
    p.add_argument("--out", type=Path, required=True)
    args, found = p.parse_args(), {}
    paths = [path for grid in args.grids for path in grid.glob("*/default/0/model")]
    for path in sorted(paths, key=lambda path: path.parts[-4]):
        name = path.parts[-4]
        parts = drawn(NCVQ.load(path), find_dataset(name))
        found |= {f"{name}/{k}": v for k, v in parts.items()}
        print(name, flush=True)
    np.savez_compressed(args.out, **found)


if __name__ == "__main__":
    main()
