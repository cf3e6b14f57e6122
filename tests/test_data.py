"""Series and labels from anywhere, good and bad; the data set, standardising, holding out."""

import math
import re
import warnings

import numpy as np
import pytest
from fuzzing import REFUSED, fuzz, hostile_series, labels, series, tried
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupShuffleSplit
from toys import says

from ncvq_nb.data import Dataset, Standardiser, check_labels, check_series, holdout

rng = np.random.default_rng(0)
coarse = pytest.mark.filterwarnings("ignore:.*float32 is too coarse:UserWarning")

# check_series

ALLOWED = "allowed are (n, length) and (n, channels, length)"
LATE_NAN = np.where(np.arange(24).reshape(2, 3, 4) == 21, np.nan, 0)


@pytest.mark.parametrize(
    "X, parts",
    [
        (None, ["is None", "(n, channels, length)"]),
        ("text", ["dtype", "real numbers"]),
        ({"a": 1}, ["dtype object"]),
        (3.0, ["shape ()"]),
        ([1.0, 2.0], ["shape (2,)", "name[None]"]),
        (np.zeros((2, 2, 2, 2)), ["shape (2, 2, 2, 2)", ALLOWED]),
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
        (
            [[0, np.nan], [np.nan, 0]],
            ["2 missing (NaN) values", "series 0, channel 0, time step 1: fill them in", "interp"],
        ),
        (LATE_NAN, ["1 missing (NaN) value,", "series 1, channel 2, time step 1"]),
        ([[0, np.inf]], ["1 infinite value,"]),
        ([[0, -np.inf]], ["1 infinite value,"]),
        (np.ma.masked_equal([[1, 2], [3, 4]], 3), ["masked array", "1 missing values: fill them"]),
        ([[1e300, 0]], ["range of float32"]),
    ],
)
def test_check_series_refuses(X, parts):
    with says("name", *parts):
        check_series(X, name="name")


def test_check_series_length():
    with says("length 7", "at least 8"):
        check_series(np.zeros((3, 7)), min_length=8)
    with says("X.transpose(0, 2, 1)"):
        check_series(np.zeros((3, 50, 2)), min_length=8)
    assert check_series(np.zeros((3, 8)), min_length=8).shape == (3, 1, 8)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "bool", ">f4", ">f8"]
)
def test_check_series_takes_every_number(dtype):
    A = check_series(np.array([[0, 1, 0], [1, 1, 0]]).astype(dtype))
    assert A.dtype == np.float32 and A.shape == (2, 1, 3)
    assert A.flags.c_contiguous and A.flags.writeable
    assert A.tolist() == [[[0, 1, 0]], [[1, 1, 0]]]


def test_check_series_makes_what_later_rooms_rely_on():
    X = rng.normal(size=(4, 6, 3)).transpose(0, 2, 1)
    A = check_series(X)
    assert A.flags.c_contiguous and np.array_equal(A, X.astype(np.float32))
    X = np.zeros((2, 1, 5), np.float32)
    X.flags.writeable = False  # as pandas hands out its columns
    assert check_series(X).flags.writeable
    unmasked = np.ma.masked_equal([[1.0, 2.0]], 9)  # a mask that hides nothing
    assert check_series(unmasked).tolist() == [[[1, 2]]]


def test_check_series_takes_tensors_and_frames():
    torch, pd = pytest.importorskip("torch"), pytest.importorskip("pandas")
    assert check_series(torch.ones(2, 3, requires_grad=True)).shape == (2, 1, 3)
    frame = pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]})
    assert check_series(frame).tolist() == [[[1, 3]], [[2, 4]]]



def test_check_series_warns_where_float32_is_too_coarse():
    clock = np.stack([rng.normal(size=(3, 50)), 1e9 + rng.normal(size=(3, 50))], 1)
    with pytest.warns(UserWarning, match="channel 1.*subtract the mean") as seen:
        check_series(clock)
    assert seen[0].filename == __file__  # the caller's line, not one of ours
    X = rng.normal(size=(3, 50))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fine in (X, np.full((3, 50), 0.1), 1e6 * X, np.arange(100).reshape(2, 50)):
            check_series(fine)


def as_float(X):
    "What `X` holds, by another way, or None where it is no series."
    if getattr(X, "dtype", None) == object:
        return None
    if hasattr(X, "tolist"):
        X_plain = X.tolist()
    else:
        X_plain = X.to_numpy() if hasattr(X, "to_numpy") else X
    try:
        a = np.asarray(X_plain)
    except (ValueError, TypeError):
        return None
    if np.ma.is_masked(X) or a.dtype.kind not in "fiub" or a.ndim not in (2, 3) or not a.size:
        return None
    a = a.astype(float) if a.ndim == 3 else a.astype(float)[:, None]
    return a if np.isfinite(a).all() else None


