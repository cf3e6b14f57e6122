"""Grids declared in files: what they make, and what is said about what is wrong with one."""

from pathlib import Path

import numpy as np
import pytest
from toys import noise, says

from ncvq_nb import NCVQ, Dataset
from ncvq_nb.experiments import METHODS
from ncvq_nb.grids.declared import Axis, combinations, read_grid

RESULTS = Path(__file__).resolve().parents[1] / "nbs" / "results"
GOOD = """
datasets = ["GunPoint", "mine.npz"]
seeds = [0, 1]
preset = "default"

[settings]
dim = 16
epochs = [3, "none"]

[evaluation]
n_cas = 2
fcn = { max_steps = 3 }

[axes.method]
naive = { ssl = "None" }
barlow = { ssl = "barlow", aug_weight = 0.05 }

[axes.augment]
where = { method = ["barlow"] }
warp = { augment = "warp" }
"""


@pytest.fixture
def grid(tmp_path, monkeypatch):
    "The grid of a text, read from a file in another folder than the working one."
    X, y = noise()
    np.savez(tmp_path / "mine.npz", X_train=X, y_train=y, X_test=X, y_test=y)
    np.savez(tmp_path / "untested.npz", X_train=X, y_train=y)
    monkeypatch.delenv("NCVQ_DATA", raising=False)

    def read(text=GOOD, **how):
        (tmp_path / "g.toml").write_text(text)
        return read_grid(tmp_path / "g.toml", **how)

    return read


def test_a_file_is_what_run_grid_takes(grid):
    found = grid()
    common = dict(dim=16, epochs=(3, None))
    assert found["settings"] == {
        "naive": dict(ssl=None, **common),
        "barlow-warp": dict(ssl="barlow", aug_weight=0.05, augment="warp", **common),
    }
    naive, warp = dict(method="naive"), dict(method="barlow", augment="warp")
    assert found["axes"] == {"naive": naive, "barlow-warp": warp}
    assert found["datasets"][0] == "GunPoint" and isinstance(found["datasets"][1], Dataset)
    assert (found["seeds"], found["n_cas"], found["fcn"]) == ([0, 1], 2, dict(max_steps=3))
    other = grid(seeds=[7], dim=8)
    assert other["seeds"] == [7] and other["settings"]["naive"]["dim"] == 8
    plain = grid("datasets = ['GunPoint']\nseeds = [0]\npreset = 'timevqvae'")
    same = NCVQ(**plain["settings"]["timevqvae"])
    assert same.get_params() == NCVQ.timevqvae().get_params()
    aside = 'datasets = [{ path = "untested.npz", test_fraction = 0.5 }]\nseeds = [0]'
    (data,) = grid(aside)["datasets"]
    assert len(data.X_test) == 6 and list(grid(aside)["settings"]) == ["default"]


def test_the_experiments_of_the_results_are_those_of_the_thesis():
    found = read_grid(RESULTS / "thesis.toml")
    assert set(found["settings"]) == {k for k in METHODS if not k.startswith("vicreg")}
    assert (len(found["datasets"]), found["seeds"]) == (13, [0, 1, 2, 3])
    for name, params in found["settings"].items():
        ssl, augment = METHODS[name]["ssl"], METHODS[name].get("augment")
        assert NCVQ(**params).get_params() == NCVQ.thesis(ssl, augment).get_params()
    prior = read_grid(RESULTS / "thesis_prior.toml")
    assert list(prior["settings"]) == ["naive", "naive-own", "barlow-warp", "barlow-warp-own"]
    for name in ("naive", "barlow-warp"):  # the same runs
        full = NCVQ(**prior["settings"][name]).get_params()
        assert full == NCVQ(**found["settings"][name]).get_params()
        own = NCVQ(**prior["settings"][f"{name}-own"]).get_params()
        assert {k for k in full if full[k] != own[k]} == {"finetune_codebook"}
    tokens = read_grid(RESULTS / "thesis_tokens.toml")["settings"]
    assert tokens == {k: found["settings"][k] for k in ("naive", "barlow-warp", "vibcreg-warp")}
    for name, params in read_grid(RESULTS / "thesis_weights.toml")["settings"].items():
        method, weight = name.rsplit("-", 1)
        assert params == found["settings"][method] | dict(aug_weight=float(weight))


