"""Data frames as people have them: read right, or refused by an error whose remedy works."""

import re
import warnings

import numpy as np
import pytest
from toys import fingerprint, says, sines, tiny

import ncvq_nb
from ncvq_nb.data import Dataset, check_series
from ncvq_nb.estimator.prepared import read_series_array
from ncvq_nb.io.files import read_dataset

pd = pytest.importorskip("pandas")
N, L = 6, 12
rng = np.random.default_rng(0)
A = rng.normal(size=(N, L)).astype(np.float32)
B = rng.normal(size=(N, L)).astype(np.float32)
NAMES = [f"t{i}" for i in range(L)]
DAYS = pd.date_range("2024-03-01", periods=L)


def frame(**columns):
    "Six series of twelve samples t0 … t11, after other columns."
    first = pd.DataFrame(columns, index=range(N))
    return pd.concat([first, pd.DataFrame(A, columns=NAMES)], axis=1)


def mended(X, remedy):
    "What the code in an error makes of `X`; it must stand there as it is."
    with pytest.raises((ValueError, TypeError)) as e:
        check_series(X)
    assert remedy in str(e.value), f"{remedy!r} is not in: {e.value}"
    assert len(str(e.value)) < 700
    scope = dict(X=X.copy(), pandas=pd, numpy=np, ncvq_nb=ncvq_nb)
    if " = " in remedy:
        exec(remedy, scope)
        return scope["X"]
    return eval(remedy, scope)


def same(X, want=A):
    got = check_series(X)
    np.testing.assert_array_equal(got, check_series(want))


# Columns that are no samples


@pytest.mark.parametrize(
    "name, values",
    [
        ("customer_id", range(100, 106)),
        ("CustomerID", range(100, 106)),
        ("meter", range(6)),
        ("subject", [1, 1, 2, 2, 3, 3]),
        ("id", list("abcdef")),
        ("Unnamed: 0", range(6)),
        ("index", range(6)),
        ("timestamp", pd.date_range("2024-01-01", periods=6)),
        ("age", [30, 41, 25, 77, 60, 31]),
        ("diagnosis", [0, 1, 0, 1, 0, 1]),
    ],
)
def test_columns_that_are_no_samples_are_named(name, values):
    for X in (frame(**{name: values}), frame().assign(**{name: values})):
        same(mended(X, f"X = X.drop(columns={name!r})"))
    if name == "index":
        same(mended(frame().reset_index(), "X = X.drop(columns='index')"))
    with says(repr(name), "drop(columns="):
        Dataset("own", frame(**{name: values}))


def test_an_index_with_names_of_series_is_no_column():
    same(frame(customer_id=range(6)).set_index("customer_id"))
    same(frame().set_axis(list("abcdef")))


def test_columns_far_off_the_scale_of_the_others_are_named():
    X = pd.DataFrame(A, columns=list("abcdefghijkl")).assign(z=[9e5, 8e5, 7e5, 9e5, 8e5, 7e5])
    same(mended(X, "X = X.drop(columns='z')"))


def test_labels_are_taken_out_as_the_error_says():
    X = frame(label=list("ababab"))
    with says("'label'", "y = X.pop('label')"):
        check_series(X)
    y = X.pop("label")
    same(X)
    assert tiny(epochs=1).fit(X, y).classes_.tolist() == ["a", "b"]
    X = pd.DataFrame(A).assign(label=1)  # beside columns that are numbers
    same(mended(X, "X = X.drop(columns='label')"))
    X = pd.DataFrame(A).assign(kind=list("ababab"))
    same(mended(X, "X = X.drop(columns='kind')"))
    with says("'kind'", "holds text ('a')", "y = X.pop('kind')"):
        check_series(X)


def test_several_columns_are_named_at_once():
    X = frame(id=range(6), site=list("aabbcc"))
    same(mended(X, "X = X.drop(columns=['id', 'site'])"))


# Text


@pytest.mark.parametrize(
    "write, remedy",
    [
        (str, "X[['t1', 't2']] = X[['t1', 't2']].astype(float)"),
        (
            lambda v: str(v).replace(".", ","),
            "X[['t1', 't2']] = X[['t1', 't2']].replace(',', '.', regex=True).astype(float)",
        ),
    ],
    ids=["points", "commas"],
)
def test_numbers_written_as_text_become_numbers(write, remedy):
    X = frame().astype({"t1": object, "t2": object})
    for c in ("t1", "t2"):
        X[c] = [write(float(v)) for v in X[c]]
    same(mended(X, remedy))


