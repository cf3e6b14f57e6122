"""Data sets by name: the bundled ones against the facts of their source, folders, aeon, others."""

import builtins
import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from test_files import write_ts
from test_tables import write_table
from toys import says, tiny

import ncvq_nb
from ncvq_nb import NCVQ
from ncvq_nb.data import Dataset
from ncvq_nb.io.archive import bundled, find_dataset, load_ucr
from ncvq_nb.io.files import read_dataset

GUN = load_ucr("GunPoint")

# The bundled sets: facts of the .ts files in aeon's wheel

FACTS = {
    "GunPoint": (50, 150, 150, {1: 24, 2: 26}, {1: 76, 2: 74}),
    "ArrowHead": (36, 175, 251, {0: 12, 1: 12, 2: 12}, {0: 69, 1: 53, 2: 53}),
    "ItalyPowerDemand": (67, 1029, 24, {1: 34, 2: 33}, {1: 513, 2: 516}),
}
FIRST = {  # value of the train part, and of the test part
    "GunPoint": (-0.6478854, -1.1250133),
    "ArrowHead": (-1.9630089, -1.9077772),
    "ItalyPowerDemand": (-0.71051757, 0.47297301),
}


@pytest.mark.parametrize("name", FACTS)
def test_bundled(name):
    n, m, length, train, test = FACTS[name]
    data = load_ucr(name)
    assert data.X_train.shape == (n, 1, length) and data.X_test.shape == (m, 1, length)
    assert Counter(data.y_train.tolist()) == train and Counter(data.y_test.tolist()) == test
    for X, first in zip((data.X_train, data.X_test), FIRST[name]):
        assert X[0, 0, 0] == np.float32(first)
        np.testing.assert_allclose(X.mean(-1), 0, atol=1e-6)
        np.testing.assert_allclose(X.var(-1, ddof=1), 1, atol=1e-5)


def test_bundled_is_small_and_has_its_card():
    folder = Path(ncvq_nb.__file__).parent / "datasets"
    assert bundled() == sorted(FACTS)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 1_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    for name in FACTS:
        assert f"{(folder / (name + '.npz')).stat().st_size:,}" in card and name in card
    assert "BSD" in card and (folder / "LICENSE-aeon.txt").exists()
    assert len((folder / "names.txt").read_text().split()) == 158


# Every layout of a folder, there and back

LAYOUTS = (
    "Name/Name_TRAIN.tsv Name/Name_TRAIN.ts Name/Name_TRAIN.csv Name_TRAIN.tsv Name_TRAIN.ts "
    "Name.npz Name/Name.npz"
).split()
LABELS = dict(int=[1, 2], minus=[-1, 1], text=["gun", "point"])


def same(a, b):
    for k in ("X_train", "y_train", "X_test", "y_test"):
        np.testing.assert_array_equal(getattr(a, k), getattr(b, k))
    assert a.name == b.name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("labels", LABELS)
def test_archive_layouts(tmp_path, monkeypatch, layout, labels):
    names = np.array(LABELS[labels])
    y, y_test = names[GUN.y_train - 1], names[GUN.y_test[:20] - 1]
    data = Dataset("Name", GUN.X_train, y, GUN.X_test[:20], y_test)
    path = tmp_path / layout
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npz":
        X, X_test = data.X_train[:, 0], data.X_test[:, 0]
        np.savez(path, X_train=X, y_train=y, X_test=X_test, y_test=y_test)
    for part, X, k in (("TRAIN", data.X_train, y), ("TEST", data.X_test, y_test)):
        f = path.with_name(f"Name_{part}{path.suffix}")
        if path.suffix == ".ts":
            write_ts(f, X, k)
        if path.suffix in (".tsv", ".csv"):
            write_table(f, X, k, "\t" if path.suffix == ".tsv" else ",")
    same(load_ucr("Name", tmp_path), data)
    same(load_ucr("Name", str(tmp_path)), data)
    same(read_dataset(path), data)
    monkeypatch.setenv("NCVQ_DATA", str(tmp_path))
    same(load_ucr("Name"), data)


