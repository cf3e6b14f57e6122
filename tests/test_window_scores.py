"""Scores of generated windows: oracles, invariances, known faults, and published figures"""

import csv
import math
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from conftest import THOROUGH
from ncvq_nb import recording_windows, window_scores
from ncvq_nb.engine.progress import progress_bar
from ncvq_nb.engine.runtime import derived_seed
from ncvq_nb.evaluation.context_fid import context_fid
from ncvq_nb.evaluation.report import Report
from ncvq_nb.evaluation.window_scores import correlational_score, discriminative_runs
from ncvq_nb.evaluation.window_scores import discriminative_score, model_window_scores
from ncvq_nb.evaluation.window_scores import correlational_runs, n_units, predictive_runs
from ncvq_nb.evaluation.window_scores import predictive_score
from toys import global_state, says, walks

FEW = dict(discriminative_steps=2, predictive_steps=2, n_runs=2, verbose=False)
BARE = dict(context_steps=0, **FEW)
FAST = dict(
    lr=0.05,
    seed=partial(derived_seed, 0),
    device=torch.device("cpu"),
    bar=progress_bar(1, "windows", shown=False),
)


def uniform(n=100, channels=4, length=5, seed=0):
    return np.random.default_rng(seed).random((n, channels, length)).astype(np.float32)


def test_discriminative_score_from_none_to_all():
    "Levels that differ are told apart always, draws of one process never."
    real, good, off = uniform(seed=0), uniform(seed=1), 1 + uniform(seed=2)
    found = discriminative_runs([real, good, off], 2, n_steps=60, **FAST)
    assert found.shape == (2, 2)
    assert_array_equal(found[1], 0.5)
    assert (found[0] < 0.25).all()


def test_a_larger_set_is_not_won_by_guessing():
    "Balanced accuracy: who always says real has half of it, however many of them there are."
    real, few = uniform(400), uniform(20, seed=1)
    assert (discriminative_runs([real, few], 3, n_steps=1, **FAST)[0] < 0.3).all()


def test_predictive_score_of_what_is_known():
    "The last channel follows the first by a step: learned from those, not from other windows."
    first = uniform(200, 1, 5)
    follows = np.roll(first, 1, axis=2)
    real, wrong = np.concatenate([first, follows], 1), np.concatenate([first, 1 - follows], 1)
    learned, misled = predictive_runs(real, [real, wrong], 1, n_steps=150, **FAST)[:, 0]
    guess = np.abs(real[:, 1, 1:] - 0.5).mean()
    assert learned < 0.4 * guess < 1.4 * guess < misled


def test_values_are_used_as_they_are_where_that_is_asked():
    real, how = uniform(50, 2, 4), dict(n_runs=1, n_steps=1)
    half = 0.5 + real / 2
    scaled, as_is = (predictive_score(half, half, scale=s, **how) for s in (True, False))
    assert 1.2 < scaled / as_is
    assert_allclose(predictive_score(real, real, **how), scaled, rtol=1e-3)
    report = window_scores(half, half, scale=False, **BARE)
    assert "as they are" in report.notes[0] and report.settings["scale"] is False
    assert len(report.notes) == 1


def test_predictions_need_real_windows_that_a_sigmoid_reaches():
    real, how = uniform(50, 2, 4), dict(n_runs=1, n_steps=1)
    with says("real has values from 0.0", "to 99.", "scale=True brings them there"):
        predictive_score(100 * real, 100 * real, scale=False, **how)
    with says("real has values from -0."):
        predictive_score(real - 0.5, real, scale=False, **how)
    for real_too in (real * (1 + 1e-6), real - 1e-6):  # rounding
        assert predictive_score(real_too, 3 * real, scale=False, **how) < 1
    assert discriminative_score(100 * real, 100 * real, scale=False, **how) < 0.5
    said = window_scores(100 * real, 100 * real, scale=False, **BARE).notes[1]
    assert "predictions from 0 to 1: the predictive score says nothing" in said
    without = BARE | dict(predictive_steps=0)
    assert len(window_scores(100 * real, 100 * real, scale=False, **without).notes) == 1


