"""Every workload can be measured, and a measurement says what it says."""

import json

import pytest
import torch
from numpy.testing import assert_allclose

from conftest import by_night
from ncvq_nb.bench import timing
from ncvq_nb.bench.measurements import Measurements, measure, part_times, plot_parts
from ncvq_nb.bench.workloads import MIXED, WORKLOADS, Workload
from ncvq_nb.engine.runtime import can_compile
from toys import TINY, global_state

SMALL = dict(batch=6, length=32, matmul=64, n_samples=4, compile=False, sampling_steps=3)
SMALL |= {k: v for k, v in TINY.items() if k != "precision"}
CASES = [(w, p) for w in WORKLOADS for p in ("float32", "bfloat16") if p == "float32" or w in MIXED]


@pytest.mark.parametrize("workload, precision", CASES)
def test_every_workload_can_be_measured(workload, precision):
    state = global_state()
    r = measure(workload, precision=precision, parts=True, repeats=1, **SMALL)
    assert global_state() == state
    about = [r[k] for k in ("workload", "batch", "length", "device", "precision")]
    assert about == [workload, 6, 32, "cpu", precision]
    assert r["median_ms"] > 0 and r["reference_median_ms"] > 0 and r["ratio"] > 0
    assert r["repeats"] == 1 and r["spread_ms"][0] <= r["median_ms"] <= r["spread_ms"][1]
    assert (r["flops"] > 0) == (not workload.startswith("augment"))
    assert r["series"] == (4 if workload.startswith("sample") else 6)
    if r["flops"]:
        share = r["flops"] / r["median_ms"] / r["matmul_gflops_per_s"] / 1e6
        assert_allclose(r["matmul_fraction"], share, rtol=0.1, atol=1e-4)  # both are rounded
    assert ("parts" in r) == workload.startswith("stage")
    if "parts" in r:
        parts = r["parts"]
        assert min(parts.values()) >= 0 and "optimiser" in parts
        assert ("projector" in parts) == (workload in ("stage1/barlow", "stage1/vibcreg"))


def test_ours_alone():
    r = measure("encode", reference=False, **SMALL)
    assert r["median_ms"] > 0 and "ratio" not in r
    assert not [k for k in r if k.startswith("reference")]
    assert "encode" in repr(Measurements([r]))


@pytest.mark.slow
@by_night("a compiled prior is tested by day")
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="there is no C++ compiler")
def test_the_compiled_prior_is_measured_and_its_arithmetic_counted():
    settings = dict(reference=False, repeats=1, **SMALL)
    plain = measure("stage2", **settings)
    with torch.profiler.profile() as seen:
        compiled = measure("stage2", **{**settings, "compile": True})
    assert any("CompiledFunction" in e.key for e in seen.key_averages())
    assert compiled["compiled"] and not plain["compiled"]
    assert compiled["flops"] == plain["flops"] > 0


def test_parts_and_the_rest_make_the_whole(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def f(seconds):
        def run():
            now[0] += seconds

        return run

    parts = {"a": (f(0.25), f(0.5)), "b": (None, f(0.75))}
    built, rounds = Workload(f(1.0), f(3.0), 1, parts, "rest"), dict(repeats=3, seconds=1e9)
    assert part_times(built, ("ours", "reference"), **rounds) == {
        "parts": {"rest": 750, "a": 250},
        "reference_parts": {"rest": 1750, "a": 500, "b": 750},
    }
    assert part_times(built, ("ours",), **rounds) == {"parts": {"rest": 750, "a": 250}}


def test_files_of_earlier_versions_are_read(tmp_path):
    row = measure("stage1/naive", parts=True, repeats=1, **SMALL)
    found, new, old = Measurements([row]), tmp_path / "new.json", tmp_path / "old.json"
    found.save(new)
    assert Measurements.load(new) == found
    names = {"workload": "work"}
    names |= {k: k.replace("reference_", "textbook_") for k in row if k.startswith("reference_")}
    old.write_text(json.dumps([{names.get(k, k): v for k, v in row.items()}]), encoding="utf-8")
    assert "textbook_median_ms" in old.read_text() and '"work"' in old.read_text()
    read = Measurements.load(old)
    assert read == found and plot_parts(read[0]).axes
    assert "stage1/naive" in read._repr_markdown_() and "reference ms" in read._repr_markdown_()


def test_columns_without_a_value_are_left_out():
    row = measure("augment/gauss", reference=False, repeats=1, **SMALL)
    head = Measurements([row])._repr_markdown_().splitlines()[0]
    assert "quartiles" in head and "ratio" not in head and "MB" not in head


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workload", ["stage1/barlow", "stage2", "sample/class", "fcn"])
def test_on_a_gpu(workload):
    r = measure(workload, device="cuda", memory=workload == "stage2", repeats=3, **SMALL)
    assert r["device"] == "cuda" and r["median_ms"] > 0 and "gpu" in r["machine"]
    assert r.get("peak_memory_mb", 1) > 0
