"""Evaluate the models of a grid once more, in another protocol or with other settings.

    OMP_NUM_THREADS=1 python tests/drivers/reevaluate.py runs/defaults --protocol published \\
        --out nbs/results/published.csv

Models are read from the folders that `run_grid` wrote (data set/setting/seed/model), and their data
sets by name. The table is written anew after each model; what stands in it is not computed again.
"""

import argparse
from pathlib import Path

from ncvq_nb import NCVQ, evaluate
from ncvq_nb.evaluation.results import Results
from ncvq_nb.io.archive import find_dataset


def row_of(report, dataset, setting, seed):
    "The row of a report, as `Results` has it."
    row = dict(dataset=dataset, setting=setting, seed=seed)
    for r in report:
        row[r.metric] = r.value
        row |= {f"{r.metric}, {v.kind}": v.value for v in r.references}
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("grid", type=Path, help="folder of a grid")
    p.add_argument("--data", nargs="+", help="only these data sets")
    p.add_argument("--protocol", default="published", choices=("matched", "published"))
    p.add_argument("--out", type=Path, required=True, help="table to be written")
    args = p.parse_args()
    rows = Results.load(args.out) if args.out.exists() else Results()
    done = {(r["dataset"], r["setting"], r["seed"]) for r in rows}
    for path in sorted(args.grid.glob("*/*/*/model")):
        dataset, setting, seed = path.parts[-4], path.parts[-3], int(path.parts[-2])
        if (dataset, setting, seed) in done or args.data and dataset not in args.data:
            continue
        how = dict(protocol=args.protocol, random_state=0, verbose=False)
        report = evaluate(NCVQ.load(path), find_dataset(dataset), **how)
        rows.append(row_of(report, dataset, setting, seed))
        rows.save(args.out)
        print(dataset, setting, seed, *(f"{r.metric} {r.value:.4g}" for r in report), flush=True)
    print(rows.table("FID", "IS", "CAS"))


if __name__ == "__main__":
    main()