@pytest.mark.parametrize("score", [discriminative_score, predictive_score])
@pytest.mark.parametrize("scale", ["no", None, 1])
def test_scale_is_a_truth_value(score, scale):
    with says("scale must be True or False, found", repr(scale)):
        score(uniform(20), uniform(20), n_runs=1, n_steps=1, scale=scale)


def test_one_channel_is_predicted_from_its_own_past():
    assert [n_units(c) for c in (1, 2, 3, 6, 7)] == [1, 1, 1, 3, 3]
    X = uniform(100, 1, 1).repeat(4, 2)  # levels
    error = predictive_runs(X, [X], 1, n_steps=100, **FAST)
    assert error < 0.1 < 0.2 < np.abs(X - 0.5).mean()


@pytest.mark.parametrize("c", [1, 2, 5])
def test_correlational_score_is_that_of_numpy(c):
    real, new = (walks(30, 12, c, seed=i)[0] for i in range(2))
    R = [np.corrcoef(X.transpose(1, 0, 2).reshape(c, -1)).reshape(c, c) for X in (real, new)]
    lower = np.tril_indices(c)
    unbiased = 1 - 1 / (30 * 12)  # the published code divides by n, and deviations by n - 1
    expected = unbiased * np.abs(R[0] - R[1])[lower].sum() / 10
    assert_allclose(correlational_score(real, new), expected, atol=1e-6)
    assert_allclose(correlational_score(real * 5 - 3, new * 5 - 3), expected, atol=1e-5)
    assert correlational_score(real, real) == 0


def test_a_constant_channel_has_no_correlation():
    real, _ = walks(30, 12, 2)
    flat = real.copy()
    flat[:, 1] = 7
    rho = np.corrcoef(real.transpose(1, 0, 2).reshape(2, -1))[0, 1]
    assert_allclose(correlational_score(real, flat), (1 + abs(rho)) / 10, atol=1e-3)
    assert correlational_score(flat, flat) == 0


def test_correlational_runs_draw_a_part_of_both_sets():
    real, new = (walks(60, 12, 3, seed=i)[0] for i in range(2))
    found = correlational_runs(real, [new, real], 5, seed=partial(derived_seed, 0))
    assert found.shape == (2, 5) and (found > 0).all() and len(np.unique(found)) == 10
    whole = correlational_runs(real, [new], 1, seed=partial(derived_seed, 0))
    assert np.isfinite(whole).all()


@pytest.fixture(scope="module")
def report():
    real, new, held = (walks(30, 6, 2, seed=i)[0] for i in range(3))
    return window_scores(real, new, held_out=held, context_steps=1, **FEW)


def test_a_report_has_every_score_with_its_reference(report):
    kinds = {r.metric: [b.kind for b in r.references] for r in report}
    floor = ["floor"]
    assert kinds == {
        "discriminative score": floor,
        "predictive score": ["original"],
        "correlational score": floor,
        "context-FID": floor,
    }
    assert all(r.better == "lower" and r.low <= r.value <= r.high for r in report)
    assert report.settings == {k: v for k, v in FEW.items() if k != "verbose"} | dict(
        scale=True, context_steps=1, n_real=30, n_new=30, channels=2, length=6
    )
    assert len(report.notes) == 1 and "range of the real windows" in report.notes[0]


def test_a_report_is_made_of_the_single_scores(report):
    real, new, _ = (walks(30, 6, 2, seed=i)[0] for i in range(3))
    bare = window_scores(real, new, **BARE)
    for row, again in zip(report, bare):
        assert_allclose(row.value, again.value, rtol=1e-4)  # the reference changed nothing
        assert again.metric == "predictive score" or not again.references
    alone = discriminative_score, predictive_score, partial(context_fid, n_steps=1)
    for name, score in zip(("discriminative score", "predictive score", "context-FID"), alone):
        how = {} if name == "context-FID" else dict(n_steps=2)
        assert_allclose(score(real, new, n_runs=2, **how).mean(), report[name].value, rtol=1e-4)
    before = global_state()
    one, two = (window_scores(real, new, **BARE, random_state=s) for s in (0, 1))
    assert global_state() == before
    assert repr(one) == repr(bare) and repr(one) != repr(two)


