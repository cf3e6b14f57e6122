"""Tables of every layout, with header and without, and what is no table of series."""

import csv

import numpy as np
import pytest
from fuzzing import REFUSED, fuzz, series, tried
from hypothesis import assume
from hypothesis import strategies as st
from toys import says

from ncvq_nb.io.archive import load_ucr
from ncvq_nb.io.files import read_series

rng = np.random.default_rng(0)
GUN = load_ucr("GunPoint")


def write_table(path, X, y, delimiter=",", last=False, header=None):
    "Series (n, 1, length) as rows, with their labels first, last, or without (`y` None)."
    rows = X[:, 0].tolist()
    if y is not None:
        rows = [[*x, k] if last else [k, *x] for x, k in zip(rows, y.tolist())]
    lines = [delimiter.join(map(str, row)) + "\n" for row in [*([header] if header else []), *rows]]
    path.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", " ", "  "])
@pytest.mark.parametrize("kind", ["first", "last", "none", "header", "text last", "named"])
def test_tables(tmp_path, delimiter, kind):
    X, y, f, ask = GUN.X_train[:12], GUN.y_train[:12], tmp_path / "a.csv", {}
    names, header = [f"t{i}" for i in range(150)], None
    last = kind in ("last", "header", "text last")
    if kind == "last":
        ask = dict(label="last")
    if kind == "none":
        y, ask = None, dict(label=None)
    if kind == "header":
        header = [*names, "Class"]
    if kind == "text last":
        y = np.where(y == 1, "gun", "point")
    if kind == "named":
        header, ask = ["gesture", *names], dict(label="gesture")
    write_table(f, X, y, delimiter, last, header)
    X_read, y_read = read_series(f, **ask)
    np.testing.assert_array_equal(X_read, X)
    np.testing.assert_array_equal(y_read, y)


def test_tables_by_pandas(tmp_path):
    pd = pytest.importorskip("pandas")
    X, y, f = GUN.X_train[:12, 0], GUN.y_train[:12], tmp_path / "a.csv"
    frame = pd.DataFrame(X)
    frame.to_csv(f, index=False)  # header 0, 1, 2, …
    np.testing.assert_array_equal(read_series(f, label=None)[0][:, 0], X)
    frame.insert(0, "label", y)
    frame.to_csv(f, index=False, encoding="utf-8-sig")  # as spreadsheets write it
    X_read, y_read = read_series(f)
    np.testing.assert_array_equal(X_read[:, 0], X)
    np.testing.assert_array_equal(y_read, y)
    frame.to_csv(f)
    np.testing.assert_array_equal(read_series(f)[0], X_read)  # without the index
    np.testing.assert_array_equal(read_series(f, label="label")[1], y)
    frame.iloc[::-1].to_csv(f)
    for label in ("auto", "label", None):
        with says("a.csv", "index=False"):
            read_series(f, label=label)
    frame.drop(columns="label").to_csv(f)
    np.testing.assert_array_equal(read_series(f, label=None)[0], X_read)
    pd.DataFrame(np.c_[y, X]).to_csv(f, index=False)
    np.testing.assert_array_equal(read_series(f)[1], y)


# The header


@pytest.mark.parametrize(
    "text, X, y",
    [
        # a ramp among whole numbers
        ("0,0,1,2,3\n1,4,5,6,7\n", [[0, 1, 2, 3], [4, 5, 6, 7]], [0, 1]),
        # yes and no, not a column called y, even where its first series is a ramp
        ("y,.5,.25,1\nn,.5,.5,2\ny,3,.5,3\n", [[0.5, 0.25, 1], [0.5, 0.5, 2], [3, 0.5, 3]], "yny"),
        ("y,.2,.3,.4\nn,.5,.5,2\ny,1,2,3\n", [[0.2, 0.3, 0.4], [0.5, 0.5, 2], [1, 2, 3]], "yny"),
        ("y,0.5,0.25\nn,0.5,0.5\n", [[0.5, 0.25], [0.5, 0.5]], "yn"),
        # nor a label beside one value
        ("a,0.5\nb,0.25\n", [[0.5], [0.25]], "ab"),
        # but time in seconds beside the word label
        ("label,0.0,0.5,1.0\n1,7,8,9\n1,7,8,8\n", [[7, 8, 9], [7, 8, 8]], [1, 1]),
        ("label,t0\na,0.5\na,0.25\n", [[0.5], [0.25]], "aa"),
        ("label,0\na,0.5\na,0.25\n", [[0.5], [0.25]], "aa"),
    ],
)
def test_a_first_series_is_never_taken_for_a_header(tmp_path, text, X, y):
    (f := tmp_path / "a.csv").write_text(text)
    X_read, y_read = read_series(f)
    assert np.array_equal(X_read[:, 0], np.float32(X)) and y_read.tolist() == list(y)


