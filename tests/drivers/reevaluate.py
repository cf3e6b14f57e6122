"""Evaluate the models of a grid once more, in another protocol.

    OMP_NUM_THREADS=1 python tests/drivers/reevaluate.py runs/defaults --protocol published \\
        --keep runs/published --out nbs/results/published.csv

Models are read from the folders that `run_grid` wrote (data set/setting/seed/model), and their data
sets by name. Reports go into the same places below `--keep`; those that are there stay.
"""

import argparse
from pathlib import Path

from ncvq_nb import NCVQ, Results, evaluate
from ncvq_nb.io.archive import find_dataset


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("grid", type=Path, help="folder of a grid")
    p.add_argument("--data", nargs="+", help="only these data sets")
    p.add_argument("--protocol", default="published", choices=("matched", "published"))
    p.add_argument("--n_cas", type=int, help="classifiers for CAS, 0 for none [the protocol's]")
    p.add_argument("--keep", type=Path, required=True, help="folder for reports")
    p.add_argument("--out", type=Path, required=True, help="table to be written")
    args = p.parse_args()
    for path in sorted(args.grid.glob("*/*/*/model")):
        dataset, place = path.parts[-4], args.keep.joinpath(*path.parts[-4:-1])
        if (place / "report.json").exists() or args.data and dataset not in args.data:
            continue
        how = dict(protocol=args.protocol, n_cas=args.n_cas, random_state=0, verbose=False)
        place.mkdir(parents=True, exist_ok=True)
        evaluate(NCVQ.load(path), find_dataset(dataset), **how).save(place / "report")
        Results.read(args.keep).save(args.out)
    print(Results.read(args.keep).table("FID", "IS", *(["CAS"] if args.n_cas != 0 else [])))


if __name__ == "__main__":
    main()