def test_intervals_are_those_of_t():
    real, new = uniform(40, 2, 6), uniform(40, 2, 6, seed=1)
    how = dict(discriminative_steps=0, predictive_steps=2, context_steps=0, n_runs=4)
    row = window_scores(real, new, **how, verbose=False)["predictive score"]
    scores = predictive_score(real, new, n_runs=4, n_steps=2)
    low, high = stats.t.interval(0.95, 3, loc=scores.mean(), scale=stats.sem(scores))
    assert len(np.unique(scores)) == 4
    assert_allclose([row.value, row.low, row.high], [scores.mean(), low, high], rtol=1e-6)
    alone = window_scores(real, new, **{**how, "n_runs": 1}, verbose=False)
    assert all(math.isnan(r.low) and math.isnan(r.high) for r in alone)


def test_notes_say_what_departs_from_the_protocol():
    real, _ = walks(30, 6, 1)
    none = dict(discriminative_steps=0, predictive_steps=0, context_steps=0, verbose=False)
    report = window_scores(real, 2 * real[:20] - real.min(), **none)
    assert [r.metric for r in report] == ["correlational score"]
    said = " ".join(report.notes)
    assert "lie outside" in said and "20 generated against 30 real" in said
    assert "one unit" in said


@pytest.mark.parametrize(
    "how, parts",
    [
        (dict(n_runs=0), ("n_runs must be", "0")),
        (dict(predictive_steps=-1), ("predictive_steps must be", "-1")),
        (dict(context_steps=1.5), ("context_steps must be", "1.5")),
        (dict(random_state=-1), ("random_state",)),
        (dict(device="nowhere"), ("device", "nowhere")),
        (dict(held_out=np.zeros((3, 2, 6))), ("held_out has 3 windows",)),
    ],
)
def test_settings_that_cannot_be(how, parts):
    with says(*parts):
        window_scores(uniform(20, 2, 6), uniform(20, 2, 6), **{**BARE, **how})


def test_a_model_is_asked_for_as_many_as_it_learned_from():
    real, test = walks(30, 6, 2)[0], walks(12, 6, 2, seed=1)[0]
    asked = []

    def sample(n, random_state):
        asked.append((n, random_state))
        return walks(n, 6, 2, seed=random_state)[0]

    model, data = SimpleNamespace(sample=sample), SimpleNamespace(X_train=real, X_test=test)
    made = [model_window_scores(model, data, **BARE, random_state=s) for s in (0, 0, 1)]
    assert asked[0] == asked[1] != asked[2] and asked[0][0] == 30
    assert repr(made[0]) == repr(made[1]) and isinstance(made[0], Report)
    assert made[0]["correlational score"].references
    few = SimpleNamespace(X_train=real, X_test=test[:9])
    short = model_window_scores(model, few, **BARE)
    assert not short["correlational score"].references
    said = "No floors: the test part has 9 windows, and held-out ones are at least 10."
    assert short.notes[-1] == said and said not in made[0].notes
    none = model_window_scores(model, SimpleNamespace(X_train=real, X_test=None), **BARE)
    assert not any("No floors" in n for n in none.notes)
    with says("real has 9 windows"):
        model_window_scores(model, SimpleNamespace(X_train=real[:9], X_test=test))
    assert len(asked) == 5


# Published figures: minutes each


def recording(name):
    folder = os.environ.get("NCVQ_WINDOWS")
    if not (THOROUGH and folder):
        pytest.skip(f"minutes: NCVQ_THOROUGH=1, and NCVQ_WINDOWS the folder that {name} is in")
    with (Path(folder) / name).open() as f:
        head, *rows = csv.reader(f)
    return recording_windows(np.array([row[head[0] == "date" :] for row in rows], float))


@pytest.mark.parametrize("name, published", [("stocks.csv", 0.036), ("ETTh1.csv", 0.121)])
def test_predictive_score_of_real_windows_is_the_published_one(name, published):
    X = recording(name)
    assert_allclose(predictive_score(X, X).mean(), published, rtol=0.05)


def test_stocks_against_itself_and_smoothed():
    X = recording("stocks.csv")
    wide = np.pad(X, ((0, 0), (0, 0), (2, 2)), "edge")
    smooth = sum(wide[:, :, k : k + 24] for k in range(5)) / 5
    assert discriminative_score(X, X).mean() < 0.03
    assert context_fid(X, smooth, n_runs=1) > 0.02
