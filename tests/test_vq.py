"""The quantiser against brute force, closed forms, scikit-learn and vector-quantize-pytorch."""

import math
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats
from torch.nn import functional as F

from fuzzing import KINDS, REFUSED, TAME, fuzz, tried
from hypothesis import strategies as st
from ncvq_nb.vq import VectorQuantizer, code_counts, codebook_usage, perplexity
from tensors import gen, randn


def quantiser(K=7, d=5, **kw):
    vq = VectorQuantizer(K, d, **kw)
    vq.kmeans_init(randn(4, d, 3, 6, seed=11), gen(12))
    return vq


def rows(z):
    "A grid (b, d, f, t) as vectors (b f t, d)."
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def test_nearest_code_by_brute_force():
    vq, z = quantiser(), randn(3, 5, 4, 6, seed=1)
    q = vq.eval()(z)
    flat, codes = rows(z).double().numpy(), vq.codebook.double().numpy()
    want = [min(range(7), key=lambda k: ((v - codes[k]) ** 2).sum()) for v in flat]
    assert np.array_equal(q.s.flatten().numpy(), want) and q.s.dtype == torch.int64
    assert_allclose(q.z_q, vq.codebook[q.s].permute(0, 3, 1, 2), atol=1e-6)
    assert_allclose(q.commitment, ((flat - codes[want]) ** 2).mean(), rtol=1e-5)
    assert torch.equal(vq.lookup(q.s), vq.codebook[q.s].permute(0, 3, 1, 2))


def test_gradients_of_the_quantiser():
    vq, z, w = quantiser().eval(), randn(2, 5, 3, 4, seed=1).requires_grad_(), randn(2, 5, 3, 4)
    (vq(z).z_q * w).sum().backward()
    assert_allclose(z.grad, w)  # straight through
    z.grad = None
    q = vq(z)
    q.commitment.backward()
    assert_allclose(z.grad, 2 * (z - vq.lookup(q.s)).detach() / z.numel(), atol=1e-7)
    assert not list(vq.parameters())


def test_the_codebook_is_the_bias_corrected_moving_average():
    "After k-means: sums and counts in float64, in the closed form Σ γ^(n-i) x_i, not step by step."
    K, d, decay = 7, 5, 0.8
    vq = quantiser(decay=decay, dead_code_threshold=0)
    counts, sums = [vq.ema_count.double().numpy().copy()], [vq.ema_sum.double().numpy().copy()]
    assert_allclose(counts[0].sum(), 1, rtol=1e-5)
    codes = vq.codebook.double().numpy().copy()
    vq.train()
    for step in range(60):
        z = randn(3, d, 4, 6, seed=100 + step) * (1 + step / 30)
        flat = rows(z).double().numpy()
        s = ((flat[:, None] - codes[None]) ** 2).sum(-1).argmin(1)
        chosen = np.eye(K)[s] / len(flat)
        counts.append((1 - decay) * chosen.sum(0))
        sums.append((1 - decay) * chosen.T @ flat)
        assert np.array_equal(vq(z).s.flatten().numpy(), s), step
        weights = decay ** np.arange(step + 1, -1, -1.0)
        n, m = np.einsum("i,ik->k", weights, counts), np.einsum("i,ikd->kd", weights, sums)
        codes = np.where(n[:, None] > 1e-8, m / np.maximum(n, 1e-8)[:, None], codes)
        assert_allclose(vq.codebook.numpy(), codes, atol=2e-5, err_msg=f"step {step}")
    assert_allclose(vq.ema_weight, 1, rtol=1e-5)


