"""Every metric of chapter 10 against a reference, with its invariances and its errors"""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import sqrtm
from sklearn.decomposition import PCA
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F

from fuzzing import REFUSED, features, fuzz, labels, series, tried
from hypothesis import strategies as st
from ncvq_nb.data import check_series
from ncvq_nb.metrics import (
    bootstrap_interval,
    embed_2d,
    fid,
    frechet_distance,
    inception_score,
    probe,
    reconstruction_error,
)
from toys import global_state


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def global_generators_stay():
    before = global_state()
    yield
    assert global_state() == before


# Reconstruction


def test_reconstruction_error_is_what_a_loop_finds():
    X, N = rng(1).normal(size=(5, 2, 21)) * [[[1], [10]]] + 3, rng(2).normal(size=(5, 2, 21))
    e = reconstruction_error(X, X + 0.1 * N)
    X, Y = X.astype(np.float32), (X + 0.1 * N).astype(np.float32)
    squares = [(a - b) ** 2 for a, b in zip(X.ravel(), Y.ravel())]
    assert_allclose(e["mse"], np.mean(squares), rtol=1e-5)
    relative = [((X - Y)[:, j] ** 2).mean() / X[:, j].var() for j in (0, 1)]
    assert_allclose(e["relative"], np.mean(relative), rtol=1e-5)

    def image(Z):
        window, flat = torch.hann_window(8), torch.tensor(Z).flatten(0, 1)
        return torch.view_as_real(torch.stft(flat, 8, 2, window=window, return_complex=True))

    assert_allclose(e["stft"], F.mse_loss(image(X), image(Y)).item(), rtol=1e-4)


def test_reconstruction_error_counts_every_series_and_no_order():
    X = rng().normal(size=(2100, 1, 8))  # more than one chunk
    Y = X.copy()
    Y[-1] += 1
    e = reconstruction_error(X, Y)
    assert_allclose(e["mse"], 1 / 2100, rtol=1e-5)
    p = rng().permutation(2100)
    assert_allclose(list(reconstruction_error(X[p], Y[p]).values()), list(e.values()), rtol=1e-6)


def test_relative_error_leaves_constant_channels_out():
    X = rng().normal(size=(4, 2, 10))
    X[:, 1] = 5
    first = X[:, 0]
    expected = ((0.1 * first) ** 2).mean() / first.var()
    assert_allclose(reconstruction_error(X, X * 0.9)["relative"], expected, rtol=1e-4)
    assert math.isnan(reconstruction_error(np.ones((3, 1, 9)), np.zeros((3, 1, 9)))["relative"])


def test_relative_error_divides_by_the_variance_over_the_set():
    "Not by that of each series, which is what the plots call unexplained variance."
    X = np.array([[0.0, 0, 2, 2], [10, 10, 30, 30]])[:, None]
    e = reconstruction_error(X, X + 1, n_fft=4)
    assert_allclose(e["relative"], 1 / X.var())
    assert abs(e["relative"] - np.mean(1 / X.var(2))) > 0.4


@pytest.mark.parametrize(
    "X_hat, message",
    [
        (np.zeros((3, 1, 20)), "X_hat has 3 series, X 4"),
        (np.zeros((4, 1, 21)), "channels, length"),
        (np.full((4, 1, 20), np.nan), "X_hat"),
        (None, "X_hat is None"),
        (np.tile([1] + 19 * [np.nan], (4, 1, 1)), "series 0, channel 0, step 1 and at 75 other"),
        (np.where(np.arange(80) == 47, np.nan, 0).reshape(4, 1, 20), "series 2, channel 0, step 7"),
    ],
)
def test_reconstruction_error_refuses(X_hat, message):
    with pytest.raises((ValueError, TypeError), match=message):
        reconstruction_error(np.ones((4, 1, 20)), X_hat)


# Probes


