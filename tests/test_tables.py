"""Tables of every layout, with header and without, and what is no table of series."""

import csv

import numpy as np
import pytest
from fuzzing import REFUSED, fuzz, series, tried
from hypothesis import assume
from hypothesis import strategies as st
from toys import says

from ncvq_nb.io.archive import load_ucr
from ncvq_nb.io.files import read_dataset, read_series
from ncvq_nb.io.long import looks_long
from ncvq_nb.io.tables import table_text

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
    f.write_text("\n".join(rows))
    with says("no column looks like labels"):
        read_series(f)
    assert np.array_equal(read_series(f, label=None)[0][:, 0], counts)
    f.write_text("\n".join([",".join(f"t{i}" for i in range(12)), *rows]))
    X, y = read_series(f)  # a header that names samples and nothing else
    assert y is None and np.array_equal(X[:, 0], counts)
    labelled = [f"{i % 3},{row}" for i, row in enumerate(rows)]  # 0, 1, 2 before whole numbers
    f.write_text("\n".join(labelled))
    assert read_series(f)[0].shape == (200, 1, 12) and set(read_series(f)[1]) == {0, 1, 2}


def test_another_text_in_every_row_is_no_label(tmp_path):
    f = tmp_path / "a.csv"
    f.write_text("where,0,1\n" + "".join(f"2024-01-{i:02},0.5,{i}\n" for i in range(1, 9)))
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
        ("a,b,c\n", {}, ["has a header ('a', 'b', 'c', …) and no series"]),
        ("label,0,1\n", {}, ["has a header ('label', '0', '1', …) and no series"]),
        ("1,0.5,-\n1,0.5,2\n", dict(label="first"), ["'-', not a finite", "missing=['-']"]),
        ("1,.5,#DIV/0!\n1,.5,2\n", dict(label="first"), ["missing=['#DIV/0!']"]),
        ("1,0.5,0.5\n2,0.5\n", {}, ["line 2", "2 values, but line 1 has 3", "empty cells"]),
        ("1,,\n1,0.5,0.5\n", dict(label="first"), ["no observed sample in series 0"]),
        ("1,0.5,inf\n1,0.5,0.5\n", dict(label="first"), ["'inf', not a finite number"]),
        ("1,0.5,abc\n1,0.5,0.5\n", dict(label="first"), ["value 2", "'abc', not a finite number"]),
        ("1,x,0.25\n2,0.5,0.5\n", {}, ["line 1", "'x'"]),
        ("1;0,5;0,5\n2;0,5;0.5\n", {}, ["line 1", "'0,5', but '0.5' elsewhere"]),
        ("1;1,234;5\n2;1,250;7\n", {}, ["line 1: '1,234'", "thousands or decimals"]),
        ("1,0.5,1_5\n1,0.5,0.5\n", dict(label="first"), ["value 2", "'1_5', not a finite number"]),
        ("0.5,0.25\n0.25,0.5\n", {}, ["no column looks like labels", "label=None"]),
        ("".join(f"{i},0.5,0.25\n" for i in range(12)), {}, ["no column looks like labels"]),
        ("0.5,1,2\n0.25,1,2\n", dict(label="first"), ["0.5", "np.digitize"]),
        ("1,0.5\n2,0.5\n", dict(label="kind"), ["label='kind'", "'column 1', 'column 2'"]),
        ("label,a,b\n1,0.5,1\n", dict(label="kind"), ["label='kind'", "'label', 'a', 'b'"]),
        ("1\n2\n", {}, ["no value stands beside the label"]),
        ("a,0.5,1\n,0.5,1\n", dict(label="first"), ["line 2: the label is missing ('')"]),
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


# Dialects


def text_of(X, y=None, sep=",", head=None):
    "Rows of numbers as text, the labels first."
    rows = [[*([] if y is None else [y[i]]), *x] for i, x in enumerate(X.tolist())]
    return "\n".join(sep.join(map(str, row)) for row in [*([head] if head else []), *rows]) + "\n"


def read_series_text(tmp_path, text, **asked):
    (f := tmp_path / "a.csv").write_text(text, encoding="utf-8")
    return read_series(f, **asked)


