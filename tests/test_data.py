"""The data room: every layout of every file, every bad input, the bundled sets against the facts of their source."""
import builtins, pickle, re, sys, types, warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from ncvq_nb.data import (Dataset, Standardiser, bundled, check_labels, check_series, holdout, load_ucr, read_dataset, read_series,
                          write_atomically)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "ucr"
rng = np.random.default_rng(0)


def says(*parts, kind=(ValueError, TypeError, OSError)):
    "An error of that kind whose message has all `parts`."
    return pytest.raises(kind, match="".join(f"(?=.*{re.escape(p)})" for p in parts) + "(?s:.)")


# check_series

@pytest.mark.parametrize("X, parts", [
    (None, ["is None", "(n, channels, length)"]),
    ("text", ["dtype", "real numbers"]),
    ({"a": 1}, ["dtype object"]),
    (3., ["shape ()"]),
    ([1., 2.], ["shape (2,)", "name[None]"]),
    (np.zeros((2, 2, 2, 2)), ["shape (2, 2, 2, 2)", "allowed are (n, length) and (n, channels, length)"]),
    (np.zeros((0, 5)), ["empty", "(0, 5)"]),
    (np.zeros((5, 0)), ["empty", "(5, 0)"]),
    (np.zeros((5, 0, 4)), ["empty", "(5, 0, 4)"]),
    ([[1, 2, 3], [1, 2]], ["unequal length (2 to 3)", "one length"]),
    ([np.zeros((2, 7)), np.zeros((2, 9))], ["unequal length (7 to 9)"]),
    (np.array([np.zeros(3), np.zeros(4)], dtype=object), ["unequal length (3 to 4)"]),
    ([[[1, 2], [3]], [[1, 2], [3, 4]]], ["cannot be read as one array"]),
    (np.array([[1, None]], dtype=object), ["dtype object", "np.asarray"]),
    (np.array([["1", "2"]]), ["dtype <U1", "real numbers"]),
    (np.array([[1 + 2j, 1]]), ["dtype complex128"]),
    (np.array([["2020-01-01"]], "M8[D]"), ["dtype datetime64"]),
    ([[0, np.nan], [np.nan, 0]], ["2 missing (NaN) values", "series 0, channel 0, time step 1", "np.interp"]),
    (np.where(np.arange(24).reshape(2, 3, 4) == 21, np.nan, 0), ["1 missing (NaN) value,", "series 1, channel 2, time step 1"]),
    ([[0, np.inf]], ["1 infinite value,"]),
    ([[0, -np.inf]], ["1 infinite value,"]),
    (np.ma.masked_equal([[1, 2], [3, 4]], 3), ["masked array", "1 missing"]),
    ([[1e300, 0]], ["range of float32"]),
])
def test_check_series_refuses(X, parts):
    with says("name", *parts): check_series(X, name="name")


def test_check_series_length():
    with says("length 7", "at least 8"): check_series(np.zeros((3, 7)), min_length=8)
    with says("X.transpose(0, 2, 1)"): check_series(np.zeros((3, 50, 2)), min_length=8)
    assert check_series(np.zeros((3, 8)), min_length=8).shape == (3, 1, 8)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "bool", ">f4", ">f8"])
def test_check_series_takes_every_number(dtype):
    A = check_series(np.array([[0, 1, 0], [1, 1, 0]]).astype(dtype))
    assert A.dtype == np.float32 and A.shape == (2, 1, 3) and A.flags.c_contiguous and A.flags.writeable
    assert A.tolist() == [[[0, 1, 0]], [[1, 1, 0]]]


def test_check_series_makes_what_later_rooms_rely_on():
    X = rng.normal(size=(4, 6, 3)).transpose(0, 2, 1)
    A = check_series(X)
    assert A.flags.c_contiguous and np.array_equal(A, X.astype(np.float32))
    X = np.zeros((2, 1, 5), np.float32)
    X.flags.writeable = False  # as pandas hands out its columns
    assert check_series(X).flags.writeable
    assert check_series(np.ma.masked_equal([[1., 2.]], 9)).tolist() == [[[1, 2]]]  # a mask that hides nothing


def test_check_series_takes_tensors_and_frames():
    torch, pd = pytest.importorskip("torch"), pytest.importorskip("pandas")
    assert check_series(torch.ones(2, 3, requires_grad=True)).shape == (2, 1, 3)
    assert check_series(pd.DataFrame({"a": [1, 2], "b": [3., 4.]})).tolist() == [[[1, 3]], [[2, 4]]]
    with says("dtype object"): check_series(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))