@coarse
@fuzz(900, X=hostile_series(5000), least=st.sampled_from([1, 1, 4, 100]))
def test_series_are_read_or_refused(X, least):
    out, want = tried(lambda: check_series(X, name="my_X", min_length=least), "my_X"), as_float(X)
    if want is None or want.shape[2] < least or np.abs(want).max() > 3.4028236e38:
        assert out is REFUSED
        return
    assert out is not REFUSED and out.dtype == np.float32 and out.shape == want.shape
    assert out.flags.c_contiguous and out.flags.writeable
    np.testing.assert_allclose(out, want, rtol=6e-8, atol=1.5e-45)


# Dataset


def test_dataset_checks_itself():
    X, y = np.zeros((4, 9)), [0, 0, 1, 1]
    for args, parts in [
        ((X, y[:3]), ["y_train has 3 labels for 4 series"]),
        ((X, y, X), ["only one of y_train and y_test"]),
        ((X, None, X, y), ["only one of y_train and y_test"]),
        ((X, y, None, y), ["y_test was given without X_test"]),
        ((X, y, np.zeros((4, 8)), y), ["(1, 8)", "(1, 9)"]),
        ((X, y, np.zeros((4, 2, 9)), y), ["(2, 9)", "(1, 9)"]),
        ((X, y, X, list("aabb")), ["use one type of label"]),
        ((X * np.nan, y), ["X_train has no observed sample in series 0 and 3 others"]),
        ((X, y, None, None, [1, 2]), ["groups_train has 2 labels for 4 series"]),
        ((X, y, X, y, y), ["only one of groups_train and groups_test"]),
        ((X, y, X, y, list("aabb"), list("ccdb")), ["share 'b'", "on both sides"]),
    ]:
        with says(*parts):
            Dataset("own", *args)


def test_the_name_of_a_data_set_comes_first():
    X, y = np.zeros((4, 9), np.float32), np.array([0, 0, 1, 1])
    for args in ((X, y, X, y), (X, y), ([X], y), (None, X, y)):
        with says("name is of type", "Dataset(name, X_train, y_train, …)", kind=TypeError):
            Dataset(*args)
    data = Dataset("own", X, y)
    X[0, 0] = 7  # not copied, as the docstring says
    assert data.X_train[0, 0, 0] == 7 and "not copied" in Dataset.__doc__


def test_dataset_shows_itself():
    many = Dataset("<many>", rng.normal(size=(40, 5, 20)), np.arange(40) % 20)
    html = many._repr_html_()
    assert "&lt;many&gt;" in html and "<many>" not in html and "(20 classes)" in html
    assert html.count("data:image/png;base64,") == 1 and len(html) < 100_000
    train = "40 train + 0 test series, 5 channels, length 20, 20 classes"
    assert repr(many) == f"Dataset('<many>': {train})"
    odd = "<img src=x onerror=alert(1)>|\n" + "long" * 10_000
    labelled = Dataset(odd, np.eye(4), [odd, "a"] * 2)
    html = re.sub(r'src="data:[^"]*"', "", labelled._repr_html_())
    assert "<img src=x" not in html and "onerror=alert(1)&gt;" in html and len(html) < 2000
    assert len(repr(labelled)) < 300 and "\n" not in repr(labelled)
    one = Dataset("plain", np.zeros((1, 1)))
    assert "no labels" in one._repr_html_() and "no classes" in repr(one)
    assert one.classes is None and one.n_classes == 0
    import matplotlib.pyplot as plt

    assert not plt.get_fignums()  # nothing left open


@coarse
@fuzz(
    150,
    X=hostile_series(),
    X_test=st.one_of(st.none(), hostile_series()),
    y=labels(),
    y_test=st.one_of(st.none(), labels()),
    name=st.text(max_size=20),
)
def test_data_sets_are_whole_or_refused(X, X_test, y, y_test, name):
    names = ("X_train", "y_train", "X_test", "y_test")
    d = tried(lambda: Dataset(name, X, y[1], X_test, y_test and y_test[1]), *names)
    if d is REFUSED:
        return
    assert len(d.X_train) == len(d.y_train) == len(y[0]) and repr(d)
    assert (d.X_test is None) == (X_test is None)
    assert list(d.classes) == sorted(set(d.y_train.tolist()))


# Standardiser


