"""Training on: from learned networks, on other series, in a longer run; and what is refused."""

import json
import shutil

import numpy as np
import pytest
from sklearn.base import clone
from toys import as_dataset, fingerprint, fitted, says, sines, tiny, weights

import ncvq_nb as nv
from ncvq_nb import NCVQ
from ncvq_nb.engine.checkpoints import load_checkpoint
from ncvq_nb.estimator import stages
from ncvq_nb.estimator.run_notes import noted_settings

X, Y = sines()
NO_STEP = 1e-12  # a learning rate at which nothing moves


@pytest.fixture(scope="module")
def first():
    return fitted()


def on(model, **changes):
    "A model that has learned what `model` has, and goes on from it."
    other = clone(model).set_params(warm_start=True, **changes)
    vars(other).update({k: v for k, v in vars(model).items() if k.endswith("_") or k[0] == "_"})
    return other


# From learned networks


def test_without_it_fit_begins_anew(first):
    m = on(first).set_params(warm_start=False)
    assert fingerprint(m.fit(X, Y)) == fingerprint(first)
    assert fingerprint(tiny(warm_start=True).fit(X, Y)) == fingerprint(first), "nothing learned yet"


def test_it_goes_on_from_every_weight(first):
    "With a rate of nearly nothing, all that gradients move stays where it was."
    m = on(first, lr=NO_STEP, weight_decay=0, decay=0.999999, dead_code_threshold=0).fit(X, Y)
    was, now = weights(first), weights(m)
    assert set(was) == set(now)
    for k in was:  # running statistics of batches and codes go on as ever
        if not any(part in k for part in ("running", "tracked", "ema")):
            assert np.allclose(was[k], now[k], atol=1e-4), k
    assert m.tokenizer_ is not first.tokenizer_ and m.tokenizer_.config["decay"] == 0.999999
    assert "earlier" not in m.data_ and len(m.history_["prior"]["step"]) == 3


def test_the_loss_begins_where_it_ended(first):
    long = tiny(epochs=60, lr=3e-3).fit(X, Y)
    m = on(long, epochs=60).fit(X, Y)
    for name in ("tokenizer", "prior"):
        anew, then = (model.history_[name]["loss"] for model in (long, m))
        assert np.mean(then[:5]) < 0.7 * np.mean(anew[:5]), name


def test_stage_by_stage(first):
    m = on(first, lr=NO_STEP, weight_decay=0)
    want = m.prior_.state_dict()["position"].clone()
    m.fit_prior(X, Y)
    assert np.allclose(m.prior_.state_dict()["position"], want, atol=1e-6)
    m.fit_tokenizer(X)
    assert not hasattr(m, "prior_"), "its tokens have changed"
    assert m.fit_prior(X, Y).sample(2).shape == (2, 1, 33)


def test_other_classes(first):
    m = on(first, lr=NO_STEP, weight_decay=0).fit(X, np.where(Y == 1, 1, 7))
    old, new = (model.prior_.label.weight.detach() for model in (first, m))
    assert m.classes_.tolist() == [1, 7]
    assert np.allclose(new[0], old[1], atol=1e-6) and np.allclose(new[2], old[2], atol=1e-6)
    assert not np.allclose(new[1], old[0], atol=1e-3)
    none = on(first).fit(X)
    assert none.classes_ is None and none.sample(2).shape == (2, 1, 33)
    assert on(none).fit(X, Y).sample(2, y=1).shape == (2, 1, 33)
    text = on(first).fit(X, Y.astype(str))  # "1" is not 1
    assert text.sample(1, y="1").shape == (1, 1, 33)


def test_the_units_are_those_of_the_new_series(first):
    same, scaled = on(first).fit(X, Y), on(first).fit(1000 * X + 5, Y)
    assert (scaled.encode(1000 * X + 5) == same.encode(X)).mean() > 0.99
    X_hat = 1000 * same.reconstruct(X) + 5
    assert np.median(np.abs(scaled.reconstruct(1000 * X + 5) - X_hat)) < 1


@pytest.mark.parametrize(
    "name, value",
    [("n_fft", 4), ("dim", 16), ("n_res_blocks", 2), ("n_codes", 9)]
    + [("prior_dim", 8), ("prior_depth", 2), ("prior_heads", 1)],
)
def test_other_sizes_are_refused_and_nothing_is_lost(first, name, value):
    m, state = on(first, **{name: value}), fingerprint(first)
    with says(name, "warm_start=True", f"found {value}", "set it back"):
        m.fit(X, Y)
    assert fingerprint(m) == state and m.sample(1).shape == (1, 1, 33)
    if name.startswith("prior"):
        m.set_params(epochs=(1, 0)).fit(X, Y)  # the prior's sizes do not matter there


