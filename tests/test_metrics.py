"""Every figure of a report against a reference, its invariances, its errors, and what it must leave untouched"""
import json
import math
import random
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import sqrtm
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F

from ncvq_nb import NCVQ, present
from ncvq_nb import metrics as m
from ncvq_nb.data import Dataset, load_ucr
from ncvq_nb.metrics import (Beside, FCNClassifier, Report, Row, bootstrap_interval, cas, cas_labels, class_diversity, diversity, embed_2d, evaluate,
                             fcn_for, fid, frechet_distance, inception_score, memorisation, probe, reconstruction_error)
from ncvq_nb.vq import codebook_usage
from conftest import imitated

QUICK = dict(max_steps=6, precision="float32")


def rng(seed=0): return np.random.default_rng(seed)


def toy(n=24, m_=30, c=1, l=20, classes=(0, 1), seed=0):
    "Sines whose frequency is the class, with noise"
    r = rng(seed)
    def part(n):
        y = np.arange(n) % len(classes)
        t = np.arange(l) / l
        X = np.sin(2 * np.pi * (1 + y[:, None, None]) * (t + r.random((n, c, 1)))) + .1 * r.normal(size=(n, c, l))
        return X, np.array(classes)[y]
    return Dataset("toy", *part(n), *part(m_))


def states(): return random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2], torch.get_rng_state().numpy().tobytes()


@pytest.fixture(autouse=True)
def global_generators_do_not_move():
    before = states()
    yield
    assert states() == before


# ---- reconstruction

def test_reconstruction_error_is_what_a_loop_finds():
    X, N = rng(1).normal(size=(5, 2, 21)) * [[[1], [10]]] + 3, rng(2).normal(size=(5, 2, 21))
    e = reconstruction_error(X, X + .1 * N)
    X, Y = X.astype(np.float32), (X + .1 * N).astype(np.float32)
    assert_allclose(e["mse"], np.mean([(a - b)**2 for a, b in zip(X.ravel(), Y.ravel())]), rtol=1e-5)
    assert_allclose(e["relative"], np.mean([((X - Y)[:, j]**2).mean() / X[:, j].var() for j in (0, 1)]), rtol=1e-5)
    u = [torch.view_as_real(torch.stft(torch.tensor(Z).flatten(0, 1), 8, 2, window=torch.hann_window(8), return_complex=True)) for Z in (X, Y)]
    assert_allclose(e["stft"], F.mse_loss(*u).item(), rtol=1e-4)


def test_reconstruction_error_counts_every_series_and_no_order():
    X = rng().normal(size=(2100, 1, 8))  # more than one chunk
    Y = X.copy(); Y[-1] += 1
    assert_allclose(reconstruction_error(X, Y)["mse"], 1 / 2100, rtol=1e-5)
    p = rng().permutation(2100)
    assert_allclose(list(reconstruction_error(X[p], Y[p]).values()), list(reconstruction_error(X, Y).values()), rtol=1e-6)


def test_relative_error_leaves_constant_channels_out():
    X = rng().normal(size=(4, 2, 10)); X[:, 1] = 5
    assert_allclose(reconstruction_error(X, X * .9)["relative"], (.1 * X[:, 0]).var() / X[:, 0].var() + (.1 * X[:, 0]).mean()**2 / X[:, 0].var(), rtol=1e-4)
    assert math.isnan(reconstruction_error(np.ones((3, 1, 9)), np.zeros((3, 1, 9)))["relative"])


@pytest.mark.parametrize("X_hat, message", [(np.zeros((3, 1, 20)), "X_hat has 3 series, X 4"), (np.zeros((4, 1, 21)), "channels, length"), (np.full((4, 1, 20), np.nan), "X_hat"), (None, "X_hat is None")])
def test_reconstruction_error_refuses(X_hat, message):
    with pytest.raises((ValueError, TypeError), match=message): reconstruction_error(np.ones((4, 1, 20)), X_hat)


# ---- probes

def test_probe_is_a_vote_of_five_and_a_linear_svm():
    y, yt = np.arange(40) % 2, np.arange(90) % 2
    Z, Zt = (rng(i).normal(size=(len(k), 4)) * [1, 10, 100, 1] + .8 * k[:, None] * [1, 0, 0, 1] for i, k in enumerate((y, yt)))  # classes that overlap
    low, high = Z.min(0), Z.max(0)
    A, B = (2 * (z - low) / (high - low) - 1 for z in (Z, Zt))
    votes = {k: [np.bincount(y[np.argsort(((b - A)**2).sum(1))[:k]]).argmax() for b in B] for k in (3, 5, 7)}
    found = probe(Z, y, Zt, yt)
    assert found["knn"] == np.mean(votes[5] == yt) != np.mean(votes[3] == yt)
    assert found["svm"] == SVC(kernel="linear", C=1, random_state=0).fit(A, y).score(B, yt)


def test_probe_works_with_strings_few_series_and_unseen_classes():
    Z = rng().normal(size=(3, 4))
    assert probe(Z, ["a", "b", "a"], Z, ["a", "b", "c"])["svm"] <= 2 / 3


@pytest.mark.parametrize("change, message", [(dict(y_train=np.zeros(6)), "one class only"), (dict(Z_test=np.zeros((6, 3))), "Z_test has 3 features"), (dict(y_test=np.zeros(5)), "y_test has 5 labels"),
                                             (dict(Z_train=np.full((6, 4), np.inf)), "Z_train has 24 values"), (dict(Z_train=np.zeros(6)), "Z_train has shape")])
def test_probe_refuses(change, message):
    with pytest.raises(ValueError, match=message): probe(**dict(Z_train=rng().normal(size=(6, 4)), y_train=[0, 1] * 3, Z_test=np.zeros((6, 4)), y_test=[0, 1] * 3) | change)


# ---- FCN

def test_fcn_is_wang_et_al():
    "The network, written out with torch's functions; `padding='same'` is the convention of Keras, in which the paper's code is."
    d = toy(c=2, l=17)
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    conv, bn = [[x for x in fcn.network_ if isinstance(x, kind)] for kind in (nn.Conv1d, nn.BatchNorm1d)]
    assert [tuple(x.weight.shape) for x in conv] == [(128, 2, 8), (256, 128, 5), (128, 256, 3)]
    h = torch.tensor((d.X_test - d.X_train.mean((0, 2), keepdims=True)) / d.X_train.std((0, 2), keepdims=True))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for a, b in zip(conv, bn): h = F.relu(F.batch_norm(F.conv1d(h, a.weight, padding="same"), b.running_mean, b.running_var, b.weight, b.bias))
        assert_allclose(fcn.features(d.X_test), h.mean(-1), atol=1e-4)
        assert_allclose(fcn.predict_proba(d.X_test), F.linear(h.mean(-1), fcn.network_[-1].weight, fcn.network_[-1].bias).softmax(1), atol=1e-4)