def test_text_in_all_columns_becomes_numbers():
    same(mended(frame().astype(str), "X = X.astype(float)"))
    with says("Complex data not supported"):
        tiny().fit(frame() * 1j)


def test_marks_among_the_numbers_become_gaps_that_are_named():
    X = frame().astype({"t3": object})
    X.loc[4, "t3"] = "?"
    X["t3"] = X["t3"].astype(str)
    fixed = mended(X, "X[['t3']] = X[['t3']].apply(pandas.to_numeric, errors='coerce')")
    with says("1 missing (NaN) value", "series 4, channel 0, time step 3"):
        check_series(fixed)


# Order


def test_numbers_as_names_come_in_order():
    order = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]  # of the alphabet
    with says("'t2' comes after 't11'", "in the order of their numbers"):
        check_series(frame()[[NAMES[i] for i in order]])
    same(mended(pd.DataFrame(A)[order], "X.sort_index(axis=1)"))
    same(mended(pd.DataFrame(A, columns=DAYS).iloc[:, order], "X.sort_index(axis=1)"))
    same(pd.DataFrame(A, columns=np.linspace(4000, 400, L)))  # wavenumbers fall
    same(pd.DataFrame(A, columns=DAYS))
    same(pd.DataFrame(A, columns=DAYS.astype(str)))
    with says("only some are called by a text", "X.rename(columns=str)"):
        check_series(pd.DataFrame(A).rename(columns={3: "3"}))


@pytest.mark.parametrize(
    "columns, steps",
    [
        ([*range(4), *range(7, 15)], "from 1 to 4"),
        (pd.date_range("2024", periods=14, freq="h").delete([4, 5]), "from 3600 s to 10800 s"),
        (pd.date_range("2024", periods=14, tz="Asia/Tokyo").delete([4, 5]), "from 1 d to 3 d"),
        (pd.timedelta_range("1h", periods=13, freq="h").delete(7), "from 3600 s to 7200 s"),
        (pd.period_range("2020", periods=14, freq="M").delete([4, 5]), "from 1 to 3"),
    ],
)
def test_times_that_are_missing_from_the_columns_become_gaps(columns, steps):
    X = pd.DataFrame(A, columns=columns)
    same(mended(X, "X.set_axis(range(X.shape[1]), axis=1)"))
    with pytest.raises(ValueError, match=f"uneven steps in time, {steps}") as e:
        check_series(X)
    line = re.search(r"by (X\.reindex\(columns=.*\)); if", str(e.value))[1]
    full = check_series(eval(line, dict(X=X, pandas=pd)), missing=True)
    seen = ~np.isnan(full[0, 0])
    np.testing.assert_array_equal(full[:, 0, seen], A)
    assert seen.sum() == L < full.shape[-1]
    with says("uneven steps in time"):
        read_dataset(X, label=None)
    two = pd.concat({"x": X, "y": X}, axis=1)
    with says(f"uneven steps in time, {steps}", "put in the columns that are missing"):
        check_series(two)


def test_steps_that_are_nearly_equal_are_equal():
    seconds = [*range(6), *range(7, 13)]  # without a leap second
    for columns in (
        pd.date_range("2020", periods=L, freq="MS"),
        pd.date_range("2019", periods=L, freq="YS"),
        pd.date_range("2024-10-26 20:00", periods=L, freq="h", tz="Europe/Berlin"),
        np.linspace(0, 1, L).round(2),
        range(1, L + 1),
        [f"t{k}" for k in seconds],
        [f"sensor {c}" for c in "abcdefghijkl"],
    ):
        same(pd.DataFrame(A, columns=columns))


def test_columns_that_fall_are_sorted():
    for columns in (range(L - 1, -1, -1), range(L, 0, -1), DAYS[::-1], DAYS[::-1].to_period("D")):
        X = pd.DataFrame(A, columns=columns)
        same(mended(X, "X.sort_index(axis=1)"), A[:, ::-1])
        with says("comes after"):
            read_dataset(X, label=None)


