"""Which columns are samples, labels and identifiers: the rule that files and frames share."""

import random

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import strategies as st
from toys import says

from ncvq_nb.io.columns import MISSING, Columns, choose_columns, like_identifier, marks_missing
from ncvq_nb.io.headings import channel_stems, split_channels, take_apart

rng = np.random.default_rng(0)
SAMPLES = {f"t{i}": rng.normal(size=12) for i in range(6)}
CODES, AGES = np.arange(12) % 2, np.array([34, 51, 60, 47] * 3)
IDENTIFIERS = (
    "id, ID, Id, customer_id, CustomerID, customerId, customerid, meter, Subject, patient, index, "
    "Unnamed: 0, Unnamed: 12, level_0, timestamp, date, Date, visit_date, record number, caseno, "
    "participant_id, user id, uuid, row, name, time, datetime, household, split"
).split(", ")
NO_IDENTIFIERS = (
    "t0, t12, x, y, value, grid, acid, fluid, valid, age, 0, 400, 400nm, 2024-01-01, c0_t0, day1, "
    "day_12, time0, hour 3, Jan, width, idle, candidate, sensor1"
).split(", ")


def choose(*tables, where="a.csv", **asked):
    "The choice among the columns of dictionaries, one after the other."
    table = {k: v for t in tables for k, v in t.items()}
    return choose_columns(list(table), table.get, where=where, **asked)


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_identifiers_are_refused_by_name(name):
    assert like_identifier(name)
    for label in ("auto", None):
        for table in ([{name: CODES}, SAMPLES], [SAMPLES, {name: AGES}]):
            with says(f"a.csv: the column {name!r}", "drop=", "id=", "label="):
                choose(*table, label=label)
            assert choose(*table, label=label, id=name).ids == [name]
            assert choose(*table, drop=[name]) == Columns(None, [], [name], list(SAMPLES))
            assert choose(*table, label=name).label == name


@pytest.mark.parametrize("name", NO_IDENTIFIERS)
def test_other_names_are_no_identifiers(name):
    assert not like_identifier(name)


@pytest.mark.parametrize("place", ["first", "last"])
def test_what_breaks_the_pattern_is_labels_or_refused(place):
    def among(name, values):
        odd = {name: values}
        return [odd, SAMPLES] if place == "first" else [SAMPLES, odd]

    assert choose(*among("diagnosis", CODES)).label == "diagnosis"
    assert choose(*among("diagnosis", 2 * CODES - 1)).label == "diagnosis"
    assert choose(*among("diagnosis", np.array(["ill", "well"] * 6))).label == "diagnosis"
    for values in (AGES, 0 * CODES, 10 * CODES, rng.normal(size=12), np.arange(12)):
        with says("the column 'age' breaks the pattern of 't0', 't1'", "label='age'"):
            choose(*among("age", values))
    with says("the column 'diagnosis' breaks the pattern", "label='diagnosis'"):
        choose(*among("diagnosis", CODES), label=None)
    assert choose(*among("age", AGES), label="age").label == "age"
    assert choose(*among("age", AGES), label=place).label == "age"
    with says("'kind' and 'churn' both look like labels"):
        choose(*among("kind", CODES), {"churn": CODES[::-1]})


def test_without_labels_none_are_found_where_the_header_shows_it():
    assert choose(SAMPLES).label is None
    with says("'t0' may hold labels"):  # R calls the label's column V1 as well
        choose({**SAMPLES, "t0": CODES})
    assert choose({**SAMPLES, "t0": 0 * CODES}).samples == list(SAMPLES)  # paths from zero
    plain = {n: v for n, v in zip("abcdef", SAMPLES.values())}
    with says("no column looks like labels", "label=None"):
        choose(plain)
    with says("no column looks like labels"):
        choose({"age": AGES}, plain)  # whole numbers that repeat, under a name of their own
    assert choose({"kind": CODES}, plain).label == "kind"
    assert choose(plain, label=None).samples == list(plain)


def test_labels_by_name():
    assert choose({"y": CODES}, SAMPLES).label == "y"
    assert choose(SAMPLES, {"Class": AGES}).label == "Class"
    assert choose({k: rng.normal(size=12) for k in "xyz"}, label=None).samples == list("xyz")
    with says("no column looks like labels"):
        choose({k: rng.normal(size=12) for k in "xyz"})  # y is a coordinate beside x
    with says("'label' is named like labels"):
        choose(SAMPLES, {"label": CODES}, label=None)
    with says("'target' is named like labels"):
        choose(SAMPLES, {"label": CODES, "target": CODES})


def test_text_and_dates_are_refused_by_name():
    words = np.array(["a", "b", "c"] * 4)
    days = np.arange("2024-01-01", "2024-01-13", dtype="M8[D]")
    with says("the column 'note' holds text ('a')", "drop='note'"):
        choose(SAMPLES, {"note": words, "label": CODES})
    with says("the column 'seen' holds dates ('2024-01-01')", "id=, time= and value="):
        choose(SAMPLES, {"seen": days, "label": CODES, "date": days})
    with says("the columns 'v1', 'v2', 'v3', 'v4', … hold text ('a')", "drop=['v1', 'v2'"):
        choose({f"v{i}": words for i in range(1, 8)}, label=None)


