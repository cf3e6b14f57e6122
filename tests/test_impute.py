"""Gaps: what was observed stays, what is filled in joins it, and nothing but what was observed is used."""
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError

import ncvq_nb.generator as generator
from ncvq_nb import NCVQ
from test_estimator import TINY, fitted, global_state, says, series


@pytest.fixture(scope="module")
def model(): return fitted()


@pytest.fixture(scope="module")
def two_channels():
    X, y = series(n=10, c=2, l=50)
    return NCVQ(**TINY).fit(1000 + 7 * X, y)


def holes(X, seed=0, longest=12):
    "X with a gap of its own in every channel of every series, at any place."
    rng, X = np.random.default_rng(seed), X.copy()
    for x in X.reshape(-1, X.shape[-1]):
        n = rng.integers(1, longest)
        a = rng.integers(0, len(x) - n + 1)
        x[a:a + n] = np.nan
    return X


# contracts

def test_observed_samples_stay_to_the_bit(two_channels, model):
    X, y = series(n=40, c=2, l=50, seed=3)
    X = (1000 + 7 * X).astype(np.float32)
    G = holes(X)
    seen = ~np.isnan(G)
    for kw in (dict(), dict(y=1), dict(y=y), dict(guidance_scale=2.0, sampling_steps=3, choice_temperature=0.0)):
        out = two_channels.impute(G, random_state=0, **kw)
        assert out.shape == X.shape and out.dtype == np.float32 and np.isfinite(out).all()
        assert np.array_equal(out[seen].view(np.int32), X[seen].view(np.int32))
        assert 900 < out.min() and out.max() < 1100
    ways = two_channels.impute(G, n_samples=3, random_state=0)
    assert ways.shape == (3, *X.shape) and (ways[:, seen] == X[seen]).all()
    assert not np.array_equal(ways[0], ways[1]) and two_channels.impute(G, n_samples=1, random_state=0).shape == (1, *X.shape)
    assert np.array_equal(two_channels.impute(G, n_samples=1, random_state=0)[0], two_channels.impute(G, random_state=0))
    X = series(n=40, seed=3)[0]  # around zero, where a way through standard units and back would show
    G = holes(X)
    assert np.array_equal(model.impute(G)[~np.isnan(G)].view(np.int32), X[~np.isnan(G)].view(np.int32))


def test_gaps_are_nan_or_a_mask_or_both(model):
    X, _ = series()
    G = holes(X)
    gap = np.isnan(G)
    out = model.impute(G, random_state=1)
    assert np.array_equal(model.impute(X, missing=gap, random_state=1), out)
    assert np.array_equal(model.impute(np.where(gap, np.inf, X), missing=gap, random_state=1), out)  # what stands in a gap is never looked at
    assert np.array_equal(model.impute(np.where(gap, 1e9, X), missing=gap, random_state=1), out)
    half = gap & (np.arange(33) % 2 == 0)
    assert np.array_equal(model.impute(np.where(half, np.nan, X), missing=gap & ~half, random_state=1), out)
    assert np.array_equal(model.impute(G[:, 0].astype(float).tolist(), random_state=1), out)
    assert np.array_equal(model.impute(torch.from_numpy(G), missing=torch.from_numpy(gap), random_state=1), out)


def test_nothing_missing_is_nothing_done(model, monkeypatch):
    X, _ = series()
    monkeypatch.setattr(generator, "fill", None)  # would fail if it were called
    out = model.impute(X)
    assert np.array_equal(out, X) and not np.shares_memory(out, X)
    assert np.array_equal(model.impute(X, missing=np.zeros(X.shape, bool), n_samples=2), np.stack([X, X]))


def test_input_and_global_generators_are_left_alone(model):
    X, _ = series()
    G, before = holes(X), global_state()
    kept = G.copy()
    model.impute(G, random_state=0), model.impute(G), model.impute(X, rows=[1], random_state=0)
    assert np.array_equal(G, kept, equal_nan=True) and global_state() == before


def test_random_state(model):
    G = holes(series()[0])
    a = model.impute(G, random_state=3, n_samples=2)
    assert np.array_equal(a, model.impute(G, random_state=3, n_samples=2)) and not np.array_equal(a, model.impute(G, random_state=4, n_samples=2))
    assert not np.array_equal(model.impute(G), model.impute(G))
    rng = np.random.default_rng(0)
    assert not np.array_equal(model.impute(G, random_state=rng), model.impute(G, random_state=rng))


def test_complete_series_change_nothing_for_others(model):
    "Noise is drawn for the whole batch, so company matters; but only company that has gaps."
    X, y = series(n=8)
    G = holes(X[:3])
    joint = model.impute(np.concatenate([X[3:6], G[:2], X[6:], G[2:]]), y=np.concatenate([y[3:6], y[:2], y[6:], y[2:3]]), random_state=0)
    assert np.array_equal(joint[[3, 4, 7]], model.impute(G, y=y[:3], random_state=0))


def test_a_saved_model_fills_the_same(model, tmp_path):
    G = holes(series()[0])
    model.save(tmp_path / "m")
    assert np.array_equal(NCVQ.load(tmp_path / "m", device="cpu").impute(G, random_state=0), model.impute(G, random_state=0))


