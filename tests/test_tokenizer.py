"""Stage 1: token grids against the thesis, and the loss against its terms, made one by one."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ncvq_nb.augment import gaussian_noise
from ncvq_nb.engine.runtime import seeded
from ncvq_nb.ssl import SSL_LOSSES
from ncvq_nb.tokenizer import ObservedLoss, Tokenizer, TokenizerLoss
from tensors import gen, randn

N_TOKENS = {96: 60, 500: 75, 152: 45, 128: 40, 1024: 40, 945: 70, 140: 40, 512: 40, 398: 60}
N_TOKENS |= {70: 45, 65: 40}


@pytest.mark.parametrize("length, n_tokens", N_TOKENS.items())
def test_token_grids_of_the_thesis(length, n_tokens):
    assert Tokenizer(1, length, dim=8, n_res_blocks=1).n_tokens == n_tokens


def test_the_encoder_has_the_parameters_of_the_thesis():
    tokenizer = Tokenizer(1, 140)
    assert sum(p.numel() for p in tokenizer.bands[0].encoder.parameters()) == 265_792


def test_the_codebook_is_placed_in_bounded_memory():
    "Long series pass the encoder a few at a time; short ones all at once, as ever."
    x, seen = randn(20, 1, 70), []

    def codebook(**kw):
        with seeded(0):
            objective = TokenizerLoss(Tokenizer(1, 70, dim=8, n_res_blocks=0, n_codes=6))
        encoder = objective.tokenizer.bands[0].encoder
        encoder.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
        largest = []
        for m in encoder:
            m.register_forward_hook(lambda m, args, out: largest.append(out.numel()))
        objective.init_codebook(x, gen(), **kw)
        assert max(largest) <= 2 * kw.get("max_values", 2**27)  # rows are padded
        return objective.tokenizer.codebook

    at_once, n_values = codebook(), Tokenizer(1, 70, dim=8).bands[0].n_values
    assert seen == [20] and torch.equal(codebook(max_values=20 * n_values), at_once)
    seen.clear()
    in_parts = codebook(max_values=7 * n_values)
    assert seen == [7, 7]  # of 14 series: their vectors are bounded too
    assert in_parts.isfinite().all() and not torch.equal(in_parts, at_once)


@pytest.mark.parametrize("weight, decoded", [(0, 6), (0.1, 12)])
def test_a_second_view_without_weight_is_not_decoded(weight, decoded):
    with seeded(0):
        tok = Tokenizer(1, 32, dim=8, n_res_blocks=1)
        how = dict(ssl="barlow", augment="gauss", projector_dim=16)
        objective = TokenizerLoss(tok, **how, aug_weight=weight)
    objective.init_codebook(x := randn(6, 1, 32), gen())
    seen = []
    tok.bands[0].decoder.register_forward_hook(lambda module, given, made: seen.append(len(made)))
    assert ("augmented" in objective(x, gen()).terms) == (weight > 0)
    assert seen == [decoded]


@pytest.mark.parametrize("weight", [0, 0.1])
@pytest.mark.parametrize("ssl", SSL_LOSSES)
def test_a_view_that_is_no_number_is_told_by_its_series_alone(ssl, weight):
    def spoil(x, generator):
        return torch.where(x[..., :1] == x_bad, float("nan"), x)

    with seeded(0):
        tok = Tokenizer(1, 32, dim=8, n_res_blocks=1)
        how = dict(ssl=ssl, augment=spoil, projector_dim=16, aug_weight=weight)
        objective = TokenizerLoss(tok, **how)
    objective.init_codebook(x := randn(6, 1, 32), gen())
    x_bad, found = x[4, 0, 0], []
    objective.eval()
    for i in range(len(x)):
        losses = objective(x[i : i + 1], gen())
        found.append(bool(losses.loss.isfinite()))
    assert found == [i != 4 for i in range(6)]


def mse(a, b):
    return ((a.detach().double().numpy() - b.detach().double().numpy()) ** 2).mean()


def spectral(a, b, windows):
    "By another way: normalised transforms in double precision."
    found = []
    for n in windows:
        how = dict(window=torch.hann_window(n).double(), normalized=True, return_complex=True)
        parts = (v.detach().double().flatten(0, 1) for v in (a, b))
        u, v = (torch.stft(s, n, n // 4, **how).abs() for s in parts)
        floor = torch.full_like(u, 0.05)
        found.append((torch.hypot(u, floor).log() - torch.hypot(v, floor).log()).abs())
    return np.mean([d.mean() for d in found])


def test_samples_that_were_not_observed_have_no_part_in_the_spectral_term():
    with seeded(0):
        objective = ObservedLoss(Tokenizer(1, 40, dim=8, n_res_blocks=1), spectral_weight=1.0)
    objective.init_codebook(x := randn(6, 1, 40), gen())
    seen, made = torch.ones_like(x, dtype=torch.bool), torch.zeros(6, 1, 40, requires_grad=True)
    seen[..., 10:30] = False
    terms = [objective._spectral(torch.where(seen, x, v), made, seen) for v in (0.0, 1e6)]
    assert torch.equal(*terms) and terms[0] > 0
    assert objective._spectral(x, x.clone(), seen) == 0
    assert objective(x, seen, gen()).terms["spectral"] > 0


@pytest.mark.parametrize("ssl", [None, *SSL_LOSSES])
def test_the_loss_of_stage_1_is_the_sum_of_its_documented_terms(ssl):
    with seeded(0):
        tok = Tokenizer(2, 33, dim=8, n_res_blocks=1, n_codes=6)
        settings = dict(augment="gauss", commitment=0.5, projector_dim=16, aug_weight=0.3)
        objective = TokenizerLoss(tok, ssl=ssl, spectral_weight=0.2, **settings)
    x = randn(6, 2, 33)
    objective.init_codebook(x, gen())
    objective.eval()  # nothing moves, so that the terms can be made again
    losses = objective(x, gen(3))
    (band,), u, (z,) = tok.bands, tok.stft(x), tok.latents(x)
    q = band.vq(z)
    u_hat = band.decoder(q.z_q)
    want = dict(
        time=mse(tok.stft.inverse(u_hat, 33), x),
        stft=mse(u_hat, u),
        spectral=0.2 * spectral(x, tok.stft.inverse(u_hat, 33), windows=(8, 16, 32)),
        commitment=0.5 * mse(z, band.vq.lookup(q.s)),
    )
    if ssl:
        view = gaussian_noise(x, gen(3))
        (z2,) = tok.latents(view)
        v_hat = band.decoder(z2)
        reconstruction = mse(tok.stft.inverse(v_hat, 33), view) + mse(v_hat, tok.stft(view))
        want |= dict(augmented=0.3 * reconstruction, ssl=objective.heads["0"](q.z_q, z2)[0].item())
    assert losses.terms.keys() == want.keys()
    for k, v in want.items():
        assert_allclose(losses.terms[k].item(), v, rtol=1e-3, err_msg=k)
    assert_allclose(losses.loss.item(), sum(want.values()), rtol=1e-3)
