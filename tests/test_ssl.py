"""Self-supervised losses against the papers' sums, element by element, in float64."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.autograd import gradcheck

from fuzzing import KINDS, REFUSED, TAME, fuzz, tried
from hypothesis import strategies as st
from ncvq_nb.engine.runtime import seeded
from ncvq_nb.ssl import (
    SSL_LOSSES,
    IterNorm,
    SSLHead,
    barlow_twins_loss,
    covariance_loss,
    cross_square_sum,
    inverse_root,
    pool,
    vibcreg_loss,
    vicreg_loss,
)
from tensors import gen, randn


def pair(b, d):
    return randn(b, d, dtype=torch.float64), randn(b, d, seed=1, dtype=torch.float64)


def off_diagonal(C):
    d = len(C)
    return sum(C[i, j] ** 2 for i in range(d) for j in range(d) if i != j)


def barlow_as_written(z1, z2, lambd=0.005):
    b, d = z1.shape
    # with the small constant of a batch norm
    z1, z2 = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z1, z2))
    C = z1.T @ z2 / b
    return (sum((1 - C[i, i]) ** 2 for i in range(d)) + lambd * off_diagonal(C)) / d


def variance_as_written(z, eps=1e-4):
    return np.mean([max(0, 1 - math.sqrt(z[:, j].var(ddof=1) + eps)) for j in range(z.shape[1])])


def covariance_as_written(z):
    d = z.shape[1]
    return off_diagonal(np.cov(z, rowvar=False).reshape(d, d)) / d


def correlation_as_written(z):
    z = z - z.mean(0)
    z = z / np.sqrt((z**2).sum(0))
    return off_diagonal(z.T @ z) / z.shape[1] ** 2


def weighted_as_written(z1, z2, third, sim=25, var=25, cov=1):
    invariance = ((z1 - z2) ** 2).mean()
    variance = variance_as_written(z1) + variance_as_written(z2)
    return sim * invariance + var * variance + cov * (third(z1) + third(z2))


def vicreg_as_written(z1, z2):
    return weighted_as_written(z1, z2, covariance_as_written)


def vibcreg_as_written(z1, z2):
    return weighted_as_written(z1, z2, correlation_as_written, cov=100)


LOSSES = dict(
    barlow=(barlow_twins_loss, barlow_as_written),
    vicreg=(vicreg_loss, vicreg_as_written),
    vibcreg=(vibcreg_loss, vibcreg_as_written),
)
METHODS = list(LOSSES)
every_loss = pytest.mark.parametrize("loss", [loss for loss, _ in LOSSES.values()], ids=METHODS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "b, d", [(2, 7), (3, 16), (5, 16), (16, 5), (8, 8), (9, 8), (7, 8), (32, 3)]
)
def test_losses_are_the_papers_sums(method, b, d):
    loss, as_written = LOSSES[method]
    z1, z2 = pair(b, d)
    z1, z2 = z1 * 0.7 + 0.3, z2 - 1
    want = as_written(z1.numpy(), z2.numpy())
    assert_allclose(loss(z1, z2).item(), want, rtol=1e-6)
    assert_allclose(loss(z1.float(), z2.float()).item(), want, rtol=1e-4)


@every_loss
@pytest.mark.parametrize("b, d", [(3, 6), (6, 3), (2, 4)])
def test_gradients_of_losses(loss, b, d):
    views = [(0.6 * randn(b, d, seed=s, dtype=torch.float64)).requires_grad_() for s in (3, 4)]
    assert gradcheck(loss, views, eps=1e-7, atol=1e-4)


@every_loss
def test_invariances_of_losses(loss):
    z1, z2 = pair(6, 9)
    value = loss(z1, z2).item()
    rows, columns = torch.randperm(6, generator=gen()), torch.randperm(9, generator=gen())
    for same in (
        loss(z1[rows], z2[rows]),
        loss(z1[:, columns], z2[:, columns]),
        loss(z2, z1),
        loss(-z1, -z2),
        loss(z1 + 3, z2 + 3),
    ):
        assert_allclose(same.item(), value, rtol=1e-9)


def test_barlow_twins_does_not_see_the_scale_of_features():
    z1, z2 = pair(6, 9)
    scale = torch.linspace(0.5, 9, 9, dtype=torch.float64)
    value = barlow_twins_loss(z1 * scale + 2, z2 * 4).item()
    assert_allclose(value, barlow_twins_loss(z1, z2).item(), rtol=1e-4)


def test_the_scale_of_features_in_covariance_and_correlation():
    z1, z2 = pair(6, 9)
    scale, alone = torch.linspace(0.5, 9, 9, dtype=torch.float64), dict(sim=0, var=0)
    value = vibcreg_loss(z1, z2, **alone).item()
    assert_allclose(vibcreg_loss(z1 * scale, z2 * 4, **alone).item(), value, rtol=1e-9)
    value = vicreg_loss(z1, z2, **alone).item()
    assert_allclose(vicreg_loss(3 * z1, 3 * z2, **alone).item(), 81 * value, rtol=1e-9)


@every_loss
def test_losses_at_their_minimum(loss):
    "Orthogonal features with zero mean and unit variance, equal in both views."
    hadamard = [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]
    z = 1.5 * torch.tensor(hadamard, dtype=torch.float64).T[:, 1:]
    limit = (1 / 4) ** 2 + 1e-6 if loss is barlow_twins_loss else 1e-9
    assert 0 <= loss(z, z).item() < limit


@every_loss
def test_losses_stay_finite_where_features_are_constant(loss):
    z1 = torch.ones(5, 8).requires_grad_()
    z2 = torch.cat([torch.zeros(5, 4), randn(5, 4)], 1).requires_grad_()
    value = loss(z1, z2)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(z1.grad).all() and torch.isfinite(z2.grad).all()


@every_loss
@pytest.mark.parametrize("shapes", [((1, 4), (1, 4)), ((3, 4), (3, 5)), ((3,), (3,))], ids=str)
def test_what_is_no_pair_of_batches_is_refused(loss, shapes):
    with pytest.raises(ValueError, match="projections|at least 2"):
        loss(*map(torch.zeros, shapes))


@pytest.mark.parametrize("b, d", [(3, 10), (10, 3), (5, 5)])
def test_cross_square_sum_is_numpys_norm(b, d):
    z1, z2 = pair(b, d)
    want = np.linalg.norm(z1.numpy().T @ z2.numpy(), "fro") ** 2
    assert_allclose(cross_square_sum(z1, z2).item(), want, rtol=1e-12)
    assert_allclose(covariance_loss(z1).item(), covariance_as_written(z1.numpy()), rtol=1e-9)


def test_pooling():
    z = randn(2, 3, 4, 5)
    flat = z.numpy().reshape(2, 3, 20)
    assert_allclose(pool(z), np.concatenate([flat.mean(-1), flat.max(-1)], 1), rtol=1e-5)


def symmetric_inverse_root(cov):
    "V diag(λ^-½) Vᵀ"
    lam, V = np.linalg.eigh(cov)
    return (V / np.sqrt(lam)) @ V.T


def test_newtons_iteration_finds_the_inverse_root():
    x = randn(3, 20, 6, dtype=torch.float64)
    cov = x.mT @ x
    cov = cov / cov.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    want = np.stack([symmetric_inverse_root(c) for c in cov.numpy()])
    assert_allclose(inverse_root(cov, 40), want, rtol=1e-9)


@pytest.mark.parametrize("b, g", [(64, 6), (13, 6), (5, 6), (3, 6), (2, 6)])
def test_iternorm_whitens_with_a_covariance_shrunk_where_the_batch_is_small(b, g):
    scale = torch.diag(torch.linspace(0.5, 2, 2 * g, dtype=torch.float64))
    x = randn(b, 2 * g, dtype=torch.float64) @ scale + 1
    got = IterNorm(2 * g, group=g, n_iter=40).double().train()(x).detach().numpy()
    for k in range(2):
        group = slice(k * g, (k + 1) * g)
        z = x[:, group].numpy()
        z = z - z.mean(0)
        cov, alpha = z.T @ z / b + 1e-5 * np.eye(g), max(0, 1 - b / (2 * g))
        cov = (1 - alpha) * cov + alpha * np.trace(cov) / g * np.eye(g)
        assert_allclose(got[:, group], z @ symmetric_inverse_root(cov), atol=1e-6)
    if b >= 2 * g:
        z = got[:, :g]
        assert_allclose(z.T @ z / b, np.eye(g), atol=1e-3)


def test_five_steps_of_iternorm_whiten_well_conditioned_features():
    x = randn(200, 8, dtype=torch.float64)
    z = IterNorm(8).double().train()(x)
    assert_allclose((z.T @ z / 200).detach(), np.eye(8), atol=1e-2)


def test_gradients_of_iternorm():
    norm = IterNorm(4).double().train()
    assert gradcheck(norm, randn(6, 4, dtype=torch.float64).requires_grad_(), atol=1e-5)


def test_iternorm_in_evaluation_uses_running_statistics_only():
    norm = IterNorm(8, group=4)
    for i in range(200):
        norm.train()(2 * randn(64, 8, seed=i) + 3)
    state = {k: v.clone() for k, v in norm.state_dict().items()}
    x = 2 * randn(500, 8, seed=999) + 3
    z = norm.eval()(x)
    assert_allclose(z[:3].detach(), norm(x[:3]).detach(), atol=1e-5)  # row by row
    assert_allclose((z.T @ z / 500).detach(), np.eye(8), atol=0.35)
    assert all(torch.equal(v, state[k]) for k, v in norm.state_dict().items())


def ssl_head(method):
    with seeded(0):
        return SSLHead(method, 8, dim=64).train()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("b", [2, 3, 5, 20])
def test_the_head_at_small_batches(method, b):
    z1, z2 = (randn(b, 8, 5, 4, seed=s).requires_grad_() for s in (0, 1))
    loss, _ = ssl_head(method)(z1, z2)
    loss.backward()
    assert loss.shape == () and torch.isfinite(loss)
    assert all(torch.isfinite(z.grad).all() for z in (z1, z2))


@pytest.mark.parametrize("method", METHODS)
def test_the_head_where_all_series_of_a_batch_are_the_same(method):
    z1 = randn(1, 8, 5, 4).repeat(6, 1, 1, 1).requires_grad_()
    z2 = randn(6, 8, 5, 4, seed=1).requires_grad_()
    loss, projection_std = ssl_head(method)(z1, z2)
    loss.backward()
    assert all(torch.isfinite(z.grad).all() and z.grad.abs().max() < 1e8 for z in (z1, z2))
    assert projection_std < 1e-2


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_the_head_returns_its_loss_and_how_far_projections_spread(method, training):
    head, z1, z2 = ssl_head(method).train(training), randn(9, 8, 5, 4), randn(9, 8, 5, 4, seed=1)
    loss, projection_std = head(z1, z2)
    p1, p2 = head.project(torch.cat([pool(z1), pool(z2)])).detach().chunk(2)
    assert torch.equal(loss, head.weight * LOSSES[method][0](p1, p2))
    assert_allclose(projection_std, p1.numpy().std(0).mean(), rtol=1e-5)
    assert loss.requires_grad and not projection_std.requires_grad


@fuzz(
    120,
    seed=st.integers(0, 2**32),
    b=st.integers(1, 6),
    d=st.integers(1, 8),
    name=st.sampled_from(list(SSL_LOSSES)),
    kind=st.sampled_from(TAME),
    scale=st.integers(-12, 6),
    more=st.integers(0, 1),
)
def test_losses_are_finite_and_so_are_their_gradients(seed, b, d, name, kind, scale, more):
    r = np.random.default_rng(seed)

    def projections(n):
        z = torch.from_numpy(KINDS[kind](r, (n, d))).float()
        return z.mul(10.0**scale).requires_grad_()

    z1, z2 = projections(b), projections(b + more)
    loss = tried(lambda: SSL_LOSSES[name][0](z1, z2), "projections", "at least 2")
    if loss is REFUSED:
        assert more or b < 2
        return
    loss.backward()
    assert loss.isfinite() and loss > -1e-3 * max(1, float(loss.detach().abs()))
    assert z1.grad.isfinite().all() and z2.grad.isfinite().all()