def read_text(tmp_path, text, **asked):
    (f := tmp_path / "a.csv").write_text(text, encoding="utf-8")
    return read_dataset(f, **asked)


A = rng.normal(size=(12, 24)).round(3)
TWO = np.arange(12) % 2


@pytest.mark.parametrize("parted", [";", "\t"])
def test_decimal_commas(tmp_path, parted):
    text = text_of(A, TWO, parted, ["label", *range(24)])
    for first in ("", f"sep={parted}\n"):
        data = read_text(tmp_path, first + text.replace(".", ","))
        assert np.array_equal(data.X_train[:, 0], np.float32(A))
        assert data.y_train.tolist() == TWO.tolist()
    quoted = [",".join(f'"{v}"'.replace(".", ",") for v in row) for row in A.tolist()]
    data = read_text(tmp_path, "\n".join(quoted), label=None)
    assert np.array_equal(data.X_train[:, 0], np.float32(A))


def test_decimal_commas_by_pandas(tmp_path):
    pd = pytest.importorskip("pandas")
    (frame := pd.DataFrame(A)).insert(0, "kind", np.where(TWO, "a;b", "c"))
    frame.to_csv(f := tmp_path / "a.csv", sep=";", decimal=",", index=False)
    X, y = read_series(f)
    want = pd.read_csv(f, sep=";", decimal=",")
    assert np.array_equal(X[:, 0], want.iloc[:, 1:].to_numpy(np.float32))
    assert y.tolist() == want["kind"].tolist()


# Headers of numbers


@pytest.mark.parametrize("names", [range(400, 640, 10), range(2000, 2024), range(1, 25)])
@pytest.mark.parametrize("place", ["first", "last", "absent"])
@pytest.mark.parametrize("labels", ["text", "codes"])
def test_headers_of_numbers(tmp_path, names, place, labels):
    y = TWO if labels == "codes" else np.where(TWO, "ill", "well")
    head, rows = list(map(str, names)), A.tolist()
    if place == "first":
        head, rows = ["species", *head], [[k, *x] for k, x in zip(y, rows)]
    if place == "last":
        head, rows = [*head, "diagnosis"], [[*x, k] for k, x in zip(y, rows)]
    text = "\n".join(",".join(map(str, row)) for row in [head, *rows])
    data = read_text(tmp_path, text)
    assert np.array_equal(data.X_train[:, 0], np.float32(A))
    assert data.y_train is None if place == "absent" else data.y_train.tolist() == y.tolist()
    assert data.said.endswith(f"samples: {names[0]} … {names[-1]} (24)")
    counts = rng.integers(0, 50, (12, 24))
    if place == "absent":  # whole numbers below
        data = read_text(tmp_path, text_of(counts, head=names))
        assert np.array_equal(data.X_train[:, 0], counts)


# The first column


