"""Files of series: what was written is read, damage is noticed, a pickle is never opened."""

import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from forging import PICKLES, Payload
from fuzzing import REFUSED, damage, fuzz, series, tried
from hypothesis import assume
from hypothesis import strategies as st
from test_tables import WORDS
from toys import says

import ncvq_nb.io.npz as npz_room
from ncvq_nb.io.archive import load_ucr
from ncvq_nb.io.files import read_dataset, read_series

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def test_files_that_cannot_be_read(tmp_path):
    with says("nowhere.csv", "no such file", kind=FileNotFoundError):
        read_series(tmp_path / "nowhere.csv")
    with says("folder", "load_ucr", kind=IsADirectoryError):
        read_series(tmp_path)
    for name in ("a.doc", "a"):
        (f := tmp_path / name).touch()
        with says(name, "allowed are .npz, .npy, .csv, .tsv, .ts, .arff and .parquet"):
            read_series(f)


@pytest.mark.parametrize("suffix", [".csv", ".ts", ".npz", ".npy", ".arff", ".parquet"])
def test_a_device_is_no_data_set(tmp_path, suffix):
    for name, target in (("zero", "/dev/zero"), ("null", "/dev/null")):
        (f := tmp_path / f"{name}{suffix}").symlink_to(target)
        with pytest.raises(ValueError, match=name):
            read_series(f)
    os.mkfifo(f := tmp_path / f"pipe{suffix}")
    with pytest.raises(ValueError, match="pipe"):
        read_series(f)


# .ts


def write_ts(path, X, y, head="@timeStamps false\n"):
    "Series (n, channels, length) and labels, or None, in the format of the archive."
    says = "false" if y is None else f"true {' '.join(map(str, np.unique(y)))}"
    lines = [f"#made by a test\n@problemName t\n{head}@classLabel {says}\n@data"]
    for i, x in enumerate(X):
        fields = [",".join(map(repr, c.tolist())) for c in x]
        lines.append(":".join(fields + ([] if y is None else [str(y[i])])))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("labels", [None, [1, 2, 1], ["up", "down", "up"]])
def test_ts(tmp_path, c, labels):
    X, f = rng.normal(size=(3, c, 11)).astype(np.float32), tmp_path / "a.ts"
    write_ts(f, X, labels, f"@univariate {c == 1}\n@equalLength true\n@seriesLength 11\n\n")
    X_read, y = read_series(f)
    np.testing.assert_array_equal(X_read, X)
    assert y is None if labels is None else y.tolist() == labels
    assert read_series(f, label=None)[1] is None


HEAD = "@classLabel true a b\n@data\n"


@pytest.mark.parametrize(
    "text, parts",
    [
        ("", ["no '@data' line"]),
        ("@classLabel true a\n", ["no '@data' line"]),
        ("1,2:a\n", ["line 1", "no .ts file"]),
        (HEAD, ["no series after '@data'"]),
        ("@data\n1,2:a\n", ["whether it has labels"]),
        ("@timeStamps true\n" + HEAD + "(0,1),(1,2):a\n", ["time stamps"]),
        ("@equalLength true\n" + HEAD + "1,2,3:a\n1,2:b\n", ["line 5: 2 values", "has 3", "true"]),
        (HEAD + "1,2,3:1,2:a\n", ["line 3: the channels have 2 and 3 values"]),
        (HEAD + "1,2:3,4:a\n1,2:b\n", ["line 4", "1 channels, but the first series has 2"]),
        (HEAD + "?,NaN:a\n", ["no observed sample in series 0"]),
        (HEAD + "1,b,3:a\n", ["line 3, channel 0", "value 2", "'b', not a finite number"]),
        (HEAD + "1,2,3\n", ["parted by ':'"]),
        ("@targetLabel true\n@data\n1,2:0.5\n", ["0.5", "np.digitize"]),
        # a header that lies
        (HEAD + "1,2:a\n3,4:c\n", ["line 4", "label 'c'", "@classLabel, 'a', 'b'"]),
        ("@univariate true\n" + HEAD + "1,2:3,4:a\n", ["line 4: 2 channels", "@univariate true"]),
        ("@dimensions 3\n" + HEAD + "1,2:3,4:a\n", ["line 4: 2 channels", "@dimensions 3"]),
        ("@seriesLength 3\n" + HEAD + "1,2:a\n", ["line 4: 2 values", "@serieslength 3"]),
        ("@classLabel false\n@data\n1,2:a\n", ["line 3", "'a', looks like a label"]),
        (HEAD + "1,2:?\n", ["line 3: the label is missing ('?')", "missing="]),
        (HEAD + f"1,2:{'b' * 5000}\n", ["line 3: a label of 5,000 characters"]),
    ],
)
def test_ts_refuses(tmp_path, text, parts):
    (f := tmp_path / "a.ts").write_text(text)
    with says("a.ts", *parts):
        read_series(f)


