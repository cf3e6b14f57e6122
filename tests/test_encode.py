"""`ncvq_encode`: what a table and an array file hold is what the model says in Python."""

import csv

import numpy as np
import pytest
from toys import OPTIONS, sines, tiny

from ncvq_nb import NCVQ, cli, evaluate, read_dataset
from ncvq_nb.terminal.encode import encode
from ncvq_nb.terminal.impute import impute

(X, Y), (X_TEST, Y_TEST) = sines(names=["sit", "walk"]), sines(n=5, seed=1, names=["sit", "walk"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    d = tmp_path_factory.mktemp("encode")
    tiny(epochs=(1, 0)).fit(X, Y).save(d / "run" / "model")
    np.savez(d / "both.npz", X_train=X, y_train=Y, X_test=X_TEST, y_test=Y_TEST)
    np.savez(d / "one.npz", X=X)
    return d


@pytest.fixture(scope="module")
def model():
    return tiny(epochs=(1, 0)).fit(X, Y)


def test_tokens_of_both_parts_with_their_labels(folder, model, tmp_path, capsys):
    out = tmp_path / "new" / "tokens.npz"
    encode([str(folder / "run"), str(folder / "both.npz"), "--out", str(out)])
    said = f"{model.tokenizer_.n_tokens} tokens of each of 17 series: {out}\n"
    assert capsys.readouterr().out.endswith(said)
    with np.load(out) as found:
        assert set(found) == {"tokens_train", "y_train", "tokens_test", "y_test"}
        assert np.array_equal(found["tokens_train"], model.encode(X))
        assert np.array_equal(found["tokens_test"], model.encode(X_TEST))
        assert found["y_test"].tolist() == Y_TEST.tolist()


def test_features_as_a_table(folder, model, tmp_path):
    out = tmp_path / "features.csv"
    encode([str(folder / "run"), str(folder / "both.npz"), "--out", str(out), "--features"])
    head, *rows = csv.reader(out.open())
    assert head == ["part", "label", *(f"feature_{i}" for i in range(16))]
    assert [r[0] for r in rows] == ["train"] * 12 + ["test"] * 5
    assert [r[1] for r in rows] == [*Y, *Y_TEST]
    want = np.concatenate([model.features(X), model.features(X_TEST)])
    assert np.array_equal(np.array([r[2:] for r in rows], np.float32), want), "to the last digit"


def test_one_part_without_labels(folder, model, tmp_path):
    for name in ("tokens.npz", "tokens.csv"):
        encode([str(folder / "run"), str(folder / "one.npz"), "--out", str(tmp_path / name)])
    with np.load(tmp_path / "tokens.npz") as found:
        assert list(found) == ["tokens"]
    head, *rows = csv.reader((tmp_path / "tokens.csv").open())
    assert head[0] == "token_0" and np.array_equal(np.array(rows, int), model.encode(X))


@pytest.mark.parametrize(
    "out, data, said", [("x.txt", "one.npz", "--out"), ("x.csv", "none.npz", "none.npz")]
)
def test_mistakes_are_said_in_one_line(folder, tmp_path, capsys, out, data, said):
    with pytest.raises(SystemExit) as e:
        encode([str(folder / "run"), str(folder / data), "--out", str(tmp_path / out)])
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.startswith("ncvq_encode: ") and said in err
    assert err.count("\n") == 1 and not (tmp_path / out).exists()


# Channels have names in tables

X_TWO, _ = sines(channels=2)
LONG = ["--id", "id", "--time", "t"]
SWAPPED = "long has the channels ['v', 'u'], but the model was trained on ['u', 'v']: put its "


def long_table(path, order, X=X_TWO):
    "A row for each time step, with the channels u and v in this order."
    rows = [
        [i, t, *(X[i]["uv".index(c), t] for c in order)]
        for i in range(len(X))
        for t in range(X.shape[-1])
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "t", *order], *rows])
    return path


def noted(found, out):
    "Identifiers and values in an .npz file or a table, part by part."
    if out.suffix == ".npz":
        with np.load(out) as f:
            assert set(f) == {f"{k}_{p}" for k in ("ids", "tokens") for p in found}
            return {p: (f[f"ids_{p}"].tolist(), f[f"tokens_{p}"]) for p in found}
    head, *rows = csv.reader(out.open())
    assert head[:3] == ["id", "part", "token_0"]
    parts = {p: [r for r in rows if r[1] == p] for p in found}
    return {p: ([r[0] for r in v], np.array([r[2:] for r in v], int)) for p, v in parts.items()}