def test_columns_of_one_name_are_refused():
    with says("two columns are called 't0'"):
        check_series(frame(t0=1.0))


# Rows that are time


@pytest.mark.parametrize(
    "index",
    [DAYS, DAYS.to_period("D"), DAYS - DAYS[0], DAYS.astype(str), pd.RangeIndex(L, name="time")],
    ids=["dates", "periods", "spans", "text", "named"],
)
def test_points_in_time_as_rows_are_turned_round(index):
    X = pd.DataFrame(A.T, index=index)
    same(mended(X, "X.T"))
    rows = pd.DataFrame(A, index=index[:N])
    same(mended(rows, "X.reset_index(drop=True)"))


def long_table(*values):
    "One row for each series and time step."
    who, when = np.repeat([7, 9, 8, 3, 4, 11], L), np.tile(DAYS, N)
    return pd.DataFrame({"who": who, "when": when} | dict(zip("ab", map(np.ravel, values))))


def test_long_tables_are_pivoted():
    X, first = long_table(A), np.argsort([7, 9, 8, 3, 4, 11])
    by = "id='who', time='when', value='a'"
    with says(f"ncvq_nb.read_series(X, {by})"):
        check_series(X)
    same(mended(X, "X.pivot(index='who', columns='when', values='a')"), A[first])
    by_time = X.sort_values(["when", "who"])
    same(mended(by_time, "X.pivot(index='who', columns='when', values='a')"), A[first])
    same(mended(X.set_index(["who", "when"]), "X.unstack()"), A[first])
    same(mended(X.set_index(["who", "when"])["a"], "X.unstack()"), A[first])
    counted = X.assign(when=np.tile(np.arange(L), N)).rename(columns={"when": "time"})
    same(mended(counted.set_index(["time", "who"]), "X.unstack(0)"), A[first])


def test_long_tables_of_two_channels_are_pivoted():
    X, first = long_table(A, B), np.argsort([7, 9, 8, 3, 4, 11])
    two = np.stack([A, B], 1)[first]
    same(mended(X, "X.pivot(index='who', columns='when', values=['a', 'b'])"), two)
    same(mended(X.set_index(["who", "when"]), "X.unstack()"), two)


def test_a_column_of_times_may_mean_rows_in_time():
    X = pd.DataFrame(A.T, columns=list("abcdef"))
    same(mended(X.assign(time=range(L)), "X.set_index('time').T"))
    same(mended(X.set_index(DAYS).rename_axis("day").reset_index(), "X.set_index('day').T"))
    one = long_table(A)[:L].rename(columns={"who": "id", "when": "time"})
    same(mended(one, "X.drop(columns=['id']).set_index('time').T"), A[:1])


def test_lists_of_data_frames_are_stacked():
    X = [pd.DataFrame({"a": a, "b": b}) for a, b in zip(A, B)]
    remedy = "numpy.stack([f.to_numpy().T for f in X])"
    with says("list of data frames", remedy):
        check_series(X)
    same(eval(remedy, dict(numpy=np, X=X)), np.stack([A, B], 1))


# Channels


def test_two_levels_of_columns_are_channels_and_times():
    two = np.stack([A, B], 1)
    flat = two.reshape(N, -1)
    for times in (range(L), NAMES, DAYS):
        for names in (None, ["channel", "time"]):
            columns = pd.MultiIndex.from_product([["x", "y"], times], names=names)
            same(pd.DataFrame(flat, columns=columns), two)
            by_time = [(c, t) for t in times for c in "xy"]
            same(pd.DataFrame(flat, columns=columns)[by_time], two)
    columns = pd.MultiIndex.from_product([range(L), ["x", "y"]])
    same(pd.DataFrame(two.transpose(0, 2, 1).reshape(N, -1), columns=columns), two)
    columns = pd.MultiIndex.from_product([list("ab"), list("xy")], names=["time", None])
    same(pd.DataFrame(A[:, :4], columns=columns), A[:, [[0, 2], [1, 3]]])


