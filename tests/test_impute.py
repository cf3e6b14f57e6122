"""`ncvq_impute`: gaps in files of every kind are completed as `impute` does it in Python."""

import csv

import numpy as np
import pytest
from toys import says, sines, tiny

from ncvq_nb.io.columns import MISSING
from ncvq_nb.io.files import read_series
from ncvq_nb.terminal.impute import impute, read_gaps

X, Y = sines(channels=2, length=16, names=["sit", "walk"])
GAPS = X.copy()
GAPS[0, 0, 3:7] = GAPS[5, 1, 10:] = np.nan


@pytest.fixture(scope="module")
def model():
    return tiny(epochs=1).fit(X, Y)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    d = tmp_path_factory.mktemp("impute")
    model.save(d / "m")
    np.savez(d / "gaps.npz", X=GAPS, y=Y)
    cells = np.where(np.isnan(GAPS), "", GAPS.astype(str)).reshape(12, -1)
    with open(d / "gaps.csv", "w", newline="") as f:
        csv.writer(f).writerows([k, *row] for k, row in zip(Y, cells))
    return d


def call(folder, data, out, *more):
    impute([str(folder / "m"), str(folder / data), "--out", str(out), *map(str, more)])


@pytest.mark.parametrize("by_label", [False, True])
def test_arrays_and_tables_are_completed_alike(folder, model, tmp_path, capsys, by_label):
    more = ["--random-state", 3, *["--by_label"] * by_label]
    call(folder, "gaps.npz", tmp_path / "a.npz", *more)
    call(folder, "gaps.csv", tmp_path / "b.csv", *more)
    assert capsys.readouterr().out.count("10 missing samples in 12 series") == 2
    want = model.impute(GAPS, Y if by_label else None, random_state=3)
    with np.load(tmp_path / "a.npz") as found:
        assert np.array_equal(found["X"], want) and found["y"].tolist() == Y.tolist()
    again, y = read_series(tmp_path / "b.csv")
    assert np.array_equal(again, want) and y.tolist() == Y.tolist(), "read back as it is"


def test_several_completions(folder, model, tmp_path, capsys):
    how = ["--n_samples", 3, "--random_state", 0]
    call(folder, "gaps.npz", tmp_path / "a.npz", *how)
    with np.load(tmp_path / "a.npz") as found:
        assert np.array_equal(found["X"], model.impute(GAPS, n_samples=3, random_state=0))
    with pytest.raises(SystemExit):
        call(folder, "gaps.npz", tmp_path / "a.csv", *how)
    assert "--n_samples needs an --out that ends in .npz" in capsys.readouterr().err


