"""Tables of grids: medians over seeds, files and their checksums, pictures."""

import hashlib
import os
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ncvq_nb import Report, Results
from ncvq_nb.drawing.style import save_figure
from ncvq_nb.evaluation.report import ReferenceValue, Row
from ncvq_nb.evaluation.results import note_axes
from ncvq_nb.grids.declared import read_grid
from toys import posix, says

KEYS = "dataset,setting,seed,FID"
STORED = Path(__file__).resolve().parents[1] / "nbs" / "results"


def rows(**metrics):
    "One run per value, of one data set and setting."
    n = max(map(len, metrics.values()))
    return Results(
        dict(dataset="toy", setting="small", seed=i, **{k: v[i] for k, v in metrics.items()})
        for i in range(n)
    )


def cell(folder, seed, *found, setting="small"):
    "The folder of a cell that is done."
    place = folder / "toy" / setting / str(seed)
    place.mkdir(parents=True)
    if found:
        Report(f"run {seed}", list(found)).save(place / "report")
    return place


def test_medians_and_ranges_are_those_of_numpy():
    FID = np.random.default_rng(0).normal(size=5).tolist()
    (found,) = rows(FID=FID).summary("FID")
    assert found == dict(
        dataset="toy", setting="small", n=5, FID=(float(np.median(FID)), min(FID), max(FID))
    )
    text = rows(FID=[1.0, 2.0, 4.0], IS=[3.0, 3.0, 3.0]).table()
    assert text.splitlines()[-1] == "| toy | small | 3 | 2 (1–4) | 3 |"


def test_values_that_are_missing_or_no_numbers_are_left_out():
    r = rows(FID=[1.0, float("nan"), 3.0], IS=[float("nan"), float("inf"), None])
    assert r.summary()[0] | {} == dict(
        dataset="toy", setting="small", n=3, FID=(2.0, 1.0, 3.0), IS=None
    )
    assert r.table("IS").splitlines()[-1] == "| toy | small | 3 | – |"
    del r[1]["FID"]
    assert r.summary("FID")[0]["FID"] == (2.0, 1.0, 3.0)
    r.plot("FID", "IS")


def test_the_tidy_table_has_a_row_for_each_run_metric_and_reference(tmp_path):
    floor = ReferenceValue("floor", 0.25, "real train")
    place = cell(tmp_path, 0, Row("FID", 1.5, references=(floor,)), Row("IS", float("nan")))
    report = Report.load(place / "report")
    report.settings |= dict(tokenizer_seconds=2.0, prior_seconds=1.5, version="0.1", device="cpu")
    report.settings["cell"] = dict(data="0123456789abcdef")
    report.save(place / "report")
    cell(tmp_path, 1, Row("FID", 2.5), setting="older")  # before any of this was noted
    note_axes(tmp_path, {"small": dict(method="naive", width="8")})
    with pytest.raises(ValueError, match="axes of 'small' have 'seed', which the table"):
        note_axes(tmp_path, {"small": dict(seed="b")})
    found = Results.read(tmp_path)
    found.save_tidy(tmp_path / "tidy.csv")
    head, *lines = (tmp_path / "tidy.csv").read_text().splitlines()
    assert head == (
        "dataset,setting,method,augment,prior,width,seed,metric,reference,value,"
        "seconds,version,data,device"
    )
    known = "3.5,0.1,0123456789abcdef,cpu"
    assert lines == [
        "toy,older,,,,,1,FID,,2.5,,,,",
        f"toy,small,naive,,,8,0,FID,,1.5,{known}",
        f"toy,small,naive,,,8,0,FID,floor,0.25,{known}",
        f"toy,small,naive,,,8,0,IS,,,{known}",
    ]
    digest = hashlib.sha256((tmp_path / "tidy.csv").read_bytes()).hexdigest()
    assert (tmp_path / "tidy.csv.sha256").read_text() == f"{digest}  tidy.csv\n"
    assert [r["value"] for r in found.tidy()][:3] == [2.5, 1.5, 0.25]
    stored = Results.load(STORED / "quality.csv")  # of a table, which knows no more than itself
    assert len(stored.tidy()) == sum(len(r) - 3 for r in stored)


