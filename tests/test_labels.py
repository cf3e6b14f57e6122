"""Labels of every kind: kept as they are, or refused; and what marks a missing one."""

import pickle

import numpy as np
import pytest
from fuzzing import REFUSED, fuzz, labels, tried
from hypothesis import strategies as st
from toys import says, sines, tiny

from ncvq_nb.data import Dataset, check_labels
from ncvq_nb.io.columns import MISSING


@pytest.mark.parametrize(
    "y, parts",
    [
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
        (["a", 1, 2], ["mixes strings and int"]),
        (np.array(["a", 1, 2], dtype=object), ["mixes strings and int"]),
        (np.array([[1], [2, 3], [4]], dtype=object), ["unequal length"]),
        (np.array([b"\xff", b"a", b"b"]), ["no UTF-8 text", "use strings"]),
        (np.array([1j, 2, 3]), ["dtype complex"]),
        (np.array(["2020", "2021", "2022"], "M8[Y]"), ["dtype datetime"]),
        (1e300 * np.ones(3), ["1e+300"]),
        ("kind", ["name is the text 'kind'", "one label per", "read_dataset(frame, label='kind')"]),
        (np.array([2**63 + 1, 1, 2], "u8"), ["holds 9223372036854775809", "name.astype(str)"]),
    ],
)
def test_check_labels_refuses(y, parts):
    with says("name", *parts):
        check_labels(y, 3, name="name")


@pytest.mark.parametrize(
    "y, expected",
    [
        ([-1, 1, 1], [-1, 1, 1]),
        ([1.0, 2.0, 2.0], [1, 2, 2]),
        (np.uint8([1, 2, 3]), [1, 2, 3]),
        ([True, False, True], [1, 0, 1]),
        (["b", "a", "b"], ["b", "a", "b"]),
        ([b"b", b"a", b"b"], ["b", "a", "b"]),
        (np.array([[1], [2], [2]]), [1, 2, 2]),
        (np.array(["x", "yy", "x"], dtype=object), ["x", "yy", "x"]),
        (np.array([1, 2.0, np.int8(3)], dtype=object), [1, 2, 3]),
    ],
)
def test_check_labels_keeps(y, expected):
    out = check_labels(y, 3)
    assert out.tolist() == expected and (out.dtype.kind == "U" or out.dtype == np.int64)


def test_check_labels_takes_frames_and_tensors():
    torch, pd = pytest.importorskip("torch"), pytest.importorskip("pandas")
    assert check_labels(pd.Series(["a", "b"]), 2).tolist() == ["a", "b"]
    assert check_labels(pd.Series(["a", "b"]).astype("category"), 2).tolist() == ["a", "b"]
    assert check_labels(pd.DataFrame({"label": [3, 4]}), 2).tolist() == [3, 4]
    assert check_labels(torch.tensor([3, 4]), 2).tolist() == [3, 4]
    whole = pd.Series([1, None], dtype="Int64")
    for missing in (pd.Series(["a", None]), whole, pd.Series([1, None])):
        with says("y[1] is missing"):
            check_labels(missing, 2)
    assert check_labels(None, 2) is None


def plain(values, y):
    "Whether these labels are plain integers or words in a list, which must be taken."
    whole = all(type(v) is int and -(2**63) <= v < 2**63 for v in values)
    words = all(type(v) is str and v.strip("\0") == v for v in values)
    words = words and not any(v.strip().lower() in MISSING for v in values)
    return bool(values) and (whole or words) and isinstance(y, (list, tuple))


def bare(v):
    "A label out of what it came in."
    if isinstance(v, (list, tuple)):
        (v,) = v
    if isinstance(v, bytes):
        v = v.rstrip(b"\0").decode()
    return v.rstrip("\0") if isinstance(v, str) else v


@fuzz(700, pair=labels(), more=st.sampled_from([0, 0, 0, 0, 1]))
def test_labels_are_kept_or_refused(pair, more):
    values, y = pair
    n = len(values) + more
    out = tried(lambda: check_labels(y, n, name="my_y"), "my_y")
    if more and not (hasattr(y, "__len__") and len(y) == n):
        assert out is REFUSED
    if out is REFUSED:
        assert more or not plain(values, y), f"refused {y!r}"
        return
    assert out.shape == (len(values),)
    assert out.dtype == np.int64 or out.dtype.kind == "U" or not values
    for given, kept in zip(y.tolist() if hasattr(y, "tolist") else y, out.tolist()):
        assert kept == bare(given), f"{given!r} became {kept!r}"
        assert isinstance(kept, str) == isinstance(bare(given), str)


# Marks for missing labels, and classes of that name

MARKS = ["", "NA", "N/A", "?", "null", "NaT", "#N/A", "None", "none", "nan", "NaN", "<NA>", " na "]


@pytest.mark.parametrize("mark", MARKS)
def test_every_mark_for_a_missing_label_is_seen(mark):
    for y in (["a", mark, "b"], np.array(["a", mark, "b"]), np.array(["a", mark, "b"], object)):
        with says("y[1] is missing", repr(mark), "drop that series", "missing=()"):
            check_labels(y, 3)


def test_a_class_may_bear_the_name_of_a_mark():
    X, names = sines()[0], ["None", "belt", "NA"] * 4
    with says("y[0] is missing ('None')", "y = ncvq_nb.data.check_labels(y, len(y), missing=())"):
        tiny(epochs=1).fit(X, names)
    y = check_labels(names, 12, missing=())  # as the error says
    assert y.tolist() == names and y.dtype.kind == "U"
    for part in (y[3:], y[y != "belt"], y[[0, 1]], pickle.loads(pickle.dumps(y)), y.copy()):
        assert check_labels(part, len(part)).tolist() == part.tolist()
    d = Dataset("faults", X, y, X, y)
    assert d.classes.tolist() == ["NA", "None", "belt"] and "None: 4" in d._repr_html_()
    m = tiny(epochs=1, validation_fraction=0.25).fit(X, d.y_train)
    assert m.classes_.tolist() == ["NA", "None", "belt"]
    assert m.sample(2, "None").shape == (2, 1, 33)
    assert check_labels(names, 12, missing=("?",)).tolist() == names
    with says("y[2] is missing ('NA')"):
        check_labels(names, 12, missing=("na",))
    plain = check_labels(["a", "b"], 2, missing=())
    assert type(plain) is np.ndarray


def test_the_marks_are_those_of_tables():
    assert all(mark.strip().lower() in MISSING for mark in MARKS)


def test_numpys_own_strings_are_labels():
    strings = pytest.importorskip("numpy.dtypes").StringDType
    assert check_labels(np.array(["a", "bb"], strings()), 2).tolist() == ["a", "bb"]
    for nothing in (None, np.nan):
        with says("y[1] is missing"):
            check_labels(np.array(["a", nothing], strings(na_object=nothing)), 2)


def test_messages_stay_short():
    for y in (["x" * 100_000, 1], ["?" + "?" * 100_000, ""], [10**400, 2]):
        with pytest.raises((ValueError, TypeError)) as e:
            check_labels(y, 2)
        assert len(str(e.value)) < 500