@fuzz(
    120,
    pair=series(scales=st.integers(-30, 30), dtypes=("f4",), layouts=("plain",)),
    words=st.lists(WORDS, min_size=5, max_size=5),
    kind=st.sampled_from(["none", "words", "integers"]),
)
def test_ts_files_come_back(home, pair, words, kind):
    X = pair[1]
    n = len(X)
    y = {"none": None, "words": words[:n], "integers": list(range(n))}[kind]
    write_ts(home / "a.ts", X, y)
    found = tried(lambda: read_series(home / "a.ts"), "a.ts")
    np.testing.assert_allclose(found[0], X, rtol=6e-8, atol=1e-44)
    assert found[1] is None if y is None else found[1].tolist() == y


# .npz


def test_npz(tmp_path):
    X, f = rng.normal(size=(5, 2, 9)).astype(np.float32), tmp_path / "a.npz"
    np.savez(f, X=X)
    X_read, y = read_series(f)
    assert y is None and np.array_equal(X_read, X)
    assert read_dataset(f).X_test is None
    np.savez_compressed(f, X=X, y=list("abbab"))
    assert read_series(f)[1].tolist() == list("abbab") and read_series(f, label=None)[1] is None
    split = "3 train + 2 test series, 2 channels, length 9, 2 classes"
    assert repr(read_dataset(f, test_fraction=0.4)) == f"Dataset('a': {split})"
    with says("label='first'", ".csv"):
        read_series(f, label="first")


def test_npz_refuses(tmp_path):
    f = tmp_path / "a.npz"
    np.savez(f, data=np.zeros((2, 3)))
    with says("a.npz", "['data']", "np.savez(path, X=X, y=y)"):
        read_series(f)
    np.savez(f, X=np.full((2, 3), np.nan))
    with says("a.npz: X has no observed sample in series 0 and 1 others"):
        read_series(f)
    np.savez(f, X=np.zeros((2, 3)), y=[1, 2, 3])
    with says("a.npz: y_train has 3 labels for 2 series"):
        read_dataset(f)
    np.save(tmp_path / "b.npy", np.zeros((2, 3)))
    (tmp_path / "b.npy").rename(f)
    with says("a.npz", "no readable .npz"):
        read_series(f)
    f.write_bytes(b"")
    with says("a.npz", "np.savez"):
        read_series(f)


@pytest.mark.parametrize("name", ["Y", "labels", "label", "target", "classes", "y"])
def test_labels_of_an_npz_under_another_name_are_not_passed_over(tmp_path, name):
    X, f, y = rng.normal(size=(6, 9)), tmp_path / "a.npz", np.arange(6) % 2
    held = {"X_train": X, "X_test": X} if name == "y" else {"X": X}
    np.savez(f, **held, **{name: y})
    with says(f"but {name!r}", "label=None"):
        read_dataset(f)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_dataset(f, label=None).y_train is None
    np.savez(f, X=X, y=y, labels=np.arange(6), note=np.arange(3))
    with pytest.warns(UserWarning, match="a.npz: not read, .*'labels', 'note'"):
        assert read_dataset(f).y_train.tolist() == [0, 1] * 3


