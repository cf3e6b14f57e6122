"""`ncvq_encode`: what a table and an array file hold is what the model says in Python."""

import csv

import numpy as np
import pytest
from toys import sines, tiny

from ncvq_nb.terminal.encode import encode

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
