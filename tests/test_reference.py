"""The reference implementation computes the same as the library: views, terms and gradients."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from ncvq_nb.augment import AUGMENTATIONS
from ncvq_nb.bench import reference
from ncvq_nb.bench.workloads import bench_series
from ncvq_nb.engine.optimisers import adamw
from ncvq_nb.engine.runtime import seeded
from ncvq_nb.engine.stepper import Stepper
from ncvq_nb.maskgit import MaskGIT, MaskGITLoss
from ncvq_nb.ssl import barlow_twins_loss, vibcreg_loss, vicreg_loss
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=gen(seed), dtype=dtype)


def series(n=12, l=64):
    return torch.from_numpy(bench_series(n, l)[0])


def tokenizer_loss(ssl=None, x=None, warm=3, **settings):
    "An objective after some steps of training, so that no batch norm is at its beginning."
    with seeded(0):
        tokenizer = Tokenizer(1, x.shape[-1], dim=8, n_res_blocks=2, n_codes=8)
        o = TokenizerLoss(tokenizer, ssl=ssl, projector_dim=64, **settings)
    o = o.to(memory_format=torch.channels_last).train()
    o.init_codebook(x, gen())
    stepper = Stepper(o, adamw(o, 1e-3, 1e-5))
    for i in range(warm):
        stepper.step(i, [x], gen(i))
    return o


# Views


@pytest.mark.parametrize("l", [64, 65, 140])
def test_warped_views(l):
    x, w, g = randn(9, 2, l), round(0.4 * l), gen(3)
    start = torch.rand(9, 1, generator=g) * (l - w)
    factor = 0.9 + 1.1 * torch.rand(9, 1, generator=g)
    gain = 1 + 0.2 * torch.randn(9, 1, 1, generator=g)
    want = AUGMENTATIONS["warp"](x, gen(3))
    for i in range(9):
        view = reference.warp_one(x[i].numpy(), float(start[i]), float(factor[i]), float(gain[i]))
        assert_allclose(view, want[i], atol=2e-4)


@pytest.mark.parametrize("l", [64, 65, 140])
def test_sliced_views(l):
    x, g = randn(9, 2, l), gen(4)
    cuts = (torch.rand(9, 3, generator=g) * l).long().numpy()
    order = torch.rand(9, 4, generator=g).argsort(-1).numpy()
    want = AUGMENTATIONS["slice"](x, gen(4))
    for i in range(9):
        assert np.array_equal(reference.slice_one(x[i].numpy(), cuts[i], order[i]), want[i])


def test_views_are_of_the_same_distributions():
    x, rng = torch.ones(2000, 1, 20), np.random.default_rng(0)
    for name in ("warp", "gauss"):  # the gain, and the noise: both show in a constant
        ours = AUGMENTATIONS[name](x, gen())
        theirs = reference.reference_view(x, augment=name, rng=rng)
        assert theirs.shape == x.shape and theirs.dtype == x.dtype
        assert_allclose([theirs.mean(), theirs.std()], [ours.mean(), ours.std()], rtol=0.05)
    ramp = torch.arange(20.0).expand(4000, 1, 20)
    ours = AUGMENTATIONS["slice"](ramp, gen())
    theirs = reference.reference_view(ramp, augment="slice", rng=rng)
    assert_allclose(theirs.mean((0, 1)), ours.mean((0, 1)), atol=0.6)


# Tokenizer and losses


@pytest.mark.parametrize("l", [33, 64, 140])
def test_tokenizer(l):
    x = series(10, l)
    tok = tokenizer_loss(None, x).tokenizer.eval()
    plain = reference.reference_tokenizer(tok)
    assert all(p.is_contiguous() for p in plain.parameters())
    with torch.no_grad():
        s = tok.encode(x)
        assert torch.equal(plain.encode(x), s)
        assert_allclose(plain.decode(s), tok.decode(s), atol=2e-5)
        assert_allclose(plain(x), tok(x), atol=2e-5)


@pytest.mark.parametrize("b, d", [(6, 40), (40, 6)])
@pytest.mark.parametrize(
    "ours, plain",
    [
        (barlow_twins_loss, reference.reference_barlow),
        (vicreg_loss, reference.reference_vicreg),
        (vibcreg_loss, reference.reference_vibcreg),
    ],
)
def test_losses_and_gradients_in_float64(ours, plain, b, d):
    z = randn(2, b, d, dtype=torch.float64).requires_grad_()
    assert_allclose(plain(*z).item(), ours(*z).item(), rtol=1e-12)
    want = torch.autograd.grad(ours(*z), z)[0]
    assert_allclose(torch.autograd.grad(plain(*z), z)[0], want, rtol=1e-8, atol=1e-12)


# Training steps


def compare(ours, plain, data, plain_data, rtol):
    "Terms, and gradients parameter by parameter, in units of the largest of each parameter."
    a, b = ours(*data, generator=gen(7)), plain(*plain_data, generator=gen(7))
    assert list(a.terms) == list(b.terms)
    for k, v in a.named().items():
        assert_allclose(b.named()[k].item(), v.item(), rtol=rtol, err_msg=k)
    want = torch.autograd.grad(a.loss, ours.parameters())
    found = torch.autograd.grad(b.loss, plain.parameters())
    size = max(float(g.abs().max()) for g in want)
    for (name, _), g, h in zip(ours.named_parameters(), want, found):
        atol = rtol * max(float(g.abs().max()), 1e-3 * size)
        assert_allclose(h, g, atol=atol, err_msg=name)


def test_step_of_the_naive_tokenizer():
    x = series()
    o = tokenizer_loss(None, x)
    plain = reference.ReferenceLoss(o, None).train()
    compare(o, plain, (x,), (x,), 1e-3)
    moved = plain.tokenizer.state_dict()
    for k, v in o.tokenizer.state_dict().items():  # the codebook and the running statistics
        assert_allclose(moved[k], v, rtol=1e-4, atol=1e-5, err_msg=k)


@pytest.mark.parametrize("ssl", ["barlow", "vicreg", "vibcreg"])
def test_step_with_self_supervision(ssl):
    "With the images' batch norms held still: they see both views in ours, one at a time here."
    x = series()
    views = AUGMENTATIONS["warp"](x, gen(1))

    def view(x, generator=None):
        return views

    o = tokenizer_loss(ssl, x, augment="warp", warm=30)
    o.augment = view
    plain = reference.ReferenceLoss(o, ssl, view).train()
    for m in [*o.modules(), *plain.modules()]:
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    compare(o, plain, (x,), (x,), 5e-3 if ssl == "vibcreg" else 1e-3)


def test_step_of_the_prior():
    x, y = series(), torch.arange(12) % 2
    tok = tokenizer_loss(None, x).tokenizer.eval()
    with seeded(1):
        o = MaskGITLoss(MaskGIT(tok.n_tokens, 8, 2, code_dim=8, dim=32, depth=2)).train()
    with torch.no_grad():
        s = tok.encode(x)
    plain = reference.ReferencePriorLoss(copy.deepcopy(o), reference.reference_tokenizer(tok))
    plain.train()
    assert not plain.tokenizer[0].training
    assert len([*plain.parameters()]) == len([*o.parameters()])
    compare(o, plain, (s, y), (x, y), 1e-4)