@fuzz(
    120,
    pair=series(
        scales=st.integers(-30, 30),
        dtypes=("f2", "f4", "f8", "i4", "?"),
        layouts=("plain", "fortran", "swapped"),
    ),
    words=st.lists(WORDS, min_size=5, max_size=5),
    kind=st.sampled_from(["none", "words", "integers", "split"]),
    compress=st.booleans(),
)
def test_arrays_come_back_from_npz(home, pair, words, kind, compress):
    X, want = pair
    assume(np.isfinite(want).all())
    n = len(X)
    y = {"words": np.array(words[:n]), "none": None}.get(kind, np.arange(n) - 2)
    held = {"X": X} if y is None else {"X": X, "y": y}
    if kind == "split":
        held = {"X_train": X, "y_train": y, "X_test": X[::-1], "y_test": y[::-1]}
    (np.savez_compressed if compress else np.savez)(home / "a.npz", **held)
    found = tried(lambda: read_dataset(home / "a.npz"), "a.npz")
    np.testing.assert_allclose(found.X_train, want, rtol=6e-8, atol=1e-44)
    assert found.y_train is None if y is None else found.y_train.tolist() == y.tolist()
    if kind == "split":
        assert np.array_equal(found.X_test, found.X_train[::-1])
        assert np.array_equal(found.y_test, found.y_train[::-1])


def test_parts_of_an_npz_whose_meaning_is_plain_are_taken(tmp_path):
    X, y, f = rng.normal(size=(6, 9)).astype("f4"), np.arange(6) % 2, tmp_path / "a.npz"
    for held in (
        dict(X=X, y=y, X_test=X[::-1], y_test=y[::-1]),
        dict(x_train=X, y_train=y, x_test=X[::-1], y_test=y[::-1]),
        dict(X=X, y_train=y, X_test=X[::-1], y_test=y[::-1]),
    ):
        np.savez(f, **held)
        data = read_dataset(f)
        assert np.array_equal(data.X_train[:, 0], X) and np.array_equal(data.y_train, y)
        assert (
            np.array_equal(data.X_test, data.X_train[::-1]) and data.y_test.tolist() == [1, 0] * 3
        )
    np.savez(f, X=X, X_train=X)
    with says("has both 'X' and 'X_train'"):
        read_dataset(f)
    np.savez(f, X=X, y=y, groups=list("aabbcc"))
    assert read_dataset(f).groups_train.tolist() == list("aabbcc")


def test_only_what_is_needed_is_read_and_its_size_is_bounded(tmp_path, monkeypatch):
    f, X, read = tmp_path / "a.npz", rng.normal(size=(6, 9)), []
    real = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(
        np.lib.npyio.NpzFile, "__getitem__", lambda z, k: (read.append(k), real(z, k))[1]
    )
    zeros = np.zeros((1000, 1000))
    np.savez_compressed(f, X_train=X, y_train=np.arange(6), X_test=X, more=zeros)
    with pytest.warns(UserWarning, match="'more'"):
        read_series(f)
    assert read == ["X_train", "y_train"]
    monkeypatch.setattr(npz_room, "_ALWAYS", 2**20)
    np.savez_compressed(f, X=zeros)
    with says("a.npz", "the array 'X' would inflate", "into 8,000,128", "np.savez"):
        read_series(f)
    np.savez(f, X=zeros)
    assert read_series(f)[0].shape == (1000, 1, 1000)
    np.savez(f, X=X, y=["a"] * 5 + ["b" * 1001])
    with says("a.npz: y has labels of up to 1,001 characters"):
        read_series(f)


# Other formats


def test_npy(tmp_path):
    np.save(f := tmp_path / "a.npy", X := rng.normal(size=(5, 2, 9)).astype("f4"))
    assert np.array_equal(read_series(f)[0], X) and read_dataset(f).y_train is None
    np.save(f, np.array([{}, 1], object))
    with says("a.npy", "pickled objects"):
        read_series(f)
    f.write_bytes(b"no array")
    with says("a.npy is no readable .npy file"):
        read_series(f)


ARFF = """% made by a test
@relation t
@attribute 'att 1' numeric
@attribute att2 REAL
@attribute target {1,2}

@data
0.5,1,2
0.25,-1e3,1
"""


