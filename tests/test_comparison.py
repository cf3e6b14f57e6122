"""Comparisons: intervals beside SciPy's, published tables as they are stored, and words."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp, ttest_ind

from ncvq_nb.evaluation.comparison import (
    Difference,
    Estimate,
    as_runs,
    difference_table,
    differences,
    mean_difference,
    mean_estimate,
    read_published,
    replication,
    side_by_side,
    verdict,
)
from ncvq_nb.evaluation.run_table import THESIS_ORDER, RunTable
from toys import says

STORED = Path(__file__).resolve().parents[1] / "nbs" / "results" / "thesis_tables.csv"


@pytest.fixture(scope="module")
def published():
    return read_published(STORED)


def runs_of(values, metric="KNN"):
    "A table of runs from {(data set, variant): values}."
    return RunTable(
        dict(dataset=d, setting=v, variant=v, seed=i, metric=metric, reference="", value=x)
        for (d, v), found in values.items()
        for i, x in enumerate(found)
    )


@pytest.mark.parametrize("n, m, confidence", [(2, 2, 0.95), (4, 4, 0.9), (3, 9, 0.99)])
def test_intervals_are_those_of_scipy(n, m, confidence):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=n), rng.normal(1, 3, size=m)
    found = mean_estimate(a, confidence)
    assert found[1:3] == pytest.approx(ttest_1samp(a, 0).confidence_interval(confidence))
    found = mean_difference(a, b, confidence)
    welch = ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    assert found[1:3] == pytest.approx(welch) and found.value == a.mean() - b.mean()


def test_no_spread_no_interval():
    for found in (mean_estimate([1.0]), mean_estimate([2.0, 2]), mean_difference([1], [1, 2])):
        assert np.isnan(found.low) and np.isnan(found.high) and not found.is_clear
    assert np.isnan(mean_estimate([]).value) and mean_difference([], [1.0]).n == 0
    for how in ("mean", "max", "min"):
        assert np.isnan(replication([1.0], how=how).low) and replication([1.0], how=how).value == 1
        assert np.isnan(replication([], how=how).value)


def test_many_runs_of_ours_make_the_best_of_four_known():
    "With the mean and spread known, the maximum of m has the distribution Φ(x)^m."
    v = np.random.default_rng(0).normal(size=4000)
    v = (v - v.mean()) / v.std(ddof=1)
    low, high = norm.ppf(np.array([0.025, 0.975]) ** (1 / 4))
    assert replication(v, how="max")[1:3] == pytest.approx((low, high), abs=0.06)
    assert replication(v, how="min")[1:3] == pytest.approx((-high, -low), abs=0.06)
    assert replication(v)[1:3] == pytest.approx((-0.98, 0.98), abs=0.01)


def test_the_stored_tables_are_the_thesis(published):
    cells = {(r["table"], r["metric"], r["dataset"], r["variant"]): r for r in published}
    assert len(cells) == len(published) == 11 * 13 * 7
    assert {r["variant"] for r in published} == {*THESIS_ORDER}
    wrong = [k for k, r in cells.items() if r["value"] != r["right"]]
    assert len(wrong) == 13 and sum(k[0] == 4 for k in wrong) == 7
    assert cells[4, "KNN", "Mallat", "naive"]["right"] == 0.74
    assert cells[7, "CAS", "FordA", "vibcreg slice"]["right"] == 0.895
    assert cells[1, "val_loss", "FordA", "naive"]["value"] == 0.217
    better = [(2, 1, "val_loss", "lower"), (4, 3, "KNN", "higher"), (4, 3, "SVM", "higher")]
    better += [(5, 6, "FID", "lower"), (5, 6, "IS", "higher")]
    for best, mean, metric, way in better:  # the best of four runs is no worse than their mean
        for _, _, dataset, variant in [k for k in cells if k[:2] == (best, metric)]:
            gain = cells[best, metric, dataset, variant]["right"]
            gain -= cells[mean, metric, dataset, variant]["right"]
            assert (gain if way == "higher" else -gain) > -0.011, (best, dataset, variant)


def lines_of(text, dataset):
    "The cells of a data set's lines."
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if "|" in x]
    i = next(i for i, x in enumerate(lines) if x[0] == dataset)
    return [lines[i], *[x for x in lines[i + 1 : i + 3] if not x[0]]]


def test_side_by_side(published):
    runs = runs_of({("Mallat", "naive"): [0.74, 0.74], ("Mallat", "barlow warp"): [0.1, 0.12]})
    text = side_by_side(runs, published, 4, "KNN", "KNN", how="max")
    printed, ours, differ = lines_of(text, "Mallat")
    assert printed[2:4] == ["0.54†", "0.57†"] and ours[2:5] == ["0.740", "0.120", ""]
    assert differ[2] == "0" and differ[4:] == [""] * 5
    assert differ[3].startswith("−0.660 (") and differ[3].endswith("*") == ("… −" in differ[3])
    assert "Mallat barlow slice" in text and "Mallat naive 0.740" in text
    assert lines_of(text, "FordA")[1] == ["", "ours: not computed", *[""] * 7]
    missing = text[text.index("Not computed") :]
    assert "FordA" in missing and "Mallat naive" not in missing
    with says("no table 4 of 'CAS'", kind=KeyError):
        side_by_side(runs, published, 4, "CAS", "CAS")
    assert "nothing" not in side_by_side(RunTable(), published, 7, "CAS", "CAS")


def test_differences_count_data_sets():
    rng = np.random.default_rng(0)
    shift = {"a": 1.0, "b": 2.0, "c": 0.0, "d": -3.0}
    cells = {(d, "naive"): 5 + 0.1 * rng.normal(size=4) for d in shift}
    cells |= {(d, "barlow warp"): 5 + s + 0.1 * rng.normal(size=4) for d, s in shift.items()}
    cells["e", "naive"] = [1.0, 2.0]
    (d,) = differences(runs_of(cells), "KNN")
    assert (d.higher, d.lower, d.unclear, d.mean.n) == (2, 1, 1, 4)
    each = [cells[s, "barlow warp"].mean() - cells[s, "naive"].mean() for s in shift]
    assert d.mean[:3] == pytest.approx(
        (np.mean(each), *ttest_1samp(each, 0).confidence_interval())
    )
    assert "better in 2 and as worse in 1" in verdict([d], "KNN")
    assert "better in 1 and as worse in 2" in verdict([d], "FID", "lower")
    assert "better: none; worse: none" in verdict([d], "KNN")
    (r,) = differences(runs_of(cells), "KNN", ratio=True)
    a, b = (np.mean([np.log(cells[s, v]).mean() for s in shift]) for v in ("barlow warp", "naive"))
    assert r.mean.value == pytest.approx(np.exp(a - b) - 1)
    text = difference_table(runs_of(cells), {"KNN": "KNN", "CAS": "CAS"})
    assert text.splitlines()[-1].endswith("; 2 higher, 1 lower of 4 | – |")


def test_words_name_what_is_better():
    up = [(v, Estimate(0.2, 0.1, 0.3, 5)) for v in ("barlow warp", "$x$ *y*")]
    found = [Difference(v, e, 5, 0, 0) for v, e in up]
    found.append(Difference("naive2", Estimate(-0.2, -0.3, -0.1, 5), 0, 5, 0))
    text = verdict(found, "KNN")
    assert "5 data sets, better: barlow warp, " in text and "worse: naive2" in text
    assert "$x$ *y*" not in text  # written as Markdown shows it
    assert "better: naive2" in verdict(found, "FID", "lower", "b")
    assert verdict([], "CAS") == "CAS: not computed."


def test_published_means_as_runs(published):
    runs = as_runs(published)
    assert len(runs) == 6 * 13 * 7
    assert runs.values("SVM", dataset="TwoPatterns", variant="barlow gauss").tolist() == [0.73]
    assert all(d.mean.n == 13 and d.unclear == 13 for d in differences(runs, "CAS"))


def test_bad_input_is_named(tmp_path):
    with says("values must be a row of finite numbers"):
        mean_estimate([[1.0]])
    with says("confidence must be between 0 and 1", "95"):
        mean_difference([1], [2], 95)
    with says("how must be one of 'mean', 'max', 'min'", "'best'"):
        replication([1, 2], how="best")
    for m in (0, -1, 2.5):
        with says("m must be a whole number of at least 1", str(m)):
            replication([1, 2], m=m)
    path = tmp_path / "p.csv"
    head = "table,aggregate,dataset,method,augmentation,metric,value"
    path.write_text(f"# remark\n{head}\n1,mean,a,b,c,d,x\n")
    with says("p.csv holds no published table", "could not convert"):
        read_published(path)