@pytest.mark.parametrize("start", [0, 100])
def test_one_class_is_no_label_column(tmp_path, start):
    paths = np.cumsum(np.c_[np.full(12, start), rng.normal(size=(12, 20))], 1)
    with says("no column looks like labels"):
        read_text(tmp_path, text_of(paths))
    with says("no column looks like labels"):
        read_text(tmp_path, text_of(np.c_[paths, TWO]))
    data = read_text(tmp_path, text_of(np.c_[paths, TWO]), label="last")
    assert data.X_train.shape == (12, 1, 21) and data.y_train.tolist() == TWO.tolist()
    head = [f"t{i}" for i in range(21)]
    assert read_text(tmp_path, text_of(paths, head=head)).X_train.shape == (12, 1, 21)
    with says("both look like labels"):
        read_text(tmp_path, text_of(np.c_[np.arange(12) // 2, A, TWO]))


# What is no sample


HEAD = [f"t{i}" for i in range(24)]


@pytest.mark.parametrize(
    "name", ["customer_id", "meter", "CustomerID", "Unnamed: 0", "index", "timestamp"]
)
def test_identifiers_are_named_and_set_aside(tmp_path, name):
    text = text_of(A, range(101, 113), head=[name, *HEAD])
    for label in ("auto", None):
        with says(f"column {name!r}", f"drop={name!r}", f"id={name!r}", f"label={name!r}"):
            read_text(tmp_path, text, label=label)
    for asked in (dict(drop=name), dict(id=name), dict(drop="first"), dict(drop=[name])):
        data = read_text(tmp_path, text, **asked)
        assert np.array_equal(data.X_train[:, 0], np.float32(A)) and data.y_train is None
        assert name in data.said and data.said in repr(data)


def test_subject_and_diagnosis(tmp_path):
    head = ["subject", *HEAD, "diagnosis"]
    text = text_of(np.c_[A, TWO], np.arange(12) // 4, head=head)
    with says("column 'subject'", "drop='subject'", "id='subject'"):
        read_text(tmp_path, text)
    data = read_text(tmp_path, text, id="subject")
    assert data.said == "labels: column diagnosis; identifiers: subject; samples: t0 … t23 (24)"
    assert data.y_train.tolist() == TWO.tolist() and data.said in data._repr_html_()
    data = read_text(tmp_path, text, groups="subject", test_fraction=0.3)
    assert len(set(data.groups_test)) == 1 and len(data.X_test) == 4
    assert not set(data.groups_train) & set(data.groups_test)
    first = read_text(tmp_path, text, groups="first", test_fraction=0.3)
    assert np.array_equal(first.groups_train, data.groups_train)
    with says("groups=", "names no column of", "it has 'subject', 't0'"):
        read_text(tmp_path, text, groups=["subject", "t0"])


def test_names_of_columns_are_shown_as_text(tmp_path):
    name = "<img src=x onerror=alert(1)>|\n`x`"
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(A, columns=HEAD).assign(**{name: TWO})
    frame.to_csv(f := tmp_path / "a.csv", index=False)
    data = read_dataset(f)
    assert "<img src=x" not in data._repr_html_() and "\n" not in data.said
    assert data.y_train.tolist() == TWO.tolist()


def test_a_column_of_text_is_named_and_the_remedy_works(tmp_path):
    text = text_of(A, [f"C{i:04}" for i in range(12)], head=["code", *HEAD])
    with says("column 'code' holds text ('C0000')", "drop='code'"):
        read_text(tmp_path, text, label=None)
    with says("'code'", "another text in every row", "drop='first'"):
        read_text(tmp_path, text)
    for asked in (dict(drop="code"), dict(drop="first"), dict(id="code"), dict(label="code")):
        assert np.array_equal(read_text(tmp_path, text, **asked).X_train[:, 0], np.float32(A))


def test_columns_out_of_order_are_refused(tmp_path):
    with says("'t2' comes after 't19'"):
        read_text(tmp_path, text_of(A, head=sorted(HEAD)))


def test_a_column_off_the_scale_or_that_counts_the_rows(tmp_path):
    for values in (rng.permutation(12) + 4711, np.arange(1, 13)):
        for head in (None, range(25)):
            with says("'column 1'" if head is None else "'0'", "drop="):
                read_text(tmp_path, text_of(A, values, head=head), label=None)
            dropped = read_text(tmp_path, text_of(A, values, head=head), label=None, drop="first")
            assert dropped.X_train.shape == (12, 1, 24)


# Labels


@pytest.mark.parametrize("mark", ["NA", "?", "null", "NaT", "#N/A", "", "None", "N/A", "<NA>"])
def test_a_missing_label_is_no_class(tmp_path, mark):
    y = ["a", "b", mark, *"abababab", "a"]
    with says("a.csv, line 4: the label is missing", "missing="):
        read_text(tmp_path, text_of(A, y, head=["label", *HEAD]))
    if mark:
        data = read_text(tmp_path, text_of(A, y, head=["label", *HEAD]), missing=["x"])
        assert data.y_train.tolist() == y and data.hold_out(0.3).y_test is not None


def test_marks_for_missing_values_can_be_numbers(tmp_path):
    B = A.copy()
    B[3, 7] = -9999
    X = read_text(tmp_path, text_of(B), label=None, missing=-9999).X_train
    assert np.argwhere(np.isnan(X)).tolist() == [[3, 0, 7]]
    assert read_text(tmp_path, text_of(B), label=None).X_train[3, 0, 7] == -9999


@pytest.mark.parametrize("pair", [("1E1", "10"), ("+1", "1"), ("01", "1"), ("1e0", "1.0")])
def test_labels_that_are_one_number_stay_two_texts(tmp_path, pair):
    y = list(pair) * 6
    data = read_text(tmp_path, text_of(A, y, head=["label", *HEAD]))
    assert data.y_train.tolist() == y
    old = [f"{k}.0000000e+00" for k in (1, 2)] * 6  # as the archive once wrote them
    assert read_text(tmp_path, text_of(A, old)).y_train.tolist() == [1, 2] * 6


def test_a_label_of_bounded_length(tmp_path):
    "A label of 180,000 characters over 5,001 rows took 3.6 GB: as long for each row."
    y = ["a"] * 11 + ["b" * 100_000]
    with says("a.csv, line 12: a label of 100,000 characters"):
        read_text(tmp_path, text_of(A, y), label="first")


# Pairs of files, and what we write


def test_paired_tables_are_read_by_name(tmp_path):
    head, B = ["label", *HEAD], np.c_[TWO, A]
    (train := tmp_path / "m_TRAIN.csv").write_text(text_of(B, head=head))
    (test := tmp_path / "m_TEST.csv").write_text(text_of(B[:, ::-1], head=head[::-1]))
    data = read_dataset(train)
    assert np.array_equal(data.X_test, data.X_train)
    assert np.array_equal(data.y_test, data.y_train)
    test.write_text(text_of(B, head=["label", *HEAD[:-1], "u"]))
    with says("m_TEST.csv has no column 't23'"):
        read_dataset(train)
    test.write_text(text_of(np.c_[B, B[:, :1]], head=[*head, "more"]))
    with says("m_TEST.csv has a column 'more'"):
        read_dataset(train)
    test.write_text(text_of(B))
    with says("m_TEST.csv has no column"):
        read_dataset(train)


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("labels", [None, [7, -1, 7, 7], ["a,b", "it's", 'say "x"', "ä\u0301"]])
def test_what_is_written_is_read_back_equal(tmp_path, c, labels):
    X = (rng.normal(size=(4, c, 17)) * 10.0 ** rng.integers(-30, 30, (4, c, 17))).astype("f4")
    y = None if labels is None else np.array(labels)
    data = read_text(tmp_path, table_text(X, y))
    assert np.array_equal(data.X_train, X)
    assert data.y_train is None if y is None else data.y_train.tolist() == labels


# Long tables


def long_text(ids, times, columns):
    rows = zip(ids, times, *columns.values())
    return "\n".join(
        [",".join(["meter", "when", *columns]), *(",".join(map(str, r)) for r in rows)]
    )


@pytest.mark.parametrize("kind", ["numbers", "dates", "text"])
def test_long_tables(tmp_path, kind):
    B = A[:4]
    ids = np.repeat([f"m{i}" if kind == "text" else str(9 - i) for i in range(4)], 24)
    times = [f"2024-01-01 {h:02}:00" if kind == "dates" else h for h in range(24)] * 4
    columns = dict(load=B.ravel(), volts=2 * B.ravel(), label=np.repeat([1, 2, 1, 2], 24))
    with says("long table", "id='meter'", "time='when'", "value="):
        read_text(tmp_path, long_text(ids, times, dict(load=B.ravel())))
    asked = dict(id="meter", time="when", value=["load", "volts"])
    order = rng.permutation(96)
    mixed = [np.array(v)[order] for v in (ids, times)]
    text = long_text(*mixed, {k: v[order] for k, v in columns.items()})
    data = read_text(tmp_path, text, **asked)
    place = [list(dict.fromkeys(mixed[0])).index(i) for i in ids[::24]]
    assert np.array_equal(data.X_train[place], np.float32(np.stack([B, 2 * B], 1)))
    assert data.y_train[place].tolist() == [1, 2, 1, 2]
    assert "series: meter (4); time: when (24 steps); samples: load, volts" in data.said


LONG = dict(m=list("aaaabbbb"), t=[0, 1, 2, 3] * 2, x=list(range(8)), k=[1] * 4 + [2] * 4)


@pytest.mark.parametrize(
    "change, asked, parts",
    [
        ({}, dict(id=None), ["needs id=", "windows"]),
        ({}, dict(time=None, value="x"), ["needs time="]),
        ({}, dict(label=None), ["'k' is left over", "drop="]),
        ({}, dict(label="nix"), ["label='nix' names no column"]),
        ({}, dict(value=["x", "k", "m2"]), ["value='m2' names no column"]),
        (dict(m=list("aaaaabbb")), {}, ["series 'a' has two rows for one time"]),
        (dict(t=[0, 1, 2, 2, 0, 1, 2, 3]), {}, ["series 'a' has two rows for one time"]),
        (dict(t=[0, 1, 2, 9, 0, 1, 2, 9]), {}, ["'a' has uneven steps in time, from 1 to 7"]),
        (dict(t=[0, 1, 2, 2.5, 0, 1, 2, 2.4]), {}, ["'a' has uneven steps in time, from 0.5 to 1"]),
        (dict(t=[0, 1, 2, 3, 0, 2, 4, 6]), {}, ["'b' has other steps in time than 'a'"]),
        (dict(t=["soon"] * 8), {}, ["the time 't' holds 'soon' in row 0, counted from 0"]),
        (dict(t=[*["2024-01-01"] * 5, "soon", "x", "y"]), {}, ["'t' holds 'soon' in row 5"]),
        (dict(t=[0, 1, 2, 3, 0, "", 2, 3]), {}, ["the time 't' holds 'nan' in row 5"]),
        (dict(m=[*"aaaa", *"bb", "", "b"]), {}, ["the id column 'm' is empty in row 6", "fill it"]),
        (dict(m=[*"aaaa", "  ", *"bbb"]), {}, ["the id column 'm' is empty in row 4", "leave"]),
        ({}, dict(time=["t", "x"]), ["time=['t', 'x'] names 2 columns", "time= is one column"]),
        ({}, dict(time=[]), ["time=[] names 0 columns", "time= is one column"]),
        ({}, dict(value=["x", "x"]), ["value= names the column 'x' twice"]),
        (dict(x=[0, 1, 2, "z", 4, 5, 6, 7]), {}, ["line 5: the value of 'x' is 'z', not a finite"]),
        (dict(x=[0, 1, 2, "inf", 4, 5, 6, 7]), {}, ["line 5: the value of 'x' is 'inf'"]),
        (dict(x=list("abcdefgh")), {}, ["the values 'x' are not all numbers"]),
        (dict(k=[1, 1, 1, 2] * 2), {}, ["the column 'k' changes within series 'a': '1' and '2'"]),
    ],
)
def test_long_tables_refuse(tmp_path, change, asked, parts):
    table = {**LONG, **change}
    text = "\n".join(",".join(map(str, row)) for row in [list(table), *zip(*table.values())])
    with says("a.csv", *parts):
        read_text(tmp_path, text, **{**dict(id="m", time="t", value="x", label="k"), **asked})


@pytest.mark.parametrize("high", [2, 8, "poisson"])
def test_a_table_of_counts_is_asked_about(tmp_path, high):
    rng = np.random.default_rng(2)
    size = 40, 12
    counts = rng.poisson(2, size) if high == "poisson" else rng.integers(0, high, size)
    text = "\n".join(",".join(map(str, row)) for row in counts) + "\n"
    with says("the first column holds labels, or samples like those beside it", "label=None"):
        read_text(tmp_path, text)
    assert read_text(tmp_path, text, label=None).X_train.shape == (40, 1, 12)
    counts[:, 1:] *= 100  # classes beside larger numbers
    text = "\n".join(",".join(map(str, row)) for row in counts) + "\n"
    assert read_text(tmp_path, text).n_classes == len(np.unique(counts[:, 0]))


def same(found, wanted):
    np.testing.assert_array_equal(found, np.float32(wanted))


@pytest.mark.parametrize("mark", ["", "NaN", "?", "NA", " n/a ", "null"])
def test_a_cell_without_a_number_is_a_gap(tmp_path, mark):
    for head in ("", "y,t0,t1,t2\n"):
        text = f"{head}1,0.5,{mark},2\n1,3,4,5\n2,{mark},6,7\n2,8,9,1\n"
        X, y = read_series_text(tmp_path, text, label="first")
        same(X[:, 0], [[0.5, np.nan, 2], [3, 4, 5], [np.nan, 6, 7], [8, 9, 1]])
        assert y.tolist() == [1, 1, 2, 2]
    with says("value 2 of the series is"):
        read_series_text(tmp_path, text, label="first", missing=["none"])
    data = read_text(tmp_path, text, label="first")
    assert "2 samples of training series missing" in repr(data)


def test_a_series_ends_where_its_cells_do(tmp_path):
    text = "kind,t0,t1,t2\na,.5,1,\na,1,2,3\nb,4,,\nb,1,1,1\n"
    data = read_text(tmp_path, text)
    same(data.X_train[[0, 2], 0], [[0.5, 1, np.nan], [4, np.nan, np.nan]])
    assert "lengths 1 to 3," in repr(data)
    # the comma at the end of every row is no sample
    assert read_text(tmp_path, "1,.5,1,\n1,1,2,\n2,4,5,\n2,1,1,\n").X_train.shape == (4, 1, 2)


def test_what_is_written_with_gaps_is_read_back(tmp_path):
    B = A.astype(np.float32)
    B[2, 20:], B[5, 3] = np.nan, np.nan
    X, y = read_series_text(tmp_path, table_text(B[:, None], TWO))
    same(X[:, 0], B)
    assert y.tolist() == TWO.tolist()


def test_long_tables_with_gaps_and_unequal_lengths(tmp_path):
    rows = [("a", 0, 1, 10), ("a", 1, "", 20), ("a", 2, 3, 30), ("b", 7, 4, 40), ("b", 8, 5, "NA")]
    text = "m,t,x,z\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    X, y = read_series_text(tmp_path, text, id="m", time="t")
    wanted = [[[1, np.nan, 3], [10, 20, 30]], [[4, 5, np.nan], [40, np.nan, np.nan]]]
    same(X, wanted)
    pd = pytest.importorskip("pandas")
    frame = pd.read_csv(tmp_path / "a.csv")
    same(read_series(frame, id="m", time="t")[0], wanted)
    frame["x"] = frame["x"].astype("Float64")
    found = read_dataset(frame, id="m", time="t")
    same(found.X_train, wanted)
    assert "time: t (2 to 3 steps)" in found.said and "length 3 (4 samples" in repr(found)


def test_long_tables_by_pandas(tmp_path):
    pd = pytest.importorskip("pandas")
    wide = pd.DataFrame(A, index=pd.Index([f"s{i:02}" for i in range(12)], name="id"))
    long = wide.reset_index().melt("id", var_name="time", value_name="x")
    long.to_csv(f := tmp_path / "a.csv", index=False)
    back = long.pivot(index="id", columns="time", values="x").to_numpy(np.float32)
    for source in (f, long):
        with says("long table"):
            read_series(source)
        X, y = read_series(source, id="id", time="time", value="x")
        assert np.array_equal(X[:, 0], back) and y is None


def long_frame(**change):
    "Two series of four steps, each of its own identifier."
    pd = pytest.importorskip("pandas")
    return pd.DataFrame({**LONG, **change})


@pytest.mark.parametrize("kind", ["None", "nan", "NaT", "NA", "text"])
def test_rows_without_an_identifier_are_refused(kind):
    pd = pytest.importorskip("pandas")
    days = pd.to_datetime(["2024-01-01"] * 4 + [None] * 4)
    m = {
        "None": [*"aaaa", None, None, None, None],
        "nan": [1.0] * 4 + [np.nan] * 4,
        "NaT": days,
        "NA": pd.array([1] * 4 + [pd.NA] * 4, dtype="Int64"),
        "text": [*"aaaa", "", " ", "\t", ""],
    }[kind]
    frame = long_frame(m=m)
    with says("frame: the id column 'm' is empty in row 4", "fill it in, or leave"):
        read_series(frame, id="m", time="t", value="x", label="k")
    with says("the id column 'm' is empty in row 4"):
        read_series(frame, id=["k", "m"], time="t", value="x")
    assert read_series(frame[:4], id="m", time="t", value="x", label="k")[0].shape == (1, 1, 4)


def test_two_identifiers_are_kept_apart(tmp_path):
    ids = dict(m=["x / y"] * 4 + ["x"] * 4, n=["z"] * 4 + ["y / z"] * 4)
    for t in (LONG["t"], list(range(8))):  # at the same times, and one after the other
        frame = long_frame(**ids, t=t)
        frame.to_csv(f := tmp_path / "a.csv", index=False)
        for source in (frame, f):
            X, y = read_series(source, id=["m", "n"], time="t", value="x", label="k")
            assert X.tolist() == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]] and y.tolist() == [1, 2]


def test_small_steps_are_compared_as_large_ones_are():
    for scale in (1, 1e-9, 1e-15):
        t = np.r_[np.arange(4), 5 * np.arange(4)] * scale
        with says("series 'b' has other steps in time than 'a'"):
            read_series(long_frame(t=t), id="m", time="t", value="x", label="k")
        even = np.r_[np.arange(4), np.arange(4)] * scale
        table = dict(m=LONG["m"], t=even, x=[3, 1, 2, 5, 4, 0, 7, 6])
        assert looks_long(list(table), table.get) == ("m", "t")
        assert looks_long(list(table), {**table, "t": t}.get) is None


@pytest.mark.parametrize("unit", ["1ns", "100ns", "1us", "1h"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "Asia/Kolkata"])
@pytest.mark.filterwarnings("error")
def test_times_keep_nanoseconds_and_zones(tmp_path, unit, zone):
    pd = pytest.importorskip("pandas")
    starts = ["2024-03-31", "2025-10-26"]  # when clocks change
    t = [v for s in starts for v in pd.date_range(s, periods=4, freq=unit, tz=zone)]
    frame = long_frame(t=t)
    frame.to_csv(f := tmp_path / "a.csv", index=False)
    for source in (frame, frame[::-1], frame.astype({"t": object}), f):
        X = read_series(source, id="m", time="t", value="x", label="k")[0]
        assert sorted(X.tolist()) == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]
    slower = pd.date_range(starts[1], periods=4, freq=unit, tz=zone)
    slower = slower[0] + 2 * (slower - slower[0])
    with says("series 'b' has other steps in time than 'a'"):
        read_series(long_frame(t=[*t[:4], *slower]), id="m", time="t", value="x", label="k")


def test_dates_far_apart_and_large_whole_numbers():
    far = [f"{y}-01-01" for y in (1, 401, 801, 1201)]  # a cycle of the calendar
    past = [f"{y}-01-01" for y in (1600, 2000, 2400, 2800)]
    count = 2**60 + 3 * np.arange(4)
    for t in ([*far, *past], [*past, *past], [*count, *count], [*count, *(count + 1)]):
        X, _ = read_series(long_frame(t=t), id="m", time="t", value="x", label="k")
        assert X.tolist() == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]