def test_a_table_of_one_column(tmp_path):
    (f := tmp_path / "a.csv").write_text("0.5\n0.25\n")
    assert read_series(f, label=None)[0].tolist() == [[[0.5]], [[0.25]]]


def test_whole_numbers_under_a_header_of_pandas(tmp_path):
    f, A = tmp_path / "a.csv", rng.integers(0, 50, (20, 12))
    head = ",".join(map(str, range(12)))
    f.write_text("\n".join([head, *(",".join(map(str, row)) for row in A)]))
    assert np.array_equal(read_series(f, label=None)[0][:, 0], A)
    f.write_text("\n".join([head] * 3))  # series of counts
    assert len(read_series(f, label=None)[0]) == 3


# The labels


def test_whole_numbers_that_do_not_repeat_are_no_labels(tmp_path):
    f = tmp_path / "a.csv"
    f.write_text("10,1,2\n20,3,4\n30,5,6\n")
    with says("no column looks like labels"):
        read_series(f)
    f.write_text("10,1.5,2\n20,3,4\n30,5,6\n")  # beside decimals, in a small table
    assert read_series(f)[1].tolist() == [10, 20, 30]


def test_a_table_of_whole_numbers_is_asked_about(tmp_path):
    "The first sample is not a label."
    f, counts = tmp_path / "a.csv", rng.integers(300, 900, (200, 12))
    rows = [",".join(map(str, row)) for row in counts]
    for head in ([], [",".join(f"t{i}" for i in range(12))]):
        f.write_text("\n".join(head + rows))
        with says("no column looks like labels"):
            read_series(f)
        assert np.array_equal(read_series(f, label=None)[0][:, 0], counts)
    labelled = [f"{i % 3},{row}" for i, row in enumerate(rows)]  # 0, 1, 2 before whole numbers
    f.write_text("\n".join(labelled))
    assert read_series(f)[0].shape == (200, 1, 12) and set(read_series(f)[1]) == {0, 1, 2}


def test_another_text_in_every_row_is_no_label(tmp_path):
    f = tmp_path / "a.csv"
    f.write_text("day,0,1\n" + "".join(f"2024-01-{i:02},0.5,{i}\n" for i in range(1, 9)))
    with says("another text in every row", "label='first'"):
        read_series(f)
    assert len(set(read_series(f, label="first")[1])) == 8


def test_labels_keep_leading_zeros(tmp_path):
    f = tmp_path / "a.csv"
    f.write_text("007,0.5,0.25\n7,0.5,0.5\n007,1,0.5\n")
    assert read_series(f)[1].tolist() == ["007", "7", "007"]
    f.write_text("0,0.5,0.25\n1.0,0.5,0.5\n1,1,0.5\n")
    assert read_series(f)[1].tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", ["id", "patient", "date", "target"])
def test_columns_that_are_no_samples_are_not_read_as_such(tmp_path, name):
    f = tmp_path / "a.csv"
    rows = [f"{100 + i // 2},{i % 2},0.{i}5,{i}.5\n" for i in range(12)]
    f.write_text(f"{name},label,t0,t1\n" + "".join(rows))
    with says(f"column {name!r}", "leave it out"):
        read_series(f, label="label")
    f.write_text("x,y,z\n1.5,2,3\n4,5,6\n")  # three coordinates
    assert read_series(f, label=None)[0].shape == (2, 1, 3)


# What is refused


