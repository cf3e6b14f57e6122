"""Does the interval that a report gives a mean of FIDs hold what it promises? Makes the table on page 10; about twenty minutes on one core.

    OMP_NUM_THREADS=1 python tests/drivers/interval.py
"""
from functools import partial

import numpy as np
import torch

import ncvq_nb as nv
from ncvq_nb.metrics import _mean_over, bootstrap_interval, fcn_for, fid

torch.set_num_threads(1)
data = nv.load_ucr("ItalyPowerDemand")
fcn, X = fcn_for(data, cache_dir=False, random_state=0), np.concatenate([data.X_train, data.X_test])


def normal(rng, n, m): return rng.normal(size=(n, 8)), [rng.normal(.5, 1.2, (n, 8)) for _ in range(m)]


def noisy(rng, n, m):
    draw = lambda sigma: (lambda x: fcn.features(x + sigma * rng.normal(size=x.shape)))(X[rng.integers(0, len(X), n)])
    return draw(.1), [draw(.3) for _ in range(m)]


print("| features | sets | spread | width | held the expected mean | width, one set alone | width, test series drawn for each set |\n|---|---|--:|--:|--:|--:|--:|")
for name, world, m, n, trials, draws in (("normal, 8 dimensions", normal, 10, 60, 100, 1000), ("FCN, ItalyPowerDemand with noise", noisy, 7, 150, 25, 200), ("FCN, ItalyPowerDemand with noise", noisy, 10, 60, 25, 200)):
    rng = np.random.default_rng(0)
    means = [np.mean([fid(A, T) for A in sets]) for T, sets in (world(rng, n, m) for _ in range(draws))]
    within, ends, one, apart = np.mean(means), [], [], []
    for i in range(trials):
        T, sets = world(rng, n, m)
        interval = partial(bootstrap_interval, n_resamples=200, random_state=i)
        ends.append(_mean_over(sets, fid, interval, T)[1:])
        one.append(np.ptp(interval(fid, sets[0], T, method="spread")))
        if world is normal: apart.append(interval(lambda *a: np.mean([fid(A, B) for A, B in zip(a[:m], a[m:])]), *sets, *[T] * m, method="spread"))
    held = lambda ends: sum(low <= within <= high for low, high in ends)
    naive = f"{np.mean(np.ptp(apart, axis=1)):.2f} (held {held(apart)})" if apart else ""
    print(f"| {name} | {m} of {n} | {3.92 * np.std(means):.2f} | {np.mean(np.ptp(ends, axis=1)):.2f} | {held(ends)} of {trials} | {np.mean(one):.2f} | {naive} |", flush=True)
