"""Sampling and evaluation of the reference implementation give what the library's give."""

from functools import partial

import pytest
import torch
from numpy.testing import assert_allclose

from conftest import THOROUGH
from ncvq_nb.bench import reference_sampling
from ncvq_nb.bench.reference import reference_tokenizer
from ncvq_nb.bench.workloads import bench_series
from ncvq_nb.engine.runtime import derived_seed, seeded
from ncvq_nb.evaluation.fcn import FCNClassifier, fcn_network
from ncvq_nb.maskgit import MaskGIT, iterative_decoding
from ncvq_nb.tokenizer import Tokenizer


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("two_passes", [True, False])
def test_decoding_follows_the_same_law(two_passes):
    with seeded(0):
        prior = MaskGIT(2, 3, 2, code_dim=8, dim=16, depth=1).eval()
    with torch.no_grad():
        for q in prior.parameters():
            q.add_(0.3 * torch.randn(q.shape, generator=gen(q.numel())))  # far from uniform
    n, atol = (20_000, 0.02) if THOROUGH else (5_000, 0.04)  # five standard errors
    masked, y = torch.full((n, 2), 3), torch.full((n,), 1)

    def shares(s):
        return torch.bincount(3 * s[:, 0] + s[:, 1], minlength=9).double() / n

    settings = dict(steps=2, choice_temperature=1.0)
    ours = shares(iterative_decoding(prior, masked, y, gen(), **settings))
    settings["two_passes"] = two_passes
    theirs = shares(reference_sampling.reference_decoding(prior, masked, y, gen(1), **settings))
    assert ours.max() > 0.2
    assert_allclose(theirs, ours, atol=atol)


def test_passes_of_decoding_and_tokens_that_are_given():
    with seeded(0):
        prior = MaskGIT(5, 3, 2, code_dim=8, dim=16, depth=1).eval()
    seen = []
    prior.register_forward_hook(lambda m, args, out: seen.append(int((args[0] == 3).sum(1).max())))
    s = torch.tensor([[3, 3, 3, 3, 3], [3, 1, 3, 2, 3]])
    decode = partial(reference_sampling.reference_decoding, prior, s, steps=4)
    out = decode(torch.tensor([0, 1]), gen(), two_passes=True)
    assert len(seen) == 8 and out.max() < 3
    assert out[1, [1, 3]].tolist() == [1, 2] and int((s == 3).sum()) == 8
    assert seen[::2] == [5, 4, 3, 1]  # 5, then 5 cos(π t / 8) rounded down
    decode(torch.tensor([2, 2]), gen(), two_passes=False)
    assert len(seen) == 12


def test_features():
    x = torch.from_numpy(bench_series(12, 64)[0])
    with seeded(0):
        tok = Tokenizer(1, 64, dim=8, n_res_blocks=2, n_codes=8).eval()
    tok.bands[0].vq.kmeans_init(tok.latents(x)[0])
    plain = reference_tokenizer(tok)
    with torch.no_grad():
        want = tok.features(x)
    assert_allclose(reference_sampling.reference_features(plain, x, batch_size=5), want, atol=1e-5)


def test_classifier():
    X, y = bench_series(8, 32)  # one batch is all there is, in whatever order
    settings = dict(max_steps=6, tol=0, batch_size=8, precision="float32", device="cpu")
    fcn = FCNClassifier(**settings).fit(X, y)
    net = fcn_network(1, 2, gen(derived_seed(0)))
    losses = reference_sampling.reference_fcn(net, X, y, steps=6, batch_size=8)
    assert_allclose(losses, fcn.losses_, rtol=1e-3)