def test_check_series_warns_where_float32_is_too_coarse():
    clock = np.stack([rng.normal(size=(3, 50)), 1e9 + rng.normal(size=(3, 50))], 1)
    with pytest.warns(UserWarning, match="channel 1.*subtract the mean"): check_series(clock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fine in (rng.normal(size=(3, 50)), np.full((3, 50), .1), 1e6 * rng.normal(size=(3, 50)), np.arange(100).reshape(2, 50)): check_series(fine)


# check_labels

@pytest.mark.parametrize("y, parts", [
    ([0, 1], ["2 labels for 3 series"]),
    ([], ["0 labels for 3 series"]),
    (5, ["shape ()", "one label per series"]),
    (np.eye(3), ["shape (3, 3)", "name.argmax(1)"]),
    ([0, 1.5, 2], ["1.5", "np.digitize"]),
    ([0, np.inf, 2], ["inf"]),
    ([0, np.nan, 2], ["name[1] is missing"]),
    ([0, None, 2], ["name[1] is missing"]),
    (["a", "b", None], ["name[2] is missing"]),
    (["a", "", "b"], ["name[1] is missing"]),
    (["a", np.nan, "b"], ["name[1] is missing"]),
    (np.array(["a", 1, 2], dtype=object), ["mixes strings and int"]),
    (np.array([[1], [2, 3], [4]], dtype=object), ["unequal length"]),
    (np.array([1j, 2, 3]), ["dtype complex"]),
    (np.array(["2020", "2021", "2022"], "M8[Y]"), ["dtype datetime"]),
    (1e300 * np.ones(3), ["1e+300"]),
])
def test_check_labels_refuses(y, parts):
    with says("name", *parts): check_labels(y, 3, name="name")


@pytest.mark.parametrize("y, expected", [
    ([-1, 1, 1], [-1, 1, 1]), ([1., 2., 2.], [1, 2, 2]), (np.uint8([1, 2, 3]), [1, 2, 3]), ([True, False, True], [1, 0, 1]),
    (["b", "a", "b"], ["b", "a", "b"]), ([b"b", b"a", b"b"], ["b", "a", "b"]), (np.array([[1], [2], [2]]), [1, 2, 2]),
    (np.array(["x", "yy", "x"], dtype=object), ["x", "yy", "x"]), (np.array([1, 2., np.int8(3)], dtype=object), [1, 2, 3]),
])
def test_check_labels_keeps(y, expected):
    out = check_labels(y, 3)
    assert out.tolist() == expected and out.dtype.kind in "iU" and (out.dtype.kind == "U" or out.dtype == np.int64)


def test_check_labels_takes_frames_and_tensors():
    torch, pd = pytest.importorskip("torch"), pytest.importorskip("pandas")
    assert check_labels(pd.Series(["a", "b"]), 2).tolist() == ["a", "b"]
    assert check_labels(pd.Series(["a", "b"]).astype("category"), 2).tolist() == ["a", "b"]
    assert check_labels(pd.DataFrame({"label": [3, 4]}), 2).tolist() == [3, 4]
    assert check_labels(torch.tensor([3, 4]), 2).tolist() == [3, 4]
    for missing in (pd.Series(["a", None]), pd.Series([1, None], dtype="Int64"), pd.Series([1, None])):
        with says("y[1] is missing"): check_labels(missing, 2)
    assert check_labels(None, 2) is None


# Dataset

def test_dataset_checks_itself():
    X, y = np.zeros((4, 9)), [0, 0, 1, 1]
    for args, parts in [((X, y[:3]), ["y_train has 3 labels for 4 series"]), ((X, y, X), ["only one of y_train and y_test"]),
                        ((X, None, X, y), ["only one of y_train and y_test"]), ((X, y, None, y), ["y_test was given without X_test"]),
                        ((X, y, np.zeros((4, 8)), y), ["(1, 8)", "(1, 9)"]), ((X, y, np.zeros((4, 2, 9)), y), ["(2, 9)", "(1, 9)"]),
                        ((X, y, X, list("aabb")), ["use one type of label"]), ((X * np.nan, y), ["X_train has 36 missing"])]:
        with says(*parts): Dataset("own", *args)


def test_dataset_shows_itself():
    many = Dataset("<many>", rng.normal(size=(40, 5, 20)), np.arange(40) % 20)
    html = many._repr_html_()
    assert "&lt;many&gt;" in html and "(20 classes)" in html and html.count("data:image/png;base64,") == 1 and len(html) < 100_000
    assert repr(many) == "Dataset('<many>': 40 train + 0 test series, 5 channels, length 20, 20 classes)"
    plain = Dataset("plain", np.zeros((1, 1)))
    assert "no labels" in plain._repr_html_() and plain.classes is None and plain.n_classes == 0 and "no classes" in repr(plain)
    import matplotlib.pyplot as plt
    assert not plt.get_fignums()  # nothing left open


# The bundled sets: facts of the .ts files in aeon's wheel

FACTS = {"GunPoint": (50, 150, 150, {1: 24, 2: 26}, {1: 76, 2: 74}, -0.6478854, -1.1250133),
         "ArrowHead": (36, 175, 251, {0: 12, 1: 12, 2: 12}, {0: 69, 1: 53, 2: 53}, -1.9630089, -1.9077772),
         "ItalyPowerDemand": (67, 1029, 24, {1: 34, 2: 33}, {1: 513, 2: 516}, -0.71051757, 0.47297301)}


@pytest.mark.parametrize("name", FACTS)
def test_bundled(name):
    n, m, length, train, test, first, first_test = FACTS[name]
    data = load_ucr(name)
    assert data.X_train.shape == (n, 1, length) and data.X_test.shape == (m, 1, length)
    assert Counter(data.y_train.tolist()) == train and Counter(data.y_test.tolist()) == test
    assert data.X_train[0, 0, 0] == np.float32(first) and data.X_test[0, 0, 0] == np.float32(first_test)
    for X in (data.X_train, data.X_test):
        np.testing.assert_allclose(X.mean(-1), 0, atol=1e-6)
        np.testing.assert_allclose(X.var(-1, ddof=1), 1, atol=1e-5)


def test_bundled_is_small_and_has_its_card():
    folder = Path(sys.modules["ncvq_nb.data"].__file__).parent / "datasets"
    assert bundled() == sorted(FACTS) and sum(f.stat().st_size for f in folder.iterdir()) < 1_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    for name in FACTS: assert f"{(folder / (name + '.npz')).stat().st_size:,}" in card and name in card
    assert "BSD" in card and (folder / "LICENSE-aeon.txt").exists() and len((folder / "names.txt").read_text().split()) == 158


# Every layout, there and back

GUN = load_ucr("GunPoint")


def write_table(path, X, y, delimiter=",", last=False, header=None):
    rows = [([*x, k] if last else [k, *x]) if y is not None else x for x, k in zip(X[:, 0].tolist(), X if y is None else y.tolist())]
    path.write_text("".join(delimiter.join(map(str, row)) + "\n" for row in ([header] if header else []) + rows), encoding="utf-8")


def write_ts(path, X, y, head=""):
    lines = [f"#made by a test\n@problemName t\n@timeStamps false\n@univariate {str(X.shape[1] == 1).lower()}\n{head}"]
    lines.append("@classLabel false\n@data\n" if y is None else f"@classLabel true {' '.join(map(str, np.unique(y)))}\n@data\n")
    for i, x in enumerate(X): lines.append(":".join(",".join(map(repr, c.tolist())) for c in x) + ("" if y is None else f":{y[i]}") + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def same(a, b):
    for k in ("X_train", "y_train", "X_test", "y_test"): np.testing.assert_array_equal(getattr(a, k), getattr(b, k))
    assert a.name == b.name


@pytest.mark.parametrize("layout", ["Name/Name_TRAIN.tsv", "Name/Name_TRAIN.ts", "Name/Name_TRAIN.csv", "Name_TRAIN.tsv", "Name_TRAIN.ts", "Name.npz", "Name/Name.npz"])
@pytest.mark.parametrize("labels", ["int", "minus", "text"])
def test_archive_layouts(tmp_path, monkeypatch, layout, labels):
    named = {"int": lambda y: y, "minus": lambda y: np.where(y == 1, -1, 1), "text": lambda y: np.where(y == 1, "gun", "point")}[labels]
    data = Dataset("Name", GUN.X_train, named(GUN.y_train), GUN.X_test[:20], named(GUN.y_test[:20]))
    path = tmp_path / layout
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npz": np.savez(path, X_train=data.X_train[:, 0], y_train=data.y_train, X_test=data.X_test[:, 0], y_test=data.y_test)
    else:
        for part, X, y in (("TRAIN", data.X_train, data.y_train), ("TEST", data.X_test, data.y_test)):
            f = path.with_name(f"Name_{part}{path.suffix}")
            write_ts(f, X, y) if path.suffix == ".ts" else write_table(f, X, y, "\t" if path.suffix == ".tsv" else ",")
    same(load_ucr("Name", tmp_path), data)
    same(load_ucr("Name", str(tmp_path)), data)
    same(read_dataset(path), data)
    monkeypatch.setenv("NCVQ_DATA", str(tmp_path))
    same(load_ucr("Name"), data)


def test_ncvq_data_comes_before_the_package(tmp_path, monkeypatch):
    np.savez(tmp_path / "GunPoint.npz", X_train=np.zeros((2, 7)), y_train=[1, 2], X_test=np.zeros((2, 7)), y_test=[1, 2])
    monkeypatch.setenv("NCVQ_DATA", str(tmp_path))
    assert load_ucr("GunPoint").X_train.shape == (2, 1, 7)
    assert load_ucr("ArrowHead").X_train.shape == (36, 1, 251)  # not in the folder: from the package
    monkeypatch.setenv("NCVQ_DATA", str(tmp_path / "gone"))
    with says("NCVQ_DATA", "no such folder"): load_ucr("GunPoint")


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", " ", "  "])
@pytest.mark.parametrize("kind", ["first", "last", "none", "header", "text last", "named"])
def test_tables(tmp_path, delimiter, kind):
    X, y = GUN.X_train[:12], GUN.y_train[:12]
    names = [f"t{i}" for i in range(150)]
    f = tmp_path / "a.csv"
    ask = {}
    if kind == "first": write_table(f, X, y, delimiter)
    if kind == "last": write_table(f, X, y, delimiter, last=True); ask = dict(label="last")
    if kind == "none": write_table(f, X, None, delimiter); y, ask = None, dict(label=None)
    if kind == "header": write_table(f, X, y, delimiter, last=True, header=[*names, "Class"])
    if kind == "text last": y = np.where(y == 1, "gun", "point"); write_table(f, X, y, delimiter, last=True)
    if kind == "named": write_table(f, X, y, delimiter, header=["gesture", *names]); ask = dict(label="gesture")
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
        with says("a.csv", "index=False"): read_series(f, label=label)
    frame.drop(columns="label").to_csv(f)
    np.testing.assert_array_equal(read_series(f, label=None)[0], X_read)
    pd.DataFrame(np.c_[y, X]).to_csv(f, index=False)
    np.testing.assert_array_equal(read_series(f)[1], y)


def test_a_first_series_is_never_taken_for_a_header(tmp_path):
    (f := tmp_path / "a.csv").write_text("0,0,1,2,3\n1,4,5,6,7\n")  # a ramp among whole numbers
    assert read_series(f)[0].shape == (2, 1, 4)
    f.write_text("y,0.5,0.25,1\nn,0.5,0.5,2\ny,0.5,0.5,3\n")  # yes and no, not a column called y
    X, y = read_series(f)
    assert X.shape == (3, 1, 3) and y.tolist() == ["y", "n", "y"]
    f.write_text("y,0.25,0.5,0.75\nn,0.5,0.5,2\ny,0.5,0.5,3\n")  # even where its first series is a ramp
    assert read_series(f)[1].tolist() == ["y", "n", "y"]
    f.write_text("y,0.5,0.25\nn,0.5,0.5\n")
    assert read_series(f)[1].tolist() == ["y", "n"]
    f.write_text("label,0.0,0.5,1.0\n1,7,8,9\n1,7,8,8\n")  # time in seconds
    assert read_series(f)[0].tolist() == [[[7, 8, 9]], [[7, 8, 8]]]
    f.write_text("a,0.5\nb,0.25\n")  # nor a label beside one value
    assert read_series(f)[1].tolist() == ["a", "b"]
    f.write_text("0.5\n0.25\n")
    assert read_series(f, label=None)[0].tolist() == [[[.5]], [[.25]]]
    for head in ("label,t0", "label,0"):
        f.write_text(f"{head}\na,0.5\na,0.25\n")
        assert read_series(f)[0].tolist() == [[[.5]], [[.25]]]
    f.write_text("1,x,0.25\n2,0.5,0.5\n")
    with says("a.csv, line 1", "'x'"): read_series(f)


@pytest.mark.parametrize("text, ask, parts", [
    ("", {}, ["is empty"]), ("\n\n", {}, ["is empty"]),
    ("1,0.5,0.5\n2,0.5\n", {}, ["line 2", "2 values, but line 1 has 3", "one length"]),
    ("1,0.5,\n1,0.5,0.5\n", {}, ["line 1", "value 2", "missing ('')"]),
    ("\n1,0.5,NaN\n1,0.5,0.5\n", {}, ["line 2", "missing ('NaN')", "shorter series"]),
    ("1,0.5,?\n1,0.5,0.5\n", {}, ["missing ('?')"]), ("1,0.5,NA\n1,0.5,0.5\n", {}, ["missing ('NA')"]),
    ("1,0.5,inf\n1,0.5,0.5\n", {}, ["'inf', not a finite number"]),
    ("1,0.5,abc\n1,0.5,0.5\n", {}, ["value 2", "'abc', not a finite number"]),
    ("1;0,5;0,5\n1;0,5;0,5\n", {}, ["decimal point, not a comma"]),
    ("1,0.5,1_5\n1,0.5,0.5\n", {}, ["value 2", "'1_5', not a finite number"]),
    ("0.5,0.25\n0.25,0.5\n", {}, ["no column looks like labels", "label=None"]),
    ("".join(f"{i},0.5,0.25\n" for i in range(12)), {}, ["no column looks like labels"]),
    ("0.5,1,2\n0.25,1,2\n", dict(label="first"), ["0.5", "np.digitize"]),
    ("1,0.5\n2,0.5\n", dict(label="kind"), ["label='kind'", "no header"]),
    ("label,a,b\n1,0.5,1\n", dict(label="kind"), ["label='kind'", "label, a, b"]),
    ("1\n2\n", {}, ["no value stands beside the label"]),
    ("a,0.5,1\n,0.5,1\n", dict(label="first"), ["y[1] is missing"]),
])
def test_tables_refuse(tmp_path, text, ask, parts):
    (f := tmp_path / "a.csv").write_text(text)
    with says("a.csv", *parts): read_series(f, **ask)


def test_byte_order_mark(tmp_path):
    (f := tmp_path / "a.csv").write_text("1,0.5,0.25\n2,0.5,0.25\n", encoding="utf-8-sig")  # as spreadsheets write it
    assert read_series(f)[1].tolist() == [1, 2]


def test_not_a_text_file(tmp_path):
    (f := tmp_path / "a.csv").write_bytes("1,2\n".encode("utf-16"))
    with says("a.csv", "UTF-8"): read_series(f)
    (f := tmp_path / "a.ts").write_bytes(b"\xff\xfe\x00")
    with says("a.ts", "UTF-8"): read_series(f)


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("labels", [None, [1, 2, 1], ["up", "down", "up"]])
def test_ts(tmp_path, c, labels):
    X = rng.normal(size=(3, c, 11)).astype(np.float32)
    write_ts(f := tmp_path / "a.ts", X, None if labels is None else np.array(labels), "@equalLength true\n@seriesLength 11\n\n")
    X_read, y = read_series(f)
    np.testing.assert_array_equal(X_read, X)
    assert y is None if labels is None else y.tolist() == labels
    assert read_series(f, label=None)[1] is None


HEAD = "@classLabel true a b\n@data\n"


@pytest.mark.parametrize("text, parts", [
    ("", ["no '@data' line"]), ("@classLabel true a\n", ["no '@data' line"]), ("1,2:a\n", ["line 1", "no .ts file"]),
    (HEAD, ["no series after '@data'"]), ("@data\n1,2:a\n", ["whether it has labels"]),
    ("@timeStamps true\n" + HEAD + "(0,1),(1,2):a\n", ["time stamps"]),
    (HEAD + "1,2,3:a\n1,2:b\n", ["line 4", "2 values, but line 3 has 3", "one length"]),
    (HEAD + "1,2,3:1,2:a\n", ["line 3", "unequal length"]),
    (HEAD + "1,2:3,4:a\n1,2:b\n", ["line 4", "1 channels, but the first series has 2"]),
    (HEAD + "1,?,3:a\n", ["line 3, channel 0", "value 2", "missing ('?')"]), (HEAD + "1,NaN:a\n", ["missing ('NaN')"]),
    (HEAD + "1,b,3:a\n", ["'b', not a finite number"]), (HEAD + "1,2,3\n", ["parted by ':'"]),
    ("@targetLabel true\n@data\n1,2:0.5\n", ["0.5", "np.digitize"]),
])
def test_ts_refuses(tmp_path, text, parts):
    (f := tmp_path / "a.ts").write_text(text)
    with says("a.ts", *parts): read_series(f)


def test_npz(tmp_path):
    X, f = rng.normal(size=(5, 2, 9)).astype(np.float32), tmp_path / "a.npz"
    np.savez(f, X=X)
    X_read, y = read_series(f)
    assert y is None and np.array_equal(X_read, X)
    assert read_dataset(f).X_test is None
    np.savez_compressed(f, X=X, y=list("abbab"))
    assert read_series(f)[1].tolist() == list("abbab") and read_series(f, label=None)[1] is None
    assert repr(read_dataset(f, test_fraction=.4)) == "Dataset('a': 3 train + 2 test series, 2 channels, length 9, 2 classes)"
    with says("label='first'", ".csv"): read_series(f, label="first")


class Boom:
    "Unpickled, this would raise a flag."
    ran = False
    def __reduce__(self): return setattr, (Boom, "ran", True)


def test_npz_refuses(tmp_path):
    f = tmp_path / "a.npz"
    np.savez(f, X=np.array([Boom()], dtype=object))
    with says("a.npz", "pickle", "np.savez"): read_series(f)
    f.write_bytes(pickle.dumps(Boom()))
    with says("a.npz", "pickle"): read_series(f)
    assert not Boom.ran
    np.savez(f, data=np.zeros((2, 3)))
    with says("a.npz", "['data']", "np.savez(path, X=X, y=y)"): read_series(f)
    np.savez(f, X=np.full((2, 3), np.nan))
    with says("a.npz: X has 6 missing"): read_series(f)
    np.savez(f, X=np.zeros((2, 3)), y=[1, 2, 3])
    with says("a.npz: y_train has 3 labels for 2 series"): read_dataset(f)
    np.save(tmp_path / "b.npy", np.zeros((2, 3)))
    (tmp_path / "b.npy").rename(f)
    with says("a.npz", "no readable .npz"): read_series(f)


def test_damaged_npz(tmp_path):
    np.savez_compressed(f := tmp_path / "a.npz", X=rng.normal(size=(20, 30)), y=np.arange(20))
    whole = f.read_bytes()
    places = [0, 1, len(whole) // 2, len(whole) - 1]
    damaged = [whole[:i] for i in places] + [whole[:i] + bytes([whole[i] ^ 255]) * 8 + whole[i + 8:] for i in range(0, len(whole), 97)]
    for content in damaged:
        f.write_bytes(content)
        try: X, y = read_series(f)  # a byte that does not matter may have been hit
        except ValueError as e: assert "a.npz" in str(e)
        else: assert X.shape == (20, 1, 30)
    f.write_bytes(b"")
    with says("a.npz", "np.savez"): read_series(f)


def test_files_that_cannot_be_read(tmp_path):
    with says("nowhere.csv", "no such file"): read_series(tmp_path / "nowhere.csv")
    with says("folder", "load_ucr"): read_series(tmp_path)
    for name in ("a.parquet", "a.npy", "a"):
        (f := tmp_path / name).touch()
        with says(name, "allowed are .npz, .csv, .tsv and .ts"): read_series(f)


# load_ucr

def test_load_ucr_refuses(tmp_path, monkeypatch):
    monkeypatch.delenv("NCVQ_DATA", raising=False)
    with says("'gunpoint'", "Did you mean 'GunPoint'"): load_ucr("gunpoint")
    with says("'ElectricDevice'", "'ElectricDevices'"): load_ucr("ElectricDevice")
    with says("'zzzzzz'", "ArrowHead, GunPoint, ItalyPowerDemand"): load_ucr("zzzzzz")
    with says("name", "GunPoint"): load_ucr(None)
    with says("path", "nowhere", "no such folder"): load_ucr("GunPoint", tmp_path / "nowhere")
    (tmp_path / "file.csv").touch()
    with says("path", "read_dataset"): load_ucr("GunPoint", tmp_path / "file.csv")
    np.savez(tmp_path / "MyGestures.npz", X_train=np.zeros((2, 7)), y_train=[1, 2])
    with says("no MyGesture.npz", "Did you mean 'MyGestures'"): load_ucr("MyGesture", tmp_path)
    with says("there is no GunPoint/GunPoint_TRAIN.tsv"): load_ucr("GunPoint", tmp_path)  # a given folder is the only place
    with says("MyGestures.npz", "no test part", "X_test"): load_ucr("MyGestures", tmp_path)
    write_table(tmp_path / "Half_TRAIN.tsv", GUN.X_train, GUN.y_train, "\t")
    with says("no test part", "Half_TEST.tsv"): load_ucr("Half", tmp_path)


def without_aeon(monkeypatch):
    real = builtins.__import__
    def blocked(name, *args, **kw):
        if name.split(".")[0] == "aeon": raise ModuleNotFoundError("No module named 'aeon'")
        return real(name, *args, **kw)
    monkeypatch.setattr(builtins, "__import__", blocked)


def with_aeon(monkeypatch, load):
    "An aeon whose loader is `load(name, split)`."
    datasets = types.ModuleType("aeon.datasets")
    datasets.load_classification = load
    for name, module in (("aeon", types.ModuleType("aeon")), ("aeon.datasets", datasets)): monkeypatch.setitem(sys.modules, name, module)


def test_aeon_missing_offline_and_there(monkeypatch):
    monkeypatch.delenv("NCVQ_DATA", raising=False)
    with monkeypatch.context() as m:
        without_aeon(m)
        with says("Coffee", "pip install 'ncvq_nb[ucr]'", "load_ucr('Coffee', path=folder)", kind=ImportError): load_ucr("Coffee")
    def offline(name, split): raise OSError("Name or service not known")
    with_aeon(monkeypatch, offline)
    with says("Coffee", "Name or service not known", "offline", "path=folder", kind=ConnectionError): load_ucr("Coffee")
    with_aeon(monkeypatch, lambda name, split: (np.zeros((2, 1, 5)), np.array(["1", "2"])))
    data = load_ucr("Coffee")
    assert data.X_test.shape == (2, 1, 5) and data.y_train.tolist() == [1, 2] and data.name == "Coffee"
    with_aeon(monkeypatch, lambda name, split: ([np.zeros((1, 5)), np.zeros((1, 6))], np.array(["1", "2"])))
    with says("PLAID", "unequal length (5 to 6)"): load_ucr("PLAID")


@pytest.mark.parametrize("name, n, m, length, k", [
    ("ECG5000", 500, 4500, 140, 5), ("TwoPatterns", 1000, 4000, 128, 4), ("Wafer", 1000, 6164, 152, 2), ("ShapesAll", 600, 600, 512, 60),
    ("SonyAIBORobotSurface1", 20, 601, 70, 2), ("SonyAIBORobotSurface2", 27, 953, 65, 2), ("Symbols", 25, 995, 398, 6)])
@pytest.mark.skipif(not SHARED.is_dir(), reason="the development sets are not beside this checkout (../shared/data/ucr)")
def test_development_sets(name, n, m, length, k):
    data = load_ucr(name, SHARED)
    assert data.X_train.shape == (n, 1, length) and data.X_test.shape == (m, 1, length) and data.n_classes == k
    if name == "Wafer": assert data.classes.tolist() == [-1, 1]


# Standardiser

def test_standardiser_against_a_loop():
    X = rng.normal(size=(7, 3, 11)) * [[[1], [100], [1e-4]]] + [[[0], [-50], [3e-4]]]
    s = Standardiser().fit(X)
    for j in range(3):
        values = [float(np.float32(v)) for x in X for v in x[j]]
        mu = sum(values) / len(values)
        np.testing.assert_allclose(s.mean_[j], mu, rtol=1e-9)
        np.testing.assert_allclose(s.std_[j], (sum((v - mu) ** 2 for v in values) / len(values)) ** .5, rtol=1e-9)
    Z = s.transform(X)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(s.inverse_transform(Z), X, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(s.transform(rng.normal(size=(2, 3, 5))).shape, (2, 3, 5))  # another length is no matter
    np.testing.assert_allclose(Standardiser().fit(3 * X + 1).transform(3 * X + 1), Z, atol=1e-2)  # units do not matter


@pytest.mark.parametrize("value", [0., .1, -3e7, 1e-30, 123456.789])
def test_standardiser_constant_channel(value):
    X = np.full((5, 1, 9), value)
    s = Standardiser().fit(X)
    assert s.std_.tolist() == [1.] and not s.transform(X).any() or abs(s.transform(X)).max() < 1e-3 * abs(value)
    np.testing.assert_array_equal(s.inverse_transform(s.transform(X)), X.astype(np.float32))


def test_standardiser_small_signals_are_signals():
    X = 1e-20 * rng.normal(size=(5, 1, 9))
    np.testing.assert_allclose(Standardiser().fit(X).transform(X).std(), 1, rtol=1e-5)


def test_standardiser_refuses():
    with pytest.raises(NotFittedError, match="fit"): Standardiser().transform(np.zeros((2, 3)))
    s = Standardiser().fit(rng.normal(size=(4, 2, 9)))
    with says("3 channels", "fitted on 2"): s.inverse_transform(np.zeros((4, 3, 9)))
    with says("missing (NaN)"): s.transform(np.full((4, 2, 9), np.nan))
    with says("standard deviations away", "units"): s.transform(np.full((4, 2, 9), 1e30))
    wide = Standardiser().fit(1e38 * rng.normal(size=(4, 2, 9)).clip(-3, 3))
    with says("beyond the range of float32", "divide"): wide.inverse_transform(np.full((4, 2, 9), 9.))


# holdout

@pytest.mark.parametrize("sizes", [[10], [2, 2], [1, 1, 8], [24, 26], [10] * 60, [4] * 60, [1, 99], [3, 300, 3000], [1, 1, 2]])
@pytest.mark.parametrize("fraction", [.05, .1, .2, .5, .9])
def test_holdout(sizes, fraction):
    y = np.repeat(np.arange(len(sizes)), sizes)
    a, b = holdout(y, fraction, random_state=3)
    assert sorted([*a, *b]) == list(range(len(y))) and list(a) == sorted(a) and list(b) == sorted(b) and len(b) > 0
    left, gone = np.bincount(y[a], minlength=len(sizes)), np.bincount(y[b], minlength=len(sizes))
    assert (left >= 1).all()
    wish = max(1, int(fraction * len(y) + .5))
    assert len(b) == min(wish, len(y) - len(sizes))
    assert (np.abs(gone - fraction * np.array(sizes)) < 1).all() or len(b) < wish or min(sizes) == 1 or len(sizes) * fraction < 1 or fraction == .9
    assert all(np.array_equal(p, q) for p, q in zip((a, b), holdout(y, fraction, random_state=3)))


def test_holdout_is_random_and_leaves_the_global_state_alone():
    state = np.random.get_state()[1].copy()
    splits = {tuple(holdout(100, .2, s)[1]) for s in (0, 1, 2, None, np.random.default_rng(5))}
    assert len(splits) == 5 and np.array_equal(np.random.get_state()[1], state)


def test_holdout_refuses():
    for fraction in (0, 1, -1, 2):
        with says("fraction", "between 0 and 1"): holdout(10, fraction)
    with says("one series only"): holdout([1, 2, 3], .5)
    with says("parted in two"): holdout(1, .5)
    with says("number of series"): holdout(None, .5)


# write_atomically

def test_write_atomically(tmp_path):
    f = tmp_path / "a.txt"
    write_atomically(f, "one")
    write_atomically(f, b"two")
    write_atomically(f, lambda tmp: tmp.write_text("three"))
    assert f.read_text() == "three"
    def fails(tmp):
        tmp.write_text("fo")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): write_atomically(f, fails)
    assert f.read_text() == "three" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name, more", [("Y", {}), ("labels", {}), ("label", {}), ("target", {}), ("classes", {}), ("y", dict(X_test=np.zeros((2, 9))))])
def test_labels_of_an_npz_under_another_name_are_not_passed_over(tmp_path, name, more):
    X, f = rng.normal(size=(6, 9)), tmp_path / "a.npz"
    np.savez(f, **{"X_train" if more else "X": X, name: np.arange(6) % 2}, **more)
    with says(f"but {name!r}", "label=None"): read_dataset(f)
    assert read_dataset(f, label=None).y_train is None
    np.savez(f, X=X, y=np.arange(6) % 2, labels=np.arange(6), note=np.arange(3))
    assert read_dataset(f).y_train.tolist() == [0, 1] * 3


def test_whole_numbers_under_a_header_of_pandas(tmp_path):
    f, A = tmp_path / "a.csv", rng.integers(0, 50, (20, 12))
    head = ",".join(map(str, range(12)))
    f.write_text("\n".join([head, *(",".join(map(str, row)) for row in A)]))
    assert np.array_equal(read_series(f, label=None)[0][:, 0], A)
    f.write_text("\n".join([head] * 3))  # series of counts
    assert len(read_series(f, label=None)[0]) == 3


def test_whole_numbers_that_do_not_repeat_are_no_labels(tmp_path):
    f = tmp_path / "a.csv"
    f.write_text("10,1,2\n20,3,4\n30,5,6\n")
    with says("no column looks like labels"): read_series(f)
    f.write_text("10,1.5,2\n20,3,4\n30,5,6\n")  # beside decimals, in a small table
    assert read_series(f)[1].tolist() == [10, 20, 30]


@pytest.mark.parametrize("name", ["id", "patient", "date", "target"])
def test_columns_that_are_no_samples_are_not_read_as_such(tmp_path, name):
    f = tmp_path / "a.csv"
    f.write_text(f"{name},label,t0,t1\n" + "".join(f"{100 + i // 2},{i % 2},0.{i}5,{i}.5\n" for i in range(12)))
    with says(f"column {name!r}", "leave it out"): read_series(f, label="label")
    f.write_text("x,y,z\n1.5,2,3\n4,5,6\n")  # three coordinates
    assert read_series(f, label=None)[0].shape == (2, 1, 3)


def test_a_frame_with_its_labels_in_it_is_refused():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rng.normal(size=(6, 9))).assign(label=1)
    with says("column 'label'", "drop(columns='label')"): check_series(frame)
    assert check_labels(frame[["label"]], 6).tolist() == [1] * 6
    with says("holds 'a'", "na_value"): check_series(pd.DataFrame(rng.normal(size=(6, 9))).assign(kind="a"))


def test_a_table_of_whole_numbers_is_asked_about(tmp_path):
    "The first sample is not a label."
    f, counts = tmp_path / "a.csv", rng.integers(300, 900, (200, 12))
    rows = [",".join(map(str, row)) for row in counts]
    for head in ([], [",".join(f"t{i}" for i in range(12))]):
        f.write_text("\n".join(head + rows))
        with says("no column looks like labels"): read_series(f)
        assert np.array_equal(read_series(f, label=None)[0][:, 0], counts)
    f.write_text("\n".join(f"{i % 3},{row}" for i, row in enumerate(rows)))  # labels 0, 1, 2 before whole numbers
    assert read_series(f)[0].shape == (200, 1, 12) and set(read_series(f)[1]) == {0, 1, 2}


def test_another_text_in_every_row_is_no_label(tmp_path):
    f = tmp_path / "a.csv"
    f.write_text("day,0,1\n" + "".join(f"2024-01-{i:02},0.5,{i}\n" for i in range(1, 9)))
    with says("another text in every row", "label='first'"): read_series(f)
    assert len(set(read_series(f, label="first")[1])) == 8


def test_labels_keep_leading_zeros(tmp_path):
    f = tmp_path / "a.csv"
    f.write_text("007,0.5,0.25\n7,0.5,0.5\n007,1,0.5\n")
    assert read_series(f)[1].tolist() == ["007", "7", "007"]
    f.write_text("0,0.5,0.25\n1.0,0.5,0.5\n1,1,0.5\n")
    assert read_series(f)[1].tolist() == [0, 1, 1]
