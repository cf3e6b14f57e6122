"""Several processes, the hours of the thesis' grid, and sizes that grow."""

import os
import sys

import numpy as np
import pytest

from conftest import by_night
from ncvq_nb.bench import scaling
from ncvq_nb.bench.scaling import THESIS_SETS, growth, plot_growth, thesis_hours, together
from ncvq_nb.bench.workloads import STEPS
from toys import TINY

NETWORK = {k: v for k, v in TINY.items() if k != "n_codes"}


def test_growth_and_its_picture():
    seen, values = [], dict(batch=(4, 8), n_codes=(16,))
    settings = dict(length=32, repeats=1, matmul=64, compile=False, memory=False, **NETWORK)
    rows = growth(
        ("stage1/naive", "stage2"),
        values=values,
        n_series=(),
        long=4,
        each=lambda found: seen.append(len(found)),
        **settings,
    )
    grown = [(r.get("workload", "fit"), r["grows"], r[r["grows"]]) for r in rows]
    sizes = [(k, v) for k, vs in values.items() for v in vs]
    want = [(w, k, v) for w in ("stage1/naive", "stage2") for k, v in sizes]
    assert grown == [*want, ("fit", "n_series", 4)]
    assert seen == list(range(1, 8)) and "reference_median_ms" not in rows[0]
    fit = rows[-1]
    assert fit["length"] == 4096 and fit["peak_memory_mb"] > 100 and fit["seconds"] > 0
    rows.append({**fit, "length": 140})
    for r in rows:
        r.setdefault("peak_memory_mb", 1)
    assert len(plot_growth(rows).axes) == 6


@by_night("processes that are counted together are tested by day")
def test_a_process_counts_its_calls():
    (one,) = together("stage1/naive", (1,), seconds=0.1, batch=4, length=32, **TINY)
    assert (one["workload"], one["processes"]) == ("stage1/naive", 1) and one["per_s"] > 0


def use(monkeypatch, code):
    "Let `together` start processes that do something else."
    monkeypatch.setattr(scaling, "new_process", lambda f, spec: [sys.executable, "-c", code])


def test_processes_share_the_cores_and_are_counted_together(monkeypatch):
    use(monkeypatch, "import os; print('ready'); input(); print(os.environ['OMP_NUM_THREADS'])")
    found = together("stage2", (1, 2, 8))
    cores = os.cpu_count()
    assert [r["threads"] for r in found[:2]] == [cores, max(1, cores // 2)]
    assert [r["per_s"] for r in found] == [r["threads"] * r["processes"] for r in found]


def test_a_process_that_fails_says_why(monkeypatch):
    use(monkeypatch, "raise ValueError('no room')")
    with pytest.raises(RuntimeError, match="stage2 could not .* process of its own: .*no room"):
        together("stage2", (2,))
    with pytest.raises(ValueError, match="processes must be greater than 0"):
        together("stage2", (0,))


def test_hours_between_measured_lengths():
    case = dict(device="cpu", batch=128)
    rows = [dict(workload=w, length=l, median_ms=l, **case) for w in STEPS for l in (50, 2000)]
    steps = {k: max(1, round(1000 * n / min(128, n))) for k, (n, _) in THESIS_SETS.items()}
    ms = sum(steps[k] * l for k, (_, l) in THESIS_SETS.items())
    np.testing.assert_allclose(thesis_hours(rows)["stage 1"], 7 * 4 * ms / 3.6e6)
    with pytest.raises(ValueError, match="one device"):
        thesis_hours([*rows, {**rows[0], "device": "cuda"}])