def test_probe_is_a_vote_of_five_and_a_linear_svm():
    def overlapping(y, seed):
        means = 0.8 * y[:, None] * [1, 0, 0, 1]
        return rng(seed).normal(size=(len(y), 4)) * [1, 10, 100, 1] + means

    y, yt = np.arange(40) % 2, np.arange(90) % 2
    Z, Zt = overlapping(y, 0), overlapping(yt, 1)
    low, high = Z.min(0), Z.max(0)
    A, B = (2 * (z - low) / (high - low) - 1 for z in (Z, Zt))
    order = np.argsort(((B[:, None] - A) ** 2).sum(2), axis=1)

    def vote(k):
        return np.mean([np.bincount(y[near[:k]]).argmax() for near in order] == yt)

    found = probe(Z, y, Zt, yt)
    assert found["knn"] == vote(5) != vote(3)
    assert found["svm"] == SVC(kernel="linear", C=1, random_state=0).fit(A, y).score(B, yt)


def test_probe_works_with_strings_few_series_and_unseen_classes():
    Z = rng().normal(size=(3, 4))
    assert probe(Z, ["a", "b", "a"], Z, ["a", "b", "c"])["svm"] <= 2 / 3


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(y_train=np.zeros(6)), "one class only"),
        (dict(Z_test=np.zeros((6, 3))), "Z_test has 3 features"),
        (dict(y_test=np.zeros(5)), "y_test has 5 labels"),
        (dict(Z_train=np.full((6, 4), np.inf)), "Z_train has 24 values"),
        (dict(Z_train=np.zeros(6)), "Z_train has shape"),
    ],
)
def test_probe_refuses(change, message):
    good = dict(Z_train=rng().normal(size=(6, 4)), Z_test=np.zeros((6, 4)))
    good |= dict(y_train=[0, 1] * 3, y_test=[0, 1] * 3)
    with pytest.raises(ValueError, match=message):
        probe(**good | change)


# Fréchet Inception Distance


def spd(d, seed):
    A = rng(seed).normal(size=(d, d))
    return A.T @ A / d


def test_frechet_distance_has_a_closed_form_where_covariances_commute():
    a, b, mu1, mu2 = rng().random(6), rng(1).random(6), rng(2).normal(size=6), rng(3).normal(size=6)
    Q = np.linalg.qr(rng(4).normal(size=(6, 6)))[0]
    S1, S2 = (Q @ np.diag(s) @ Q.T for s in (a, b))
    expected = ((mu1 - mu2) ** 2).sum() + ((a**0.5 - b**0.5) ** 2).sum()
    assert_allclose(frechet_distance(mu1, S1, mu2, S2), expected, rtol=1e-10)
    assert_allclose(frechet_distance([0.0], [[4.0]], [3.0], [[25.0]]), 18)


def test_frechet_distance_is_that_of_scipys_square_root():
    S1, S2 = spd(7, 0), spd(7, 1)
    expected = 7 + np.trace(S1 + S2 - 2 * sqrtm(S1 @ S2).real)
    assert_allclose(frechet_distance(np.zeros(7), S1, np.ones(7), S2), expected, rtol=1e-9)


@pytest.mark.parametrize("n", [60, 9], ids=["more series than features", "fewer"])
def test_fid_is_that_of_torchmetrics(n):
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except RuntimeError as e:
        pytest.skip(f"torchmetrics finds a torchvision that was built for another torch: {e}")
    identity = nn.Identity()
    identity.num_features = 16
    A, B = rng().normal(size=(n, 16)), rng(1).normal(size=(2 * n, 16)) * 1.5 + 0.3
    oracle = FrechetInceptionDistance(feature=identity)
    oracle.update(torch.tensor(A), real=True)
    oracle.update(torch.tensor(B), real=False)
    assert_allclose(fid(A, B), oracle.compute().item(), rtol=1e-5)