@pytest.mark.parametrize("k", ["drop", "id", "time", "value", "groups"])
def test_arguments_that_name_columns_are_for_one_level(k):
    columns = pd.MultiIndex.from_product([["x", "y"], range(L)])
    X = pd.DataFrame(np.hstack([A, B]), columns=columns, index=pd.Index(list("abcdef"), name="day"))
    X[("who", "")] = [1, 1, 2, 2, 3, 3]
    with says(f"frame: {k}= is for data frames with one level of columns: this one has 2"):
        read_dataset(X, test_fraction=0.3, **{k: "who"})
    parts = dict(X_train=X.drop(columns="who", level=0), groups_train=X["who"])
    data = Dataset("own", **parts).hold_out(0.3)
    assert not set(data.groups_train) & set(data.groups_test)
    X.columns = [" ".join(map(str, c)).strip() for c in X.columns]
    data = read_dataset(X, label=None, drop="who")
    assert data.channels == ["x", "y"] and np.array_equal(data.X_train, np.stack([A, B], 1))


def test_levels_of_columns_that_do_not_fit_are_named():
    columns = pd.MultiIndex.from_product([["x", "y"], range(L)])
    X = pd.DataFrame(np.hstack([A, B]), columns=columns)
    odd = pd.concat([X, pd.DataFrame({("label", ""): [1] * N})], axis=1)
    same(mended(odd, "X.drop(columns='label', level=0)"), np.stack([A, B], 1))
    swapped = X[[*columns[1::-1], *columns[2:]]]
    same(mended(swapped, "X.sort_index(axis=1)"), np.stack([A, B], 1))
    with says("3 levels of columns"):
        check_series(pd.concat({"z": X}, axis=1))
    text = X.astype(object)
    text[("y", 3)] = "b"
    with says("('y', 3)", "holds no numbers", "X.drop(columns=[('y', 3)])"):
        check_series(text)


def test_names_tell_channels_apart_as_in_files():
    X = pd.DataFrame(np.hstack([A, B]), columns=[f"c{j}_t{t}" for j in (0, 1) for t in range(L)])
    same(X, np.stack([A, B], 1))
    same(X[[f"c{j}_t{t}" for t in range(L) for j in (0, 1)]], np.stack([A, B], 1))


# Cells


def test_series_in_cells_are_stacked():
    cells, two = pd.Series(list(A)), np.stack([A, B], 1)
    same(cells)
    same(cells.map(list))
    same(pd.Series(list(two)), two)
    nested = pd.DataFrame({"x": list(A), "y": list(B)})
    for X in (nested, nested.map(pd.Series), nested.map(pd.Series).to_numpy()):
        same(X, two)
    with says("unequal length (5 to 12)", "one length"):
        check_series(pd.Series([*A[:3], A[4][:5]]))
    odd = nested.assign(age=3)
    with says("holds series in its cells, but 3 in series 0, channel 2"):
        check_series(odd)


def test_series_of_unequal_length_in_the_cells_of_a_frame():
    one = [a[: L - i % 3] for i, a in enumerate(A)]
    two = [np.stack([a, b[: len(a)]]) for a, b in zip(one, B)]
    y = list("ababab")
    for kind in (pd.Series, list, np.array):
        x = pd.DataFrame({"dim_0": [kind(a) for a in one]})
        xy = x.assign(dim_1=[kind(b[1]) for b in two])
        for X, listed in ((x, one), (xy, two)):
            wanted = Dataset("own", listed).X_train
            for data in (Dataset("own", X), read_dataset(X.assign(label=y))):
                np.testing.assert_array_equal(data.X_train, wanted)
            assert np.array_equal(read_series_array(X), wanted, equal_nan=True)
        whole = pd.DataFrame({"x": map(kind, A), "y": map(kind, B)})
        data = read_dataset(whole, label=None)
        np.testing.assert_array_equal(data.X_train, np.stack([A, B], 1))
        assert data.channels == ["x", "y"]
        xy.at[3, "dim_1"] = None
        for read in (lambda X: Dataset("own", X), lambda X: read_dataset(X, label=None)):
            with says("holds series in its cells, but None in series 3, channel 1"):
                read(xy)
        xy.at[3, "dim_1"] = kind(A[0][:5])
        with says("channels of unequal length (5 to 12) in series 3"):
            Dataset("own", xy)


def test_one_text_among_numbers_is_named_by_its_row():
    X = frame().astype({"t3": object})
    X.loc[2, "t3"] = "1,5"
    for read in (check_series, read_dataset):
        with says("'t3'", "'1,5' in row 2, counted from 0"):
            read(X)
    X["t3"] = X["t3"].astype(str)
    with says("'1,5' in row 2, counted from 0"):
        check_series(X)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "Float32", "boolean", object])