def test_other_shapes_are_refused_and_nothing_is_lost(first):
    m, state = on(first), fingerprint(first)
    with says("trained on 1 of length 33"):
        m.fit(X[..., :30], Y)
    with says("trained on 1 of length 33"):
        m.fit(np.repeat(X, 2, 1), Y)
    assert fingerprint(m) == state


def test_a_failure_gives_the_model_back(first, monkeypatch):
    def fail(*args, **kw):
        raise FloatingPointError

    m, state = on(first), fingerprint(first)
    monkeypatch.setattr(stages, "train", fail)
    with pytest.raises(FloatingPointError):
        m.fit(X + 9, Y)
    assert fingerprint(m) == state and np.array_equal(m.reconstruct(X), first.reconstruct(X))


def test_partial_fit_is_refused_in_words(first):
    assert not hasattr(first, "partial_fit")
    with says("NCVQ has no partial_fit", "warm_start=True", "run_dir", kind=AttributeError):
        first.partial_fit(X)


# Saved, and gone on from


def test_a_saved_model_is_fine_tuned_and_says_so(first, tmp_path):
    first.save(tmp_path / "m")
    assert "warm_start" not in (tmp_path / "m" / "config.json").read_text()
    m = NCVQ.load(tmp_path / "m")
    assert m.warm_start is False
    Z, z = sines(seed=1)
    m.set_params(warm_start=True, random_state=1).fit(Z, z)
    was = first.data_["digest"]
    assert m.data_["earlier"] == [was] and m.data_["digest"] != was
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert again.warm_start is True and again.data_ == m.data_
    assert f"trained on before | {was}" in (tmp_path / "m" / "README.md").read_text()
    assert on(m).fit(X, Y).data_["earlier"] == [m.data_["digest"]]
    how = dict(n_samples=4, cas_total=4, n_resamples=2, fcn=dict(epochs=1), verbose=False)
    for model, data, elsewhere in ((first, (X, Y), False), (m, (Z, z), True)):
        notes = nv.evaluate(model, as_dataset(data), **how).notes
        assert any("trained on other series" in n for n in notes) is elsewhere


# In the folder of a run


def test_a_run_notes_where_it_went_on_from(first, tmp_path):
    m = on(first, epochs=2)
    want = fingerprint(on(first, epochs=2).fit(X, Y, run_dir=tmp_path))
    assert fingerprint(m.fit(X, Y, run_dir=tmp_path)) == want, "the same start, the same run"
    with says("other settings", "warm_start was"):
        m.fit(X, Y, run_dir=tmp_path)  # from where it is now, it would be another run
    with says("other settings", "warm_start was"):
        tiny(epochs=2).fit(X, Y, run_dir=tmp_path)
    tiny(epochs=2).fit(X, Y, run_dir=tmp_path / "cold")
    assert "warm_start" not in noted_settings(tmp_path / "cold")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, tiny().fit(X, Y, run_dir=folder)


def test_more_epochs_make_a_run_longer(run, tmp_path):
    folder, before = run
    shutil.copytree(folder, tmp_path / "r")
    m = tiny(epochs=5).fit(X, Y, run_dir=tmp_path / "r")
    for name, h in m.history_.items():
        was = before.history_[name]
        assert h["step"] == [1, 2, 3, 4, 5] and h["loss"][:3] == was["loss"]
        rates = [1e-3 * (1 + np.cos(np.pi * i / 5)) / 2 for i in (3, 4)]
        assert np.allclose(h["lr"], [*was["lr"], *rates])
    assert fingerprint(m) != fingerprint(tiny(epochs=5).fit(X, Y)), "another schedule until then"
    again = tiny(epochs=5).fit(X, Y, run_dir=tmp_path / "r")
    assert fingerprint(again) == fingerprint(m) and noted_settings(tmp_path / "r")["epochs"] == 5
    with says("epochs was 5, now 3", "take another folder"):
        tiny().fit(X, Y, run_dir=tmp_path / "r")
    with says("epochs was 5, now 6", "n_codes was 8, now 9"):
        tiny(epochs=6, n_codes=9).fit(X, Y, run_dir=tmp_path / "r")