def test_long_frames_refuse_in_words():
    pd = pytest.importorskip("pandas")
    asked = dict(id="m", time="t", value="x", label="k")
    with says("frame: the long table is empty"):
        read_series(long_frame()[:0], **asked)
    t = [*pd.date_range("2024-01-01", periods=4)] * 2
    t[6] = pd.NaT
    with says("frame: the time 't' holds 'NaT' in row 6, counted from 0"):
        read_series(long_frame(t=t), **asked)
    mixed = [0.5, 1.5, 2.5, 3.5, "2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]
    with says("the time 't' holds '0.5' in row 0"):
        read_series(long_frame(t=mixed), **asked)
    with says("groups=['k', 'x'] names 2 columns", "groups= is one column"):
        read_dataset(long_frame(), **asked, groups=["k", "x"])


# Rows that are time steps


def sensors(**change):
    "Twelve series of 24 steps and six sensors, a row for each step."
    pd = pytest.importorskip("pandas")
    values = {n: rng.normal(size=288) for n in ("ax", "ay", "az", "gx", "gy", "gz")}
    first = {"id": np.repeat(range(12), 24), "time": np.tile(range(24), 12)}
    return pd.DataFrame({**first, **values, **change})


@pytest.mark.parametrize(
    "asked",
    [dict(id="id"), dict(groups="id"), dict(label="id", drop="time"), dict(drop=["id", "time"])],
)
@pytest.mark.parametrize("kind", ["even", "uneven", "channels", "one", "day first"])
def test_what_is_named_of_a_long_table_does_not_make_series_of_its_steps(tmp_path, asked, kind):
    uneven = np.cumsum(rng.uniform(1, 9, 288)) % 5000
    frame = sensors(**(dict(time=uneven) if kind == "uneven" else {}))
    if kind == "channels":
        frame = frame.set_axis([*"id time".split(), *(f"ch{i}" for i in range(6))], axis=1)
    if kind == "one":
        frame = frame[["id", "time", "ax"]]
    if kind == "day first":
        frame["time"] = [f"{t + 1}/01/2020" for t in frame["time"]]
    frame.to_csv(f := tmp_path / "a.csv", index=False)
    if kind in ("uneven", "one") and not {"id", "groups"} & {*asked}:
        return  # in parts of no known kind, or without anything that is left
    for source in (frame, f):
        with says("long table", "id='id', time='time' and value="):
            read_dataset(source, **asked)
    if kind == "day first":
        with says("holds '1/01/2020' in row 0", "dates such as 2020-01-25", "dayfirst=True"):
            read_dataset(frame, id="id", time="time")
    elif kind != "uneven":
        assert len(read_dataset(frame, id="id", time="time").X_train) == 12


def test_no_time_is_taken_for_labels_by_guess():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"t": np.tile([0, 1], 20), "a": rng.normal(size=40)})
    for name in ("t", "time", "timestamp", "date", "time_s", "Time [ms]"):
        with says("no column looks like labels"):
            read_series(table.set_axis([name, "a"], axis=1))


