"""After how many steps does each stage begin to learn the training series by heart?

    OMP_NUM_THREADS=1 python tests/drivers/overfitting.py GunPoint ItalyPowerDemand \\
        --steps 1000 1500 --out nbs/results/overfitting.csv

Three tenths of the training series are held out; the table has the loss on both parts while the
default model trains on the rest.
"""

import argparse
from pathlib import Path

from ncvq_nb import NCVQ
from ncvq_nb.evaluation.results import Results
from ncvq_nb.io.archive import find_dataset


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", nargs="+")
    p.add_argument("--steps", nargs=2, type=int, default=(1000, 1500), help="of both stages")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    rows = Results.load(args.out) if args.out.exists() else Results()
    for name in args.data:
        data = find_dataset(name)
        model = NCVQ(validation_fraction=0.3, random_state=args.seed)
        n = round(0.7 * len(data.X_train))
        model.set_params(epochs=tuple(s * min(model.batch_size, n) / n for s in args.steps))
        model.fit(data.X_train, data.y_train)
        for stage, history in model.history_.items():
            lines = zip(*(history[k] for k in ("step", "loss", "valid_loss")))
            for step, loss, valid in list(lines)[4::5]:
                row = dict(dataset=name, setting=stage, seed=args.seed, step=step)
                rows.append({**row, "loss": loss, "held out": valid})
        rows.save(args.out)


if __name__ == "__main__":
    main()