def test_arff(tmp_path):
    (f := tmp_path / "a.arff").write_text(ARFF)
    data = read_dataset(f)
    assert data.X_train.tolist() == [[[0.5, 1]], [[0.25, -1000]]]
    assert data.y_train.tolist() == [2, 1]
    want, _ = pytest.importorskip("scipy.io.arff").loadarff(f)
    assert [[r[0], r[1]] for r in want] == data.X_train[:, 0].tolist()
    for text, parts in (
        (ARFF.replace("-1e3", "x"), ["line 9: value 2", "'x', not a finite number"]),
        (ARFF.replace("0.5,1,2", "0.5,1"), ["line 9: 3 values, but line 8 has 2"]),
        (ARFF.replace("REAL", "relational"), ["line 4", "several channels", ".ts"]),
        (ARFF.replace("@data", ""), ["no '@data' line"]),
        (ARFF.replace("0.5,1,2", "{0 1, 2 3}"), ["line 8: sparse rows"]),
    ):
        f.write_text(text)
        with says("a.arff", *parts):
            read_series(f)


def test_gaps_in_arff_and_ts_files(tmp_path):
    (f := tmp_path / "a.arff").write_text(ARFF.replace("-1e3", "?"))
    np.testing.assert_array_equal(read_series(f)[0][:, 0], [[0.5, 1], [0.25, np.nan]])
    (f := tmp_path / "a_TRAIN.ts").write_text(HEAD + "1,?,3:a\n1,2:b\n")
    f.with_name("a_TEST.ts").write_text(HEAD + "1,2,3,4:a\n1,2,3,4:b\n")
    data = read_dataset(f)
    assert data.X_train.shape == data.X_test.shape == (2, 1, 4)
    np.testing.assert_array_equal(np.isnan(data.X_train[:, 0]).sum(1), [2, 2])


def test_parquet_is_read_by_pandas_or_converted_in_two_lines(tmp_path, monkeypatch):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(dict(t0=[0.5, 1, 2], t1=[1.5, 2, 3], kind=list("aba")))
    (f := tmp_path / "a.parquet").write_bytes(b"PAR1")

    def without(path):
        raise ImportError("no engine")

    monkeypatch.setattr(pd, "read_parquet", without)
    lines = ["import pandas as pd\n", f"pd.read_parquet({str(f)!r}).to_csv("]
    with says("a.parquet", "pip install pandas pyarrow", *lines, kind=ImportError):
        read_series(f)
    monkeypatch.setattr(pd, "read_parquet", lambda path: frame)
    data = read_dataset(f)
    assert data.y_train.tolist() == list("aba") and data.X_train.shape == (3, 1, 2)
    (g := tmp_path / "a.xlsx").touch()
    with says("a.xlsx", "Two lines", "pd.read_excel"):
        read_series(g)


# Data frames, by the rules of tables


def test_data_frames_are_read_as_tables_are(tmp_path):
    pd = pytest.importorskip("pandas")
    A = rng.normal(size=(12, 30)).astype("f4")
    frame = pd.DataFrame(A, columns=[f"t{i}" for i in range(30)])
    frame.insert(0, "meter", np.arange(12) + 100)
    frame["kind"] = ["a", "b"] * 6
    frame.to_csv(f := tmp_path / "a.csv", index=False)
    for source in (frame, f):
        with says("column 'meter'", "drop='meter'"):
            read_series(source)
        X, y = found = read_series(source, id="meter")
        assert np.array_equal(X[:, 0], A) and y.tolist() == ["a", "b"] * 6
        assert found.said == "labels: column kind; identifiers: meter; samples: t0 … t29 (30)"
        assert found.said in repr(found)
        data = read_dataset(source, label=None, drop=["meter", "kind"], test_fraction=0.25)
        assert data.y_train is None and len(data.X_test) == 3
    two = pd.DataFrame(A, columns=[f"c{j}_t{i}" for j in range(2) for i in range(15)])
    assert np.array_equal(read_series(two)[0], A.reshape(12, 2, 15))
    mixed = two[sorted(two.columns, key=lambda n: int(n.split("t")[1]))]
    assert np.array_equal(read_series(mixed)[0], A.reshape(12, 2, 15))
    levels = pd.MultiIndex.from_product([["x", "y"], range(15)])
    wide = pd.DataFrame(A, columns=levels)
    assert np.array_equal(read_series(wide)[0], A.reshape(12, 2, 15))
    wide[("label", "")] = ["a", "b"] * 6
    assert read_series(wide)[1].tolist() == ["a", "b"] * 6
    days = pd.DataFrame(A.T, index=pd.date_range("2024-01-01", periods=30))
    with says("points in time"):
        read_series(days, label=None)