# oracles

def test_bridge_is_numpys_interpolation():
    rng = np.random.default_rng(0)
    for l in (2, 9, 40):
        r, gap = rng.normal(size=(5, 2, l)), rng.random((5, 2, l)) < .6
        gap[..., rng.integers(l)] = False
        found = generator._bridge(torch.from_numpy(r).float(), torch.from_numpy(gap)).numpy()
        for x, m, b in zip(r.reshape(-1, l), gap.reshape(-1, l), found.reshape(-1, l)): assert_allclose(b, np.interp(np.arange(l), np.flatnonzero(~m), x[~m]), atol=1e-6)


def test_with_one_code_the_result_is_known():
    "A codebook of one code leaves nothing to chance: the decoder's only series, moved by lines onto what was observed."
    X, _ = series(n=6, c=2)
    m = NCVQ(None, **{**TINY, "n_codes": 1}).fit(X)
    G = holes(X)
    only = m.decode(np.zeros((1, m.tokenizer_.n_tokens), int))[0]  # (c, l)
    want, t = X.copy(), np.arange(X.shape[-1])
    for i, ch in np.ndindex(6, 2):
        gone = np.isnan(G[i, ch])
        want[i, ch, gone] = (only[ch] + np.interp(t, t[~gone], (X[i, ch] - only[ch])[~gone]))[gone]
    assert_allclose(m.impute(G), want, atol=1e-5)


def test_two_stories_are_told_apart():
    "Data of two series only: what is seen says which, so the gap has one right answer."
    rng, t = np.random.default_rng(0), np.linspace(0, 1, 64)
    stories = np.stack([np.sin(6 * np.pi * t), np.cos(10 * np.pi * t) * (1 - t)]).astype(np.float32)
    k = np.arange(32) % 2
    X = stories[k][:, None] + .01 * rng.normal(size=(32, 1, 64)).astype(np.float32)
    m = NCVQ(None, dim=16, n_res_blocks=1, prior_dim=64, prior_depth=2, epochs=(200, 600), lr=3e-3, random_state=0).fit(X)
    for gap in (slice(20, 44), slice(40, None), slice(None, 24)):
        G = X.copy()
        G[..., gap] = np.nan
        out = m.impute(G, random_state=0)
        own, far = (np.abs(out[:, 0] - s[k])[:, gap].mean(1) for s in (stories, stories[::-1]))
        assert own.max() < .25 < far.min(), (gap, own.max(), far.min())


def test_the_label_decides_where_nothing_else_does():
    "Both classes begin alike and part later: the label says how."
    t = np.linspace(0, 1, 48)
    y = np.arange(32) % 2
    X = (np.sin(4 * np.pi * t) + np.where(t > .5, (2 * y[:, None] - 1) * 2 * (t - .5), 0))[:, None].astype(np.float32)
    m = NCVQ(None, dim=16, n_res_blocks=1, prior_dim=64, prior_depth=2, epochs=(150, 200), lr=3e-3, random_state=0).fit(X, y)
    G = X.copy()
    G[..., 20:] = np.nan
    for label in (0, 1):
        end = m.impute(G, y=label, random_state=0)[:, 0, -12:].mean(1)
        own, other = (X[y == v][0, 0, -12:].mean() for v in (label, 1 - label))
        assert (np.abs(end - own) < np.abs(end - other)).all() and abs(end.mean() - own) < .25 * abs(own - other)
    assert m.impute(G, random_state=0)[:, 0, -12:].mean(1).std() > .3  # left open, both occur


# which tokens are written

@pytest.mark.parametrize("l, n_fft", [(33, 8), (150, 8), (24, 4), (51, 16), (100, 32)])
def test_a_columns_samples_are_its_own(l, n_fft):
    "Every sample has one column; the columns are in order, of about equal size, and centred where the encoder is."
    X, y = series(n=4, l=l)
    m = NCVQ(None, **{**TINY, "n_res_blocks": 0}, n_fft=n_fft).fit(X)
    tok, (f, t) = m.tokenizer_, m.tokenizer_.grid
    hole = generator._touched(tok, torch.eye(l, dtype=torch.bool)[:, None]).view(l, f, t)
    assert (hole.sum(-1) == 1).all() and (hole == hole[:, :1]).all()
    column = hole[:, 0].int().argmax(-1)
    assert (column.diff() >= 0).all() and column[0] == 0 and column[-1] == t - 1
    x = torch.zeros(1, 1, l, requires_grad=True)
    with torch.enable_grad(): z = tok.encoder.eval()(tok.stft(x))
    for j in range(1, t - 1):  # away from the ends, where series are mirrored
        g = torch.autograd.grad(z[..., j].square().sum() + z[..., j].sum(), x, retain_graph=True)[0][0, 0].abs()
        own = (column == j).nonzero().flatten().float()
        reach = g.nonzero().flatten().float()
        assert reach.min() <= own.min() and own.max() <= reach.max()
        assert abs((reach.min() + reach.max()) / 2 - own.mean()) <= max(2, tok.stft.hop_length), (j, own.mean(), reach.min(), reach.max())


