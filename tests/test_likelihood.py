"""Pseudo log-likelihood: the sum of conditionals, whichever way it is computed, on any grid."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from toys import fingerprint, fitted, global_state, noise, says, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.estimator.imputation import affected_tokens
from ncvq_nb.estimator.likelihood import column_groups, token_scores


@pytest.fixture(scope="module")
def model():
    return fitted(names=["a", "b"], epochs=(30, 60), lr=3e-3)


@pytest.fixture(scope="module")
def two_channels():
    "Without labels, of two channels."
    return tiny().fit(sines(n=10, channels=2, length=50)[0])


def by_hand(model, s, c):
    "log p(token | other columns, class), one series and one column at a time, in float64."
    f, t = model.tokenizer_.grid
    prior, out = model.prior_, np.zeros(s.shape)
    for i, (row, y) in enumerate(zip(s, c)):
        for j in range(t):
            hidden = row.copy()
            at = [j + k * t for k in range(f)]
            hidden[at] = prior.mask_token
            with torch.no_grad():
                logits = prior(torch.from_numpy(hidden)[None], torch.tensor([y]))[0].double()
            logits = logits.numpy()
            for a in at:
                out[i, a] = logits[a, row[a]] - np.log(np.exp(logits[a]).sum())
    return out


# The value


def test_it_is_the_sum_of_conditionals(model):
    X, y = sines(n=7, seed=3)
    s, (f, t) = model.encode(X), model.tokenizer_.grid
    for labels, c in ((None, np.full(7, 2)), (np.array(["a", "b"])[y], y), ("b", np.ones(7, int))):
        want = by_hand(model, s, c)
        assert_allclose(model.score_samples(X, labels), want.sum(1), rtol=1e-5)
        steps = model.score_samples(X, labels, per_step=True)
        assert steps.shape == (7, 33) and steps.dtype == np.float64
        per_column = want.reshape(7, f, t).mean(1)
        for i in range(33):  # the column of a sample is the one that its absence would mask
            gap = torch.zeros(1, 1, 33, dtype=torch.bool)
            gap[..., i] = True
            (j,) = affected_tokens(model.tokenizer_, gap)[0].view(f, t)[0].nonzero()[0].tolist()
            assert_allclose(steps[:, i], per_column[:, j], rtol=1e-4, atol=1e-5)


def test_groups_of_one_token_are_those_of_masked_language_models(model):
    s = torch.from_numpy(model.encode(sines(n=3)[0]))
    n, (N, K) = s.shape[1], (s.shape[1], model.prior_.mask_token)
    c = torch.tensor([0, 1, 2])
    found = token_scores(model.prior_, s, c, torch.arange(N)[:, None])
    hidden = s[:, None].masked_fill(torch.eye(n, dtype=torch.bool), K)  # (3, N, N)
    with torch.no_grad():
        log_p = model.prior_(hidden.flatten(0, 1), c.repeat_interleave(N)).log_softmax(-1)
    want = log_p.view(3, N, N, K).diagonal(dim1=1, dim2=2).mT.gather(2, s[..., None])[..., 0]
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert (found <= 0).all()


def test_every_token_is_in_one_column():
    for grid in ((5, 9), (3, 1), (1, 4), (2, 2)):
        groups = column_groups(grid)
        assert groups.shape == grid[::-1]
        assert sorted(groups.flatten().tolist()) == list(range(grid[0] * grid[1]))
        assert ((groups % grid[1]) == torch.arange(grid[1])[:, None]).all()


def test_a_series_alone_scores_as_in_any_batch(two_channels):
    X, _ = sines(n=40, channels=2, length=50, seed=1)  # more than a batch of 256 copies
    together = two_channels.score_samples(X)
    assert together.shape == (40,) and len(X) * two_channels.tokenizer_.grid[1] > 256
    order = np.random.default_rng(0).permutation(40)
    assert_allclose(two_channels.score_samples(X[order]), together[order], rtol=1e-5)
    alone = [two_channels.score_samples(x[None], per_step=True)[0] for x in X[:3]]
    assert_allclose(two_channels.score_samples(X[:3], per_step=True), alone, rtol=1e-4, atol=1e-5)


def test_nothing_is_random_and_nothing_is_changed(model):
    X, before, weights = sines(n=5, seed=2)[0], global_state(), fingerprint(model)
    first = model.score_samples(X)
    assert np.array_equal(first, model.score_samples(X)) and not model.prior_.training
    assert global_state() == before and fingerprint(model) == weights


def test_a_saved_model_gives_the_same_scores(model, tmp_path):
    X, y = sines(n=5, seed=2, names=["a", "b"])
    model.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m", device="cpu")
    assert np.array_equal(again.score_samples(X, y), model.score_samples(X, y))


# What it is for


def test_what_is_unlike_the_training_series_scores_lower(model):
    X, y = sines(n=40, seed=7, names=["a", "b"])
    normal, odd = model.score_samples(X), model.score_samples(noise(40, 33)[0])
    assert roc_auc_score(np.repeat([1, 0], 40), [*normal, *odd]) > 0.9
    other = np.where(y == "a", "b", "a")
    assert (model.score_samples(X, y) > model.score_samples(X, other)).mean() > 0.7


def test_a_time_step_is_blamed_where_it_is_odd(model):
    X, _ = sines(n=40, seed=7)
    odd = X.copy()
    odd[..., 22:27] = 2.5
    change = model.score_samples(odd, per_step=True) - model.score_samples(X, per_step=True)
    lost = change.mean(0)
    assert lost[22:27].mean() < 10 * lost[:10].mean() and 15 < lost.argmin() < 32


# What is refused


def test_what_cannot_be_scored_is_named(model, two_channels):
    X, y = sines(n=4)
    with pytest.raises(NotFittedError):
        NCVQ().score_samples(X)
    with pytest.raises(NotFittedError, match="fit_prior"):
        tiny().fit_tokenizer(X).score_samples(X)
    with says("unknown label", "c"):
        model.score_samples(X, "c")
    with says("y must be one label or 4"):
        model.score_samples(X, ["a", "b"])
    with says("trained without labels"):
        two_channels.score_samples(sines(n=4, channels=2, length=50)[0], y)
    with says("of length 20"):
        model.score_samples(X[..., :20])
    with says("missing (NaN)"):
        model.score_samples(X * np.nan)
    never = fitted(p_unconditional=0.0)
    with says("y is None", "p_unconditional=0"):
        never.score_samples(X)
    assert never.score_samples(X, y).shape == (4,)
