"""Ours and the reference implementation are the same training."""

import pytest

from conftest import THOROUGH, imitated
from ncvq_nb.bench.equivalence import curve_difference, loss_curves, plot_loss_curves
from ncvq_nb.bench.workloads import STEPS, bench_series

SMALL = dict(
    dim=8,
    n_res_blocks=1,
    n_codes=16,
    projector_dim=64,
    prior_dim=32,
    prior_depth=1,
    sampling_steps=3,
)
N_STEPS = 200 if THOROUGH else 60
LIMITS = {"stage1/naive": 0.04, "stage1/barlow": 0.08, "stage1/vibcreg": 0.08, "stage2": 0.005}


def bfloat16(workload):
    marks = imitated if workload != "stage1/naive" else ()
    return pytest.param(workload, "bfloat16", marks=marks)


CASES = [*((w, "float32") for w in STEPS), *map(bfloat16, STEPS)]


@pytest.mark.parametrize("workload, precision", CASES)
def test_training_goes_the_same_way(workload, precision):
    X, y = bench_series(24, 48)
    c = loss_curves(workload, X, y, steps=N_STEPS, precision=precision, **SMALL)
    assert len(c["ours"]) == len(c["reference"]) == N_STEPS
    assert c["ours"][-1] < 0.9 * c["ours"][0]
    assert curve_difference(c) < LIMITS[workload], curve_difference(c)
    assert plot_loss_curves({workload: c}).axes