def test_a_longer_tokenizer_needs_a_longer_prior(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "r")
    with says("epochs was 3, now [4, 3]", "makes other tokens"):
        tiny(epochs=(4, 3)).fit(X, Y, run_dir=tmp_path / "r")
    prior_only = tiny(epochs=(3, 4)).fit(X, Y, run_dir=tmp_path / "r")
    assert np.array_equal(prior_only.encode(X), run[1].encode(X))
    alone = tiny(epochs=(2, 0)).fit(X, Y, run_dir=tmp_path / "alone")
    assert not hasattr(alone, "prior_") and not (tmp_path / "alone" / "prior").exists()
    m = tiny(epochs=(2, 3)).fit(X, Y, run_dir=tmp_path / "alone")
    assert fingerprint(m) == fingerprint(tiny(epochs=(2, 3)).fit(X, Y)), "nothing was longer before"


@pytest.mark.parametrize("stage", ["tokenizer", "prior"])
def test_a_longer_run_that_is_cut_off_goes_on(run, tmp_path, stage):
    def cut(name, row):
        if name == stage and row["step"] == 4:
            raise KeyboardInterrupt

    how = dict(checkpoint_every=0)
    for name in ("whole", "cut"):
        shutil.copytree(run[0], tmp_path / name)
    m = tiny(epochs=5, validation_fraction=0.0)
    whole = clone(m).fit(X, Y, run_dir=tmp_path / "whole", **how)
    with pytest.raises(KeyboardInterrupt):
        clone(m).fit(X, Y, run_dir=tmp_path / "cut", log_with=cut, **how)
    again = clone(m).fit(X, Y, run_dir=tmp_path / "cut", **how)
    assert fingerprint(again) == fingerprint(whole)
    assert again.history_["prior"]["loss"] == whole.history_["prior"]["loss"]


def test_a_best_moment_on_other_tokens_is_forgotten(tmp_path):
    m = tiny(validation_fraction=0.25, lr=(0.02, 0.02), epochs=(1, 60))
    was = min(clone(m).fit(X, Y, run_dir=tmp_path).history_["prior"]["valid_loss"])
    m.set_params(epochs=(30, 61)).fit(X, Y, run_dir=tmp_path)
    _, meta = load_checkpoint(tmp_path / "prior", {})
    assert meta["best"] == min(m.history_["prior"]["valid_loss"][60:]) > was


# The tokenizer alone


def test_the_tokenizer_alone_is_that_of_both_stages(first, tmp_path):
    m = tiny(epochs=(3, 0)).fit(X, Y)
    assert np.array_equal(m.encode(X), first.encode(X)) and list(m.history_) == ["tokenizer"]
    said = "no prior since epochs=(3, 0) trains the tokenizer alone"
    for call in (m.sample, m.sample_tokens):
        with says(said, "set_params(epochs=(3, 100))"):
            call(2)
    with says(said):
        m.impute(np.where(X > 1, np.nan, X))
    with says("epochs is (3, 0)", "give the prior some"):
        m.fit_prior(X, Y)
    m.save(tmp_path)
    again = NCVQ.load(tmp_path)
    assert again.epochs == (3, 0) and np.array_equal(again.transform(X), first.transform(X))
    again.set_params(epochs=3).fit_prior(X, Y)
    assert fingerprint(again) == fingerprint(first)


def test_a_grid_of_tokenizers_has_notes_instead_of_failures(tmp_path):
    fcn, few = dict(epochs=1), dict(n_resamples=2)
    alone = {"alone": dict(dim=8, n_res_blocks=1, projector_dim=8, epochs=(1, 0))}
    data = as_dataset((X, Y))
    results = nv.run_grid([data], alone, [0], tmp_path, fcn=fcn, **few)
    assert len(results) == 1 and not results.failed
    report = json.loads((tmp_path / "toy" / "alone" / "0" / "report.json").read_text())
    assert any("trains the tokenizer alone" in n for n in report["notes"])
    assert "tokenizer_seconds" in report["settings"] and report["rows"]


def test_a_cell_that_was_begun_does_not_become_longer(tmp_path):
    data, sizes = as_dataset((X, Y)), dict(dim=8, n_res_blocks=1, projector_dim=8)
    place = tmp_path / "toy" / "a" / "0"
    model = NCVQ(**sizes, epochs=(1, 0), random_state=0)
    model.fit(data.X_train, data.y_train, run_dir=place / "run")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with says("holds a run with other settings (epochs was [1, 0], now [2, 0])"):
        nv.run_grid([data], {"a": dict(**sizes, epochs=(2, 0))}, [0], tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
