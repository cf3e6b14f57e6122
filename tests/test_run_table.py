"""Tables of runs: what is read, what is refused, and what the pages ask of them."""

import gzip
import hashlib
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest

from ncvq_nb.evaluation.run_table import (
    RunTable,
    by_thesis,
    complete_block,
    final_losses,
    main_runs,
    mean_values,
    with_metric,
)
from toys import says

HEAD = "dataset,setting,method,augment,prior,seed,metric,reference,value"
HEAD += ",seconds,version,data,device"
STORED = Path(__file__).resolve().parents[1] / "nbs" / "results" / "thesis_runs.csv"


def line(dataset="toy", variant="naive", seed=0, value=1.0, metric="FID", reference="", prior=""):
    method, _, view = variant.partition(" ")
    setting = "-".join(filter(None, (method, view, prior)))
    key = f"{dataset},{setting},{method},{view},{prior},{seed},{metric},{reference}"
    return f"{key},{value},2.5,0.1.0,abc,cpu"


@pytest.fixture
def read(tmp_path):
    def inner(*lines, head=HEAD):
        path = tmp_path / "runs.csv"
        path.write_text("\n".join([head, *lines]) + "\n")
        return RunTable.load(path)

    return inner


def test_the_order_of_rows_does_not_matter(read):
    cells = itertools.product("ab", ("barlow warp", "naive"), (10, 2, 1))
    lines = [line(*cell, value=k) for k, cell in enumerate(cells)]
    random.Random(0).shuffle(lines)
    runs = read(*lines)
    own = runs.where(dataset="b", variant="naive")
    assert own.values("FID").tolist() == [11, 10, 9]  # seeds 1, 2 and 10
    sets, variants, means = mean_values(runs.where(dataset=["a", "b"]), "FID")
    assert variants == ["naive", "barlow warp"]
    assert means[sets.index("a")].tolist() == [4, 1]
    assert runs.seeds() == 3 and repr(runs) == "RunTable(12 runs, 12 rows)"


def test_sums_need_all_their_metrics(read):
    runs = read(line(value=1), line(metric="IS", value=2), line(seed=1, value=5))
    assert runs.values("FID", "IS").tolist() == [3]
    runs = read(line(value=1), line(metric="IS", value="nan"))
    assert runs.values("FID", "IS").size == 0 and runs.values("IS").size == 0


def test_packed_tables_and_checksums(read, tmp_path):
    runs, path = read(line()), tmp_path / "runs.csv"
    note = tmp_path / "runs.csv.sha256"
    note.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  runs.csv\n")
    assert RunTable.load(path) == runs
    note.write_text("0  runs.csv\n")
    with says("runs.csv is not what was saved", "checksum differs"):
        RunTable.load(path)
    note.unlink()
    (tmp_path / "runs.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert RunTable.load(path) == runs  # the packed one, of the same name
    (tmp_path / "runs.csv.gz").write_bytes(b"no gzip")
    with says("runs.csv.gz", "no gzip file"):
        RunTable.load(path)


def test_what_is_no_table_is_refused(read, tmp_path):
    for wrong, said in {
        line(value="x"): "could not convert",
        line(seed="one"): "invalid literal",
        line() + ",more": "more or fewer cells",
        "toy,naive": "more or fewer cells",
    }.items():
        with says("runs.csv is no table of runs", said, "'dataset', 'setting'"):
            read(wrong)
    with says("no column 'method'"):
        read("a,b,1", head="dataset,setting,seed")
    with says("two rows", "dataset 'toy'", "metric 'FID'"):
        read(line(), line(value=2))
    (tmp_path / "empty.csv").write_text("")
    with says("empty.csv", "no column 'dataset'"):
        RunTable.load(tmp_path / "empty.csv")


def test_axes_with_several_values(read):
    lines = [line(seed=s, prior="plain", value=s) for s in range(3)]
    runs = read(*lines, line(prior="full", value=9))
    with says("naive on toy", "several settings", "'naive-plain', 'naive-full'"):
        mean_values(runs, "FID")
    kept, chosen = main_runs(runs)
    assert chosen == {"prior": "plain"} and mean_values(kept, "FID")[2] == [[1]]
    assert runs.axes() == ["prior"]
    runs = read(*lines, line(variant="barlow warp", prior=""))  # to which it does not apply
    assert main_runs(runs) == (runs, {})


@pytest.mark.parametrize("seed", range(5))
def test_the_complete_block_is_the_largest_of_the_rows_patterns(seed, read):
    rng = np.random.default_rng(seed)
    there, names = rng.random((6, 4)) < 0.7, by_thesis(["naive", "barlow warp", "x", "y"])
    cells = [(f"s{i}", names[j]) for i, j in np.argwhere(there)]
    runs = read(*(line(s, v, value=k) for k, (s, v) in enumerate(cells)))
    sets, variants, block = complete_block(runs, "FID")
    assert block.shape == (len(sets), len(variants)) and np.isfinite(block).all()
    best = max(there[i].sum() * there[:, there[i]].all(1).sum() for i in range(6))
    assert block.size == best
    for i, s in enumerate(sets):
        assert [runs.values("FID", dataset=s, variant=v)[0] for v in variants] == block[i].tolist()


def test_losses_of_runs_become_a_metric(read, tmp_path):
    for setting, history in {"naive": {"loss": [1]}, "barlow-warp": {"ssl": [*range(40)]}}.items():
        place = tmp_path / "grid" / "toy" / setting / "0" / "model"
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps({"history": {"tokenizer": history}}))
    losses = final_losses(tmp_path / "grid")
    assert losses == [dict(dataset="toy", setting="barlow-warp", seed=0, value=38.5)]
    runs = read(line(), line(variant="barlow warp"))
    more = with_metric(runs, [*losses, losses[0] | dict(dataset="unknown")], "SSL loss")
    assert more.values("SSL loss").tolist() == [38.5] and len(more) == 3
    assert runs.distinct("metric") == ["FID"]
    with says("share", "0"):
        final_losses(tmp_path, share=0)
    with says("'FID' is in the table already"):
        with_metric(runs, [], "FID")


def test_an_unknown_column_is_named(read):
    with says("no column 'colour'", "'dataset'", kind=KeyError):
        read(line()).where(colour="red")
    assert RunTable().where(dataset="a") == [] and RunTable().summary() == "no runs yet"


def test_the_stored_table_can_be_read():
    runs = RunTable.load(STORED)
    assert {"reconstruction MSE", "KNN quantised", "FID"} <= {*runs.distinct("metric")}
    assert set(runs.distinct("variant")) & {"naive", "barlow warp"}
