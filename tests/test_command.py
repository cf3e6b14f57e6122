"""`ncvq_bench`, the command."""

import json
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import torch

from ncvq_nb.bench import command, measurements
from ncvq_nb.bench.measurements import Measurements, measure
from ncvq_nb.bench.scaling import thesis_hours
from ncvq_nb.bench.workloads import STEPS, WORKLOADS

FAST = "--batch 4 --length 32 --repeats 1 --matmul 64 --samples 4 --device cpu --no-memory".split()


def call(*argv):
    try:
        command.main([str(a) for a in argv])
    except SystemExit as e:
        return e.code or 0
    return 0


def row_of(workload, **changes):
    "A measurement, made up."
    row = measure("augment/gauss", batch=4, length=32, repeats=1, matmul=64, reference=False)
    return {**row, "workload": workload, **changes}


def test_json_has_one_object_per_measurement(tmp_path, capsys):
    out = tmp_path / "bench.json"
    names = ("stage1/naive", "encode", "augment/slice")
    assert call("--workload", *names, *FAST, "--precision", "both", "--json", out) == 0
    rows = json.loads(out.read_text())
    assert [(r["workload"], r["precision"]) for r in rows] == [
        ("stage1/naive", "float32"),
        ("stage1/naive", "bfloat16"),
        ("encode", "float32"),
        ("augment/slice", "float32"),
    ]
    wanted = "workload batch length device median_ms flops spread_ms precision threads machine"
    wanted = {*wanted.split(), "reference_median_ms", "ratio", "matmul_fraction"}
    for r in rows:
        assert wanted <= set(r) and r["median_ms"] > 0 and isinstance(r["flops"], int)
        assert (r["batch"], r["length"], r["device"]) == (4, 32, "cpu")
    again = Measurements.load(out)
    assert again == rows and len(repr(again).splitlines()) == 5
    text = capsys.readouterr().out
    assert torch.__version__ in text and "of matmul" in text and str(out) in text
    assert re.search(r"^stage1/naive .*bfloat16", text, re.M)


def test_a_file_is_there_after_every_measurement(tmp_path, monkeypatch):
    out, n = tmp_path / "bench.json", []

    def third_fails(workload, **kw):
        n.append(workload)
        if len(n) == 3:
            raise KeyboardInterrupt
        return row_of(workload)

    monkeypatch.setattr(measurements, "measure", third_fails)
    assert call("--workload", "encode", "decode", "augment/warp", *FAST, "--json", out) == 130
    assert [r["workload"] for r in json.loads(out.read_text())] == ["encode", "decode"]


def test_the_environment_is_reported(monkeypatch, capsys):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "8589934592")
    assert call("--workload", "augment/gauss", *FAST) == 0
    assert "MALLOC_TRIM_THRESHOLD_=8589934592" in capsys.readouterr().out


@pytest.fixture
def asked(monkeypatch):
    "What `benchmark` was called with; it measures nothing."
    calls = []

    def fake(each, **kw):
        calls.append(kw)
        return Measurements()

    monkeypatch.setattr(command, "benchmark", fake)
    return calls


def test_quick_is_a_choice_of_workloads_and_limits(asked):
    own = "--length 64 --repeats 7 --precision bfloat16 --memory".split()
    assert call("--quick") == call() == call("--quick", *own) == 0
    quick, full, own = asked
    assert full["workloads"] is None and full["lengths"] == (140, 500, 1024)
    assert full["memory"] and full["reference"] and full["repeats"] == 10
    assert full["precision"] is full["compile"] is full["devices"] is None
    assert quick["lengths"] == (140,) and quick["batch"] == 128 and not quick["memory"]
    assert quick["precision"] is None and quick["compile"] is False
    assert set(quick["workloads"]) == set(WORKLOADS) - {"sample/class", "probes", "fcn"}
    assert (own["lengths"], own["repeats"], own["precision"]) == ((64,), 7, "bfloat16")
    assert own["memory"]