def test_a_recording_is_cut_into_windows(tmp_path):
    pd = pytest.importorskip("pandas")
    dates = pd.date_range("2024-01-01", periods=50, freq="10s")
    for name, t in (("timestamp", dates), ("t", np.arange(50) * 0.01), ("seen", dates)):
        frame = pd.DataFrame({name: t, "a": A.ravel()[:50], "b": A.ravel()[50:100]})
        frame.to_csv(f := tmp_path / "rec.csv", index=False)
        for source in (frame, f):
            for label in ("auto", None):
                with says("rows seem to be points in time", "ncvq_nb.recording_windows(", "drop="):
                    read_dataset(source, label=label)
            assert read_dataset(source, label=None, drop=name).X_train.shape == (50, 1, 2)
    days = pd.DataFrame(A, columns=HEAD).assign(date=dates[:12])  # a series a day
    assert len(read_dataset(days, id="date").X_train) == 12
    trials = sensors().rename(columns=dict(id="subject", time="trial"))
    assert len(read_dataset(trials, groups="subject", drop="trial", label=None).X_train) == 288


@pytest.mark.parametrize("dated", [False, True])
def test_rows_that_are_missing_on_an_even_grid_are_gaps(tmp_path, dated):
    pd = pytest.importorskip("pandas")
    frame = sensors()[["id", "time", "ax"]]
    if dated:
        frame["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["time"], "h")
    wanted = frame["ax"].to_numpy(np.float32).reshape(12, 24)
    frame, wanted[0, [5, 6, 22]], wanted[11, 3] = frame.drop(index=[5, 6, 22, 267]), np.nan, np.nan
    frame.to_csv(f := tmp_path / "a.csv", index=False)
    for source in (frame.sample(frac=1, random_state=0).sort_values("id", kind="stable"), f):
        data = read_dataset(source, id="id", time="time")
        np.testing.assert_array_equal(data.X_train[:, 0], wanted)
        assert "(24 steps, 4 of them without a row)" in data.said


def test_columns_unevenly_far_apart_are_refused(tmp_path):
    head = [0, 1, 2, 3, 4, 8, 9, 10]
    for y in (None, TWO):
        text = text_of(A[:, :8], y, head=[*([] if y is None else ["label"]), *head])
        with says("uneven steps in time, from 1 to 4", "from '4' to '8'", "NaN or empty cells"):
            read_text(tmp_path, text, label=None if y is None else "label")
    text = text_of(A[:, :4], TWO, head=["label", 0, 1, 4, 5])  # few, and still a header
    with says("uneven steps in time, from 1 to 3"):
        read_text(tmp_path, text)


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