def test_standardiser_against_a_loop():
    X = rng.normal(size=(7, 3, 11)) * [[[1], [100], [1e-4]]] + [[[0], [-50], [3e-4]]]
    s = Standardiser().fit(X)
    for j in range(3):
        values = [float(np.float32(v)) for x in X for v in x[j]]
        mu = sum(values) / len(values)
        sigma = (sum((v - mu) ** 2 for v in values) / len(values)) ** 0.5
        np.testing.assert_allclose(s.mean_[j], mu, rtol=1e-9)
        np.testing.assert_allclose(s.std_[j], sigma, rtol=1e-9)
    Z = s.transform(X)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(s.inverse_transform(Z), X, rtol=1e-5, atol=1e-5)
    assert s.transform(rng.normal(size=(2, 3, 5))).shape == (2, 3, 5)  # of any length
    other_units = Standardiser().fit(3 * X + 1).transform(3 * X + 1)
    np.testing.assert_allclose(other_units, Z, atol=1e-2)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 1e-30, 123456.789])
def test_standardiser_constant_channel(value):
    X = np.full((5, 1, 9), value)
    s = Standardiser().fit(X)
    Z = s.transform(X)
    assert s.std_.tolist() == [1.0] and not Z.any() or abs(Z).max() < 1e-3 * abs(value)
    noisy = Z + rng.normal(size=Z.shape)  # whatever a network makes of it
    for A in (Z, noisy):
        np.testing.assert_array_equal(s.inverse_transform(A), X.astype(np.float32))


def test_standardiser_small_signals_are_signals():
    X = 1e-20 * rng.normal(size=(5, 1, 9))
    np.testing.assert_allclose(Standardiser().fit(X).transform(X).std(), 1, rtol=1e-5)


def test_standardiser_refuses():
    with pytest.raises(NotFittedError, match="fit"):
        Standardiser().transform(np.zeros((2, 3)))
    s = Standardiser().fit(rng.normal(size=(4, 2, 9)))
    with says("3 channels", "fitted on 2"):
        s.inverse_transform(np.zeros((4, 3, 9)))
    with says("missing (NaN)"):
        s.transform(np.full((4, 2, 9), np.nan))
    with says("standard deviations away", "units"):
        s.transform(np.full((4, 2, 9), 1e30))
    wide = Standardiser().fit(1e38 * rng.normal(size=(4, 2, 9)).clip(-3, 3))
    with says("beyond the range of float32", "divide"):
        wide.inverse_transform(np.full((4, 2, 9), 9.0))


@coarse
@fuzz(
    500,
    pair=series(
        sizes=((1, 5), (1, 3), (1, 60)), scales=st.integers(-44, 38), layouts=("plain", "list")
    ),
    other=series(sizes=((1, 4), (1, 3), (1, 60)), scales=st.integers(-44, 38), layouts=("plain",)),
)
def test_scaling_is_undone(pair, other):
    X, Y = pair[0], other[0]
    scaler = tried(lambda: Standardiser().fit(X), "X")
    if scaler is REFUSED:
        return
    assert np.isfinite(scaler.mean_).all() and (scaler.std_ > 0).all()
    Z = tried(lambda: scaler.transform(X), "-")
    far = np.abs(Z).max()
    assert np.isfinite(Z).all()
    assert far <= 1.01 * math.sqrt(Z.size) + 1e6 * (scaler.std_.max() >= 1)
    X32 = check_series(X)
    step = np.abs(X32).max((0, 2), keepdims=True) + np.asarray(scaler.std_)[:, None] * (far + 1)
    back = tried(lambda: scaler.inverse_transform(Z), "range of float32")
    if back is REFUSED:
        assert np.abs(X32).max() > 3e38
    else:
        assert back.dtype == np.float32
        assert (np.abs(back.astype(float) - X32) <= 2e-7 * step + 1e-44).all()
    Z = tried(lambda: scaler.transform(Y), "X has", "X lies", "X has values")
    if Z is not REFUSED:
        assert np.isfinite(Z).all() and Z.dtype == np.float32
        tried(lambda: scaler.inverse_transform(Z), "range of float32")


# holdout


@pytest.mark.parametrize(
    "sizes",
    [[10], [2, 2], [1, 1, 8], [24, 26], [10] * 60, [4] * 60, [1, 99], [3, 300, 3000], [1, 1, 2]],
)
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.5, 0.9])
def test_holdout(sizes, fraction):
    y = np.repeat(np.arange(len(sizes)), sizes)
    a, b = holdout(y, fraction, random_state=3)
    assert sorted([*a, *b]) == list(range(len(y))) and len(b) > 0
    assert list(a) == sorted(a) and list(b) == sorted(b)
    left, gone = np.bincount(y[a], minlength=len(sizes)), np.bincount(y[b], minlength=len(sizes))
    assert (left >= 1).all()
    wish = max(1, int(fraction * len(y) + 0.5))
    assert len(b) == min(wish, len(y) - len(sizes))
    even = (np.abs(gone - fraction * np.array(sizes)) < 1).all()
    impossible = len(b) < wish or min(sizes) == 1 or len(sizes) * fraction < 1 or fraction == 0.9
    assert even or impossible
    assert all(np.array_equal(p, q) for p, q in zip((a, b), holdout(y, fraction, random_state=3)))