def test_combinations_that_do_not_apply_are_formed_once():
    a, b = Axis("a", dict(x={}, y={})), Axis("b", dict(p={}, q={}), where=dict(a=["y"]))
    c = Axis("c", dict(m={}, n={}), where=dict(b=["q"]))
    found = [tuple(v.values()) for v in combinations([a, b, c])]
    assert found == [("x",), ("y", "p"), ("y", "q", "m"), ("y", "q", "n")]


WRONG = [
    ("dim = 16", 'dim = "x"', "settings.dim must be a whole number of at least 1, found 'x'"),
    ("dim = 16", "dims = 16", "settings has 'dims'; allowed are aug_weight, augment"),
    ("dim = 16", "random_state = 1", "settings has 'random_state'; allowed are"),
    ("[settings]", "[setting]", "g.toml has 'setting'; allowed are datasets, seeds"),
    ('"default"', '"best"', "preset must be one of 'default', 'thesis', 'timevqvae', found 'best'"),
    ("seeds = [0, 1]", "", "g.toml has no seeds"),
    ("[0, 1]", "[0, -1]", "seeds must be an array of whole numbers of at least 0, found -1"),
    ("[0, 1]", "[true]", "seeds must be an array of whole numbers of at least 0, found True"),
    ("[0, 1]", "3", "seeds must be an array of whole numbers of at least 0, found 3"),
    ("[0, 1]", "[1, 1]", "seeds has 1 twice"),
    ('"GunPoint"', '"GunPiont"', "datasets: 'GunPiont' is no set", "Did you mean 'GunPoint'"),
    ('"mine.npz"', '"other.npz"', "datasets: ", "other.npz"),
    ('"mine.npz"', '"untested.npz"', "untested.npz has no test series", "test_fraction = 0.3"),
    ('"mine.npz"', '{ path = "mine.npz", lable = "first" }', "datasets has 'lable'; allowed are"),
    ('"mine.npz"', "3", "datasets must be a table, found 3"),
    ("n_cas = 2", "n_cas = -1", "evaluation.n_cas must be None or a whole number of at least 0"),
    ("n_cas = 2", "n_cass = 2", "evaluation has 'n_cass'; allowed are n_samples"),
    ("max_steps", "max_step", "evaluation.fcn has 'max_step', which is no setting"),
    ('ssl = "None"', 'ssl = "nine"', "axes.method.naive.ssl must be one of None, 'barlow'"),
    ('augment = "warp"', 'augment = "wrap"', "axes.augment.warp.augment must be"),
    ('["barlow"]', '["barlo"]', "axes.augment.where.method must be an array of its values"),
    ("where = { method", "where = { methods", "axes.augment.where must be a table of axes above"),
    ("[axes.method]", "[axes.seed]", "axes has 'seed', which the table of results has already"),
    ("naive = {", "barlow-warp = {", "two settings called 'barlow-warp', {'method'"),
    ("naive = { ", 'naive = { preset = "x", ', "axes.method.naive.preset must be one of"),
    ("naive = { ", "naive = { name = 3, ", "axes.method.naive.name must be a text, found 3"),
    ('warp = { augment = "warp" }', "", "axes.augment must be a table of named settings"),
    ("dim = 16", "batch_size = 1", "in setting 'barlow-warp', batch_size must be at least 2"),
    ("[axes.method]", "[axes.method", "is no TOML", "line"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case[2][:40])
def test_what_is_wrong_is_named_with_file_and_key(grid, case):
    old, new, *parts = case
    assert old in GOOD
    with says("g.toml", *parts):
        grid(GOOD.replace(old, new))


def test_what_an_axis_sets_is_not_replaced(grid, tmp_path):
    with says("g.toml", "axes.method sets ssl, which cannot be replaced"):
        grid(ssl="vicreg")
    with says("nothing.toml: there is no such file", kind=FileNotFoundError):
        read_grid(tmp_path / "nothing.toml")