def test_ncvq_data_comes_before_the_package(tmp_path, monkeypatch):
    X, y = np.zeros((2, 7)), [1, 2]
    np.savez(tmp_path / "GunPoint.npz", X_train=X, y_train=y, X_test=X, y_test=y)
    monkeypatch.setenv("NCVQ_DATA", str(tmp_path))
    assert load_ucr("GunPoint").X_train.shape == (2, 1, 7)
    assert load_ucr("ArrowHead").X_train.shape == (36, 1, 251)  # not there: from the package
    monkeypatch.setenv("NCVQ_DATA", str(tmp_path / "gone"))
    with says("NCVQ_DATA", "no such folder", kind=FileNotFoundError):
        load_ucr("GunPoint")


# What is not there


def test_load_ucr_refuses(tmp_path, monkeypatch):
    monkeypatch.delenv("NCVQ_DATA", raising=False)
    with says("'gunpoint'", "Did you mean 'GunPoint'"):
        load_ucr("gunpoint")
    with says("'ElectricDevice'", "'ElectricDevices'"):
        load_ucr("ElectricDevice")
    with says("'zzzzzz'", "ArrowHead, GunPoint, ItalyPowerDemand"):
        load_ucr("zzzzzz")
    with says("name", "GunPoint"):
        load_ucr(None)
    with says("path", "nowhere", "no such folder", kind=FileNotFoundError):
        load_ucr("GunPoint", tmp_path / "nowhere")
    (tmp_path / "file.csv").touch()
    with says("path", "read_dataset", kind=NotADirectoryError):
        load_ucr("GunPoint", tmp_path / "file.csv")
    np.savez(tmp_path / "MyGestures.npz", X_train=np.zeros((2, 7)), y_train=[1, 2])
    with says("no MyGesture.npz", "Did you mean 'MyGestures'"):
        load_ucr("MyGesture", tmp_path)
    with says("there is no GunPoint/GunPoint_TRAIN.tsv"):
        load_ucr("GunPoint", tmp_path)  # a given folder is the only place
    with says("MyGestures.npz", "no test part", "X_test", kind=FileNotFoundError):
        load_ucr("MyGestures", tmp_path)
    write_table(tmp_path / "Half_TRAIN.tsv", GUN.X_train, GUN.y_train, "\t")
    with says("no test part", "Half_TEST.tsv", kind=FileNotFoundError):
        load_ucr("Half", tmp_path)


@pytest.mark.parametrize("name", ["../secret", "a/b", "..", ".", "", "/etc/passwd", "a\\b", "a\0b"])
def test_the_name_of_a_ucr_set_is_no_path(tmp_path, monkeypatch, name):
    for where in (tmp_path / "secret.npz", tmp_path / "in" / "a" / "b.npz"):
        where.parent.mkdir(parents=True, exist_ok=True)
        np.savez(where, X_train=np.zeros((2, 7)), X_test=np.zeros((2, 7)))
    with says("name"):
        load_ucr(name, tmp_path / "in")
    monkeypatch.setenv("NCVQ_DATA", str(tmp_path / "in"))
    with says("name"):
        load_ucr(name)


def test_a_folder_does_not_hide_a_ucr_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("GunPoint").mkdir()
    same(find_dataset("GunPoint"), GUN)
    Path("runs").mkdir()
    with says("runs is a folder", kind=IsADirectoryError):
        find_dataset("runs")
    assert find_dataset(GUN) is GUN
    with says("label='last' is for tables"):
        find_dataset("GunPoint", label="last")
    assert find_dataset("GunPoint", label=None).y_test is None
    with says("drop='x' is for tables"):
        find_dataset("GunPoint", drop="x")
    with says("name is", "…"):
        load_ucr("/" * 10_000)


# aeon


