"""Training with gaps and unequal lengths: what was not observed changes nothing that is learned."""

import numpy as np
import pytest
import torch
from toys import as_dataset, fingerprint, says, sines, tiny

from ncvq_nb import NCVQ, evaluate
from ncvq_nb.augment import AUGMENTATIONS, get_augmentation
from ncvq_nb.engine.runtime import seeded
from ncvq_nb.estimator import stages
from ncvq_nb.estimator.observed import columns_behind, columns_with, count_lengths
from ncvq_nb.estimator.observed import draw_lengths, in_all_rows
from ncvq_nb.estimator.prepared import prepare
from ncvq_nb.tokenizer import ObservedLoss, Tokenizer, TokenizerLoss, seen_view

nan = np.nan


def deleted(X, share=0.3, seed=0):
    return np.where(np.random.default_rng(seed).random(X.shape) < share, nan, X)


def unequal(n=12):
    "Sines of 20 to 22 samples in class 0, of 30 to 32 in class 1."
    X, y = sines(n=n, length=33)
    return [x[:, : 20 + 10 * c + i % 3] for i, (x, c) in enumerate(zip(X, y))], y


@pytest.fixture(scope="module")
def gappy_model():
    X, y = sines(channels=2)
    return tiny().fit(deleted(X), y)


@pytest.fixture(scope="module")
def ragged_model():
    return tiny().fit(*unequal())


def test_masks_of_unequal_series_may_be_a_list_as_they_are(ragged_model):
    X, y = unequal(n=4)
    masks = [np.arange(x.shape[-1])[None] % 7 == 3 for x in X]
    gaps = [np.where(m, nan, x) for m, x in zip(masks, X)]
    by_mask = ragged_model.impute(X, missing=masks, y=y, random_state=0)
    by_nan = ragged_model.impute(gaps, y=y, random_state=0)
    np.testing.assert_array_equal(by_mask, by_nan)
    with says("missing[1] must be boolean and of the shape of X[1]", "int64"):
        ragged_model.impute(X, missing=[masks[0], masks[1].astype(int), *masks[2:]])


# Stage 1


def loss_of(**kw):
    with seeded(0):
        tok = Tokenizer(1, 32, dim=8, n_res_blocks=1, n_codes=8)
        return ObservedLoss(tok, projector_dim=16, **kw)


def test_reconstruction_terms_know_nothing_of_what_was_not_observed():
    objective = loss_of()
    tok = objective.tokenizer
    x, gen = torch.randn(6, 1, 32, requires_grad=False), torch.Generator().manual_seed(0)
    seen = torch.rand(x.shape, generator=gen) < 0.6
    u_hat = torch.randn(tok.stft(x).shape, requires_grad=True)
    grads = []
    for other in (x, torch.where(seen, x, 100.0)):
        x_hat = tok.stft.inverse(u_hat, 32)
        losses = objective._errors(other, x_hat, tok.stft(other), u_hat, seen)
        grads.append((*losses, *torch.autograd.grad(sum(losses), u_hat)))
    assert all(torch.equal(a, b) for a, b in zip(*grads)) and grads[0][2].abs().max() > 0


def test_with_everything_observed_it_is_the_loss_of_before():
    x, values = torch.randn(6, 1, 32), []
    for make, more in ((TokenizerLoss, ()), (ObservedLoss, (torch.ones(x.shape).bool(),))):
        with seeded(0):
            tok = Tokenizer(1, 32, dim=8, n_res_blocks=1, n_codes=8)
            objective = make(tok, ssl="barlow", projector_dim=16)
        objective.init_codebook(x, torch.Generator().manual_seed(0))
        values.append(objective(x, *more, generator=torch.Generator().manual_seed(0)))
    for k, v in values[0].terms.items():
        torch.testing.assert_close(values[1].terms[k], v)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_count_where_they_are_made_of_observed_samples(name):
    x, gen = torch.randn(40, 2, 32), torch.Generator().manual_seed(0)
    seen = torch.rand(x.shape, generator=gen) < 0.8
    state, views = gen.get_state(), []
    for other in (x, torch.where(seen, x, 5.0)):
        gen.set_state(state)
        views.append(seen_view(other, seen, get_augmentation(name), gen))
    (a, kept), (b, same) = views
    assert torch.equal(kept, same) and torch.equal(a[40:][kept], b[40:][kept])
    assert 0.5 < kept.float().mean() < 0.9


def test_own_views_may_draw_from_the_global_generator():
    def own(x, generator):
        return x + torch.randn(x.shape)

    x, seen = torch.randn(8, 1, 32), torch.rand(8, 1, 32) < 0.7
    assert torch.equal(seen_view(x, seen, own, torch.Generator())[1], seen)


# Stage 2