def test_reports_become_rows(tmp_path):
    floor = ReferenceValue("floor", 0.25, "real train")
    cell(tmp_path, 0, Row("FID", 1.5, references=(floor,)), Row("IS", 1.25))
    cell(tmp_path, 1, Row("FID", 0.5))
    (cell(tmp_path, 2) / "error.txt").write_text("Traceback\n  …\nValueError: ssl is 'x'\n")
    damaged = cell(tmp_path, 3, Row("FID", 1.0)) / "report.json"
    damaged.write_text(damaged.read_text()[:-9])
    with pytest.warns(UserWarning, match="left out"):
        found = Results.read(tmp_path)
    first = dict(dataset="toy", setting="small", seed=0, FID=1.5, IS=1.25)
    assert list(found) == [
        first | {"FID, floor": 0.25},
        dict(dataset="toy", setting="small", seed=1, FID=0.5),
    ]
    assert found.failed == {"toy/small/2": "ValueError: ssl is 'x'"}
    assert repr(found) == "Results(2 runs, 1 failed)"
    assert "FID, floor" not in found.table() and "FID, floor" in found.metrics
    assert found.table("FID, floor").splitlines()[2] == "| toy | small | 2 | 0.25 |"
    assert found._repr_markdown_().endswith("\n\ntoy/small/2 failed: ValueError: ssl is 'x'")


def test_groups_keep_their_order_and_names_are_safe_in_a_table():
    r = Results(
        dict(dataset=d, setting=s, seed=0, FID=1.0)
        for d, s in (("b", "y"), ("a", "x|z"), ("b", "<b>"))
    )
    assert [(g["dataset"], g["setting"]) for g in r.summary()] == [
        ("b", "y"),
        ("a", "x|z"),
        ("b", "<b>"),
    ]
    lines = r.table().splitlines()
    assert "x\\|z" in lines[3] and "&lt;b&gt;" in lines[4]


def test_unknown_metrics_and_empty_results_are_said():
    with says("'FIT' is no metric", "'FID'", kind=KeyError):
        rows(FID=[1.0]).summary("FID", "FIT")
    with says("'FIT' is no metric", kind=KeyError):
        rows(FID=[1.0]).table("FIT")
    with says("nothing to plot"):
        Results().plot()
    assert Results().table() == "no results yet" and Results().summary() == []


def test_a_table_comes_back_to_the_bit(tmp_path):
    value = [0.1 + 0.2, 1e-300, float("nan")]
    r = rows(**{"FID": value, "FID, floor": [1 / 3] * 3})
    del r[1]["FID, floor"]
    r.save(tmp_path / "t.csv")
    back = Results.load(tmp_path / "t.csv")
    assert [row["FID"] for row in back][:2] == value[:2] and np.isnan(back[2]["FID"])
    assert np.isnan(back[1]["FID, floor"]) and back[1]["seed"] == 1
    assert back.summary() == r.summary() and back.failed == {}
    digest, name = (tmp_path / "t.csv.sha256").read_text().split()
    assert (digest, name) == (
        hashlib.sha256((tmp_path / "t.csv").read_bytes()).hexdigest(),
        "t.csv",
    )


def test_damaged_tables_are_refused(tmp_path):
    rng, path = random.Random(1), tmp_path / "t.csv"
    rows(FID=[1.25]).save(path)
    good = path.read_bytes()
    for _ in range(100):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        for content in (bytes(bad), good[: rng.randrange(len(good))]):
            path.write_bytes(content)
            with says(str(path), "checksum"):
                Results.load(path)
    path.with_name("t.csv.sha256").unlink()
    path.write_bytes(good.replace(b"1.25", b"1.5"))
    assert Results.load(path)[0]["FID"] == 1.5  # the user's own table


@pytest.mark.parametrize("name, n, seeds", [("defaults", 28, 3), ("quality", 9, 3)])
def test_tables_of_before_are_read(name, n, seeds):
    r = Results.load(STORED / f"{name}.csv")
    assert len(r) == n and {"FID", "FID, floor", "CAS, ceiling", "near copies"} <= set(r.metrics)
    found = r.summary("FID")
    of_one = {"ShapesAll"}  # a run is dear
    assert all(g["n"] == (1 if g["dataset"] in of_one else seeds) for g in found)
    assert all(g["FID"][1] <= g["FID"][0] <= g["FID"][2] for g in found)