def test_labels_themselves_are_no_name_of_a_column():
    pd = pytest.importorskip("pandas")
    frame, y = pd.DataFrame(rng.normal(size=(6, 9))).add_prefix("t"), np.array(list("ababab"))
    for label in (y, pd.Series(y), list(y)):
        with says("label holds 6 values", "one column", "Dataset(name, X, y)", kind=TypeError):
            read_dataset(frame, label=label)


def test_an_address_is_no_file():
    for address in ("https://example.org/a.csv", "s3://bucket/a.parquet"):
        with says("is an address", "download it first", kind=FileNotFoundError):
            read_series(address)


def test_numbers_that_were_said_to_mark_missing_values(tmp_path):
    pd = pytest.importorskip("pandas")
    A = rng.normal(size=(8, 5))
    A[3, 2] = -9999
    np.savez(f := tmp_path / "a.npz", X=A)
    np.save(g := tmp_path / "a.npy", A.astype("i4"))
    for source in (f, g, pd.DataFrame(A).add_prefix("t")):
        X = read_dataset(source, missing=["?", -9999]).X_train
        assert np.argwhere(np.isnan(X)).tolist() == [[3, 0, 2]]
        assert len(read_dataset(source).X_train) == 8


@pytest.mark.parametrize("mark", [-999, np.int64(-999), np.float32(-999), [np.int16(-999)]])
def test_a_mark_may_be_any_kind_of_number(tmp_path, mark):
    A = rng.normal(size=(4, 6))
    A[1, 2] = -999
    np.save(f := tmp_path / "a.npy", A)
    assert np.argwhere(np.isnan(read_series(f, missing=mark)[0])).tolist() == [[1, 0, 2]]


def test_a_number_names_a_column_of_a_frame_or_a_file(tmp_path):
    pd = pytest.importorskip("pandas")
    A = rng.normal(size=(6, 9)).astype(np.float32)
    frame = pd.DataFrame(np.c_[[3, 3, 4, 4, 5, 5], A])
    frame.to_csv(f := tmp_path / "a.csv", index=False)
    for source in (frame, f):
        X, y = read_series(source, label=0)
        assert y.tolist() == [3, 3, 4, 4, 5, 5] and np.array_equal(X[:, 0], A)
        for asked in (dict(drop=0), dict(id=0), dict(id=np.int64(0)), dict(drop=[0])):
            X, y = read_series(source, label=None, **asked)
            assert y is None and np.array_equal(X[:, 0], A)
        data = read_dataset(source, label=None, groups=0)
        assert data.groups_train.tolist() == [3, 3, 4, 4, 5, 5]
    with says("groups=[0, 1] names 2 columns of frame: groups= is one column"):
        read_dataset(frame, label=None, groups=[0, 1])


def test_an_empty_frame_is_refused_in_words():
    pd = pytest.importorskip("pandas")
    for asked in (dict(), dict(label=None), dict(drop="a")):
        with pytest.raises(ValueError, match="frame"):
            read_series(pd.DataFrame(), **asked)


def test_text_takes_the_room_that_it_needs(tmp_path):
    "One text of 100,000 characters once made 5,001 of that size: 2 GB."
    lines = [f"{'ab'[i % 2]},{i / 7},{i / 3}\n" for i in range(5000)]
    (f := tmp_path / "a.csv").write_text(
        "label,t0,t1\n" + "".join(lines) + "c" * 100_000 + ",1,2\n"
    )
    tracemalloc.start()
    with says("line 5002: a label of 100,000 characters"):
        read_series(f)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20e6


def test_a_class_called_none_is_kept_when_asked_for():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rng.normal(size=(8, 5))).add_prefix("t")
    frame["label"] = ["None", "some"] * 4
    with says("is missing ('None')"):
        read_dataset(frame)
    data = read_dataset(frame, missing=[], test_fraction=0.5)
    assert data.classes.tolist() == ["None", "some"]
    frame.loc[2, "label"] = None
    with says("y[2] is missing"):
        read_dataset(frame, missing=[])


# Damage


