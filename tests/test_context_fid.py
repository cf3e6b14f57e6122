"""TS2Vec and context-FID: the encoder against PyTorch's convolutions, the loss against loops"""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional as F

from ncvq_nb.engine.progress import progress_bar
from ncvq_nb.evaluation.context_fid import TS2VecEncoder, context_fid, context_fid_runs
from ncvq_nb.evaluation.context_fid import contrast, cut
from ncvq_nb.evaluation.context_fid import encoder_steps, hierarchical_loss, represent
from ncvq_nb.evaluation.context_fid import train_encoder, two_crops
from ncvq_nb.metrics import frechet_distance
from toys import global_state, says, walks

SMALL = dict(width=6, n_features=10, depth=4)
BAR = progress_bar(1, "TS2Vec", shown=False)


def encoder(n_channels=2, seed=0, **sizes):
    return TS2VecEncoder(n_channels, torch.Generator().manual_seed(seed), **{**SMALL, **sizes})


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_torch(net, x):
    "The encoder in the words of torch.nn.functional, on (n, channels, time)."

    def conv(c, h):
        w, d = c.weight.transpose(1, 2), c.dilation
        return F.conv1d(h, w, c.bias[:, 0], padding=d, dilation=d)

    h = F.conv1d(x, net.first[:, :, None], net.b_first[:, 0])
    for i, (a, b) in enumerate(net.blocks):
        assert a.dilation == b.dilation == 2**i
        change = conv(b, F.gelu(conv(a, F.gelu(h))))
        last = i == len(net.blocks) - 1
        h = change + (F.conv1d(h, net.skip[:, :, None], net.b_skip[:, 0]) if last else h)
    return h


@pytest.mark.parametrize("length", [2, 8, 24])
def test_the_encoder_is_that_of_torch(length):
    net, x = encoder(), drawn(5, 2, length)
    y, expected = net(x), by_torch(net, x)
    assert_allclose(y.detach(), expected.detach(), atol=1e-5)
    slopes = [torch.autograd.grad(z.square().sum(), [*net.parameters()]) for z in (y, expected)]
    for mine, theirs in zip(*slopes):
        assert_allclose(mine, theirs, atol=1e-4 * float(theirs.abs().max() + 1))
    assert_allclose(represent(net, x), expected.detach().amax(2), atol=1e-5)


def test_hidden_steps_are_not_seen():
    net, x = encoder(), drawn(4, 2, 12)
    visible = torch.ones(4, 12, dtype=bool)
    assert_array_equal(net(x, visible).detach(), net(x).detach())
    visible[:, 5] = False
    changed = x.clone()
    changed[:, :, 5] += 10
    assert_allclose(net(x, visible).detach(), net(changed, visible).detach(), atol=1e-6)
    assert (net(x) - net(changed)).abs().max() > 0.1


def loop_contrast(a, b):
    "The mean over both rows of every pair, from the definition."
    z, m, out = [*a, *b], len(a), []
    for i in range(2 * m):
        others = [math.exp(z[i] @ z[j]) for j in range(2 * m) if j != i]
        out.append(-math.log(math.exp(z[i] @ z[(i + m) % (2 * m)]) / sum(others)))
    return np.mean(out)


@pytest.mark.parametrize("n, length", [(3, 8), (1, 5), (4, 1), (2, 24)])
def test_the_loss_is_what_loops_find(n, length):
    a, b = 0.7 * drawn(2, n, 3, length).double().numpy()  # (windows, features, time)
    tensors = [torch.from_numpy(z) for z in (a, b)]
    scales = []
    x, y = a, b
    while True:
        steps = range(x.shape[2])
        loss = 0.5 * np.mean([loop_contrast(x[:, :, t], y[:, :, t]) for t in steps])
        if len(steps) > 1:
            loss += 0.5 * np.mean([loop_contrast(x[i].T, y[i].T) for i in range(n)])
        scales.append(loss)
        if len(steps) == 1:
            break
        half = len(steps) // 2
        x, y = (z[:, :, : 2 * half].reshape(n, 3, half, 2).max(3) for z in (x, y))
    assert_allclose(hierarchical_loss(*tensors), np.mean(scales), rtol=1e-9)
    first = (z[None, :, :, 0] for z in tensors)
    assert_allclose(contrast(*first), loop_contrast(a[:, :, 0], b[:, :, 0]), rtol=1e-9)


@pytest.mark.parametrize("length", [2, 3, 24])
def test_crops_overlap_and_stay_inside(length):
    rng, x = np.random.default_rng(0), torch.arange(float(length)).expand(6, 1, length)
    seen = set()
    for _ in range(300):
        (first_a, n_a), (first_b, n_b), overlap = two_crops(length, 6, rng)
        for first, n in ((first_a, n_a), (first_b, n_b)):
            assert overlap <= n and (first >= 0).all() and (first + n <= length).all()
        same = cut(x, first_a, n_a)[:, :, -overlap:], cut(x, first_b, n_b)[:, :, :overlap]
        assert_array_equal(*same)
        seen.add(int(overlap))
    assert seen == set(range(2, length + 1))


def test_the_weights_are_the_mean_of_all_on_the_way():
    "AdamW's first step is 0.001 long; the mean of start and first step is half of that away."
    X = drawn(20, 2, 8)
    start, one = ([*trained(X, n).parameters()] for n in (0, 1))
    moved = max((p - q).abs().max().item() for p, q in zip(start, one))
    assert 0.49e-3 < moved < 0.51e-3


def trained(X, n_steps, seed=0, **sizes):
    return train_encoder(X, seed, n_steps=n_steps, bar=BAR, **{**SMALL, **sizes})


def test_training_depends_on_its_seed_alone():
    before, X = global_state(), drawn(20, 2, 8)
    one, again, other = (trained(X, 3, seed) for seed in (0, 0, 1))
    assert global_state() == before
    assert_array_equal(represent(one, X), represent(again, X))
    assert np.abs(represent(one, X) - represent(other, X)).max() > 1e-3


def test_the_score_is_the_frechet_distance_of_representations():
    real, new = (drawn(30, 2, 8, seed=i).numpy() for i in range(2))
    how = dict(n_steps=1, device=torch.device("cpu"), bar=BAR, **SMALL)
    found = context_fid_runs(real, [new, real], [5, 6], **how)
    for run, seed in enumerate((5, 6)):
        net = trained(torch.from_numpy(real), 1, seed)
        Z = [represent(net, torch.from_numpy(X)).astype(float) for X in (real, new)]
        moments = [m for E in Z for m in (E.mean(0), np.cov(E.T))]
        assert_allclose(found[0, run], frechet_distance(*moments), rtol=1e-6)
    assert_allclose(found[1], 0, atol=1e-6)


def test_units_and_global_generators_do_not_matter():
    real, new = (walks(12, 6, 2, seed=i)[0] for i in range(2))
    before = global_state()
    one, two = (context_fid(a * real, a * new, n_runs=1, n_steps=1) for a in (1, 8))
    assert one.shape == (1,) and one > 0
    assert_array_equal(one, two)
    assert global_state() == before


def test_settings():
    assert encoder_steps(np.zeros(100_000)) == 200 and encoder_steps(np.zeros(100_001)) == 600
    real, _ = walks(12, 6, 1)
    for how, parts in (
        (dict(n_runs=0), ("n_runs must be", "0")),
        (dict(n_steps=0), ("n_steps must be", "0")),
        (dict(random_state="x"), ("random_state",)),
        (dict(device="nowhere"), ("device", "nowhere")),
    ):
        with says(*parts):
            context_fid(real, real, **{**dict(n_runs=1, n_steps=1), **how})