def test_parts_and_sums_are_results(tmp_path):
    with says("folder", "is not there", kind=FileNotFoundError):
        Results.read(tmp_path / "nothing")
    rows(FID=[1.0]).save(tmp_path / "t.csv")
    with says("t.csv is a file: Results.load(path)", kind=NotADirectoryError):
        Results.read(tmp_path / "t.csv")
    with says("is a folder: Results.read(folder)"):
        Results.load(tmp_path)
    for call, name in (
        (Results.load, "path"),
        (Results.read, "folder"),
        (Results().save, "path"),
        (Results().save_tidy, "path"),
        (Report.load, "path"),
        (Report("x").save, "path"),
        (read_grid, "path"),
        (partial(save_figure, None), "path"),
    ):
        for wrong in (None, 3, ["a"]):
            with says(f"{name} must be the path of ", f"found {type(wrong).__name__}"):
                call(wrong)
    deep = tmp_path / "set" / "default" / "0" / "report.json"
    deep.parent.mkdir(parents=True)
    deep.touch()
    with pytest.warns(UserWarning, match=r"set is no folder of a grid: .* is not in DATA SET"):
        assert not Results.read(tmp_path / "set")
    a, b = rows(FID=[1.0, 2.0, float("nan")]), rows(FID=[5.0])
    b[0]["seed"], a.axes = 9, {"small": {"method": "x"}}
    assert isinstance(a[:1], Results) and a[:1].axes == a.axes and len(a[:1]) == 1
    whole = a + b + a[1:]
    assert [r["seed"] for r in whole] == [0, 1, 2, 9] and whole.axes == a.axes
    with says("in both, with other figures"):
        a + rows(FID=[1.5])
    Results().failed["x"] = "y"
    assert not Results().failed


def test_the_pictures_show_every_run(tmp_path):
    r = rows(FID=[1.0, 2.0, 4.0], IS=[3.0, 3.0, 3.5])
    r += [{**row, "dataset": "other", "FID": None} for row in r]
    fig = r.plot("FID", "IS")
    first, second = fig.axes[:2]
    dots = [line.get_xdata().tolist() for line in first.lines if line.get_marker() == "o"]
    bars = [line.get_xdata()[0] for line in second.lines if line.get_marker() != "o"]
    assert dots == [[1.0, 2.0, 4.0], []] and bars == [3.0, 3.0]
    assert [t.get_text() for t in first.get_yticklabels()] == ["toy · small", "other · small"]
    assert [ax.get_title() for ax in fig.axes] == ["FID", "IS"]


@posix
def test_only_files_of_a_bounded_size_are_read(tmp_path, monkeypatch):
    path, note = tmp_path / "t.csv", tmp_path / "t.csv.sha256"
    rows(FID=[1.0]).save(path)
    note.unlink()
    os.mkfifo(note)
    with says("t.csv.sha256", "pipe"):
        Results.load(path)
    note.unlink()
    with open(path, "wb") as f:
        f.truncate(2**24 + 1)
    with says("t.csv", "larger than 16,777,216 bytes"):
        Results.load(path)
    path.unlink()
    os.mkfifo(path)
    with says("t.csv", "pipe"):
        Results.load(path)
    os.mkfifo(cell(tmp_path, 0) / "report.json")
    (cell(tmp_path, 1) / "error.txt").write_text("x" * 10**6)
    (cell(tmp_path, 2) / "error.txt").write_text("")
    with pytest.warns(UserWarning, match="pipe.*left out"):
        found = Results.read(tmp_path)
    assert not found and [*found.failed] == ["toy/small/1", "toy/small/2"]
    assert 900 < len(found.failed["toy/small/1"]) < 1100


def test_what_is_no_table_of_results_is_named(tmp_path):
    path, texts = tmp_path / "t.csv", ["a,b\n1,2\n", "FID\n1\n", '"' + "x" * 200_000]
    texts += [f"{KEYS}\nd,s,{rest}\n" for rest in ("x,1", "0,z", "0,1,2", "0")]
    for content in (b"\xff\xfe", *map(str.encode, texts)):
        path.write_bytes(content)
        with says("t.csv is no table of results"):
            Results.load(path)