def test_one_step_takes_a_fresh_codebook_to_the_means_of_its_vectors():
    "Bias correction: without it the first step would give (1 - γ) times the mean."
    vq = VectorQuantizer(2, 3, decay=0.9, dead_code_threshold=0)
    vq.codebook.copy_(torch.tensor([[1.0, 0, 0], [-1, 0, 0]]))
    centre = torch.tensor([2.0, 1, 0])[:, None, None]
    z = torch.cat([randn(1, 3, 2, 20) * 0.1 + centre, randn(1, 3, 2, 20, seed=1) * 0.1 - centre])
    vq.train()(z)
    assert_allclose(vq.codebook, z.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize("n_iter", [1, 3, 10])
def test_kmeans_init_is_lloyds_algorithm(n_iter):
    from sklearn.cluster import KMeans

    K, d = 6, 4
    z = randn(5, d, 4, 10) + 3 * randn(5, d, 1, 1, seed=1)
    first = VectorQuantizer(K, d, dead_code_threshold=0)
    first.kmeans_init(z, gen(4), n_iter=0)
    # k-means begins with vectors of the data
    assert all((rows(z) == code).all(-1).any() for code in first.codebook)
    vq = VectorQuantizer(K, d, dead_code_threshold=0)
    vq.kmeans_init(z, gen(4), n_iter=n_iter)
    start = first.codebook.double().numpy()
    km = KMeans(K, init=start, n_init=1, max_iter=n_iter, algorithm="lloyd", tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        km.fit(rows(z).double().numpy())
    inertia = ((rows(z)[:, None] - vq.codebook) ** 2).sum(-1).amin(1).sum().item()
    assert_allclose(inertia, km.inertia_, rtol=1e-4)
    assert_allclose(vq.codebook.numpy(), km.cluster_centers_, atol=1e-4)


def test_kmeans_of_many_vectors_looks_at_a_sample_of_them():
    z, vq, few, all_of_them = randn(5, 4, 4, 10), *(VectorQuantizer(6, 4) for _ in range(3))
    vq.kmeans_init(z, gen(4))
    all_of_them.kmeans_init(z, gen(4), max_values=6 * 200)  # 200 vectors, 6 codes
    assert torch.equal(vq.codebook, all_of_them.codebook)
    seen = []
    few.ema_update = lambda z, *args, **kw: seen.append(z)
    few.kmeans_init(z, gen(4), n_iter=1, max_values=6 * 50)
    order = torch.randperm(200, generator=gen(4))
    assert torch.equal(seen[0], rows(z)[order[:50]])


def copy_codebook(vq, book):
    "Theirs counts vectors, ours shares of them: both on the same footing for the next step."
    book.embed.copy_(vq.codebook[None])
    book.embed_avg.copy_(vq.ema_sum[None])
    book.cluster_size.copy_(vq.ema_count[None])


def test_the_quantiser_is_that_of_vector_quantize_pytorch():
    vqp = pytest.importorskip("vector_quantize_pytorch")
    K, d, vq = 7, 5, quantiser(decay=0.8, dead_code_threshold=0)
    other = vqp.VectorQuantize(
        dim=d,
        codebook_size=K,
        decay=0.8,
        commitment_weight=1.0,
        threshold_ema_dead_code=0,
        rotation_trick=False,
        eps=1e-12,
    )
    copy_codebook(vq, other._codebook)
    if hasattr(other._codebook, "initted"):
        other._codebook.initted.fill_(True)
    vq.train()
    other.train()
    for step in range(20):
        z = randn(3, d, 4, 6, seed=50 + step)
        mine, theirs = z.clone().requires_grad_(), rows(z)[None].clone().requires_grad_()
        q, (z_q, s, loss) = vq(mine), other(theirs)
        assert np.array_equal(q.s.flatten().numpy(), s.flatten().numpy())
        assert_allclose(rows(q.z_q.detach()), z_q.detach()[0], atol=1e-5)
        assert_allclose(q.commitment.item(), loss.item(), rtol=1e-4)
        (q.commitment + q.z_q.square().sum()).backward()
        (loss.sum() + z_q.square().sum()).backward()
        assert_allclose(rows(mine.grad), theirs.grad[0], atol=1e-4)
        copy_codebook(vq, other._codebook)


def with_dead_code(**kw):
    vq = quantiser(decay=0.5, **kw)
    vq.codebook[3] = 1e3
    vq.ema_count[3] = 0
    vq.ema_sum[3] = 0
    return vq.train()


def test_dead_codes_are_replaced_by_vectors_of_the_batch():
    z = randn(2, 5, 3, 6, seed=1)
    vq, never = with_dead_code(dead_code_threshold=0.1), with_dead_code(dead_code_threshold=0)
    vq(z, gen())
    assert (rows(z) == vq.codebook[3]).all(-1).any()
    never(z, gen())
    assert (never.codebook[3] == 1e3).all()


def test_the_generator_alone_says_which_vectors_replace_dead_codes():
    one = quantiser(decay=0.5, dead_code_threshold=0.9).train()
    two = quantiser(decay=0.5, dead_code_threshold=0.9).train()
    for vq in (one, two):
        vq(randn(2, 5, 3, 6, seed=1), gen(1))
    assert torch.equal(one.codebook, two.codebook)


def test_evaluation_moves_nothing():
    vq = quantiser().eval()
    before = {k: v.clone() for k, v in vq.state_dict().items()}
    vq(randn(2, 5, 3, 6))
    assert all(torch.equal(v, before[k]) for k, v in vq.state_dict().items())


def test_a_saved_codebook_has_the_names_of_its_buffers():
    assert [*quantiser().state_dict()] == ["codebook", "ema_count", "ema_sum", "ema_weight"]


def test_orthogonality_turns_codes_apart():
    def overlap(vq):
        e = F.normalize(vq.codebook, dim=1)
        return (e @ e.T - torch.eye(len(e))).square().sum().item()

    plain = quantiser(4, 6, decay=0.5, dead_code_threshold=0).train()
    turned = quantiser(4, 6, decay=0.5, dead_code_threshold=0, orthogonality=1.0).train()
    z = randn(6, 6, 3, 6, seed=1) + 2
    for _ in range(20):
        plain(z, gen())
        turned(z, gen())
    assert overlap(turned) < overlap(plain)


def test_orthogonal_codes_stay_where_they_are():
    vq = VectorQuantizer(3, 3, decay=0.5, dead_code_threshold=0, orthogonality=1.0)
    vq.codebook.copy_(3 * torch.eye(3))
    vq.ema_count.fill_(1 / 3)
    vq.ema_sum.copy_(torch.eye(3))
    vq.ema_weight.fill_(1)
    vq.train()((3 * torch.eye(3))[None, :, :, None])
    assert_allclose(vq.codebook, 3 * torch.eye(3), atol=1e-5)


def test_perplexity_is_exp_of_scipys_entropy():
    s = torch.randint(5, (6, 9), generator=gen())
    counts, found = codebook_usage(s, 8)
    want = np.bincount(s.flatten().numpy(), minlength=8)
    assert np.array_equal(counts.numpy(), want)
    assert math.isclose(found, math.exp(stats.entropy(want)), rel_tol=1e-12)
    assert codebook_usage(s.numpy(), 8)[1] == found == perplexity(code_counts(s, 8)).item()
    assert math.isclose(codebook_usage(torch.arange(8), 8)[1], 8, rel_tol=1e-12)
    assert codebook_usage(torch.zeros(4, dtype=int), 8)[1] == 1
    assert codebook_usage(torch.zeros(0, dtype=int), 8)[1] == 1


@pytest.mark.parametrize("s", [[0, 8], [-1, 2], [0.0, 1.0], [True, False]], ids=str)
def test_what_is_no_token_is_refused(s):
    with pytest.raises(ValueError, match="s must hold tokens"):
        codebook_usage(torch.tensor(s), 8)


@fuzz(
    80,
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5)),
    n_codes=st.integers(1, 9),
    kind=st.sampled_from(TAME),
    scale=st.integers(-15, 15),
    dead=st.sampled_from([0, 0.02, 5.0]),
    orthogonality=st.sampled_from([0, 0.5, 1]),
)
def test_codes_stay_finite_whatever_comes(seed, shape, n_codes, kind, scale, dead, orthogonality):
    z = torch.from_numpy(KINDS[kind](np.random.default_rng(seed), shape)).float() * 10.0**scale
    how = dict(dead_code_threshold=dead, orthogonality=orthogonality)
    vq, g = VectorQuantizer(n_codes, shape[1], **how), gen(seed)
    vq.kmeans_init(z, g)
    q = vq(z, g)
    assert q.z_q.shape == z.shape and q.s.shape == (shape[0], *shape[2:])
    assert q.s.dtype == torch.int64 and 0 <= q.s.min() and q.s.max() < n_codes
    assert all(v.isfinite().all() for v in (*vq.state_dict().values(), q.z_q, q.commitment))


@fuzz(
    150,
    seed=st.integers(0, 2**32),
    shape=st.lists(st.integers(0, 4), max_size=3),
    low=st.integers(-1, 0),
    high=st.integers(1, 9),
    n_codes=st.integers(1, 8),
    dtype=st.sampled_from(["i8", "i8", "i4", "u1", "f8", "c8", "?"]),
    ragged=st.sampled_from([False] * 9 + [True]),
)
def test_tokens_are_counted_or_refused(seed, shape, low, high, n_codes, dtype, ragged):
    with np.errstate(all="ignore"):
        s = np.random.default_rng(seed).integers(low, high, shape).astype(dtype)
    good = not ragged and s.dtype.kind in "iu"
    good = good and (not s.size or s.min() >= 0 and s.max() < n_codes)
    given = [[1], [1, 2]] if ragged else s  # of which PyTorch speaks in words of its own
    found = tried(lambda: codebook_usage(given, n_codes), "s must", "expected sequence")
    assert (found is not REFUSED) == bool(good)
    if found is not REFUSED:
        want = np.bincount(s.ravel().astype(int), minlength=n_codes)
        assert found[0].tolist() == want.tolist()
        assert 1 - 1e-9 <= found[1] <= n_codes + 1e-9