def test_the_prior_is_not_trained_on_what_was_not_observed(monkeypatch):
    asked, real = [], stages.train

    def watched(objective, data, *args, **kw):
        asked.append(data)
        return real(objective, data, *args, **kw)

    monkeypatch.setattr(stages, "train", watched)
    R, y = unequal()
    R = [np.where((np.arange(x.shape[-1]) // 12 == 0) & (i == 3), nan, x) for i, x in enumerate(R)]
    tok = tiny(epochs=1).fit(R, y).tokenizer_
    (_, seen), (s, _) = asked
    columns = in_all_rows(tok, columns_with(tok, seen))
    ends = torch.tensor([x.shape[-1] for x in R])
    behind = in_all_rows(tok, columns_behind(tok, ends))
    assert torch.equal(s == 9, behind) and torch.equal(s == 8, ~columns & ~behind)
    assert (s[3] == 8).any() and behind.any() and ((s < 8) | ~columns | behind).all()


# The whole


def test_what_stands_in_a_gap_does_not_matter():
    "Masks, NaN and objects say the same; a gap is a gap, whatever was there."
    X, y = sines()
    gone = np.random.default_rng(0).random(X.shape) < 0.3
    forms = np.where(gone, nan, X), np.ma.array(np.where(gone, -999, X), mask=gone)
    forms += (np.where(gone, None, X.astype(object)),)
    with_odd = np.where(gone, np.frombuffer(b"\1\0\xc0\x7f", np.float32), X)  # another NaN
    forms += (with_odd,)
    assert len({fingerprint(tiny(epochs=1).fit(F, y)) for F in forms}) == 1


def test_nothing_missing_makes_no_mask():
    X, y = sines()
    prepared = prepare(tiny(), X, y)
    assert prepared.seen is None and prepared.ends is None and prepared.lengths is None
    assert prepare(tiny(), deleted(X), y).ends is None


def test_methods_take_gaps(gappy_model):
    m, (X, _) = gappy_model, sines(n=5, channels=2, seed=1)
    G = deleted(X)
    G[1, 0] = nan  # one channel of a series
    assert m.encode(G).shape == (5, m.tokenizer_.n_tokens)
    for A in (m.transform(G), m.reconstruct(G), m.sample(7, random_state=0)):
        assert np.isfinite(A).all()
    with says("X has no observed sample in series 2"):
        m.encode(np.where(np.arange(5)[:, None, None] == 2, nan, X))
    np.testing.assert_array_equal(m.encode(X[:2]), m.encode([*X[:2]]))
    with says("X has no observed sample in channel 1 of any series"):
        tiny().fit(np.where(np.arange(2)[:, None] == 1, nan, X))


def test_gaps_are_completed(gappy_model):
    G = deleted(sines(n=5, channels=2, seed=1)[0])
    A = gappy_model.impute(G, random_state=0)
    assert np.isfinite(A).all() and (A[~np.isnan(G)] == G[~np.isnan(G)]).all()


def test_lengths_are_those_of_the_class(ragged_model, tmp_path):
    m = ragged_model
    assert m.data_["lengths"]["values"] == [20, 21, 22, 30, 31, 32]
    how = dict(observation_noise=0, return_lengths=True)
    X, n = m.sample(60, y=1, random_state=0, **how)
    assert set(n) == {30, 31, 32} and set(m.sample(30, y=0, return_lengths=True)[1]) == {20, 21, 22}
    behind = np.arange(32) >= n[:, None, None]
    assert (np.isnan(X) == behind).all()
    s = m.sample_tokens(60, y=1, random_state=0)
    np.testing.assert_array_equal(m.decode(s)[~behind], X[~behind])
    assert len(m.sample(4, return_y=True, return_lengths=True)) == 3
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    np.testing.assert_array_equal(again.sample(60, y=1, random_state=0, observation_noise=0), X)
    whole = tiny(epochs=1).fit(*sines())
    assert whole.sample(3, return_lengths=True)[1].tolist() == [33] * 3


def test_methods_take_unequal_lengths(ragged_model):
    m, (R, y) = ragged_model, unequal(8)
    assert m.encode(R[:1]).shape == (1, m.tokenizer_.n_tokens)  # a single, shorter one
    np.testing.assert_array_equal(m.encode(R[:1])[0], m.encode(R)[0])
    ends = np.array([x.shape[-1] for x in R])
    behind = np.arange(32) >= ends[:, None, None]
    G = [np.where(np.arange(x.shape[-1]) == 9, nan, x) for x in R]
    for A in (m.reconstruct(R), m.impute(G, y, random_state=0)):
        assert A.shape[-1] == 32 and (np.isnan(A) == behind).all()
    with says("trained on 1 of length 32"):
        m.encode([np.zeros(40), np.zeros(35)])


def test_gaps_of_shorter_series_are_filled_as_those_of_longer_ones(ragged_model):
    m, (R, y) = ragged_model, unequal(8)
    one = R[:1], [np.where(np.arange(R[0].shape[-1]) == 9, nan, R[0])]
    end = [x.copy() for x in R]
    end[0][..., -2:] = nan  # missing, for the list says how long the series is
    for X in (one[1], np.stack(one[1]), end):  # a list of one, an array, a list of several
        A = m.impute(X, random_state=0)
        n = R[0].shape[-1]
        assert A.shape[-1] == 32 and np.isfinite(A[0, 0, :n]).all() and np.isnan(A[0, 0, n:]).all()
    A = m.impute(R, rows=[1], random_state=0)
    ends = [x.shape[-1] for x in R]
    assert [int(np.isfinite(a[0]).sum()) for a in A] == ends
    with says("rows were given, but X has missing samples"):
        m.impute(one[1], rows=[1])


def test_samples_do_not_depend_on_the_unseen_part(ragged_model):
    "The prior of end tokens never writes them, and the last columns are not sampled at all."
    tok = ragged_model.tokenizer_
    s = ragged_model.sample_tokens(20, random_state=0)
    assert s.max() < len(tok.codebook)
    assert ragged_model.prior_.token.weight.shape[0] == len(tok.codebook) + 2


def test_columns_hold_all_samples():
    for n_fft, l in ((2, 16), (4, 17), (8, 33), (16, 64)):
        tok = Tokenizer(1, l, n_fft=n_fft, dim=8, n_res_blocks=0)
        one = torch.eye(l).bool()[:, None]  # series with a single observed sample each
        assert columns_with(tok, one)[0].any(1).all()
        assert columns_with(tok, one.any(0, keepdim=True))[0].all()
        (behind,) = columns_behind(tok, torch.arange(1, l + 1))
        assert not behind[:, 0].any() and not behind[-1].any()
        assert (behind.sum(1).diff() <= 0).all()
        assert not (behind[-2] & ~columns_with(tok, one[-1:])[0]).any()


def test_lengths_are_drawn_in_their_shares():
    lengths = count_lengths(np.array([4, 4, 4, 9, 7]), np.array([0, 0, 0, 0, 1]))
    drawn = draw_lengths(lengths, np.zeros(4000, int), 0)
    assert abs((drawn == 4).mean() - 0.75) < 0.03 and set(drawn) == {4, 9}


# Evaluation


def test_imputed_values_enter_no_error(gappy_model):
    "Errors are those of observed samples; what a model says in the gaps changes nothing."
    X, y = sines(channels=2)
    data = as_dataset((deleted(X), y), (deleted(X, seed=1), y))
    fast = dict(n_resamples=2, cas_total=12, fcn=dict(max_steps=2), cache_dir=False, verbose=False)
    report = evaluate(gappy_model, data, **fast)
    X_hat, G = gappy_model.reconstruct(data.X_test), data.X_test.astype(float)
    by_series = np.nanmean(np.nanmean((X_hat - G) ** 2, 2), 1)
    assert float(report["reconstruction MSE"]) == pytest.approx(by_series.mean(), rel=1e-5)
    assert any("Reconstruction errors count observed samples" in n for n in report.notes)
    assert not any("trained on other series" in n for n in report.notes)
    assert len(report) == 23


def test_unequal_lengths_are_evaluated(ragged_model):
    R, y = unequal()
    fast = dict(n_resamples=2, cas_total=12, fcn=dict(max_steps=2), cache_dir=False, verbose=False)
    report = evaluate(ragged_model, as_dataset((R, y), (R[:7], y[:7])), **fast)
    assert len(report) == 23 and all(np.isfinite(r.value) for r in report)


def test_gaps_enter_no_likelihood(ragged_model, gappy_model):
    X, _ = sines(n=4, channels=2, length=33)
    G = X.copy()
    G[1, :, 20:] = nan
    per_step = gappy_model.score_samples(G, per_step=True)
    assert np.isnan(per_step).any(1).tolist() == [False, True, False, False]
    whole, part = gappy_model.score_samples(X), gappy_model.score_samples(G)
    assert (whole == part).tolist() == [True, False, True, True]
    assert part[1] == pytest.approx(np.nanmean(per_step[1]) * gappy_model.tokenizer_.n_tokens, 0.2)
    R, _ = unequal()
    assert np.isfinite(ragged_model.score_samples(R)).all()
    scored = np.isfinite(ragged_model.score_samples(R, per_step=True))
    ends = [x.shape[-1] for x in R]
    assert (scored == (np.arange(32) < np.array(ends)[:, None])).all(), "also in the last column"