def test_options_of_earlier_versions_are_understood(asked, capsys):
    assert call("--work", "encode", "stage2", "--no-textbook") == call("--textbook") == 0
    assert asked[0]["workloads"] == ["encode", "stage2"] and asked[0]["reference"] is False
    assert asked[1]["workloads"] is None and asked[1]["reference"] is True
    capsys.readouterr()
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert "textbook" not in text and not re.search(r"--work\b", text)
    assert "--reference" in text and "--workload" in text


def test_the_grid_of_the_thesis_is_told_once(monkeypatch, capsys):
    "Once for each device, and only where all four steps were measured in one precision."
    rows = [row_of(w, length=140, batch=128, median_ms=100.0) for w in (*STEPS, "encode")]
    todo = []

    def fake(each, **kw):
        found = Measurements()
        for r in todo:
            found.append(r)
            each(found)
        return found

    monkeypatch.setattr(command, "benchmark", fake)

    def lines(*measured):
        todo[:] = measured
        assert call("--quick") == 0
        return re.findall("^the thesis' grid on .*", capsys.readouterr().out, re.M)

    (line,) = lines(*rows)
    hours = f"{thesis_hours(rows)['stage 1']:,.3g} hours of stage 1, "
    assert line.startswith(f"the thesis' grid on cpu at this speed, one run after another: {hours}")
    other = [{**r, "device": "cuda"} for r in rows]
    assert [l.split()[4] for l in lines(*rows, *other)] == ["cpu", "cuda"]
    assert not lines(*rows[1:]) and not lines({**rows[0], "precision": "bfloat16"}, *rows)
    assert not lines(*({**r, "batch": 64} for r in rows))


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--workload", "stage3"], ["workload", "'stage3'", "stage1/naive"]),
        (["--batch", 1], ["batch", "at least 2", "1"]),
        (["--length", 4], ["length", "at least 8", "4"]),
        (["--device", "abacus"], ["device", "abacus"]),
        (["--precision", "float16"], ["precision", "'both'", "float16"]),
        (["--repeats", 0], ["repeats", "0"]),
        (["--seconds", -1], ["seconds", "-1"]),
        (["--samples", 0], ["n_samples", "0"]),
        (["--matmul", 0], ["matmul", "0"]),
        (["--json", "."], ["is a folder, where a file was to be written"]),
    ],
)
def test_an_error_is_one_line_before_anything_is_measured(argv, said, capsys, monkeypatch):
    monkeypatch.setattr(measurements, "measure", lambda *a, **kw: pytest.fail("was measured"))
    assert call(*argv) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and len(err.strip().splitlines()) == 1
    assert err.startswith("ncvq_bench: ") and all(s in err for s in said)


def test_help_teaches(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    for workload in WORKLOADS:
        assert re.search(rf"^  {workload} +\w", text, re.M)
    options = text.split("examples:")[0]
    for line in re.findall(r"^  ncvq_bench(.*)$", text, re.M):
        for option in re.findall(r"(?<= )--?[a-z_-]+", line):
            assert re.search(rf"{option.replace('--no-', '--')}\b", options), option
    assert all(s in text for s in ("OMP_NUM_THREADS", "MALLOC_", "quiet machine"))
    assert "%%" not in text and max(map(len, text.splitlines())) <= 100
    assert call("--no_such_option") == 2


def test_the_command_is_installed_under_its_name():
    ini = ConfigParser(delimiters=["="], interpolation=None)
    ini.read(Path(__file__).resolve().parents[1] / "settings.ini", encoding="utf-8")
    scripts = ini["DEFAULT"]["console_scripts"].split()
    assert "ncvq_bench=ncvq_nb.bench.command:main" in scripts


@pytest.mark.parametrize("text", ["mine", "[1, 2]", '{"a": 1}', '[{"a": 1}]', ""])
def test_a_file_of_something_else_is_kept(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measurements, "measure", lambda *a, **kw: pytest.fail("was measured"))
    (file := tmp_path / "notes.json").write_text(text)
    assert call("--workload", "encode", *FAST, "--json", file) == 2
    assert "holds something else than measurements" in capsys.readouterr().err
    assert file.read_text() == text