def test_only_touched_columns_are_written(model, monkeypatch):
    X, _ = series()
    asked, real = [], generator.fill
    monkeypatch.setattr(generator, "fill", lambda prior, s, *a, **k: asked.append(s.clone()) or real(prior, s, *a, **k))
    G = X.copy()
    G[0, :, 14:16], G[3, :, 25:] = np.nan, np.nan
    model.impute(G)
    f, t = model.tokenizer_.grid
    hole = (asked[0] == 8).view(2, f, t)
    assert asked[0].shape[0] == 2 and (hole == hole[:, :1]).all()
    first, last = hole[0, 0], hole[1, 0]
    assert 1 <= first.sum() <= 2 and not first[0] and not first[-1] and last[-1] and not last[: t // 2].any()


# a band of frequencies

def test_a_band_is_not_looked_at_and_the_rest_stays(model):
    "Whatever stands in the band: the same is written. What is written changes the other rows by no more than overlapping windows must."
    X, _ = series()
    stft = model.tokenizer_.stft
    out = model.impute(X, rows=[3, 4], random_state=0)
    u = stft(torch.from_numpy(model.scaler_.transform(X)))
    silent = model.scaler_.inverse_transform(stft.inverse(torch.cat([u[:, :, :3], 0 * u[:, :, 3:]], 2), 33).numpy())
    ways = model.impute(X, rows=[3, 4], n_samples=2, random_state=0)
    assert out.shape == X.shape and ways.shape == (2, *X.shape) and not np.array_equal(out, X)
    low = lambda a: stft(torch.from_numpy(model.scaler_.transform(a)))[:, :, :2]
    assert (low(out) - low(X)).square().mean() < .02 * low(X).square().mean()
    seen = []
    model.tokenizer_.encoder.register_forward_pre_hook(lambda _, a: seen.append(a[0].clone()))
    try: model.impute(X, rows=3, random_state=0), model.impute(X, rows=[3, 4], random_state=0)
    finally: model.tokenizer_.encoder._forward_pre_hooks.clear()
    assert_allclose(seen[1], stft(torch.from_numpy(model.scaler_.transform(silent))), atol=1e-4)


# what cannot work

def test_errors(model, two_channels):
    X, y = series()
    G = X.copy()
    G[4] = np.nan
    with says("no observed sample in series 4, channel 0"): model.impute(G)
    with says("no observed sample in series 0, channel 0"): model.impute(X, missing=np.ones(X.shape, bool))
    two = 1000 + 7 * series(c=2, l=50)[0]
    two[5, 1] = np.nan
    with says("series 5, channel 1"): two_channels.impute(two)
    with says("trained on 1 of length 33"): model.impute(X[..., :20])
    with says("X has 1 infinite value"): model.impute(np.where(np.arange(33) + 0 * X == 3, np.where(np.arange(12)[:, None, None] == 0, np.inf, X), X))
    with says("missing must be boolean", "(12, 1, 33)", "(12, 33)"): model.impute(X, missing=np.zeros((12, 33), bool))
    with says("missing must be boolean", "float64"): model.impute(X, missing=np.zeros(X.shape))
    with says("unknown label 9"): model.impute(holes(X), y=9)
    with says("y must be one label or 12"): model.impute(holes(X), y=y[:5])
    for n in (0, 2.5, True, "3"):
        with says("n_samples must be a whole number of at least 1"): model.impute(holes(X), n_samples=n)
    for rows in ([], [5], [-1], [0, 1, 2, 3, 4], [.5], "low", [[1]], None if False else [True, False]):
        with says("rows must be some of the frequency rows 0 to 4"): model.impute(X, rows=rows)
    with says("rows were given, but X has missing samples"): model.impute(holes(X), rows=[1])
    with says("sampling_steps must be"): model.impute(holes(X), sampling_steps=0)
    with says("trained without labels"): fitted(None).impute(holes(X), y=0)
    with pytest.raises(NotFittedError): NCVQ().impute(X)
    with pytest.raises(NotFittedError): NCVQ(**TINY).fit_tokenizer(X).impute(holes(X))


def test_every_way_to_write_that_a_sample_is_missing():
    pd = pytest.importorskip("pandas")
    X, y = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32), np.arange(8) % 2
    m = NCVQ(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=2, random_state=0).fit(X, y)
    gappy = X.copy()
    gappy[:, 5:9] = np.nan
    want = m.impute(gappy, random_state=0)
    objects = np.where(np.isnan(gappy), None, gappy.astype(object))
    for other in (np.ma.masked_invalid(gappy), np.ma.array(X, mask=np.isnan(gappy)), pd.DataFrame(gappy).convert_dtypes(), pd.DataFrame(gappy).astype(object), objects, objects.tolist()):
        np.testing.assert_allclose(m.impute(other, random_state=0), want, rtol=1e-6)
    for bad in (gappy.astype(str), np.full((8, 32), "a", object)):
        with pytest.raises(TypeError, match="X has dtype"): m.impute(bad)