def test_gaps_in_every_dtype_are_named_by_place(dtype):
    whole = pd.DataFrame((A > 0).astype(int), columns=NAMES)
    X = whole.astype(bool).astype(dtype) if dtype == "boolean" else whole.astype(dtype)
    same(X, whole)
    X.iloc[4, 5] = pd.NA
    with says("1 missing (NaN) value", "series 4, channel 0, time step 5"):
        check_series(X)
    assert np.argwhere(np.isnan(read_series_array(X))).tolist() == [[4, 0, 5]]


def test_a_single_series_says_so():
    X = pd.Series(A[0])
    same(mended(X, "X.to_numpy()[None]"), A[:1])


def test_frames_of_another_library_are_read():
    class Column(np.ndarray):
        pass

    class Other:  # names and columns, as polars has them
        def __init__(self, **columns):
            self.columns, self._columns = list(columns), columns
            self.shape = len(next(iter(columns.values()))), len(columns)

        def __getitem__(self, name):
            return self._columns[name]

        def __len__(self):
            return self.shape[0]

    same(Other(**dict(zip(NAMES, A.T))))
    with says("'customer_id'", "X = X.drop('customer_id')"):
        check_series(Other(customer_id=np.arange(6), **dict(zip(NAMES, A.T))))


def test_empty_frames_are_refused():
    for X in (pd.DataFrame(), frame()[:0], frame()[[]]):
        with says("X is empty"):
            check_series(X)


# In an estimator


@pytest.fixture(scope="module")
def series():
    X, y = sines()
    return pd.DataFrame(X[:, 0], columns=[f"t{i}" for i in range(33)]), y


@pytest.fixture(scope="module")
def model(series):
    return tiny(epochs=1).fit(*series)


def test_a_frame_trains_what_its_array_trains(series, model):
    X, y = series
    assert fingerprint(tiny(epochs=1).fit(X.to_numpy(), y)) == fingerprint(model)
    assert model.feature_names_in_.tolist() == list(X) and model.n_features_in_ == 33
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(model.encode(X), model.encode(X.to_numpy()[:, None]))


@pytest.mark.parametrize("method", ["encode", "transform", "reconstruct", "features", "impute"])
def test_columns_in_another_order_are_refused_in_scikit_learns_words(series, model, method):
    X, _ = series
    f = getattr(model, method)
    with says("feature names should match", "in the same order as they were in fit"):
        f(X[list(X)[::-1]])
    with says("unseen at fit time", "- age"):
        f(X.assign(age=1))
    with says("seen at fit time, yet now missing", "- t3"):
        f(X.drop(columns="t3"))
    with pytest.warns(UserWarning, match="X does not have valid feature names, but NCVQ"):
        f(X.to_numpy())


def test_channels_in_another_order_are_refused():
    X, y = sines(channels=2)
    columns = pd.MultiIndex.from_product([["ecg", "flow"], range(33)])
    X = pd.DataFrame(X.reshape(12, -1), columns=columns)
    m = tiny(epochs=1).fit(X, y)
    assert m.data_["channels"] == 2 and not hasattr(m, "feature_names_in_")
    assert m.encode(X).shape[0] == 12
    with says("the channels ['flow', 'ecg']", "trained on ['ecg', 'flow']"):
        m.encode(X[["flow", "ecg"]])


def test_labels_and_identifiers_at_once_are_taken_out_by_lines_that_work():
    pd = pytest.importorskip("pandas")
    want = np.random.default_rng(0).normal(size=(6, 9))
    X = pd.DataFrame(want, columns=[f"t{i}" for i in range(9)])
    X.insert(0, "customer_id", range(6))
    X["label"] = list("ababab")
    with pytest.raises(ValueError) as said:
        tiny(epochs=1).fit(X)
    first, second = re.findall(r"(?:y|X) = X\.\w+\([^)]*\)", str(said.value))
    scope = dict(X=X)
    exec(f"{first}; {second}", scope)
    assert scope["y"].tolist() == list("ababab") and np.array_equal(scope["X"].to_numpy(), want)