def test_damaged_npz(tmp_path):
    np.savez_compressed(f := tmp_path / "a.npz", X=rng.normal(size=(20, 30)), y=np.arange(20))
    whole = f.read_bytes()
    cut = [whole[:i] for i in (0, 1, len(whole) // 2, len(whole) - 1)]
    hits = range(0, len(whole), 97)
    changed = [whole[:i] + bytes([whole[i] ^ 255]) * 8 + whole[i + 8 :] for i in hits]
    for content in cut + changed:
        f.write_bytes(content)
        try:
            X, y = read_series(f)  # a byte that does not matter may have been hit
        except ValueError as e:
            assert "a.npz" in str(e)
        else:
            assert X.shape == (20, 1, 30)


@pytest.fixture(scope="module")
def npz(home):
    X, y, blobs = np.random.default_rng(0).normal(size=(4, 2, 9)), np.array(list("abac")), []
    for save in (np.savez, np.savez_compressed):
        save(home / "whole.npz", X=X, y=y)
        blobs.append((home / "whole.npz").read_bytes())
    return X, y, blobs


@fuzz(300, spoil=damage(), which=st.integers(0, 1))
def test_a_damaged_npz_is_right_or_refused(home, npz, spoil, which):
    X, y, whole = npz
    (home / "b.npz").write_bytes(spoil(whole[which]))
    found = tried(lambda: read_series(home / "b.npz"), "b.npz")
    if found is not REFUSED:
        assert np.array_equal(found[0], X.astype("f4")) and found[1].tolist() == y.tolist()


TEXTS = {
    "b.csv": "label,t0,t1,t2\na,0.5,1e-3,-7\nb,2,3.25,4\na,0,0,0.125\n",
    "b.tsv": "1\t0.5\t0.25\t3\n2\t-1.5\t2\t1e5\n1\t3\t4\t5\n",
    "c.csv": "0.5;1;2;3\n4;5;6;7\n",
    "b.ts": "#x\n@problemName b\n@timeStamps false\n@classLabel true a b\n@data\n"
    "1,2,3:4,5,6:a\n-1,0.5,1e2:0,0,0:b\n",
}


@fuzz(
    500,
    spoil=damage(),
    name=st.sampled_from(list(TEXTS)),
    label=st.sampled_from(["auto", "auto", None]),
)
def test_a_damaged_text_is_whole_or_refused(home, spoil, name, label):
    (f := home / name).write_bytes(spoil(TEXTS[name].encode()))
    found = tried(lambda: read_series(f, label=label), name)
    if found is REFUSED:
        return
    X, y = found
    assert X.ndim == 3 and X.dtype == np.float32 and np.isfinite(X).all()
    assert y is None or label is not None and len(y) == len(X)
    assert len(X) <= sum(c in b"\n\r" for c in f.read_bytes()) + 1


# From strangers: a pickle is never opened, and no size that a header claims is believed


@pytest.mark.parametrize("make", PICKLES)
def test_a_pickle_in_a_data_set_is_never_opened(tmp_path, make):
    f, marker = tmp_path / "Evil.npz", tmp_path / "pwned"
    make(f, marker)
    for read in (read_series, read_dataset, lambda f: load_ucr("Evil", f.parent)):
        with pytest.raises(ValueError, match="(?s)Evil.npz.*np.savez"):
            read(f)
    assert not marker.exists()


def test_the_payload_would_have_worked(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "pwned")))
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "descr, shape",
    [
        ("<f8", (2**40,)),
        ("<f8", (2**62, 2**62)),
        ("<f8", (-1, 5)),
        ("|O", (3,)),
        ("<U1000000000", (9,)),
        ("|V8", (2, 2)),
        ("[('a', '<f8')]", (2, 2)),
        ("__import__('os').mkdir('pwned')", (2, 2)),
    ],
    ids=str,
)
def test_a_forged_header_in_a_data_set_is_refused(tmp_path, monkeypatch, descr, shape):
    monkeypatch.chdir(tmp_path)
    descr = descr if descr[0] in "[_" else repr(descr)
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape!r}}}".ljust(117) + "\n"
    array = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + bytes(64)
    with zipfile.ZipFile("a.npz", "w") as z:
        z.writestr("X.npy", array)
    with pytest.raises((ValueError, TypeError), match="a.npz"):
        read_series("a.npz")
    assert not Path("pwned").exists()