def test_holdout_is_random_and_leaves_the_global_state_alone():
    state = np.random.get_state()[1].copy()
    splits = {tuple(holdout(100, 0.2, s)[1]) for s in (0, 1, 2, None, np.random.default_rng(5))}
    assert len(splits) == 5 and np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.8])
def test_groups_are_not_parted(labelled, fraction):
    "What scikit-learn's GroupShuffleSplit promises, and the shares of the classes besides."
    for seed in range(10):
        r = np.random.default_rng(seed)
        groups = r.permutation(np.repeat([f"p{i}" for i in range(30)], r.integers(1, 9, 30)))
        y = r.integers(0, 2, len(groups)) if labelled else None
        by = len(groups) if y is None else y
        a, b = holdout(by, fraction, seed, groups=groups)
        for stay, held in ((a, b), next(GroupShuffleSplit(1).split(groups, groups=groups))):
            assert not set(groups[stay]) & set(groups[held]) and len(stay) and len(held)
            assert sorted([*stay, *held]) == list(range(len(groups)))
        assert list(a) == sorted(a) and list(b) == sorted(b)
        largest = np.unique(groups, return_counts=True)[1].max()
        assert abs(len(b) - fraction * len(groups)) <= largest
        if labelled:
            assert set(y[a]) == {0, 1}
            share = np.bincount(y[b], minlength=2) / np.bincount(y)
            assert abs(share - fraction).max() < 0.25
        assert np.array_equal(holdout(by, fraction, seed, groups=groups)[1], b)


def test_groups_that_cannot_be_parted_are_named():
    y = ["a", "a", "b", "b"]
    with says("none of the 2 groups can go", "leave groups out"):
        holdout(y, 0.5, groups=[1, 1, 2, 2])
    with says("none of the 1 groups"):
        holdout(4, 0.5, groups=[1, 1, 1, 1])
    with says("groups has 3 labels for 4 series"):
        holdout(y, 0.5, groups=[1, 2, 3])
    with says("groups[1] is missing"):
        holdout(y, 0.5, groups=[1, None, 2, 3])
    assert holdout(y, 0.5, 0, groups=[1, 2, 3, 1])[1].tolist() == [1, 2]  # 3 or 1 would leave no b


def test_a_data_set_is_parted_by_groups():
    X, groups = rng.normal(size=(12, 9)), np.repeat(list("abcdef"), 2)
    d = Dataset("own", X, np.arange(12) % 2, groups_train=groups)
    parted = d.hold_out(1 / 3)
    assert not set(parted.groups_train) & set(parted.groups_test)
    assert len(parted.X_test) == len(parted.y_test) == len(parted.groups_test) == 4
    back = np.concatenate([parted.X_train, parted.X_test])
    assert sorted(back[:, 0, 0]) == sorted(d.X_train[:, 0, 0])
    stay, held = holdout(d.y_train, 1 / 3, 5)
    alone = Dataset("own", X, d.y_train).hold_out(1 / 3, 5)
    assert np.array_equal(alone.X_test, d.X_train[held]) and alone.groups_test is None
    assert np.array_equal(alone.y_train, d.y_train[stay])
    with says("'own' has test series already"):
        parted.hold_out(0.5)


def test_holdout_refuses():
    for fraction in (0, 1, -1, 2):
        with says("fraction", "between 0 and 1"):
            holdout(10, fraction)
    with says("one series only"):
        holdout([1, 2, 3], 0.5)
    with says("parted in two"):
        holdout(1, 0.5)
    with says("number of series"):
        holdout(None, 0.5)


@fuzz(
    250,
    y=st.one_of(
        labels(st.integers(0, 30)).map(lambda p: p[1]),
        st.integers(-2, 50),
        st.none(),
        st.floats(),
        st.just("abc"),
        st.just({}),
    ),
    fraction=st.one_of(st.floats(0.01, 0.99), st.floats(), st.just("x"), st.none(), st.just(1)),
    seed=st.integers(0, 2**32),
)
def test_parting_in_two_loses_nothing(y, fraction, seed):
    parts = tried(lambda: holdout(y, fraction, seed), "fraction", "y_or_n", "series")
    if parts is REFUSED:
        return
    a, b = parts
    n = y if isinstance(y, int) else len(y)
    assert sorted([*a, *b]) == list(range(n)) and len(a) and len(b)
    if not isinstance(y, int):
        assert {str(v) for v in check_labels(y, n)[a]} == {str(v) for v in check_labels(y, n)}
