"""Add the runs of a grid to the table that the pages of results show.

    python tests/drivers/collected.py runs/thesis_tokens --out nbs/results/thesis_runs.csv

The grid's folder is one that `ncvq_grid` filled. Where its file declares no axis of priors or of
weights, those of the thesis are noted: priors that start as the codebook, and 0.1 for the second
view's reconstruction; where the self-supervised loss ended is added as a metric. Runs that the
table has under the same data set, setting and seed are replaced. (Where epochs differ and shall
stand side by side, they need tables of their own.)
"""

import argparse
import csv
import io
from pathlib import Path

from ncvq_nb import Results
from ncvq_nb.evaluation.run_table import RunTable, final_losses, with_metric
from ncvq_nb.io.storage import write_with_checksum

KEY = ("dataset", "setting", "seed")
COLUMNS = ["dataset", "setting", "method", "augment", "prior", "seed", "metric", "reference"]
COLUMNS += ["value", "seconds", "version", "data", "device", "aug_weight"]


def noted(row):
    "The row with the values of axes that its grid did not declare."
    weight = "" if row["method"] == "naive" else "0.1"
    axes = dict(prior="codebook", aug_weight=weight)
    return row | {k: row.get(k) or v for k, v in axes.items()}


def of_grid(folder):
    "The rows of a grid, with its losses."
    rows = map(noted, Results.read(folder).tidy())
    return with_metric(RunTable(rows), final_losses(folder), "SSL loss")


def as_text(value):
    "A number with five digits, and nothing for what is not known."
    if value is None or value != value:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("grids", nargs="+", type=Path, help="folders of grids")
    p.add_argument("--out", type=Path, required=True, help="the table, begun if missing")
    args = p.parse_args()
    kept = []
    if args.out.exists():
        with open(args.out, newline="") as file:
            kept = [noted(r) for r in csv.DictReader(file)]
    for folder in args.grids:
        added = [{k: as_text(r[k]) for k in COLUMNS} for r in of_grid(folder)]
        replaced = {tuple(r[k] for k in KEY) for r in added}
        kept = [r for r in kept if tuple(r[k] for k in KEY) not in replaced] + added
    text = io.StringIO()
    out = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    out.writeheader()
    out.writerows(kept)
    write_with_checksum(args.out, text.getvalue())
    print(RunTable.load(args.out).summary())


if __name__ == "__main__":
    main()