def test_fid_is_a_distance_between_sets():
    A = rng().normal(size=(40, 128))  # covariances of rank 39 and 49
    B = 2 * rng(1).normal(size=(50, 128))
    Q = np.linalg.qr(rng(2).normal(size=(128, 128)))[0]
    d = fid(A, B)
    assert_allclose(fid(A, A), 0, atol=1e-9)
    assert_allclose(fid(A, A[::-1]), 0, atol=1e-9)
    assert_allclose(fid(B, A), d, rtol=1e-9)
    assert_allclose(fid(A + 5, B + 5), d, rtol=1e-9)
    assert_allclose(fid(A @ Q, B @ Q), d, rtol=1e-8)
    assert_allclose(fid(10 * A, 10 * B), 100 * d, rtol=1e-9)
    assert_allclose(fid(A, A + 3), 9 * 128, rtol=1e-9)
    assert fid(A[:, :1], B[:, :1]) >= 0


def test_fid_and_frechet_distance_refuse():
    with pytest.raises(ValueError, match="A has 1 series"):
        fid(np.ones((1, 3)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="B has 2 features, A 3"):
        fid(np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="NaN"):
        fid(np.full((4, 3), np.nan), np.ones((4, 3)))
    with pytest.raises(ValueError, match="covariances"):
        frechet_distance(np.zeros(3), np.eye(3), np.zeros(3), np.eye(2))


# Inception Score


def test_inception_score_is_what_a_loop_finds():
    P = rng().dirichlet([0.3] * 5, size=47)
    scores = []
    for i in range(4):
        part = P[11 * i : 11 * (i + 1)]
        mean = part.mean(0)
        kl = [p[c] * math.log(p[c] / mean[c]) for p in part for c in range(5) if p[c] > 0]
        scores.append(math.exp(sum(kl) / 11))
    assert_allclose(inception_score(P, n_splits=4), (np.mean(scores), np.std(scores)), rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_inception_score_lies_between_one_and_the_number_of_classes(seed):
    P = rng(seed).dirichlet([10.0 ** rng(seed).uniform(-3, 1)] * 4, size=60)
    assert 1 - 1e-12 <= inception_score(P, n_splits=1 + seed)[0] <= 4 + 1e-12


def test_inception_score_of_hard_zeros_orders_and_seeds():
    P = np.eye(3)[rng().integers(0, 3, 60)]
    assert_allclose(inception_score(np.eye(3)[np.arange(60) % 3], n_splits=2), (3, 0), atol=1e-12)
    score = inception_score(P, n_splits=1)
    assert_allclose(inception_score(P[::-1], n_splits=1), score)
    assert_allclose(inception_score(P[:, ::-1], n_splits=1), score)
    a, b, c = (inception_score(P, random_state=s) for s in (1, 1, 2))
    assert a == b != c


@pytest.mark.parametrize(
    "P, n_splits, message",
    [
        (np.ones((20, 3)), 2, "softmax"),
        (np.full((20, 2), 0.5), 0, "n_splits must be a whole number of at least 1, found 0"),
        (np.full((20, 2), 0.5), 2.5, "n_splits must be a whole number of at least 1, found 2.5"),
        (np.full((5, 2), 0.5), 10, "n_splits is 10"),
        (np.array([[1.5, -0.5]] * 9), 2, "probabilities"),
    ],
)
def test_inception_score_refuses(P, n_splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(P, n_splits=n_splits)


# Bootstrap


def test_percentile_interval_covers_the_mean():
    r, held = rng(), 0
    for i in range(200):
        x = r.exponential(size=60)
        settings = dict(n_resamples=100, confidence=0.9, random_state=i)
        low, high = bootstrap_interval(np.mean, x, **settings)
        held += low <= 1 <= high
    assert 0.8 <= held / 200 <= 0.95


def test_spread_interval_covers_what_samples_of_this_size_give_and_the_percentile_one_does_not():
    r, n, d = rng(), 40, 8
    inside = {"spread": 0, "percentile": 0}
    pairs = [(r.normal(size=(n, d)), r.normal(0.5, 1.2, size=(n, d))) for _ in range(100)]
    expected = np.mean([fid(*p) for p in pairs])
    for i, p in enumerate(pairs[:40]):
        for method in inside:
            low, high = bootstrap_interval(fid, *p, n_resamples=40, method=method, random_state=i)
            inside[method] += low <= expected <= high
    assert inside["spread"] >= 34 and inside["percentile"] <= 32, inside


def test_bootstrap_pairs_rows_and_follows_its_seed():
    x = rng().normal(size=50)

    def difference(a, b):
        return np.mean(a - b)

    assert_allclose(bootstrap_interval(difference, x, x + 1, paired=True), (-1, -1))
    low, high = bootstrap_interval(difference, x, x + 1)
    assert high - low > 0.3
    a, b, c = (bootstrap_interval(np.mean, x, random_state=s) for s in (1, 1, 2))
    assert a == b != c
    narrow, wide = (bootstrap_interval(np.mean, x, confidence=c) for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(method="bca"), "method is 'bca'"),
        (dict(confidence=95), "confidence is 95"),
        (dict(n_resamples=1), "n_resamples must be a whole number of at least 2, found 1"),
        (dict(n_resamples=2.5), "n_resamples must be a whole number of at least 2, found 2.5"),
        (dict(paired=True), "same length"),
    ],
)
def test_bootstrap_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(fid, np.ones((4, 2)), np.ones((5, 2)), **settings)


# Maps


def test_embed_2d_puts_all_sets_on_one_map():
    A, B = rng().normal(size=(30, 5)), rng(1).normal(size=(20, 5)) + 4
    both = PCA(2).fit_transform(np.concatenate([A, B]))
    a, b = embed_2d(A, B)
    assert_allclose(np.abs(np.concatenate([a, b])), np.abs(both), atol=1e-6)
    c, d = embed_2d(A, B, method="tsne", random_state=1)
    assert c.shape == (30, 2) and d.shape == (20, 2)
    assert_array_equal(c, embed_2d(A, B, method="tsne", random_state=1)[0])
    assert embed_2d(rng().normal(size=(4, 1)))[0].shape == (4, 2)
    assert embed_2d(rng().normal(size=(9, 2, 6)))[0].shape == (9, 2)


@pytest.mark.parametrize(
    "sets, settings, message",
    [
        (((4, 3),), dict(method="umap"), "method is 'umap'"),
        (((4, 3), (4, 2)), {}, "set 2 has 2 features"),
        (((2, 3),), {}, "three rows"),
        ((), {}, "three rows"),
    ],
)
def test_embed_2d_refuses(sets, settings, message):
    with pytest.raises(ValueError, match=message):
        embed_2d(*(np.ones(s) for s in sets), **settings)


# Input of every kind

PAIRS = series(sizes=((1, 5), (1, 3), (1, 60)), scales=st.integers(-44, 38), dtypes=("f4", "f8"))
coarse = pytest.mark.filterwarnings("ignore:.*float32 is too coarse:UserWarning")


@coarse
@fuzz(
    150,
    pair=PAIRS,
    seed=st.integers(0, 2**32),
    n_fft=st.sampled_from([8, 4, 16, 3, 0, 8.0, "8"]),
    odd=st.sampled_from([None] * 6 + ["fewer", "shorter", "nan"]),
)
def test_errors_of_reconstruction_are_found_or_refused(pair, seed, n_fft, odd):
    X, want = pair
    Y = want * rng(seed).normal(size=want.shape) * 0.5
    Y = {"fewer": Y[1:], "shorter": Y[..., 1:], "nan": Y * np.nan}.get(odd, Y)
    e = tried(lambda: reconstruction_error(X, Y, n_fft=n_fft), "X", "n_fft")
    if e is REFUSED:
        return
    assert odd is None and 0 <= e["mse"] < math.inf and 0 <= e["stft"] < math.inf
    difference = check_series(X).astype(float) - check_series(Y).astype(float)
    assert_allclose(e["mse"], (difference**2).mean(), rtol=1e-6)
    assert (e["mse"] > 0) == (e["stft"] > 0)
    same = reconstruction_error(X, X, n_fft=n_fft)
    assert same["mse"] == same["stft"] == 0


@fuzz(300, A=features(), B=features(), k=st.integers(0, 6), splits=st.integers(0, 4))
def test_distances_and_scores_are_possible_ones_or_refused(A, B, k, splits):
    d = tried(lambda: fid(A, B), "A has", "B has", "A holds", "A cannot", "B holds", "B cannot")
    if d is not REFUSED:
        size = max(1e-300, np.square(np.asarray(A, float)).max() * 100)
        assert 0 <= d < math.inf and fid(A, A) <= 1e-6 * size
    score = tried(lambda: inception_score(A, n_splits=splits), "P ", "n_splits")
    if score is not REFUSED:
        assert score[0] >= 1 - 1e-9 and score[1] >= 0
    n, c = 5, 3
    P = rng(k).dirichlet(np.ones(c), n)
    score = tried(lambda: inception_score(P, n_splits=splits), "n_splits")
    if 1 <= splits <= n:
        assert 1 - 1e-9 <= score[0] <= c
    else:
        assert score is REFUSED


@fuzz(
    45,
    A=features(st.integers(1, 12)),
    B=features(st.integers(1, 6)),
    y=labels(st.integers(1, 12)),
    z=labels(st.integers(1, 6)),
)
def test_probes_answer_or_refuse(A, B, y, z):
    out = tried(lambda: probe(A, y[1], B, z[1]), "Z_t", "y_t")
    if out is not REFUSED:
        assert 0 <= out["knn"] <= 1 and 0 <= out["svm"] <= 1


@fuzz(45, n=st.integers(5, 7), unit=st.integers(-130, 130), short=st.booleans())
def test_probes_tell_two_classes_far_apart_in_any_unit(n, unit, short):
    A, B = ((np.arange(k) % 2 + 0.01 * np.arange(k))[:, None] * 10.0**unit for k in (n, 3))
    y = np.arange(n + short) % 2
    out = tried(lambda: probe(A, y, B, np.arange(3) % 2, n_neighbors=1), "y_train")
    assert out is REFUSED if short else out == {"knn": 1.0, "svm": 1.0}


@fuzz(
    60,
    Z=features(),
    n=st.integers(0, 5),
    confidence=st.one_of(st.floats(0.1, 0.99), st.floats()),
    paired=st.booleans(),
    method=st.sampled_from(["percentile", "spread", "x"]),
)
def test_intervals_are_in_order_or_refused(Z, n, confidence, paired, method):
    def mean(*v):
        return float(np.mean(v[0]))

    arrays = [np.sin(np.arange(n + 1.0)), *([Z] if isinstance(Z, np.ndarray) and paired else [])]
    ask = dict(n_resamples=n + 1, confidence=confidence, paired=paired, method=method)
    names = ("method", "confidence", "n_resamples", "arrays", "array ")
    a = tried(lambda: bootstrap_interval(mean, *arrays, **ask), *names)
    if a is not REFUSED:
        assert -2.1 < a[0] <= a[1] < 2.1


@fuzz(
    40,
    sets=st.lists(features(st.integers(1, 8), st.just(3)), min_size=0, max_size=3),
    method=st.sampled_from(["pca"] * 6 + ["tsne", "umap"]),
)
def test_maps_are_flat_and_finite_or_refused(sets, method):
    flat = tried(lambda: embed_2d(*sets, method=method), "set ", "rows", "method")
    if flat is not REFUSED:
        assert [f.shape for f in flat] == [(len(Z), 2) for Z in sets]
        assert all(np.isfinite(f).all() for f in flat)