@pytest.mark.parametrize("named", [False, True])
def test_far_off_the_scale(named):
    names = list("abcdef") if named else [f"column {i}" for i in range(1, 7)]
    plain = dict(zip(names, SAMPLES.values()))
    for k, values in ((0, AGES + 4000), (3, -1e6 - SAMPLES["t0"]), (5, np.arange(5, 17))):
        odd = {**plain, names[k]: values}
        with says(f"the column {names[k]!r}", "drop="):
            choose(odd, label=None)
        assert choose(odd, label=None, drop=names[k]).dropped == [names[k]]
    growing = {n: np.exp(i) * np.abs(v) for i, (n, v) in enumerate(plain.items())}
    assert choose(growing, label=None).samples == names
    spike = {**plain, names[2]: np.r_[1e6, rng.normal(size=11)]}  # in one series only
    assert choose(spike, label=None).samples == names
    whole = {n: np.arange(i, 12 + i) for i, n in enumerate(names)}
    assert choose(whole, label=None).samples == names


def test_a_column_that_a_header_names_as_a_sample_may_have_any_scale():
    assert choose({**SAMPLES, "t3": AGES + 4000}).samples == list(SAMPLES)


@fuzz(
    100,
    stem=st.sampled_from(["t", "", "V", "x_", "t-", "400.", "sample ", "F#", "c0_t"]),
    after=st.sampled_from(["", "nm", "]", "_z"]),
    start=st.integers(0, 12),
    n=st.integers(2, 30),
    seed=st.integers(0, 9),
)
def test_numbered_columns_are_taken_in_order_or_refused(stem, after, start, n, seed):
    stem = "" if stem == "400." and after else stem
    names = [f"{stem}{i}{after}" for i in range(start, start + n)]
    values = {name: rng.normal(size=5) for name in names}
    if stem == "400." and n > 9:  # 400.9 before 400.10
        return
    assert choose_columns(names, values.get, label=None).samples == names
    mixed = random.Random(seed).sample(names, n)
    if mixed not in (names, names[::-1]):
        with says("comes after", "numbered columns are read in the order of their numbers"):
            choose_columns(mixed, values.get, label=None)


def test_names_that_do_not_exist_or_exist_twice():
    for what in ("label", "drop", "id"):
        with says(f"{what}='nix' names no column of a.csv", "'t0', 't1'"):
            choose(SAMPLES, **{what: "nix"})
        with says(f"{what}='xxx", "…"):
            choose(SAMPLES, **{what: "x" * 10_000})
    with says("two columns are called 'a'"):
        choose_columns(["a", "b", "a"], SAMPLES.get)
    with says("no column of samples is left"):
        choose(SAMPLES, drop=list(SAMPLES))


def test_one_argument_names_one_column():
    with says("label=['t0', 't1'] names 2 columns of a.csv: label= is one column"):
        choose(SAMPLES, label=["t0", "t1"])
    with says("no column of samples is left"):
        choose({})


def test_a_number_stands_for_the_column_of_that_name():
    table = dict(zip(map(str, range(1, 7)), SAMPLES.values()))
    for name in (0, np.int64(0), [0], "0"):
        assert choose({"0": AGES}, table, label=name).label == "0"
        assert choose({"0": AGES}, table, label=None, drop=name).dropped == ["0"]
        assert choose({"0": AGES}, table, label=None, id=name).ids == ["0"]
    with says("drop=7 names no column of a.csv"):
        choose(table, label=None, drop=7)


def test_numbers_joined_by_an_underscore_are_no_number():
    names = [f"{c}_{t}" for c in range(2) for t in range(8)]
    assert split_channels(names) == [names[:8], names[8:]]
    assert channel_stems(names) == ["0", "1"]
    assert [take_apart(n).stem for n in ("0_7", "1_7")] == ["0_#", "1_#"]
    for name in ("nan", "NaN", "inf", "-Infinity"):
        assert take_apart(name) == (None, None)


@pytest.mark.parametrize("month", ["{}_{:02}", "{}_{}", "{}_{:02}_15", "{}-{:02}"])
def test_months_are_one_channel_in_the_order_of_time(month):
    names = [month.format(y, m) for y in (2020, 2021) for m in range(1, 13)]
    assert split_channels(names) == [names] and channel_stems(names) is None
    values = {n: rng.normal(size=5) for n in names}
    assert choose_columns(names, values.get).samples == names
    mixed = [names[1], names[0], *names[2:]]
    with says("comes after", "in the order of their numbers"):
        choose_columns(mixed, values.get, label=None)


def test_days_of_two_months_are_no_channels():
    names = [f"2020_{m}_{d:02}" for m in ("07", "08") for d in range(1, 32)]
    assert split_channels(names) == [names]


def test_what_was_taken_is_said():
    table = [{"subject": AGES, "age": AGES}, SAMPLES, {"ill": CODES}]
    found = choose(*table, id="subject", drop="age")
    said = "labels: column ill; identifiers: subject; left out: age; samples: t0 … t5 (6)"
    assert found.said() == said
    channels = {f"c{j}_t{t}": SAMPLES["t0"] for t in range(4) for j in range(3)}
    assert choose(channels).said() == "no labels; samples: c0_t0 … c2_t3 (3 channels of 4)"
    long = choose({"a\n" * 500: CODES}, SAMPLES, label="first").said()
    assert len(long) < 100 and "\n" not in long
    proposed = []
    with says("my remedy"):
        choose({"id": CODES}, SAMPLES, remedy=lambda odd: proposed.append(odd) or "my remedy")
    assert proposed == [["id"]]


def test_marks_for_missing_values():
    marks = "NA N/A #N/A #NA <NA> NaN nan -nan NaT null NULL None none ?".split() + ["", " "]
    assert all(map(marks_missing, marks))
    assert not any(map(marks_missing, ("0", "-", "no", "Nan1", "missing", "nil", "+")))
    assert not any(marks_missing(m, ()) for m in marks) and "" in MISSING
