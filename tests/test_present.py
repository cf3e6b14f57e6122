"""A model, its pictures and its report in one folder."""

from dataclasses import replace

import numpy as np
import pytest

import ncvq_nb.evaluation.present as module
from ncvq_nb import NCVQ, Dataset, Report, evaluate, present
from ncvq_nb.evaluation.present import figures
from toys import as_dataset, fingerprint, fitted, says, sines

QUICK = dict(n_resamples=5, cas_total=20, fcn=dict(max_steps=3))
PICTURES = ("samples", "reconstructions", "training", "codebook", "tokens", "latents")
NO_TEST = dict(X_test=None, y_test=None)


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def data():
    return as_dataset(sines(), sines(seed=1))


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(module, "figures", lambda *args, **kw: {})


def test_everything_is_in_the_folder(model, data, tmp_path):
    before = fingerprint(model)
    report = present(model, data, tmp_path / "a" / "b", **QUICK)
    found = {p.name for p in (tmp_path / "a" / "b").iterdir()}
    assert found == {f"{k}.png" for k in PICTURES} | {"model", "report.json", "report.md"}
    assert Report.load(tmp_path / "a" / "b" / "report").to_dict() == report.to_dict()
    again = NCVQ.load(tmp_path / "a" / "b" / "model")
    assert fingerprint(again) == fingerprint(model) == before
    card = (tmp_path / "a" / "b" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| FID |" in card


def test_the_report_is_that_of_evaluate(model, data, tmp_path, no_pictures):
    settings = dict(QUICK, n_samples=8, conditional=True)
    found = present(model, data, tmp_path, random_state=3, **settings)
    want = evaluate(model, data, random_state=3, verbose=False, **settings)
    assert found.to_dict() == want.to_dict()


def test_the_model_is_saved_whatever_happens_then(model, data, tmp_path, monkeypatch):
    def fail(*args, **kw):
        raise MemoryError

    monkeypatch.setattr(module, "figures", fail)
    with pytest.raises(MemoryError):
        present(model, data, tmp_path, **QUICK)
    assert fingerprint(NCVQ.load(tmp_path / "model")) == fingerprint(model)


@pytest.mark.parametrize(
    "change, settings, said",
    [
        (NO_TEST, {}, "no X_test"),
        ({}, dict(n_resample=3), "n_resample"),
        (
            dict(y_train=sines()[1].astype(str), y_test=sines()[1].astype(str)),
            {},
            "trained on labels",
        ),
        (dict(X_test=sines()[0][:1], y_test=sines()[1][:1]), {}, "1 test series"),
    ],
    ids=["no test part", "an unknown word", "other labels", "one test series"],
)
def test_what_cannot_be_evaluated_is_said_first(model, data, tmp_path, change, settings, said):
    with says(said):
        present(model, replace(data, **change), tmp_path / "p", **{**QUICK, **settings})
    assert not (tmp_path / "p").exists()


def test_pictures_of_data_without_labels_or_test_series(model):
    X, _ = sines()
    bare = NCVQ(**model.get_params()).fit(X)
    found = figures(bare, Dataset("bare", X))
    assert tuple(found) == PICTURES
    title = found["reconstructions"].get_suptitle()
    assert "series of the train set" in title and "bare" in title


def test_pictures_follow_the_seed(model, data, monkeypatch):
    drawn = {}
    for k in ("samples", "embedding"):
        keep = drawn.setdefault(k, []).append
        monkeypatch.setattr(module, f"plot_{k}", lambda *args, keep=keep, **kw: keep(args))
    for _ in range(2):
        figures(model, data, random_state=1)
    X_new, y_new = drawn["samples"][0][4:]
    assert y_new.tolist() == [0] * 50 + [1] * 50
    assert np.array_equal(X_new, model.sample(y=y_new, random_state=1))
    points, labels, origin = drawn["embedding"][0]
    assert points.shape == (len(labels), 2) == (112, 2)
    assert origin.tolist() == ["real"] * 12 + ["sampled"] * 100
    assert np.array_equal(points, drawn["embedding"][1][0])


def test_large_sets_and_many_classes_are_shown_in_part(model, data, monkeypatch):
    "With other limits, so that twelve series are too many, and two classes."
    asked, sample, encode = [], model.sample, model.encode
    monkeypatch.setattr(module, "_MOST_SERIES", 8)
    monkeypatch.setattr(module, "_MOST_CLASSES", 1)
    monkeypatch.setattr(module, "_PER_CLASS", 5)
    monkeypatch.setattr(model, "sample", lambda *a, **kw: asked.append(kw) or sample(*a, **kw))
    monkeypatch.setattr(model, "encode", lambda X: asked.append(X) or encode(X), raising=False)
    found = figures(model, data)
    assert asked[0]["y"].tolist() == [0] * 5 and len(asked[1]) == 8
    titles = {k: " ".join(fig.get_suptitle().split()) for k, fig in found.items()}
    for k in ("samples", "latents"):
        assert "1 of 2 classes · train: 8 of 12 series · test: 8 of 12 series" in titles[k]
    for k in ("reconstructions", "codebook"):
        assert "8 of 12 series" in titles[k] and "classes" not in titles[k]
    labels = [t.get_text() for t in found["latents"].legends[0].get_texts()]
    assert labels == ["class 0", "real", "sampled"]
    only_others = replace(data, X_test=data.X_test[:2], y_test=np.array([7, 7]))
    asked.clear()
    assert tuple(figures(model, only_others)) == PICTURES and asked[0]["y"].tolist() == [0] * 5
