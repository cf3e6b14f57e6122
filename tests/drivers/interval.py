"""Does the interval that a report gives a mean of FIDs hold what it promises?

Makes the table on the page "Rows of a report"; about twenty minutes on one core.

OMP_NUM_THREADS=1 python tests/drivers/interval.py
"""

from functools import partial

import numpy as np
import torch

import ncvq_nb as nv
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.evaluation.rows import mean_over_sets
from ncvq_nb.metrics import bootstrap_interval, fid

torch.set_num_threads(1)
data = nv.load_ucr("ItalyPowerDemand")
fcn, X = fcn_for(data, cache_dir=False, random_state=0), np.concatenate([data.X_train, data.X_test])

COLUMNS = (
    "features",
    "sets",
    "spread",
    "width",
    "held the expected mean",
    "width, one set alone",
    "width, test series resampled for each set",
)


def normal(rng, n, m):
    "n real points, and m sets of n generated ones."
    return rng.normal(size=(n, 8)), [rng.normal(0.5, 1.2, (n, 8)) for _ in range(m)]


def noisy(rng, n, m):
    "The same as features of series with noise, more of it in generated ones."

    def features(sigma):
        x = X[rng.integers(0, len(X), n)]
        return fcn.features(x + sigma * rng.normal(size=x.shape))

    return features(0.1), [features(0.3) for _ in range(m)]


def apart(sets, T, interval):
    "The interval where every set has resampled test series of its own."
    m = len(sets)

    def mean(*arrays):
        return np.mean([fid(S, T) for S, T in zip(arrays[:m], arrays[m:])])

    return interval(mean, *sets, *[T] * m, method="spread")


def row(name, world, m, n, trials, draws):
    "A line of the table."
    rng = np.random.default_rng(0)
    worlds = (world(rng, n, m) for _ in range(draws))
    means = [np.mean([fid(S, T) for S in sets]) for T, sets in worlds]
    ends, one, naive = [], [], []
    for i in range(trials):
        T, sets = world(rng, n, m)
        interval = partial(bootstrap_interval, n_resamples=200, random_state=i)
        ends.append(mean_over_sets(sets, fid, interval, T)[1:])
        one.append(np.ptp(interval(fid, sets[0], T, method="spread")))
        if world is normal:
            naive.append(apart(sets, T, interval))

    def held(ends):
        return sum(low <= np.mean(means) <= high for low, high in ends)

    def width(ends):
        return f"{np.mean(np.ptp(ends, axis=1)):.2f}"

    spread, single = f"{3.92 * np.std(means):.2f}", f"{np.mean(one):.2f}"
    last = f"{width(naive)} (held {held(naive)})" if naive else ""
    return name, f"{m} of {n}", spread, width(ends), f"{held(ends)} of {trials}", single, last


print(f"| {' | '.join(COLUMNS)} |\n|---|---{'|--:' * 5}|")
for case in (
    ("normal, 8 dimensions", normal, 10, 60, 100, 1000),
    ("FCN, ItalyPowerDemand with noise", noisy, 7, 150, 25, 200),
    ("FCN, ItalyPowerDemand with noise", noisy, 10, 60, 25, 200),
):
    print(f"| {' | '.join(row(*case))} |", flush=True)