def test_every_mark_of_a_missing_sample_is_known(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("\n".join(f"1.5\t{mark.upper()}\tb" for mark in MISSING))
    found, y, _ = read_gaps(path, (1, 2), "last")
    assert np.isnan(found[:, 0, 1]).all() and (found[:, 0, 0] == 1.5).all() and set(y) == {"b"}


@pytest.mark.parametrize(
    "text, label, n",
    [
        ("a,b\n,2\n", "auto", 1),
        ("1,2\n,2\n", "auto", 2),
        ("1,2\n,2\n", None, 2),
        ("y,a,b\nk,,2\n", "auto", 1),
        ("y,a,b\nk,,2\n", "first", 1),
        ("1,1.5,3\n2,0.5,1\n1,,2\n", "auto", 3),
        ("a,kind,b\n,k,2\n", "kind", 1),
        ("id,a,b\nu1,,2\n", None, 1),
        ("1,5;7\n;2\n", "auto", 2),
    ],
)
def test_tables_of_every_form_are_read(tmp_path, text, label, n):
    (tmp_path / "x.csv").write_text(text)
    more = dict(id="id") if text.startswith("id") else {}
    found, *_ = read_gaps(tmp_path / "x.csv", (1, 2), label, **more)
    assert found.shape == (n, 1, 2)
    assert np.array_equal(found[-1, 0], [np.nan, 2], equal_nan=True)


def test_a_last_sample_that_is_missing_everywhere_is_a_sample(folder, tmp_path, model, capsys):
    cut = GAPS.copy()
    cut[:, 1, -1] = np.nan
    cells = np.where(np.isnan(cut), "", cut.astype(str)).reshape(12, -1)
    (tmp_path / "x.csv").write_text("\n".join(",".join(row) for row in cells))
    call(folder, tmp_path / "x.csv", tmp_path / "a.npz", "--random_state", 1)
    with np.load(tmp_path / "a.npz") as found:
        assert np.array_equal(found["X"], model.impute(cut, random_state=1))


def test_names_of_columns_are_those_of_the_model_and_stay(folder, tmp_path, model, capsys):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    names, flat = [f"{m}." for m in "abcdefghijklmnop"], GAPS[:, 0]
    named = tiny(epochs=1).fit(pandas.DataFrame(X[:, 0], columns=names), Y)
    named.save(tmp_path / "m")
    frame, out = pandas.DataFrame(flat, columns=names), tmp_path / "o.csv"
    frame.to_csv(tmp_path / "x.csv", index=False)
    call(tmp_path, "x.csv", out, "--random_state", 0)
    want = named.impute(frame, random_state=0)[:, 0]
    found = pandas.read_csv(out)
    assert list(found) == names and np.array_equal(found.to_numpy(np.float32), want)
    others = frame.iloc[:, ::-1], frame.iloc[:, :-1].assign(**{"k": 1})[["k", *names[:-1]]]
    for other in others:
        other.to_csv(tmp_path / "x.csv", index=False)
        with pytest.raises(SystemExit):
            call(tmp_path, "x.csv", tmp_path / "other.csv")
        assert "not those that the model was trained on" in capsys.readouterr().err


def test_long_tables_are_read(tmp_path):
    text = "who,when,left,right\na,1,1,2\na,2,,4\nb,1,5,6\nb,2,7,8\n"
    (tmp_path / "x.csv").write_text(text)
    long = dict(id="who", time="when", value=["left", "right"])
    found, y, _ = read_gaps(tmp_path / "x.csv", (2, 2), **long)
    want = [[[1, np.nan], [2, 4]], [[5, 7], [6, 8]]]
    assert y is None and np.array_equal(found, want, equal_nan=True)


@pytest.mark.parametrize("kind", ["long", "wide", "two"])
def test_identifiers_stand_beside_what_was_completed(folder, model, tmp_path, kind):
    names = [f"{i:02}" for i in (7, 12, 1, 4, 30, 9, 2, 5, 11, 3, 8, 6)]
    cells = np.where(np.isnan(GAPS), "", GAPS.astype(str))
    head, rows = ["who", *(f"t{i}" for i in range(32))], []
    rows = [[k, *x.ravel()] for k, x in zip(names, cells)]
    asked, want = ["--id", "who"], [[k] for k in names]
    if kind == "long":
        head, asked = ["who", "t", "u", "v"], [*asked, "--time", "t"]
        rows = [[k, t, *x[:, t]] for t in range(16) for k, x in zip(names, cells)]
    elif kind == "two":
        head, asked = ["day", *head], [*asked, "day"]
        rows, want = [["mo", *r] for r in rows], [[k, "mo"] for k in names]
    with open(tmp_path / "x.csv", "w", newline="") as f:
        csv.writer(f).writerows([head, *rows])
    for out in (tmp_path / "a.npz", tmp_path / "a.csv"):
        call(folder, tmp_path / "x.csv", out, *asked, "--random_state", 3)
    full = model.impute(GAPS, random_state=3)
    with np.load(tmp_path / "a.npz") as found:
        assert found["ids"].tolist() == (want if kind == "two" else names)
        assert np.array_equal(found["X"], full)
    head, *rows = csv.reader((tmp_path / "a.csv").open())
    k = len(want[0])
    assert head[:k] == asked[1 : 1 + k] and [r[:k] for r in rows] == want
    values = np.array([r[k:] for r in rows], np.float32)
    assert np.array_equal(values, full.reshape(12, -1))


@pytest.mark.parametrize(
    "text, label, said",
    [
        ("1,2,3\n", None, "its series have 1 x 3 samples (no labels;"),
        ("1,2,3\n2,3,4\n", "first", "but those of the model have 1 x 3"),
        ("k,1,\n\nk,1\n", "first", "line 3: 2 values"),
        ("1,2\n1,x\n", None, "line 2: value 2 of the series is 'x'"),
        ("1,2\n1,x\n", "auto", "line 2: value 2 of the series is 'x'"),
        ("", None, "is empty"),
    ],
)
def test_other_tables_are_refused_by_line(tmp_path, text, label, said):
    (tmp_path / "x.csv").write_text(text)
    with says("x.csv", said):
        read_gaps(tmp_path / "x.csv", (1, 3 if label == "first" else 2), label)


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "z.npz", Z=X)
    (tmp_path / "x.xls").write_text("x")
    for name, said in (("z.npz", "neither 'X' nor 'X_train'"), ("x.xls", "cannot read '.xls'")):
        with says(name, said):
            read_gaps(tmp_path / name, (1, 2))
    with says("no.csv", kind=FileNotFoundError):
        read_gaps(tmp_path / "no.csv", (1, 2))


def test_mistakes_are_said_in_one_line(folder, tmp_path, capsys):
    np.savez(folder / "bare.npz", X=GAPS)
    with pytest.raises(SystemExit):
        call(folder, "bare.npz", tmp_path / "a.npz", "--by_label")
    assert "ncvq_impute: --by_label needs labels" in capsys.readouterr().err


@pytest.mark.parametrize("label", [False, True])
def test_series_shorter_than_the_models_longest(tmp_path, capsys, label):
    unequal = [x[0, : 10 + i % 7] for i, x in enumerate(X)]
    known = tiny(epochs=1).fit(unequal, Y)
    known.save(tmp_path / "m")
    short = X[:4, 0, :12].copy()
    short[0, 3:5] = short[1, 9:] = np.nan
    cells = np.where(np.isnan(short), "", short.astype(str))
    with open(tmp_path / "short.csv", "w", newline="") as f:
        csv.writer(f).writerows([[k, *row] if label else row for k, row in zip(Y, cells)])
    none = [] if label else ["--label", "none"]
    call(tmp_path, "short.csv", tmp_path / "whole.csv", "--random_state", 0, *none)
    assert "2 missing samples in 4 series" in capsys.readouterr().out
    found, _ = read_series(tmp_path / "whole.csv")
    want = known.impute(short, random_state=0)[..., :12]
    assert found.shape == (4, 1, 12) and np.array_equal(found, want, equal_nan=True)
    assert np.isnan(want).sum() == 3 and np.isnan(want[1, 0, 9:]).all(), "there it ends"
    if not label:
        with pytest.raises(SystemExit):
            call(tmp_path, "short.csv", tmp_path / "again.csv")
        assert "no column looks like labels" in capsys.readouterr().err
    tiny(epochs=1).fit(X[:, :1], Y).save(tmp_path / "m")  # of equal lengths
    with pytest.raises(SystemExit):
        call(tmp_path, "short.csv", tmp_path / "again.csv")
    assert "but those of the model have 1 x 16" in capsys.readouterr().err