@pytest.mark.parametrize("kind", ["long", "wide", "pair"])
@pytest.mark.parametrize("end", [".npz", ".csv"])
def test_identifiers_stand_beside_tokens(of_two, tmp_path, kind, end):
    names = [f"{i:03}" for i in (7, 12, 1, 4, 30, 9, 2, 5, 11, 3, 8, 6)]
    rng = np.random.default_rng(0)
    series, out = dict(zip(names, X_TWO)), tmp_path / f"out{end}"
    steps = [[k, t, *x[:, t]] for k, x in series.items() for t in range(X_TWO.shape[2])]
    first = [r for r in steps if r[1] == 0]  # in this order the series first appear
    later = [steps[i] for i in rng.permutation(len(steps)) if steps[i][1] > 0]
    head = [f"{c}{t}" for c in "uv" for t in range(X_TWO.shape[2])]
    tables = {
        "long": (["id", "t", "u", "v"], first + later),
        "wide": (["id", *head], [[k, *x.ravel()] for k, x in series.items()]),
    }
    tables["pair"] = tables["wide"]
    file, share = tmp_path / "a.csv", ["--test_fraction", "0.25"]
    for name in ("a_TRAIN.csv", "a_TEST.csv") if kind == "pair" else ("a.csv",):
        head, rows = tables[kind]
        rows = [[f"T{k}", *v] for k, *v in rows[:5]] if name == "a_TEST.csv" else rows
        with (tmp_path / name).open("w", newline="") as f:
            csv.writer(f).writerows([head, *rows])
    if kind == "pair":
        file, share = tmp_path / "a_TRAIN.csv", []
        series |= {f"T{k}": series[k] for k in names[:5]}
    asked = LONG if kind == "long" else ["--id", "id", "--label", "none"]
    encode([str(of_two), str(file), *asked, *share, "--out", str(out)])
    found, model = noted(("train", "test"), out), NCVQ.load(of_two / "model")
    for ids, tokens in found.values():
        assert np.array_equal(tokens, model.encode(np.stack([series[k] for k in ids])))
    known = [k for ids, _ in found.values() for k in ids]
    assert sorted(known) == sorted(series), "each of them once"
    train = found["train"][0]
    assert train == [k for k in series if k in train], "in the order of the file"


def wide_table(path, order):
    "A row for each series."
    blocks = [X_TWO[:, "uv".index(c)] for c in order]
    head = [f"{c}{t}" for c in order for t in range(blocks[0].shape[-1])]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *np.concatenate(blocks, 1).tolist()])
    return path


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    "A run on a long table with the channels u and v."
    d = tmp_path_factory.mktemp("two")
    file = long_table(d / "train.csv", "uv")
    cli.train([str(file), *LONG, "--out", str(d / "run"), "--quiet", *OPTIONS])
    return d / "run"


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_channels_in_another_order_are_refused(of_two, tmp_path, capsys, kind):
    write, asked = (long_table, LONG) if kind == "long" else (wide_table, [])
    right, wrong = write(tmp_path / "right.csv", "uv"), write(tmp_path / "long.csv", "vu")
    out = ["--out", str(tmp_path / "out.npz")]
    encode([str(of_two), str(right), *asked, *out])
    with np.load(tmp_path / "out.npz") as found:
        assert np.array_equal(found["tokens"], NCVQ.load(of_two / "model").encode(X_TWO))
    (tmp_path / "out.npz").unlink()
    for command in (encode, impute, cli.evaluate):
        place = ["--out", str(tmp_path / "report")] if command is cli.evaluate else out
        place += ["--test_fraction", "0.3"] if command is cli.evaluate else []
        with pytest.raises(SystemExit):
            command([str(of_two), str(wrong), *asked, *place])
        said = capsys.readouterr().err
        name = "long" if command is not impute else str(wrong)
        assert SWAPPED.replace("long", name, 1) in said and "--value" in said, said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.csv", "right.csv"]


def test_channels_are_read_by_name_where_they_are_named(of_two, tmp_path):
    wrong, out = long_table(tmp_path / "wrong.csv", "vu"), tmp_path / "out.npz"
    encode([str(of_two), str(wrong), *LONG, "--value", "u", "v", "--out", str(out)])
    with np.load(out) as found:
        assert np.array_equal(found["tokens"], NCVQ.load(of_two / "model").encode(X_TWO))


def test_a_flat_data_frame_in_another_order_is_refused(of_two):
    pandas = pytest.importorskip("pandas")
    model, blocks = NCVQ.load(of_two / "model"), dict(zip("uv", X_TWO.swapaxes(0, 1)))
    frames = [
        pandas.DataFrame({f"{c}{t}": blocks[c][:, t] for c in order for t in range(X_TWO.shape[2])})
        for order in ("uv", "vu")
    ]
    assert np.array_equal(model.encode(frames[0]), model.encode(X_TWO))
    with pytest.raises(ValueError, match="X has the channels .'v', 'u'., but"):
        model.encode(frames[1])


def test_samples_of_a_model_with_named_channels_can_be_encoded(of_two, tmp_path):
    cli.sample([str(of_two), "-n", "3", "--out", str(tmp_path / "new.csv")])
    assert read_dataset(tmp_path / "new.csv").channels == ["u", "v"]
    encode([str(of_two), str(tmp_path / "new.csv"), "--out", str(tmp_path / "new.npz")])
    assert (tmp_path / "new.npz").exists()


def test_both_files_of_a_pair_have_the_same_channels(of_two, tmp_path):
    for name, order in (("a_TRAIN.csv", "vu"), ("a_TEST.csv", "uv")):
        long_table(tmp_path / name, order)
    data = read_dataset(tmp_path / "a_TRAIN.csv", id="id", time="t")
    assert data.channels == ["v", "u"] and np.array_equal(data.X_train, data.X_test)
    one = read_dataset(tmp_path / "a_TRAIN.csv", id="id", time="t", value="u", drop="v")
    assert np.array_equal(one.X_test, data.X_test[:, 1:]) and one.channels is None
    with pytest.raises(ValueError, match="a has the channels"):
        evaluate(NCVQ.load(of_two / "model"), data)