def test_fcn_learns_and_keeps_the_labels_type():
    d = toy(classes=("slow", "fast", "faster"), n=30)
    fcn = FCNClassifier(max_steps=60).fit(d.X_train, d.y_train)
    assert fcn.score(d.X_test, d.y_test) > .9 and set(fcn.predict(d.X_test)) <= {"slow", "fast", "faster"}
    assert_allclose(fcn.predict_proba(d.X_test).sum(1), 1)


def test_fcn_weights_start_as_torch_starts_them():
    net = m._fcn(1, 3, torch.Generator().manual_seed(0))
    for layer in net:
        if isinstance(layer, (nn.Conv1d, nn.Linear)):
            bound = layer.weight[0].numel()**-.5  # kaiming_uniform_(a=√5)
            assert .95 * bound < layer.weight.abs().max() <= bound
            assert abs(layer.weight.std() / (bound / 3**.5) - 1) < .1


def test_fcn_same_seed_same_network_other_seed_another():
    d = toy()
    a, b, c = (FCNClassifier(random_state=s, **QUICK).fit(d.X_train, d.y_train).features(d.X_test) for s in (1, 1, 2))
    assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


@pytest.mark.parametrize("n, batch", [(2, 64), (5, 4), (7, 1), (65, 64), (9, 3)])
def test_fcn_batches_are_equal_and_cover_an_epoch(n, batch):
    g, k = torch.Generator().manual_seed(0), math.ceil(n / batch)
    epochs = m._epochs(n, batch, g)
    for _ in range(3):
        rows = [next(epochs) for _ in range(k)]
        assert {len(r) for r in rows} == {n // k} and len(torch.cat(rows).unique()) == n // k * k
    fcn = FCNClassifier(batch_size=batch, epochs=2, **QUICK).fit(rng().normal(size=(n, 12)), np.arange(n) % 2)
    assert len(fcn.losses_) == min(6, 2 * k) and np.isfinite(fcn.features(rng().normal(size=(1, 12)))).all()


def test_fcn_learning_rate_follows_a_cosine_and_runs_out_early_when_there_is_nothing_left_to_learn(monkeypatch):
    rates = []
    class Spy(torch.optim.AdamW):
        def step(self): rates.append(self.param_groups[0]["lr"]); super().step()
    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    d = toy()
    FCNClassifier(max_steps=12, precision="float32").fit(d.X_train, d.y_train)
    assert_allclose(rates, [1e-3 * (1 + math.cos(math.pi * i / 12)) / 2 for i in range(12)], rtol=1e-9)
    rates.clear()
    FCNClassifier(max_steps=400, tol=10., cool_down=7, precision="float32").fit(d.X_train, d.y_train)
    assert len(rates) in (27, 28) and rates[-1] < 1e-4 and all(a >= b for a, b in zip(rates, rates[1:]))


def test_fcn_evaluates_in_eval_mode():
    d = toy()
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    before = {k: v.clone() for k, v in fcn.network_.state_dict().items()}
    alone = np.concatenate([fcn.features(x[None]) for x in d.X_test])
    assert_allclose(alone, fcn.features(d.X_test), atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in fcn.network_.state_dict().items())


def test_fcn_is_blind_to_the_units():
    d = toy(c=2)
    scale, shift = np.array([[[100.], [.01]]]), np.array([[[5.], [-3.]]])
    a = FCNClassifier(**QUICK).fit(d.X_train, d.y_train).features(d.X_test)
    b = FCNClassifier(**QUICK).fit(d.X_train * scale + shift, d.y_train).features(d.X_test * scale + shift)
    assert_allclose(a, b, atol=2e-2, rtol=2e-2)


def test_fcn_is_an_estimator():
    fcn = FCNClassifier(lr=.5, random_state=3)
    assert clone(fcn).get_params() == fcn.get_params() and fcn.set_params(epochs=2).epochs == 2


@pytest.mark.parametrize("settings, y, message", [({}, np.zeros(6), "one class only"), ({}, None, "y is None"), ({}, np.zeros(5), "5 labels for 6"), (dict(batch_size=0), [0, 1] * 3, "batch_size is 0"),
                                                  (dict(precision="half"), [0, 1] * 3, "precision is 'half'"), (dict(random_state="x"), [0, 1] * 3, "random_state"), (dict(max_steps=0), [0, 1] * 3, "max_steps is 0")])
def test_fcn_refuses(settings, y, message):
    with pytest.raises((ValueError, TypeError), match=message): FCNClassifier(**settings).fit(np.ones((6, 1, 9)), y)


def test_fcn_refuses_before_it_is_fitted_and_series_with_other_channels():
    d = toy()
    for method in ("features", "predict", "predict_proba"):
        with pytest.raises(NotFittedError): getattr(FCNClassifier(), method)(d.X_test)
    with pytest.raises(ValueError, match="channels"): FCNClassifier(**QUICK).fit(d.X_train, d.y_train).predict(np.ones((2, 2, 20)))


@imitated
def test_fcn_trains_in_bfloat16():
    d = toy()
    fcn = FCNClassifier(max_steps=40, precision="bfloat16").fit(d.X_train, d.y_train)
    assert fcn.features(d.X_test).dtype == np.float32 and fcn.score(d.X_test, d.y_test) > .9


# ---- the cache

@pytest.fixture
def no_training(monkeypatch):
    "Call to forbid training from here on"
    def forbid():
        def refuse(*a, **k): raise AssertionError("trained")
        monkeypatch.setattr(m, "_train_fcn", refuse)
    return forbid


def test_fcn_for_trains_once(tmp_path, no_training):
    d = toy(classes=("a", "b"))
    first = fcn_for(d, cache_dir=tmp_path, **QUICK)
    no_training()
    again = fcn_for(d, cache_dir=tmp_path, **QUICK)
    assert_array_equal(first.predict_proba(d.X_test), again.predict_proba(d.X_test))
    assert_array_equal(first.predict(d.X_test), again.predict(d.X_test))
    assert again.get_params() == first.get_params() and again.losses_ == first.losses_ and not again.network_.training
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


@pytest.mark.parametrize("change", ["series", "labels", "settings", "refresh"])
def test_fcn_for_trains_again_when_something_differs(tmp_path, no_training, change):
    d, settings = toy(), dict(QUICK)
    fcn_for(d, cache_dir=tmp_path, **settings)
    if change == "series": d.X_train = d.X_train.copy(); d.X_train[0, 0, 0] += 1e-3
    elif change == "labels": d.y_train = d.y_train[::-1]
    elif change == "settings": settings["lr"] = 1e-4
    else: settings["refresh"] = True
    no_training()
    with pytest.raises(AssertionError, match="trained"): fcn_for(d, cache_dir=tmp_path, **settings)


def test_fcn_for_looks_at_the_train_part_only(tmp_path, no_training):
    d = toy()
    fcn_for(d, cache_dir=tmp_path, **QUICK)
    no_training()
    d.X_test, d.y_test = d.X_test[:2], d.y_test[:2]
    fcn_for(d, cache_dir=tmp_path, verbose=True, **QUICK)


@pytest.mark.parametrize("damage", [lambda b: b[:len(b) // 2], lambda b: b"", lambda b: b"\xff" * 100, lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], lambda b: b.replace(b'\\"mean\\": [', b'\\"mean\\": [1', 1)],
                         ids=["half", "empty", "noise", "bit", "settings"])
def test_fcn_for_replaces_a_damaged_file(tmp_path, damage):
    d = toy()
    good = fcn_for(d, cache_dir=tmp_path, **QUICK).features(d.X_test)
    path, = tmp_path.iterdir()
    assert damage(path.read_bytes()) != path.read_bytes()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="damaged"): assert_array_equal(fcn_for(d, cache_dir=tmp_path, **QUICK).features(d.X_test), good)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fcn_for(d, cache_dir=tmp_path, **QUICK)


def test_fcn_for_chooses_its_folder(tmp_path, monkeypatch):
    d = toy()
    monkeypatch.setenv("NCVQ_CACHE", str(tmp_path / "a"))
    fcn_for(d, **QUICK)
    assert len(list((tmp_path / "a").iterdir())) == 1
    fcn_for(d, cache_dir=False, lr=1e-4, **QUICK)
    assert len(list((tmp_path / "a").iterdir())) == 1
    monkeypatch.delenv("NCVQ_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    monkeypatch.setattr(m.sys, "platform", "linux")
    assert m._cache_folder() == tmp_path / "b" / "ncvq_nb"


def test_fcn_for_goes_on_where_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    d = toy()
    with pytest.warns(UserWarning, match="cannot be kept"): assert fcn_for(d, cache_dir=tmp_path / "file" / "x", **QUICK).features(d.X_test).shape == (30, 128)


def test_fcn_for_needs_labels():
    with pytest.raises(ValueError, match="toy has no labels"): fcn_for(SimpleNamespace(name="toy", X_train=np.ones((3, 1, 9)), y_train=None))


# ---- FID

def spd(d, seed, rank=None):
    A = rng(seed).normal(size=(rank or d, d))
    return A.T @ A / d


def test_frechet_distance_has_a_closed_form_where_covariances_commute():
    a, b, mu1, mu2 = rng().random(6), rng(1).random(6), rng(2).normal(size=6), rng(3).normal(size=6)
    Q = np.linalg.qr(rng(4).normal(size=(6, 6)))[0]
    expected = ((mu1 - mu2)**2).sum() + ((a**.5 - b**.5)**2).sum()
    assert_allclose(frechet_distance(mu1, Q @ np.diag(a) @ Q.T, mu2, Q @ np.diag(b) @ Q.T), expected, rtol=1e-10)
    assert_allclose(frechet_distance([0.], [[4.]], [3.], [[25.]]), 18)


def test_frechet_distance_is_that_of_scipys_square_root():
    S1, S2 = spd(7, 0), spd(7, 1)
    assert_allclose(frechet_distance(np.zeros(7), S1, np.ones(7), S2), 7 + np.trace(S1 + S2 - 2 * sqrtm(S1 @ S2).real), rtol=1e-9)


@pytest.mark.parametrize("n", [60, 9], ids=["more series than features", "fewer"])
def test_fid_is_that_of_torchmetrics(n):
    try: from torchmetrics.image.fid import FrechetInceptionDistance
    except RuntimeError as e: pytest.skip(f"torchmetrics finds a torchvision that was built for another torch: {e}")
    identity = nn.Identity(); identity.num_features = 16
    A, B = rng().normal(size=(n, 16)), rng(1).normal(size=(2 * n, 16)) * 1.5 + .3
    oracle = FrechetInceptionDistance(feature=identity)
    oracle.update(torch.tensor(A), real=True); oracle.update(torch.tensor(B), real=False)
    assert_allclose(fid(A, B), oracle.compute().item(), rtol=1e-5)


def test_fid_is_a_distance_between_sets():
    A, B = rng().normal(size=(40, 128)), 2 * rng(1).normal(size=(50, 128))  # covariances of rank 39 and 49
    Q = np.linalg.qr(rng(2).normal(size=(128, 128)))[0]
    assert_allclose(fid(A, A), 0, atol=1e-9)
    assert_allclose(fid(A, A[::-1]), 0, atol=1e-9)
    assert_allclose(fid(B, A), fid(A, B), rtol=1e-9)
    assert_allclose(fid(A + 5, B + 5), fid(A, B), rtol=1e-9)
    assert_allclose(fid(A @ Q, B @ Q), fid(A, B), rtol=1e-8)
    assert_allclose(fid(10 * A, 10 * B), 100 * fid(A, B), rtol=1e-9)
    assert_allclose(fid(A, A + 3), 9 * 128, rtol=1e-9)
    assert fid(A[:, :1], B[:, :1]) >= 0


def test_fid_and_frechet_distance_refuse():
    with pytest.raises(ValueError, match="A has 1 series"): fid(np.ones((1, 3)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="B has 2 features, A 3"): fid(np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="NaN"): fid(np.full((4, 3), np.nan), np.ones((4, 3)))
    with pytest.raises(ValueError, match="covariances"): frechet_distance(np.zeros(3), np.eye(3), np.zeros(3), np.eye(2))


# ---- Inception Score

def test_inception_score_is_what_a_loop_finds():
    P = rng().dirichlet([.3] * 5, size=47)
    scores = []
    for i in range(4):
        part = P[11 * i:11 * (i + 1)]
        scores.append(math.exp(sum(p[c] * math.log(p[c] / part[:, c].mean()) for p in part for c in range(5) if p[c] > 0) / 11))
    assert_allclose(inception_score(P, n_splits=4), (np.mean(scores), np.std(scores)), rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_inception_score_lies_between_one_and_the_number_of_classes(seed):
    P = rng(seed).dirichlet([10.**rng(seed).uniform(-3, 1)] * 4, size=60)
    assert 1 - 1e-12 <= inception_score(P, n_splits=1 + seed)[0] <= 4 + 1e-12


def test_inception_score_of_hard_zeros_orders_and_seeds():
    P = np.eye(3)[rng().integers(0, 3, 60)]
    assert_allclose(inception_score(np.eye(3)[np.arange(60) % 3], n_splits=2), (3, 0), atol=1e-12)
    assert_allclose(inception_score(P, n_splits=1), inception_score(P[::-1], n_splits=1))
    assert_allclose(inception_score(P, n_splits=1), inception_score(P[:, ::-1], n_splits=1))
    assert inception_score(P, random_state=1) == inception_score(P, random_state=1) != inception_score(P, random_state=2)


@pytest.mark.parametrize("P, n_splits, message", [(np.ones((20, 3)), 2, "softmax"), (np.full((20, 2), .5), 0, "n_splits is 0"), (np.full((5, 2), .5), 10, "n_splits is 10"), (np.array([[1.5, -.5]] * 9), 2, "probabilities")])
def test_inception_score_refuses(P, n_splits, message):
    with pytest.raises(ValueError, match=message): inception_score(P, n_splits=n_splits)


# ---- bootstrap

def test_percentile_interval_covers_the_mean():
    r, hits = rng(), 0
    for i in range(200):
        low, high = bootstrap_interval(np.mean, r.exponential(size=60), n_resamples=100, confidence=.9, random_state=i)
        hits += low <= 1 <= high
    assert .8 <= hits / 200 <= .95


def test_spread_interval_covers_what_samples_of_this_size_give_and_the_percentile_one_does_not():
    r, n, d = rng(), 40, 8
    inside = {"spread": 0, "percentile": 0}
    pairs = [(r.normal(size=(n, d)), r.normal(.5, 1.2, size=(n, d))) for _ in range(100)]
    expected = np.mean([fid(*p) for p in pairs])
    for i, p in enumerate(pairs[:60]):
        for method in inside:
            low, high = bootstrap_interval(fid, *p, n_resamples=60, method=method, random_state=i)
            inside[method] += low <= expected <= high
    assert inside["spread"] >= 52 and inside["percentile"] <= 48, inside


def test_the_interval_of_a_mean_over_sets_is_as_wide_as_that_mean_spreads():
    "Ten sets of generated series against the same real ones: the chance of the sets averages out, that of the real series does not."
    r, n, d, m_sets = rng(), 60, 8, 10
    world = lambda: (r.normal(size=(n, d)), [r.normal(.5, 1.2, size=(n, d)) for _ in range(m_sets)])
    means = [np.mean([fid(A, T) for A in sets]) for T, sets in (world() for _ in range(200))]
    interval, held, width = partial(bootstrap_interval, n_resamples=60), 0, []
    for i in range(30):
        T, sets = world()
        value, low, high = m._mean_over(sets, fid, partial(interval, random_state=i), T)
        assert value == pytest.approx(np.mean([fid(A, T) for A in sets])) and low < value < high
        held += low <= np.mean(means) <= high
        width.append(high - low)
    one = [np.ptp(interval(fid, sets[0], T, method="spread", random_state=i)) for i, (T, sets) in enumerate(world() for _ in range(10))]
    true = 3.92 * np.std(means)
    assert held >= 25 and .75 * true < np.mean(width) < 1.25 * true < np.mean(one), (held, true, np.mean(width), np.mean(one))


def test_the_interval_of_the_inception_score_narrows_with_the_sets():
    P = rng().dirichlet([.3, .3, .3], size=800)
    score = lambda p: inception_score(p, n_splits=5, random_state=0)[0]
    width = {k: np.mean([np.ptp(m._mean_over(np.split(P, 8)[:k], score, partial(bootstrap_interval, random_state=i))[1:]) for i in range(3)]) for k in (2, 8)}
    assert .4 < width[8] / width[2] < .65  # nothing is shared: half the width for four times the sets


def test_bootstrap_pairs_rows_and_follows_its_seed():
    x = rng().normal(size=50)
    difference = lambda a, b: np.mean(a - b)
    assert_allclose(bootstrap_interval(difference, x, x + 1, paired=True), (-1, -1))
    low, high = bootstrap_interval(difference, x, x + 1)
    assert high - low > .3
    assert bootstrap_interval(np.mean, x, random_state=1) == bootstrap_interval(np.mean, x, random_state=1) != bootstrap_interval(np.mean, x, random_state=2)
    narrow, wide = (bootstrap_interval(np.mean, x, confidence=c) for c in (.5, .99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("settings, message", [(dict(method="bca"), "method is 'bca'"), (dict(confidence=95), "confidence is 95"), (dict(n_resamples=1), "n_resamples is 1"), (dict(paired=True), "same length")])
def test_bootstrap_refuses(settings, message):
    with pytest.raises(ValueError, match=message): bootstrap_interval(fid, np.ones((4, 2)), np.ones((5, 2)), **settings)


# ---- diversity

def brute(real, new, k):
    dist = lambda a, b: math.sqrt(sum((x - y)**2 for x, y in zip(a, b)))
    radius = lambda A: [sorted(dist(a, b) for j, b in enumerate(A) if j != i)[k - 1] for i, a in enumerate(A)]
    R, N = radius(real), radius(new)
    return {"precision": np.mean([any(dist(b, a) <= r for a, r in zip(real, R)) for b in new]), "recall": np.mean([any(dist(a, b) <= r for b, r in zip(new, N)) for a in real]),
            "density": np.mean([sum(dist(b, a) <= r for a, r in zip(real, R)) / k for b in new]), "coverage": np.mean([any(dist(b, a) <= r for b in new) for a, r in zip(real, R)])}


@pytest.mark.parametrize("k, n, m_", [(1, 20, 30), (3, 30, 12), (5, 25, 25)])
def test_diversity_is_what_loops_find(k, n, m_):
    real, new = rng(k).normal(size=(n, 3)), rng(k + 9).normal(.5, 1.3, size=(m_, 3))
    found, expected = diversity(real, new, k=k), brute(real, new, k)
    assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-12)


def test_diversity_of_more_rows_than_a_chunk():
    real, new = rng().normal(size=(1030, 2)), rng(1).normal(size=(40, 2))
    big, rows = diversity(real, new), m._distances
    assert sum(len(d) for d in rows(real, new)) == 1030
    scores = m._diversity_scores(real, new, 5)
    assert {k: len(v) for k, v in scores.items()} == {"precision": 40, "recall": 1030, "density": 40, "coverage": 1030}
    m._distances, kept = (lambda A, B: rows(A, B, rows=7)), m._distances
    try: assert diversity(real, new) == big
    finally: m._distances = kept


def test_diversity_sees_identity_collapse_distance_and_no_order_or_units():
    A, far = rng().normal(size=(60, 4)), rng(1).normal(size=(60, 4)) + 100
    same = diversity(A, A)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    assert set(diversity(A, far).values()) == {0.}
    assert diversity(A, np.repeat(A[:1], 60, 0))["coverage"] < .3
    B = rng(2).normal(size=(50, 4))
    for other in (diversity(A[::-1], B[::-1]), diversity(A * 8, B * 8)): assert_allclose(list(other.values()), list(diversity(A, B).values()), rtol=1e-12)


def test_balls_contain_their_surface():
    A = np.zeros((7, 2))  # every radius is 0
    assert_allclose(list(diversity(A, A).values()), [1, 1, 7 / 5, 1])


def test_diversity_with_fewer_new_series_at_a_time():
    real, new = rng().normal(size=(80, 3)), np.sort(rng(1).normal(size=(400, 3)), 0)  # in an order that the choice must not follow
    few = diversity(real, new, n_new=20)
    mean = np.mean([diversity(real, new[rng(i).permutation(400)[:20]])["coverage"] for i in range(20)])
    assert_allclose(few["coverage"], mean, atol=.06)
    assert few["precision"] == diversity(real, new)["precision"] and few["coverage"] < diversity(real, new)["coverage"]


def test_class_diversity_is_the_mean_over_classes():
    real, new = rng().normal(size=(60, 3)), rng(1).normal(size=(44, 3))
    y, z = np.array(list("ab"))[np.arange(60) % 2], np.array(list("ab"))[np.arange(44) % 2]
    parts = [brute(real[y == c], new[z == c], 5) for c in "ab"]
    found = class_diversity(real, y, new, z)
    assert_allclose([found[k] for k in parts[0]], [np.mean([p[k] for p in parts]) for k in parts[0]], rtol=1e-12)
    assert class_diversity(real, y, new, z, n_new={"a": 0}) != found


def test_class_diversity_of_small_and_missing_classes():
    real, new = rng().normal(size=(9, 3)), rng(1).normal(size=(6, 3))
    found = class_diversity(real, [0] * 5 + [1] * 3 + [2], new, [0] * 3 + [2] * 2 + [3])  # only class 0 can be judged, with k = 2
    assert_allclose(list(found.values()), [brute(real[:5], new[:3], 2)[k] for k in found])
    assert all(math.isnan(v) for v in class_diversity(real, [0] * 9, new, [1] * 6).values())


def test_diversity_refuses():
    A = rng().normal(size=(6, 3))
    with pytest.raises(ValueError, match="at least two"): diversity(A, A[:1])
    with pytest.raises(ValueError, match="k is 0"): diversity(A, A, k=0)
    with pytest.raises(ValueError, match="new has 2 features"): diversity(A, A[:, :2])


# ---- memorisation

def test_memorisation_is_what_loops_find():
    d = toy(30, 30, c=2, l=9)
    new = rng().normal(size=(17, 2, 9))
    mu, sd = d.X_train.mean((0, 2), dtype=float)[:, None], d.X_train.std((0, 2), dtype=float)[:, None]
    dist = lambda x, S: min(math.sqrt((((x - s) / sd)**2).sum()) for s in S)
    a, b, held = [np.array([dist(x, S) for x in Y]) for Y, S in ((new, d.X_train), (new, d.X_test), (d.X_test, d.X_train))]
    found = memorisation(new, d.X_train, d.X_test)
    assert_allclose(found["share"], np.mean(a < b), atol=1e-9)
    assert_allclose(found["ratio"], np.median(a / b), rtol=1e-5)
    assert_allclose(found["copies"], np.mean(a < np.quantile(held, .01)), atol=1e-9)


def test_memorisation_tells_copies_from_held_out_series():
    r = rng()
    train, test, unseen = (r.normal(size=(n, 1, 12)).cumsum(2) for n in (40, 120, 400))
    assert memorisation(train, train, test) == {"share": 1, "ratio": 0, "copies": 1}
    assert memorisation(test, train, test)["share"] < .4
    found = memorisation(unseen, train, test)
    assert abs(found["share"] - .5) < .06 and abs(found["ratio"] - 1) < .1 and found["copies"] < .08
    swapped = memorisation(unseen, test, train)
    assert abs(found["share"] + swapped["share"] - 1) < .1
    assert memorisation(unseen * 1000, train * 1000, test * 1000)["share"] == pytest.approx(found["share"], abs=.01)


def test_near_copies_are_nearer_than_the_nearest_hundredth_of_the_test_series():
    train, test = np.array([0., *range(1000, 1299)]), np.arange(10, 60, .5)  # test series are 10.5 and more from train, all but one
    new = np.array([3., 9., 11., 20., 1100.2])
    assert memorisation(*(x[:, None, None] for x in (new, train, test)))["copies"] == pytest.approx(3 / 5)


def test_series_in_train_and_test_alike_count_half():
    X = rng().normal(size=(10, 1, 8))
    assert memorisation(X, X, X)["share"] == .5


def test_nearest_is_exact_for_duplicates():
    A = rng().normal(size=(50, 30)) * 1e3
    assert_array_equal(m._nearest(A, A), 0)
    B = rng(1).normal(size=(33, 30)) * 1e3
    assert_allclose(m._nearest(A, B, rows=7), [min(np.linalg.norm(a - b) for b in B) for a in A], rtol=1e-12)


# ---- CAS

def test_cas_labels_keep_the_proportions():
    y = np.array(["a"] * 24 + ["b"] * 26)
    labels = cas_labels(y)
    assert [(c, int((labels == c).sum())) for c in "ab"] == [("a", 480), ("b", 520)]
    assert len(cas_labels(np.arange(7))) == 1001 and len(cas_labels([0, 1] * 800)) == 1600 and len(cas_labels(y, at_least=1)) == 50


def test_cas_is_the_accuracy_of_a_classifier_that_saw_synthetic_series_only():
    d = toy(40, 60)
    good = cas(d.X_train, d.y_train, d.X_test, d.y_test, max_steps=60)
    swapped = cas(d.X_train, 1 - d.y_train, d.X_test, d.y_test, max_steps=60)
    assert good > .9 and swapped < .1
    with pytest.raises(ValueError, match="one class only"): cas(d.X_train, np.zeros(40), d.X_test, d.y_test)
    with pytest.raises(ValueError, match="channels, length"): cas(d.X_train[..., :9], d.y_train, d.X_test, d.y_test)


# ---- codebook, map

def test_codebook_rows_are_what_a_count_finds():
    s = rng().integers(0, 5, (20, 6)) * 2
    p = np.array([(s == k).mean() for k in range(16)])
    for kind in (np.int64, np.uint16):
        usage, perplexity = m._judge_codebook(s.astype(kind), 16)
        assert_allclose(usage.value, 5 / 16); assert_allclose(perplexity.value, math.exp(-sum(q * math.log(q) for q in p if q)))
    for bad in (np.array([[16]]), np.array([[-1]]), np.array([[.5]]), np.array([[True]])):
        with pytest.raises(ValueError, match="from 0 to 15, found"): m._judge_codebook(bad, 16)


def test_embed_2d_puts_all_sets_on_one_map():
    A, B = rng().normal(size=(30, 5)), rng(1).normal(size=(20, 5)) + 4
    both = PCA(2).fit_transform(np.concatenate([A, B]))
    a, b = embed_2d(A, B)
    assert_allclose(np.abs(np.concatenate([a, b])), np.abs(both), atol=1e-6)
    c, d = embed_2d(A, B, method="tsne", random_state=1)
    assert c.shape == (30, 2) and d.shape == (20, 2)
    assert_array_equal(c, embed_2d(A, B, method="tsne", random_state=1)[0])
    assert embed_2d(rng().normal(size=(4, 1)))[0].shape == (4, 2) and embed_2d(rng().normal(size=(9, 2, 6)))[0].shape == (9, 2)


@pytest.mark.parametrize("sets, settings, message", [(((4, 3),), dict(method="umap"), "method is 'umap'"), (((4, 3), (4, 2)), {}, "set 2 has 2 features"), (((2, 3),), {}, "three rows"), ((), {}, "three rows")])
def test_embed_2d_refuses(sets, settings, message):
    with pytest.raises(ValueError, match=message): embed_2d(*(np.ones(s) for s in sets), **settings)


# ---- the report

@pytest.fixture
def report():
    rows = [Row("FID", 3.2, 2.8, 3.7, "lower", (Beside("floor", 1.1, "real <train> | test"), Beside("tokenizer", math.nan, "none"))), Row("CAS", .91, better="higher", beside=(Beside("ceiling", 1., "x"),))]
    return Report("a & b", rows, ["A <note>."], {"confidence": .9})


def test_report_shows_itself(report):
    html, markdown, text = report._repr_html_(), report._repr_markdown_(), repr(report)
    assert "real &lt;train&gt;" in html and "a &amp; b" in html and "A &lt;note&gt;." in html and html.count("<tr>") == 3
    assert "real <train> \\| test" in markdown and len({line.replace("\\|", "").count("|") for line in markdown.splitlines()[:4]}) == 1
    assert "90 % interval" in text and "2.80 … 3.70" in text and "0.910" in text and "floor 1.10" in text and "· A <note>." in text


def test_report_is_found_by_name(report):
    assert float(report["FID"]) == 3.2 and report["FID"].floor == 1.1 and report["CAS"].ceiling == 1 and math.isnan(report["CAS"].floor)
    assert [r.metric for r in report] == ["FID", "CAS"] and len(report) == 2 and "IS" not in report
    with pytest.raises(KeyError, match="'IS' is not in this report; it has FID, CAS"): report["IS"]


def test_report_is_saved_and_read_back(report, tmp_path):
    for path in (tmp_path / "new" / "v1.2 report", str(tmp_path / "r.json"), tmp_path / "r.md"):
        file = report.save(path)
        assert repr(Report.load(file)) == repr(report) and file.suffix == ".json" and file.with_suffix(".md").read_text(encoding="utf-8") == report._repr_markdown_()
    strict = json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert strict["rows"][1]["low"] is None
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"r.json", "r.md", "v1.2 report.json", "v1.2 report.md"}


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    m._write(tmp_path / "a" / "file", b"old")
    def half(path, content):
        with path.open("wb") as f: f.write(content[:len(content) // 2])
        raise OSError("disk full")
    monkeypatch.setattr(m.Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"): m._write(tmp_path / "a" / "file", b"new content")
    assert (tmp_path / "a" / "file").read_bytes() == b"old" and len(list((tmp_path / "a").iterdir())) == 1
    monkeypatch.undo()
    write = m.Path.write_bytes
    def never_in_place(path, content): assert path.name != "file"; write(path, content)
    monkeypatch.setattr(m.Path, "write_bytes", never_in_place)
    m._write(tmp_path / "a" / "file", b"new")
    assert (tmp_path / "a" / "file").read_bytes() == b"new" and len(list((tmp_path / "a").iterdir())) == 1


@pytest.mark.parametrize("value, text", [(0., "0"), (3.14159, "3.14"), (150., "150"), (12345.6, "12346"), (999.7, "1000"), (.00002, "2.0e-05"), (1., "1.00"), (-.5, "-0.500"), (math.nan, "–"), (math.inf, "–")])
def test_three_significant_digits(value, text): assert m._figure(value) == text


# ---- evaluate

class Model(nn.Module):
    "A stand-in with every method of the estimator, and a buffer that would move in train mode"
    n_codes = 8

    def __init__(self, data, noise=.1):
        super().__init__()
        self.X, self.y, self.noise = data.X_train, data.y_train, noise
        self.classes_ = None if self.y is None else np.unique(self.y)
        self.norm = nn.BatchNorm1d(data.X_train.shape[1]).eval()
        self.asked = []

    @torch.no_grad()
    def reconstruct(self, X): return .9 * self.norm(torch.as_tensor(X)).numpy()
    def features(self, X, quantised=True): return np.round(X.mean(1), int(not quantised))
    def encode(self, X): return np.digitize(X[:, 0, ::4], [-1, -.5, 0, .5])

    def sample(self, n, y=None, random_state=None):
        self.asked.append((n, y, random_state))
        r = rng(random_state)
        rows = r.integers(0, len(self.X), n) if y is None else [r.choice(np.flatnonzero(self.y == c)) for c in np.broadcast_to(y, n)]
        return self.X[rows] + self.noise * r.normal(size=(n, *self.X.shape[1:]))


ARGS = dict(fcn=QUICK, n_resamples=10, cas_total=60, cache_dir=False, verbose=False)
TOKENIZER = ["reconstruction MSE", "reconstruction error", "STFT MSE"]
PROBES = [f"{k} {f}" for f in ("quantised", "continuous") for k in ("KNN", "SVM")]
CODES, SAMPLES = ["codebook usage", "codebook perplexity"], ["FID", "FID at train size", "IS", "precision", "recall", "density", "coverage"]
CLASSES, MEMORY = ["CAS", *(f"{k} within class" for k in ("precision", "recall", "density", "coverage"))], ["memorisation", "near copies"]


def names(report): return [r.metric for r in report]


def test_evaluate_reports_every_figure_beside_another(tmp_path):
    d = toy()
    model = Model(d)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = evaluate(model, d, **ARGS)
    assert names(report) == TOKENIZER + PROBES + CODES + SAMPLES + CLASSES + MEMORY
    assert all(r.beside and r.better and math.isfinite(r.value) for r in report)
    assert all(r.low <= r.value <= r.high for r in report if math.isfinite(r.low) and r.metric not in ("IS", "recall", "coverage"))
    assert all(", " not in name for name in names(report))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [(n, None if y is None else len(y)) for n, y, _ in model.asked] == 10 * [(30, None)] + [(60, 60)]  # ten sets
    assert report.notes == [] and report.settings["n_test"] == 30
    assert repr(Report.load(report.save(tmp_path / "r"))) == repr(report)


def test_evaluate_says_what_the_parts_say():
    d, settings = toy(), QUICK | dict(max_steps=25)
    model = Model(d, noise=2.)
    report, fcn = evaluate(model, d, **ARGS | dict(fcn=settings)), FCNClassifier(**settings).fit(d.X_train, d.y_train)
    assert float(report["reconstruction error"]) == reconstruction_error(d.X_test, model.reconstruct(d.X_test))["relative"]
    found = probe(model.features(d.X_train, False), d.y_train, model.features(d.X_test, False), d.y_test)
    assert report["KNN continuous"].value == pytest.approx(found["knn"]) and report["SVM continuous"].value == pytest.approx(found["svm"])
    assert report["codebook perplexity"].value == codebook_usage(model.encode(np.concatenate([d.X_train, d.X_test])), 8)[1]
    (n, _, s), (total, y, t) = model.asked[0], model.asked[-1]
    assert len({s for _, _, s in model.asked}) == len(model.asked)  # other series every time
    X, X_y = model.sample(n, random_state=s), model.sample(total, y, random_state=t)
    E, E_test, E_train = (fcn.features(a).astype(float) for a in (X.astype(np.float32), d.X_test, d.X_train))
    sets = [fcn.features(model.sample(n, random_state=r).astype(np.float32)).astype(float) for _, y, r in model.asked[:10]]
    assert float(report["FID"]) == pytest.approx(np.mean([fid(A, E_test) for A in sets])) and report["FID"].floor == pytest.approx(fid(E_train, E_test))
    assert report["FID"].beside[1].value == pytest.approx(fid(fcn.features(model.reconstruct(d.X_test)), E_test))
    assert report["density"].value == pytest.approx(diversity(E_test, E)["density"])
    assert report["CAS"].value == pytest.approx(cas(X_y, y, d.X_test, d.y_test, **settings)) != report["CAS"].ceiling == 1
    assert report["CAS"].ceiling == pytest.approx(fcn.score(d.X_test, d.y_test))
    assert report["near copies"].value == pytest.approx(memorisation(X, d.X_train, d.X_test)["copies"])
    assert report["memorisation"].value == pytest.approx(memorisation(X, d.X_train, d.X_test)["share"], abs=.1)


def test_evaluate_follows_its_seed():
    d = toy()
    a, b, c = (evaluate(Model(d), d, random_state=s, **ARGS) for s in (1, 1, 2))
    assert a.to_dict() == b.to_dict() and float(a["FID"]) != float(c["FID"])
    assert a["FID"].floor == c["FID"].floor  # all seeds look through the same classifier


def test_evaluate_conditionally_and_with_another_number():
    d = toy(classes=("a", "b", "c"), n=30)
    model = Model(d)
    evaluate(model, d, conditional=True, **ARGS)
    assert sorted(model.asked[0][1]) == sorted(d.y_test)
    model.asked.clear()
    report = evaluate(model, d, conditional=True, n_samples=12, **ARGS)
    asked = model.asked[0][1]
    assert model.asked[0][0] == len(asked) == 12 and "FID at train size" not in report
    for label, k in zip(*np.unique(d.y_test, return_counts=True)): assert abs((asked == label).sum() - 12 * k / len(d.y_test)) < 1  # the shares of the test set


def test_evaluate_without_labels():
    d = toy()
    d = Dataset("toy", d.X_train, None, d.X_test)
    report = evaluate(Model(d), d, **ARGS)
    assert names(report) == TOKENIZER + CODES + MEMORY and "no labels" in " ".join(report.notes)
    with pytest.raises(ValueError, match="conditional=True needs data with labels"): evaluate(Model(d), d, conditional=True, **ARGS)


def test_evaluate_a_model_that_was_fitted_without_labels():
    d = toy()
    model = Model(d); model.classes_ = None
    report = evaluate(model, d, **ARGS)
    assert names(report) == TOKENIZER + PROBES + CODES + SAMPLES + MEMORY and "does not know the classes" in " ".join(report.notes)


def test_evaluate_one_class():
    d = toy(classes=(3,))
    report = evaluate(Model(d), d, **ARGS)
    assert names(report) == TOKENIZER + CODES + MEMORY and "one class only (3)" in " ".join(report.notes)


def test_evaluate_when_classes_are_missing():
    d = toy(classes=(0, 1, 2))
    lost = Dataset("toy", d.X_train, d.y_train, d.X_test[d.y_test < 2], d.y_test[d.y_test < 2])
    assert "no series of class 2" in " ".join(evaluate(Model(lost), lost, **ARGS).notes)
    new = Dataset("toy", d.X_train[d.y_train < 2], d.y_train[d.y_train < 2], d.X_test, d.y_test)
    report = evaluate(Model(new), new, conditional=True, **ARGS)
    assert "does not have (2) count as wrong" in " ".join(report.notes) and report["CAS"].ceiling <= 2 / 3 + 1e-9
    knows_two = Model(d); knows_two.classes_ = np.array([0, 1])
    report = evaluate(knows_two, d, **ARGS)
    assert "does not know class 2" in " ".join(report.notes) and set(knows_two.asked[-1][1]) == {0, 1}


def test_evaluate_several_channels_and_hardly_any_series():
    d = toy(n=4, m_=3, c=3, l=9)
    report = evaluate(Model(d), d, **ARGS)
    assert set(names(report)) >= {*TOKENIZER, *PROBES, "FID", "IS", "CAS", *MEMORY}


def test_evaluate_does_what_the_model_can():
    d = toy()
    sampler = SimpleNamespace(sample=Model(d).sample)
    report = evaluate(sampler, d, **ARGS)
    assert names(report) == SAMPLES + CLASSES + MEMORY and len(report.notes) == 3
    class Half(Model):
        def sample(self, *a, **k): raise NotFittedError("there is no prior yet")
    report = evaluate(Half(d), d, **ARGS)
    assert names(report) == TOKENIZER + PROBES + CODES and report.notes == ["Nothing about generated series: there is no prior yet"]


def test_evaluate_takes_a_classifier_and_uses_the_cache(tmp_path):
    d = toy()
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    a = evaluate(Model(d), d, **ARGS | dict(fcn=fcn))
    b = evaluate(Model(d), d, **ARGS | dict(cache_dir=tmp_path))
    assert a.to_dict() == b.to_dict() and len(list(tmp_path.iterdir())) == 1


def test_evaluate_shows_progress(capsys):
    d = toy()
    evaluate(Model(d), d, **ARGS | dict(verbose=True))
    assert "CAS" in capsys.readouterr().err
    evaluate(Model(d), d, **ARGS)
    out, err = capsys.readouterr()
    assert out == err == ""


@pytest.mark.parametrize("change, message", [(dict(sample=lambda self, n, **k: np.ones((n, 1, 7))), "the data ask for"), (dict(sample=lambda self, n, **k: np.full((n, 1, 20), np.nan)), "the model's sample has"),
                                             (dict(reconstruct=lambda self, X: X[:3]), "one reconstruction per series")])
def test_evaluate_refuses_a_model_that_does_not_fit(change, message):
    d = toy()
    with pytest.raises(ValueError, match=message): evaluate(type("Odd", (Model,), change)(d), d, **ARGS)


def test_evaluate_refuses_data_it_cannot_judge_on():
    d = toy()
    with pytest.raises(ValueError, match="data has no X_test"): evaluate(Model(d), Dataset("toy", d.X_train, d.y_train), **ARGS)
    with pytest.raises(ValueError, match="X_train"): evaluate(Model(d), object(), **ARGS)
    with pytest.raises(ValueError, match="n_samples is 1"): evaluate(Model(d), d, n_samples=1, **ARGS)
    with pytest.raises(TypeError, match="random_state"): evaluate(Model(d), d, random_state="x", **ARGS)


def test_evaluate_judges_the_estimator():
    from ncvq_nb.generator import NCVQ
    d = toy(n=24, l=32)
    model = NCVQ(epochs=1, random_state=0).fit(d.X_train, d.y_train)
    before = {k: v.clone() for part in (model.tokenizer_, model.prior_) for k, v in part.state_dict().items()}
    report = evaluate(model, d, **ARGS)
    assert names(report) == TOKENIZER + PROBES + CODES + SAMPLES + CLASSES + MEMORY and report.name == "NCVQ on toy"
    assert all(torch.equal(v, before[k]) for part in (model.tokenizer_, model.prior_) for k, v in part.state_dict().items())


def test_real_series_pass_as_real():
    "Half of a real test set against the other half, with the classifier of the train set."
    d = load_ucr("ItalyPowerDemand")
    fcn = FCNClassifier(max_steps=60).fit(d.X_train, d.y_train)
    E = fcn.features(d.X_test[rng().permutation(1029)])
    half, other = E[:500], E[500:]
    assert fcn.score(d.X_test, d.y_test) > .9 and fid(half, other) < .2 * fid(half, other * 1.5) and diversity(half, other)["precision"] > .9


def test_a_report_is_read_under_the_name_it_was_saved_by(tmp_path):
    for name in ("lr0", "lr0.1", "lr0.json", "b.md"): Report(name).save(tmp_path / name)
    assert [Report.load(tmp_path / name).name for name in ("lr0.1", "lr0.1.json", "lr0.1.md", "b", "b.md", "lr0")] == ["lr0.1"] * 3 + ["b.md"] * 2 + ["lr0.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.json", "b.md", "lr0.1.json", "lr0.1.md", "lr0.json", "lr0.md"]


def small(**kw): return NCVQ(**{**dict(dim=8, n_res_blocks=1, n_codes=4, projector_dim=16, prior_dim=16, prior_depth=1, epochs=2, random_state=0), **kw})


def test_series_shorter_than_the_window_are_judged():
    data = toy(l=6)
    r = evaluate(small(n_fft=4).fit(data.X_train, data.y_train), data, fcn=QUICK, n_resamples=5, cas_total=20, verbose=False)
    assert math.isfinite(r["STFT MSE"].value) and "FID" in r
    class Same:
        def reconstruct(self, X): return X
    assert r["STFT MSE"].value > 0 and "STFT MSE" not in evaluate(Same(), Dataset("m", *(np.arange(4.)[:, None, None], None) * 2), verbose=False)


def test_labels_of_another_type_than_the_models_are_refused_at_once():
    data = toy(classes=("0", "1"))
    model = small().fit(data.X_train, data.y_train.astype(int))
    with pytest.raises(TypeError, match="trained on labels of dtype int64, y_train has dtype <U1"): evaluate(model, data, verbose=False)


def test_the_report_says_where_a_model_was_trained_elsewhere():
    data, kw = toy(), dict(fcn=QUICK, n_resamples=5, cas_total=20, verbose=False)
    notes = lambda model, data=data: [n for n in evaluate(model, data, **kw).notes if "trained on other" in n]
    X, y = data.X_train, data.y_train
    assert not notes(small().fit(X, y)) and not notes(small().fit_tokenizer(X).fit_prior(X, y)) and not notes(small().fit(X))
    assert notes(small().fit(X[:10], y[:10])) and notes(small().fit(X, 1 - y)) and notes(small().fit(X, y).fit_prior(X, 1 - y))


def test_usage_is_of_the_codes_that_are_there():
    data = toy()
    model = small().fit(data.X_train, data.y_train)
    r = evaluate(model.set_params(n_codes=16), data, fcn=QUICK, n_resamples=5, cas_total=20, verbose=False)
    assert r["codebook perplexity"].ceiling == 4
    with pytest.raises(ValueError, match="k is 0"): class_diversity(np.eye(4), [0, 0, 1, 1], np.eye(4), [0, 0, 1, 1], k=0)


def test_what_cannot_be_judged_is_said_first(tmp_path):
    data = toy()
    model, kw = small().fit(data.X_train, data.y_train), dict(n_resamples=5, cas_total=20, fcn=QUICK)
    for bad, more, said in ((Dataset("m", data.X_train, data.y_train), {}, "no X_test"), (data, dict(n_resample=3), "n_resample"),
                            (Dataset("m", data.X_train, data.y_train.astype(str), data.X_test, data.y_test.astype(str)), {}, "trained on labels"), (Dataset("m", data.X_train, data.y_train, data.X_test[:1], data.y_test[:1]), {}, "1 test series")):
        with pytest.raises((ValueError, TypeError), match=said): present(model, bad, tmp_path / "p", **{**kw, **more})
    assert not (tmp_path / "p").exists()
    with pytest.raises(ValueError, match="n_samples is 3.5: a whole number"): evaluate(model, data, n_samples=3.5)