@pytest.mark.parametrize(
    "text, ask, parts",
    [
        ("", {}, ["is empty"]),
        ("\n\n", {}, ["is empty"]),
        ("1,0.5,0.5\n2,0.5\n", {}, ["line 2", "2 values, but line 1 has 3", "one length"]),
        ("1,0.5,\n1,0.5,0.5\n", {}, ["line 1", "value 2", "missing ('')"]),
        ("\n1,0.5,NaN\n1,0.5,0.5\n", {}, ["line 2", "missing ('NaN')", "shorter series"]),
        ("1,0.5,?\n1,0.5,0.5\n", {}, ["missing ('?')"]),
        ("1,0.5,NA\n1,0.5,0.5\n", {}, ["missing ('NA')"]),
        ("1,0.5,inf\n1,0.5,0.5\n", {}, ["'inf', not a finite number"]),
        ("1,0.5,abc\n1,0.5,0.5\n", {}, ["value 2", "'abc', not a finite number"]),
        ("1,x,0.25\n2,0.5,0.5\n", {}, ["line 1", "'x'"]),
        ("1;0,5;0,5\n1;0,5;0,5\n", {}, ["decimal point, not a comma"]),
        ("1,0.5,1_5\n1,0.5,0.5\n", {}, ["value 2", "'1_5', not a finite number"]),
        ("0.5,0.25\n0.25,0.5\n", {}, ["no column looks like labels", "label=None"]),
        ("".join(f"{i},0.5,0.25\n" for i in range(12)), {}, ["no column looks like labels"]),
        ("0.5,1,2\n0.25,1,2\n", dict(label="first"), ["0.5", "np.digitize"]),
        ("1,0.5\n2,0.5\n", dict(label="kind"), ["label='kind'", "no header"]),
        ("label,a,b\n1,0.5,1\n", dict(label="kind"), ["label='kind'", "label, a, b"]),
        ("1\n2\n", {}, ["no value stands beside the label"]),
        ("a,0.5,1\n,0.5,1\n", dict(label="first"), ["y[1] is missing"]),
    ],
)
def test_tables_refuse(tmp_path, text, ask, parts):
    (f := tmp_path / "a.csv").write_text(text)
    with says("a.csv", *parts):
        read_series(f, **ask)


def test_the_mark_that_spreadsheets_put_first_is_skipped(tmp_path):
    (f := tmp_path / "a.csv").write_text("1,0.5,0.25\n2,0.5,0.25\n", encoding="utf-8-sig")
    assert read_series(f)[1].tolist() == [1, 2]


def test_not_a_text_file(tmp_path):
    for name, content in (("a.csv", "1,2\n".encode("utf-16")), ("a.ts", b"\xff\xfe\x00")):
        (f := tmp_path / name).write_bytes(content)
        with says(name, "UTF-8"):
            read_series(f)


# Any table at all


def is_number(s):
    try:
        float(s)
    except ValueError:
        return False
    return True


NO_WORDS = ("nan", "none", "na", "null", "<na>", "?", "n/a")
WORDS = st.text(  # that may stand in any file
    st.characters(
        codec="utf-8", exclude_characters="\0\r\n\t\"',:;|#@ ", exclude_categories=("Cs", "Cc", "Z")
    ),
    min_size=1,
    max_size=6,
).filter(lambda s: s.lower() not in NO_WORDS and not is_number(s))


@fuzz(
    250,
    pair=series(
        sizes=((1, 6), (1, 1), (1, 30)),
        scales=st.integers(-30, 30),
        dtypes=("f4", "f8"),
        layouts=("plain",),
    ),
    words=st.lists(WORDS, min_size=6, max_size=6),
    kind=st.sampled_from(["none", "words", "integers"]),
    place=st.sampled_from(["first", "last"]),
    delimiter=st.sampled_from("\t,;"),
    head=st.booleans(),
    suffix=st.sampled_from([".csv", ".tsv"]),
    bom=st.booleans(),
)
def test_tables_by_the_csv_module_come_back(
    tmp_path_factory, pair, words, kind, place, delimiter, head, suffix, bom
):
    X, y = pair[1][:, 0], None
    assume(np.isfinite(X).all())
    rows = [[f"t{i}" for i in range(X.shape[1])], *X.tolist()]
    if kind != "none":
        y = words[: len(X)] if kind == "words" else list(range(len(X)))
        column = ["kind", *y]
        rows = [[k, *x] if place == "first" else [*x, k] for k, x in zip(column, rows)]
    f = tmp_path_factory.getbasetemp() / f"table{suffix}"
    with open(f, "w", newline="", encoding="utf-8-sig" if bom else "utf-8") as out:
        csv.writer(out, delimiter=delimiter).writerows(rows if head else rows[1:])
    ask = None if y is None else "kind" if head else place
    found = tried(lambda: read_series(f, label=ask), f.name)
    assert found is not REFUSED and found[0].shape == (len(X), 1, X.shape[1])
    np.testing.assert_allclose(found[0][:, 0], X, rtol=6e-8, atol=1e-44)
    assert found[1] is None if y is None else found[1].tolist() == y
    guess = tried(lambda: read_series(f), f.name)  # the same, or not at all, where labels are text
    if guess is not REFUSED and kind == "words" and len(X[0]) > 1:
        assert guess[1].tolist() == y and np.array_equal(guess[0], found[0])
