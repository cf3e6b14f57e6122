"""Names of columns: kept, saved, compared, and given back as they came in."""

import json
import warnings

import numpy as np
import pytest
from forging import config
from toys import says, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.data import check_series
from ncvq_nb.estimator.names import column_names, series_frame

pd = pytest.importorskip("pandas")
X, Y = sines(channels=2)
FLAT = X.reshape(12, -1)
DAYS = pd.date_range("2024-03-01", periods=33, tz="Europe/Vienna")
FRAMES = dict(
    text=pd.DataFrame(X[:, 0], columns=[f"hour {i}" for i in range(33)]),
    numbers=pd.DataFrame(X[:, 0], columns=np.arange(100, 133)),
    wavelengths=pd.DataFrame(X[:, 0], columns=pd.Index(np.linspace(0.1, 1, 33), name="nm")),
    times=pd.DataFrame(X[:, 0], columns=DAYS),
    months=pd.DataFrame(X[:, 0], columns=pd.period_range("2024-01", periods=33, freq="M")),
    levels=pd.DataFrame(
        FLAT, columns=pd.MultiIndex.from_product([["flow", "ecg"], DAYS], names=["channel", "time"])
    ),
    interleaved=pd.DataFrame(
        X.transpose(0, 2, 1).reshape(12, -1), columns=[f"{c}{t}" for t in range(33) for c in "xy"]
    ),
)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_series_get_the_columns_that_they_came_with(frame):
    names = json.loads(json.dumps(column_names(frame)))
    again = series_frame(check_series(frame), names)
    pd.testing.assert_frame_equal(again, frame, check_freq=False)
    assert column_names(again) == names


def quick(*data, **how):
    return tiny(epochs=1, sampling_steps=1).fit(*data, **how)


@pytest.fixture(scope="module", params=["text", "levels"])
def framed(request):
    frame = FRAMES[request.param]
    return frame, quick(frame, Y)


def test_samples_have_the_columns_that_came_in(framed, tmp_path):
    frame, m = framed
    new, a = (m.sample(3, random_state=0, as_frame=f) for f in (True, False))
    assert new.columns.equals(frame.columns) and new.columns.names == frame.columns.names
    np.testing.assert_array_equal(check_series(new), a)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.sample(3, random_state=0, as_frame=True), new)
    kept = getattr(m, "feature_names_in_", np.zeros(0))
    assert getattr(again, "feature_names_in_", np.zeros(0)).tolist() == kept.tolist()
    with says("X has the channels" if len(frame.columns) > 33 else "in the same order"):
        again.encode(frame.iloc[:, ::-1].sort_index(axis=1, level=1, sort_remaining=False))


@pytest.fixture(scope="module")
def plain():
    return quick(X, Y)


def test_without_names_columns_say_channel_and_time(plain):
    new, a = (plain.sample(4, random_state=0, as_frame=f) for f in (True, False))
    assert list(new)[32:34] == ["c0_t32", "c1_t0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(plain.encode(new), plain.encode(a))
    with pytest.warns(UserWarning, match="X has feature names, but NCVQ"):
        plain.encode(FRAMES["interleaved"])


def test_nested_frames_give_two_levels():
    nested = pd.DataFrame({"flow": list(X[:, 0]), "ecg": list(X[:, 1])})
    again = series_frame(X, column_names(nested))
    assert again.columns.tolist()[32:34] == [("flow", 32), ("ecg", 0)]
    np.testing.assert_array_equal(check_series(again), X)


def test_names_are_no_other_data_and_an_array_forgets_them(tmp_path):
    m = quick(X[:, 0], Y, run_dir=tmp_path)
    assert "columns" not in m.data_
    m.fit(FRAMES["text"], Y, run_dir=tmp_path)
    assert m.feature_names_in_.tolist() == list(FRAMES["text"])
    with says("feature names should match"):
        m.fit_prior(FRAMES["text"].iloc[:, ::-1], Y)
    m.fit(X[:, 0], Y, run_dir=tmp_path)
    assert not hasattr(m, "feature_names_in_") and "columns" not in m.data_


BAD = {
    "no list": 5,
    "no level": dict(times=5),
    "too few": dict(times=dict(name=None, kind="text", values=["a"])),
    "numbers": dict(times=dict(name=None, kind="text", values=list(range(33)))),
    "long": dict(times=dict(name=None, kind="text", values=["a" * 1001] * 33)),
    "another": dict(rows=dict(name=None, kind="text", values=["a"] * 33)),
}


@pytest.mark.parametrize("names", BAD.values(), ids=BAD)
def test_forged_names_are_refused(names, plain, tmp_path):
    folder = tmp_path / "m"
    plain.save(folder)
    assert "columns" not in json.loads((folder / "config.json").read_text())["data"]
    config("data", "columns", value=names)(folder)
    with says("names of"):
        NCVQ.load(folder)
