"""Gaps: what was observed stays, what is sampled joins it, and only what was observed is used."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from toys import fitted, global_state, noise, says, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.estimator import band_priors
from ncvq_nb.estimator.imputation import affected_tokens, interpolate_gaps


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def two_channels():
    X, y = sines(n=10, channels=2, length=50)
    return tiny().fit(1000 + 7 * X, y)


def gappy(X, seed=0, longest=12):
    "X with a gap of its own in every channel of every series, at any place."
    rng, X = np.random.default_rng(seed), X.copy()
    for x in X.reshape(-1, X.shape[-1]):
        n = rng.integers(1, longest)
        a = rng.integers(0, len(x) - n + 1)
        x[a : a + n] = np.nan
    return X


def bits(a):
    return a.view(np.int32)


# Contracts


def test_observed_samples_stay_to_the_bit(two_channels):
    X, y = sines(n=40, channels=2, length=50, seed=3)
    X = (1000 + 7 * X).astype(np.float32)
    G = gappy(X)
    seen = ~np.isnan(G)
    fast = dict(guidance_scale=2.0, sampling_steps=3, choice_temperature=0.0)
    for kw in (dict(), dict(y=1), dict(y=y), fast):
        out = two_channels.impute(G, random_state=0, **kw)
        assert out.shape == X.shape and out.dtype == np.float32 and np.isfinite(out).all()
        assert np.array_equal(bits(out[seen]), bits(X[seen]))
        assert 900 < out.min() and out.max() < 1100


def test_observed_samples_stay_to_the_bit_around_zero(model):
    "Where a way through standard units and back would show."
    X = sines(n=40, seed=3)[0]
    G = gappy(X)
    seen = ~np.isnan(G)
    assert np.array_equal(bits(model.impute(G)[seen]), bits(X[seen]))


def test_several_completions(two_channels):
    X = (1000 + 7 * sines(n=10, channels=2, length=50, seed=3)[0]).astype(np.float32)
    G = gappy(X)
    seen = ~np.isnan(G)
    ways = two_channels.impute(G, n_samples=3, random_state=0)
    assert ways.shape == (3, *X.shape) and (ways[:, seen] == X[seen]).all()
    assert not np.array_equal(ways[0], ways[1])
    one = two_channels.impute(G, n_samples=1, random_state=0)
    assert one.shape == (1, *X.shape)
    assert np.array_equal(one[0], two_channels.impute(G, random_state=0))


def test_gaps_are_nan_or_a_mask_or_both(model):
    X, _ = sines()
    G = gappy(X)
    gap = np.isnan(G)
    half = gap & (np.arange(33) % 2 == 0)
    out = model.impute(G, random_state=1)
    same = [
        dict(X=X, missing=gap),
        dict(X=np.where(gap, np.inf, X), missing=gap),  # what stands in a gap is never looked at
        dict(X=np.where(gap, 1e9, X), missing=gap),
        dict(X=np.where(half, np.nan, X), missing=gap & ~half),
        dict(X=G[:, 0].astype(float).tolist()),
        dict(X=torch.from_numpy(G), missing=torch.from_numpy(gap)),
    ]
    for ask in same:
        assert np.array_equal(model.impute(**ask, random_state=1), out)


def test_every_way_to_write_that_a_sample_is_missing(model):
    pd = pytest.importorskip("pandas")
    X = sines()[0][:, 0]
    G = X.copy()
    G[:, 5:9] = np.nan
    want = model.impute(G, random_state=0)
    objects = np.where(np.isnan(G), None, G.astype(object))
    for other in (
        np.ma.masked_invalid(G),
        np.ma.array(X, mask=np.isnan(G)),
        pd.DataFrame(G).convert_dtypes(),
        pd.DataFrame(G).astype(object),
        objects,
        objects.tolist(),
    ):
        assert_allclose(model.impute(other, random_state=0), want, rtol=1e-6)
    for bad in (G.astype(str), np.full((12, 33), "a", object)):
        with says("X has dtype", kind=TypeError):
            model.impute(bad)


def test_nothing_missing_is_nothing_done(model, monkeypatch):
    X, _ = sines()
    monkeypatch.setattr(band_priors, "iterative_decoding", None)  # would fail if it were called
    out = model.impute(X)
    assert np.array_equal(out, X) and not np.shares_memory(out, X)
    twice = model.impute(X, missing=np.zeros(X.shape, bool), n_samples=2)
    assert np.array_equal(twice, np.stack([X, X]))


def test_input_and_global_generators_are_left_alone(model):
    X, _ = sines()
    G, before = gappy(X), global_state()
    kept = G.copy()
    model.impute(G, random_state=0)
    model.impute(G)
    model.impute(X, rows=[1], random_state=0)
    assert np.array_equal(G, kept, equal_nan=True) and global_state() == before


def test_random_state(model):
    G = gappy(sines()[0])
    a, b = (model.impute(G, random_state=seed, n_samples=2) for seed in (3, 4))
    assert np.array_equal(a, model.impute(G, random_state=3, n_samples=2))
    assert not np.array_equal(a, b)
    assert not np.array_equal(model.impute(G), model.impute(G))
    rng = np.random.default_rng(0)
    assert not np.array_equal(model.impute(G, random_state=rng), model.impute(G, random_state=rng))


def test_complete_series_change_nothing_for_others(model):
    "Noise is drawn for the whole batch, so company matters; but only company that has gaps."
    X, y = sines(n=8)
    G = gappy(X[:3])
    joint = model.impute(
        np.concatenate([X[3:6], G[:2], X[6:], G[2:]]),
        y=np.concatenate([y[3:6], y[:2], y[6:], y[2:3]]),
        random_state=0,
    )
    assert np.array_equal(joint[[3, 4, 7]], model.impute(G, y=y[:3], random_state=0))


def test_a_saved_model_completes_alike(model, tmp_path):
    G = gappy(sines()[0])
    model.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m", device="cpu")
    assert np.array_equal(again.impute(G, random_state=0), model.impute(G, random_state=0))


# Oracles


def test_lines_across_gaps_are_numpys_interpolation():
    rng = np.random.default_rng(0)
    for l in (2, 9, 40):
        r, gap = rng.normal(size=(5, 2, l)), rng.random((5, 2, l)) < 0.6
        gap[..., rng.integers(l)] = False
        found = interpolate_gaps(torch.from_numpy(r).float(), torch.from_numpy(gap)).numpy()
        for x, m, b in zip(r.reshape(-1, l), gap.reshape(-1, l), found.reshape(-1, l)):
            assert_allclose(b, np.interp(np.arange(l), np.flatnonzero(~m), x[~m]), atol=1e-6)


def test_with_one_code_the_result_is_known():
    """A codebook of one code leaves nothing to chance.

    There is one decoded series, moved by lines onto what was observed.
    """
    X, _ = sines(n=6, channels=2)
    m = tiny(None, n_codes=1).fit(X)
    G = gappy(X)
    only = m.decode(np.zeros((1, m.tokenizer_.n_tokens), int))[0]  # (c, l)
    want, t = X.copy(), np.arange(X.shape[-1])
    for i, ch in np.ndindex(6, 2):
        gone = np.isnan(G[i, ch])
        lines = np.interp(t, t[~gone], (X[i, ch] - only[ch])[~gone])
        want[i, ch, gone] = (only[ch] + lines)[gone]
    assert_allclose(m.impute(G), want, atol=1e-5)


def test_two_stories_are_told_apart():
    "Data of two series only: what is seen says which, so the gap has one right answer."
    rng, t = np.random.default_rng(0), np.linspace(0, 1, 48)
    stories = np.stack([np.sin(6 * np.pi * t), np.cos(10 * np.pi * t) * (1 - t)])
    k = np.arange(8) % 2
    X = (stories[k][:, None] + 0.01 * rng.normal(size=(8, 1, 48))).astype(np.float32)
    settings = dict(dim=16, n_codes=16, prior_dim=32, epochs=(150, 300), lr=5e-3)
    m = tiny(None, None, **settings, sampling_steps=40, choice_temperature=0.5).fit(X)
    for gap in (slice(16, 32), slice(30, None), slice(None, 18)):
        G = X.copy()
        G[..., gap] = np.nan
        out = m.impute(G, random_state=0)
        own, far = (np.abs(out[:, 0] - s[k])[:, gap].mean(1) for s in (stories, stories[::-1]))
        assert own.max() < 0.25 < far.min(), (gap, own.max(), far.min())


def test_the_label_decides_where_nothing_else_does():
    "Both classes begin alike and part later: the label says how."
    t, y = np.linspace(0, 1, 48), np.arange(16) % 2
    part = np.where(t > 0.5, (2 * y[:, None] - 1) * 2 * (t - 0.5), 0)
    X = (np.sin(4 * np.pi * t) + part)[:, None].astype(np.float32)
    settings = dict(dim=16, n_codes=16, prior_dim=32, epochs=(120, 200), lr=5e-3)
    m = tiny(None, None, **settings, p_unconditional=0.4).fit(X, y)
    G = X.copy()
    G[..., 20:] = np.nan
    for label in (0, 1):
        end = m.impute(G, y=label, random_state=0)[:, 0, -12:].mean(1)
        own, other = (X[y == v][0, 0, -12:].mean() for v in (label, 1 - label))
        assert (np.abs(end - own) < np.abs(end - other)).all()
        assert abs(end.mean() - own) < 0.25 * abs(own - other)
    left_open = m.impute(G, n_samples=3, random_state=0)[..., 0, -12:].mean(-1)
    assert left_open.std() > 0.15, "other ends should occur"


# Which tokens are masked


@pytest.mark.parametrize("l, n_fft", [(33, 8), (150, 8), (24, 4), (51, 16), (100, 32)])
def test_a_columns_samples_are_its_own(l, n_fft):
    """Every sample has one column.

    The columns are in order, of about equal size, and centred where the encoder is.
    """
    m = tiny(None, n_res_blocks=0, n_fft=n_fft).fit_tokenizer(sines(n=4, length=l)[0])
    tok, (f, t) = m.tokenizer_, m.tokenizer_.grid
    masked = affected_tokens(tok, torch.eye(l, dtype=torch.bool)[:, None]).view(l, f, t)
    assert (masked.sum(-1) == 1).all() and (masked == masked[:, :1]).all()
    column = masked[:, 0].int().argmax(-1)
    assert (column.diff() >= 0).all() and column[0] == 0 and column[-1] == t - 1
    x = torch.zeros(1, 1, l, requires_grad=True)
    with torch.enable_grad():
        z = tok.bands[0].encoder.eval()(tok.stft(x))
    for j in range(1, t - 1):  # away from the ends, where series are mirrored
        seen = z[..., j].square().sum() + z[..., j].sum()
        g = torch.autograd.grad(seen, x, retain_graph=True)[0][0, 0].abs()
        own = (column == j).nonzero().flatten().float()
        reach = g.nonzero().flatten().float()
        assert reach.min() <= own.min() and own.max() <= reach.max()
        off = abs((reach.min() + reach.max()) / 2 - own.mean())
        assert off <= max(2, tok.stft.hop_length), (j, own.mean(), reach.min(), reach.max())


def test_only_affected_columns_are_sampled(model, monkeypatch):
    X, _ = sines()
    asked, real = [], band_priors.iterative_decoding

    def watched(prior, s, *args, **kw):
        asked.append(s.clone())
        return real(prior, s, *args, **kw)

    monkeypatch.setattr(band_priors, "iterative_decoding", watched)
    G = X.copy()
    G[0, :, 14:16] = np.nan
    G[3, :, 25:] = np.nan
    model.impute(G)
    f, t = model.tokenizer_.grid
    masked = (asked[0] == 8).view(2, f, t)
    assert asked[0].shape[0] == 2 and (masked == masked[:, :1]).all()
    first, last = masked[0, 0], masked[1, 0]
    assert 1 <= first.sum() <= 2 and not first[0] and not first[-1]
    assert last[-1] and not last[: t // 2].any()


# A band of frequencies


def test_a_band_is_not_looked_at_and_the_rest_stays(model):
    """Whatever stands in the band: the same is sampled.

    That changes the other rows by no more than overlapping windows must.
    """
    X, _ = sines()
    stft, scaler = model.tokenizer_.stft, model.scaler_

    def picture(a):
        return stft(torch.from_numpy(scaler.transform(a)))

    out = model.impute(X, rows=[3, 4], random_state=0)
    ways = model.impute(X, rows=[3, 4], n_samples=2, random_state=0)
    assert out.shape == X.shape and ways.shape == (2, *X.shape) and not np.array_equal(out, X)
    low, was = picture(out)[:, :, :2], picture(X)[:, :, :2]
    assert (low - was).square().mean() < 0.02 * was.square().mean()
    u = picture(X)
    u[:, :, 3:] = 0
    silent = scaler.inverse_transform(stft.inverse(u, 33).numpy())
    seen = []
    hook = model.tokenizer_.bands[0].encoder.register_forward_pre_hook(
        lambda _, a: seen.append(a[0].clone())
    )
    try:
        model.impute(X, rows=3, random_state=0)
        model.impute(X, rows=[3, 4], random_state=0)
    finally:
        hook.remove()
    assert_allclose(seen[1], picture(silent), atol=1e-4)


# What cannot work


def test_series_without_an_observed_sample(model, two_channels):
    X, _ = sines()
    G = X.copy()
    G[4] = np.nan
    with says("no observed sample in series 4, channel 0"):
        model.impute(G)
    with says("no observed sample in series 0, channel 0"):
        model.impute(X, missing=np.ones(X.shape, bool))
    two = 1000 + 7 * sines(channels=2, length=50)[0]
    two[5, 1] = np.nan
    with says("series 5, channel 1"):
        two_channels.impute(two)


def test_bad_series_masks_and_labels(model):
    X, y = sines()
    with says("trained on 1 of length 33"):
        model.impute(X[..., :20])
    infinite = X.copy()
    infinite[0, 0, 3] = np.inf
    with says("X has 1 infinite value"):
        model.impute(infinite)
    with says("missing must be boolean", "(12, 1, 33)", "(12, 33)"):
        model.impute(X, missing=np.zeros((12, 33), bool))
    with says("missing must be boolean", "float64"):
        model.impute(X, missing=np.zeros(X.shape))
    with says("unknown label 9"):
        model.impute(gappy(X), y=9)
    with says("y must be one label or 12"):
        model.impute(gappy(X), y=y[:5])
    with says("trained without labels"):
        tiny(epochs=1).fit(X).impute(gappy(X), y=0)


def test_bad_options(model):
    X, _ = sines()
    for n in (0, 2.5, True, "3"):
        with says("n_samples must be a whole number of at least 1"):
            model.impute(gappy(X), n_samples=n)
    for rows in ([], [5], [-1], [0, 1, 2, 3, 4], [0.5], "low", [[1]], [True, False]):
        with says("rows must be some of the frequency rows 0 to 4"):
            model.impute(X, rows=rows)
    with says("rows were given, but X has missing samples"):
        model.impute(gappy(X), rows=[1])
    with says("sampling_steps must be"):
        model.impute(gappy(X), sampling_steps=0)


def test_models_that_are_not_there():
    X = noise()[0]
    with pytest.raises(NotFittedError):
        NCVQ().impute(X)
    with pytest.raises(NotFittedError):
        tiny(epochs=1).fit_tokenizer(X).impute(gappy(X))
