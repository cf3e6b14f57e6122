"""Stage 2: masks, loss, transformer and iterative decoding against loops and closed forms."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats
from torch import nn
from torch.nn import functional as F

from fuzzing import fuzz
from hypothesis import strategies as st
from ncvq_nb.engine.runtime import seeded
from ncvq_nb.maskgit import (
    Dropout,
    SCHEDULES,
    Block,
    MaskGIT,
    MaskGITLoss,
    attention,
    categorical_sample,
    guided_logits,
    iterative_decoding,
    random_mask,
)
from tensors import gen, randn

GAMMA = dict(
    cosine=lambda r: math.cos(math.pi / 2 * r),
    linear=lambda r: 1 - r,
    square=lambda r: 1 - r * r,
    cubic=lambda r: 1 - r**3,
    sqrt=lambda r: 1 - math.sqrt(r),
)


def prior(n_tokens=9, n_codes=6, n_classes=3, **kw):
    with seeded(7):
        sizes = dict(code_dim=8, dim=16, depth=2, heads=2, head_dim=8)
        p = MaskGIT(n_tokens, n_codes, n_classes, **sizes, **kw)
    with torch.no_grad():
        for w in p.parameters():
            w += 0.3 * torch.randn(w.shape, generator=gen(w.numel()))
    return p.eval()


# Masks


def mask_by_loop(shape, name, g):
    r, scores = 1 - torch.rand(shape[0], 1, generator=g), torch.rand(shape, generator=g)
    mask = np.zeros(shape, bool)
    for i in range(shape[0]):
        n = min(max(1, math.ceil(GAMMA[name](r[i].item()) * shape[1])), shape[1])
        mask[i, scores[i].argsort()[:n]] = True
    return mask


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("shape", [(40, 11), (7, 1), (30, 40)])
def test_masks_against_a_loop(name, shape):
    got = random_mask(shape, SCHEDULES[name], gen(8))
    assert np.array_equal(got.numpy(), mask_by_loop(shape, name, gen(8)))


@fuzz(
    80,
    b=st.integers(1, 5),
    n=st.integers(1, 40),
    name=st.sampled_from(list(SCHEDULES)),
    seed=st.integers(0, 2**32),
)
def test_at_least_one_token_of_a_sequence_is_masked(b, n, name, seed):
    masked = random_mask((b, n), SCHEDULES[name], gen(seed))
    assert masked.shape == (b, n) and masked.dtype == torch.bool and (masked.sum(1) >= 1).all()


def test_the_mean_masked_share_of_the_cosine_is_two_over_pi():
    mask = random_mask((20000, 40), SCHEDULES["cosine"], gen())
    share = mask.float().mean().item()
    assert abs(share - (2 / math.pi + 0.5 / 40)) < 0.01  # rounding up adds half a token
    assert_allclose(mask.float().mean(0), share, atol=0.02)  # no place is preferred
    assert mask.sum(1).min() >= 1 and mask.sum(1).float().std() > 5  # an r for every row


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_fall_from_one_to_zero(name):
    g = SCHEDULES[name](torch.linspace(0, 1, 101))
    assert_allclose([g[0], g[-1]], [1, 0], atol=1e-6)
    assert (g.diff() <= 1e-7).all()


# Loss


@pytest.mark.parametrize("training", [False, True])
def test_the_loss_of_stage_2_is_cross_entropy_of_the_masked_tokens_only(training):
    p = prior()
    s, y = torch.randint(6, (20, 9), generator=gen()), torch.randint(3, (20,), generator=gen(1))
    got = MaskGITLoss(p, p_unconditional=0.4).train(training)(s, y, gen(4)).loss.item()
    g, c = gen(4), y.clone()
    masked = random_mask((20, 9), SCHEDULES["cosine"], g)
    if training:
        c[torch.rand(20, generator=g) < 0.4] = 3
    logits = p(torch.where(masked, 6, s), c).double().detach().numpy()
    nll = [
        math.log(np.exp(logits[i, j]).sum()) - logits[i, j, s[i, j]] for i, j in masked.nonzero()
    ]
    assert_allclose(got, np.mean(nll), rtol=1e-5)


def test_the_loss_does_not_see_masked_tokens_and_drops_classes_as_often_as_asked():
    p, y, seen = prior(), torch.randint(3, (400,), generator=gen(1)), []
    p.register_forward_pre_hook(lambda m, args: seen.append(args))
    s, objective = torch.randint(6, (400, 9), generator=gen()), MaskGITLoss(p, p_unconditional=0.2)
    objective.train()(s, y, gen(2))
    tokens, classes = seen[0]
    assert torch.equal(tokens == 6, random_mask((400, 9), SCHEDULES["cosine"], gen(2)))
    assert stats.binomtest(int((classes == 3).sum()), 400, 0.2).pvalue > 1e-3
    assert torch.equal(classes[classes != 3], y[classes != 3])
    objective.eval()(s, y, gen(2))
    assert torch.equal(seen[1][1], y)  # nothing is dropped in evaluation


# Transformer


def test_the_prior_sees_both_sides_the_class_and_the_place():
    p, s, y = prior(), torch.randint(6, (1, 9), generator=gen()), torch.tensor([0])
    base = p(s, y)
    assert base.shape == (1, 9, 6)
    for j in (0, 8):
        other = s.clone()
        other[0, j] = (s[0, j] + 1) % 6
        changed = (p(other, y) - base).abs().sum(-1)[0]
        assert changed.gt(1e-7).all()  # every place hears of every token
    assert not torch.allclose(p(s, torch.tensor([1])), base)
    assert not torch.allclose(p(s.flip(1), y).flip(1), base)


@pytest.mark.parametrize("n", [1, 41, 300])
def test_attention_is_pytorchs(n):
    q, k, v = randn(3, 2, 3, n, 16).double().requires_grad_()
    ours, theirs = attention(q, k, v), F.scaled_dot_product_attention(q, k, v)
    assert_allclose(ours.detach(), theirs.detach(), atol=1e-12)
    g = randn(2, 3, n, 16).double()
    for out in zip(*(torch.autograd.grad(a, [q, k, v], g) for a in (ours, theirs))):
        assert_allclose(*out, atol=1e-12)


def test_dropout_falls_on_attention_weights():
    (q, k), before = torch.zeros(2, 400, 2, 40, 4), torch.get_rng_state()
    weights = attention(q, k, torch.eye(40).expand(400, 2, 40, 40), 0.25, gen())
    assert torch.equal(torch.get_rng_state(), before)
    assert set(weights.unique().tolist()) == {0.0, float(torch.tensor(1 / 40) / 0.75)}
    assert abs(float((weights == 0).float().mean()) - 0.25) < 0.01


@pytest.mark.parametrize("n_tokens", [9, 300])
def test_dropout_is_drawn_from_the_generator_alone(n_tokens):
    "Everywhere it falls: on the attention's weights, its output, and twice in the network."
    with seeded(0):
        p = MaskGIT(n_tokens, 6, 3, dim=8, depth=1, heads=1, head_dim=4, dropout=0.5)
    s, y = torch.randint(6, (4, n_tokens), generator=gen()), torch.zeros(4, dtype=torch.long)
    objective, before = MaskGITLoss(p, p_unconditional=0), torch.get_rng_state()
    n = []
    for m in (p.blocks[0].drop, p.blocks[0].ff[2]):
        m.register_forward_hook(lambda m, args, out: n.append((out == 0).float().mean().item()))
    losses = [objective.train()(s, y, gen(i)).loss for i in (1, 1, 2)]
    losses[2].backward()
    assert losses[0] == losses[1] != losses[2]
    assert len(n) == 9 and np.allclose(n, 0.5, atol=0.25)
    objective.eval()(s, y, gen(1))
    assert not any(n[9:]) and torch.equal(torch.get_rng_state(), before)
    ours, theirs = Dropout(0.3)(torch.ones(9), gen(5)), torch.rand(9, generator=gen(5)) >= 0.3
    assert torch.equal(ours, theirs / torch.tensor(0.7))


def numpy_of(p):
    return p.detach().double().numpy()


def rms_norm(x, norm):
    scale = np.sqrt((x**2).mean(-1, keepdims=True) + np.finfo(np.float32).eps)
    return x / scale * numpy_of(norm.weight)


def test_a_block_is_softmax_of_scaled_products_and_a_network_of_gelu():
    with seeded(1):
        block = Block(12, 3, 5, 2.0, 0.0).eval()
        for norm in (block.norm1, block.norm2):
            torch.nn.init.uniform_(norm.weight, 0.5, 2)
    h = randn(2, 7, 12)
    x, out = numpy_of(h), np.zeros((2, 7, 15))
    qkv = rms_norm(x, block.norm1) @ numpy_of(block.qkv.weight).T
    for i in range(3):
        head = slice(i * 5, (i + 1) * 5)
        q, k, v = (qkv[..., j * 15 : (j + 1) * 15][..., head] for j in range(3))
        a = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(5))
        out[..., head] = a / a.sum(-1, keepdims=True) @ v
    x = x + out @ numpy_of(block.out.weight).T
    w1, w2 = block.ff[0], block.ff[3]
    f = rms_norm(x, block.norm2) @ numpy_of(w1.weight).T + numpy_of(w1.bias)
    f = f * stats.norm.cdf(f)  # GELU
    want = x + f @ numpy_of(w2.weight).T + numpy_of(w2.bias)
    assert_allclose(block(h).detach(), want, atol=1e-5)


def test_the_codebook_becomes_the_table_of_tokens():
    p, codes = prior(), randn(6, 8)
    p.init_from_codebook(codes)
    assert torch.equal(p.token.weight[:6], codes)
    assert_allclose(p.token.weight[6].detach(), codes.mean(0), atol=1e-6)


# Categorical sampling


@pytest.mark.parametrize("K", [3, 32, 1024])
def test_samples_follow_their_probabilities(K):
    p, n = randn(K).softmax(-1), 50_000
    p[K // 2] = 0
    often = torch.bincount(categorical_sample(p.expand(n, K), gen()), minlength=K)
    kept = p > 0
    assert often[~kept].sum() == 0
    expected = n * p[kept].double() / p[kept].double().sum()
    assert stats.chisquare(often[kept], expected).pvalue > 1e-3


def test_samples_reach_both_ends_of_rounding():
    p = torch.tensor([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    s = categorical_sample(p.expand(5000, 3, 4)).unique(dim=0)
    assert torch.equal(s, torch.tensor([[2, 0, 3]]))
    assert categorical_sample(torch.full((2000, 1024), 1e-30)).max() < 1024


# Iterative decoding


def sample_by_loop(log_p, u):
    "The first code whose cumulated probability exceeds u."
    below, k = 0.0, -1
    while below <= u and k < len(log_p) - 1:
        k += 1
        below += math.exp(log_p[k])
    return k


def decode_by_loop(p, s, y, g, *, steps=10, choice_temperature=4.0, temperature=1.0, **kw):
    s, (b, N), K = s.clone(), s.shape, p.mask_token
    w, gamma = kw.get("guidance_scale", 1.0), GAMMA[kw.get("schedule", "cosine")]
    n_masked = (s == K).sum(1).tolist()
    for t in range(1, steps + 1):
        logits = p(s, y).double()
        if w != 1:
            free = p(s, torch.full_like(y, p.no_class)).double()
            logits = free + w * (logits - free)
        u = torch.rand(b, N, 1, generator=g)[..., 0]
        if t < steps:
            gumbel = -torch.empty(b, N).exponential_(generator=g).clamp(min=1e-20).log()
        log_p = (logits / temperature).log_softmax(-1).numpy()
        for i in range(b):
            confidence = {}
            for j in (s[i] == K).nonzero()[:, 0].tolist():
                s[i, j] = k = sample_by_loop(log_p[i, j], u[i, j].item())
                if t < steps:
                    noise = choice_temperature * (1 - t / steps) * gumbel[i, j].item()
                    confidence[j] = log_p[i, j, k] + noise
            if t < steps:
                left = math.floor(gamma(t / steps) * n_masked[i] + 1e-9)
                for j in sorted(confidence, key=confidence.get)[:left]:
                    s[i, j] = K
    return s


@pytest.mark.parametrize(
    "kw",
    [
        {},
        dict(steps=1),
        dict(steps=3, choice_temperature=0.0),
        dict(steps=7, temperature=0.5),
        dict(guidance_scale=2.5),
        dict(guidance_scale=0.0),
        dict(steps=25),
        dict(steps=5, schedule="linear"),
        dict(schedule="sqrt"),
        dict(schedule="cubic"),
        dict(schedule="square"),
    ],
    ids=str,
)
def test_iterative_decoding_against_a_loop(kw):
    p, s, y = prior(), torch.full((8, 9), 6), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    s[4:6, 2:5] = torch.randint(6, (2, 3), generator=gen())  # some tokens are known
    s[7] = torch.randint(6, (9,), generator=gen())  # and here there is nothing to do
    got = iterative_decoding(p, s, y, gen(6), **kw)
    with torch.no_grad():
        want = decode_by_loop(p, s, y, gen(6), **kw)
    assert torch.equal(got, want)
    known = s != 6
    assert torch.equal(got[known], s[known]) and (got >= 0).all() and (got < 6).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_number_of_masked_tokens_after_every_step(name):
    p, seen, s = prior(40), [], torch.full((2, 40), 6)
    s[1, :17] = 0

    def note(m, args):
        seen.append(sorted((args[0] == 6).sum(1).tolist()))

    p.token.register_forward_pre_hook(note)
    iterative_decoding(p, s, torch.tensor([0, 3]), gen(), steps=10, schedule=name)
    share = SCHEDULES[name](torch.arange(10, dtype=torch.float64) / 10).tolist()
    assert seen == [[math.floor(g * n + 1e-6) for n in (23, 40)] for g in share]


@pytest.mark.parametrize("scale, calls", [(1, 4), (1.0, 4), (2.0, 8), (0.0, 8)])
def test_guidance_costs_a_second_pass_only_where_it_does_something(scale, calls):
    p, n, y = prior(), [], torch.tensor([0, 1, 2])
    p.token.register_forward_pre_hook(lambda m, args: n.append(0))
    iterative_decoding(p, torch.full((3, 9), 6), y, gen(), steps=4, guidance_scale=scale)
    assert len(n) == calls


def test_equal_rows_are_computed_once():
    with seeded(0):
        p = MaskGIT(6, 5, 3, code_dim=4, dim=8, depth=1).eval()
    s, y = torch.randint(6, (9, 6), generator=gen()).repeat(3, 1), torch.tensor([0, 1, 3])
    y, seen = y.repeat_interleave(9), []
    p.token.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    with torch.no_grad():
        assert_allclose(guided_logits(p, s, y, 1.0, first=True), p(s, y), atol=1e-6)
    iterative_decoding(p, torch.full((50, 6), 5), torch.arange(50) % 2, steps=3)
    assert seen == [27, 27, 2, 50, 50]


class Known(nn.Module):
    "A prior whose logits are given."

    mask_token, no_class = 4, 1

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, s, y):
        return self.logits.expand(len(s), -1, -1)


def decode(logits, n, **kw):
    p = Known(logits)
    return iterative_decoding(p, torch.full((n, 5), 4), torch.zeros(n, dtype=int), gen(), **kw)


def test_a_prior_that_knows_the_answer_generates_it():
    answer = torch.tensor([0, 3, 2, 1, 1])
    assert (decode(50.0 * F.one_hot(answer, 4).float(), 6) == answer).all()


def test_one_step_of_decoding_has_the_odds_of_the_prior():
    odds = np.array([0.1, 0.2, 0.3, 0.4])
    s = decode(torch.tensor(odds).log().expand(5, 4), 4000, steps=1)
    often = np.bincount(s.flatten(), minlength=4)
    assert stats.chisquare(often, odds * s.numel()).pvalue > 1e-3