def without_aeon(monkeypatch):
    real = builtins.__import__

    def blocked(name, *args, **kw):
        if name.split(".")[0] == "aeon":
            raise ModuleNotFoundError("No module named 'aeon'")
        return real(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", blocked)


def with_aeon(monkeypatch, load):
    "An aeon whose loader is `load(name, split)`."
    datasets = types.ModuleType("aeon.datasets")
    datasets.load_classification = load
    for name, module in (("aeon", types.ModuleType("aeon")), ("aeon.datasets", datasets)):
        monkeypatch.setitem(sys.modules, name, module)


def test_aeon_missing_offline_and_there(monkeypatch):
    monkeypatch.delenv("NCVQ_DATA", raising=False)
    y = np.array(["1", "2"])
    with monkeypatch.context() as m:
        without_aeon(m)
        command = "pip install 'ncvq_nb[ucr]'"
        with says("Coffee", command, "load_ucr('Coffee', path=folder)", kind=ImportError):
            load_ucr("Coffee")

    def offline(name, split):
        raise OSError("Name or service not known")

    with_aeon(monkeypatch, offline)
    why = "Name or service not known"
    with says("Coffee", why, "offline", "path=folder", kind=ConnectionError):
        load_ucr("Coffee")
    with_aeon(monkeypatch, lambda name, split: (np.zeros((2, 1, 5)), y))
    data = load_ucr("Coffee")
    assert data.X_test.shape == (2, 1, 5) and data.y_train.tolist() == [1, 2]
    assert data.name == "Coffee"
    with_aeon(monkeypatch, lambda name, split: ([np.zeros((1, 5)), np.zeros((1, 6))], y))
    data = load_ucr("PLAID")  # of unequal length
    assert np.isnan(data.X_train[:, 0]).sum(1).tolist() == [1, 0]


# A few more sets, where they lie beside the checkout: odd lengths, 27 series, 60 classes, −1 and 1

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "ucr"
MORE = dict(  # series, test series, length, classes, tokens of a series
    SonyAIBORobotSurface2=(27, 953, 65, 2, 40),
    SonyAIBORobotSurface1=(20, 601, 70, 2, 45),
    Symbols=(25, 995, 398, 6, 60),
    ShapesAll=(600, 600, 512, 60, 40),
    ECG5000=(500, 4500, 140, 5, 40),
    Wafer=(1000, 6164, 152, 2, 45),
    TwoPatterns=(1000, 4000, 128, 4, 40),
)


def load_more(name):
    if not (SHARED / f"{name}.npz").exists():
        pytest.skip(f"{SHARED.name}/{name}.npz is not beside this checkout")
    return load_ucr(name, SHARED)


@pytest.mark.parametrize("name", MORE)
def test_a_few_steps_on(name):
    data = load_more(name)
    n, n_test, length, n_classes, n_tokens = MORE[name]
    assert data.X_train.shape == (n, 1, length) and data.X_test.shape == (n_test, 1, length)
    assert data.n_classes == n_classes
    model = tiny("barlow", "slice", batch_size=16, epochs=4 * 16 / n)
    model.fit(data.X_train, data.y_train)
    assert model.history_["tokenizer"]["step"][-1] in (3, 4, 5)
    assert model.tokenizer_.n_tokens == n_tokens
    X = data.X_test[:40]
    X_hat = model.reconstruct(X)
    assert model.encode(X).shape == (40, n_tokens)
    assert X_hat.shape == X.shape and np.isfinite(X_hat).all()
    assert model.classes_.tolist() == data.classes.tolist()
    X_new = model.sample(y=model.classes_, random_state=0)  # one of each class
    assert X_new.shape == (n_classes, 1, length) and np.isfinite(X_new).all()


def test_labels_of_wafer_stay_minus_one_and_one(tmp_path):
    data = load_more("Wafer")
    assert data.classes.tolist() == [-1, 1]
    model = tiny(None, epochs=0.02).fit(data.X_train, data.y_train)
    model.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert again.classes_.tolist() == [-1, 1] and again.classes_.dtype == data.y_train.dtype
    assert model.sample(2, y=data.y_train[0]).shape == (2, 1, 152)


def test_units_come_back_after_a_little_training():
    "A constant would have a relative error of 1."
    X = 50 * load_more("SonyAIBORobotSurface2").X_train + 300
    X_hat = tiny(None, n_codes=16, epochs=60, batch_size=16).fit_tokenizer(X).reconstruct(X)
    assert 250 < X_hat.mean() < 350 and ((X_hat - X) ** 2).mean() < 0.6 * X.var()
