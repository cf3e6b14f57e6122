"""Every formula of both stages against a reference that was written, or proved, somewhere else."""
import json, math, warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import signal, stats
from torch import nn
from torch.nn import functional as F

from ncvq_nb import augment as aug
from ncvq_nb import maskgit, training
from ncvq_nb.autoencoder import Decoder, Encoder, Pointwise, halvings
from ncvq_nb.maskgit import SCHEDULES, MaskGIT, MaskGITLoss, fill, random_mask
from ncvq_nb.ssl import IterNorm, SSLHead, barlow_twins_loss, cross_square_sum, pool, vibcreg_loss, vicreg_loss
from ncvq_nb.stft import STFT
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from ncvq_nb.training import History, Order, cosine_lr, evaluate_loss, load_checkpoint, save_checkpoint, train
from ncvq_nb.vq import VectorQuantizer, codebook_usage


def gen(seed=0): return torch.Generator().manual_seed(seed)
def randn(*shape, seed=0, dtype=torch.float32): return torch.randn(*shape, generator=gen(seed), dtype=dtype)


# stft

def scipy_stft(x, n_fft, hop):
    "(b, c, l) -> (b, 2c, f, t): SciPy divides by the sum of the window and continues series at the ends in its own way, so both are done here."
    b, c, l = x.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    window = signal.get_window("hann", n_fft)  # periodic
    _, _, u = signal.stft(padded, window=window, nperseg=n_fft, noverlap=n_fft - hop, boundary=None, padded=False)
    u = u[..., :1 + l // hop] * window.sum()  # (b, c, f, t)
    return np.stack([u.real, u.imag], 2).reshape(b, 2 * c, n_fft // 2 + 1, -1)


@pytest.mark.parametrize("n_fft, hop", [(8, 2), (4, 1), (16, 4), (8, 1), (8, 3), (8, 4), (32, 8)])
def test_stft_is_scipys(n_fft, hop):
    stft = STFT(n_fft, hop)
    for l in {n_fft, n_fft + 1, n_fft + 3, 65, 96}:
        x = randn(3, 2, l)
        assert_allclose(stft(x).numpy(), scipy_stft(x.numpy(), n_fft, hop), atol=2e-5)


@pytest.mark.parametrize("l", [*range(8, 65), 127, 255, 945])
def test_stft_comes_back_at_every_length(l):
    stft = STFT(8)
    for c in (1, 3):
        x = randn(2, c, l, seed=l)
        u = stft(x)
        assert u.shape == (2, 2 * c, 5, stft.n_frames(l)) and u.dtype == torch.float32
        assert_allclose(stft.inverse(u, l), x, atol=2e-6)


@pytest.mark.parametrize("n_fft, hop", [(8, 2), (4, 2), (16, 4), (8, 3), (12, 5)])
def test_inverse_stft_is_torchs_on_pictures_of_no_series(n_fft, hop):
    stft = STFT(n_fft, hop)
    for l in range(n_fft, n_fft + 25):
        u = randn(2, 6, n_fft // 2 + 1, stft.n_frames(l), seed=l)
        z = torch.complex(u[:, 0::2], u[:, 1::2]).flatten(0, 1)
        long = z if n_fft + hop * (z.shape[-1] - 1) - n_fft // 2 >= l else F.pad(z, (0, 1))
        want = torch.istft(long, n_fft, hop, window=torch.hann_window(n_fft), center=True, length=l)
        got = stft.inverse(u, l)
        assert got.shape == (2, 3, l)
        assert_allclose(got.flatten(0, 1), want, atol=2e-5, err_msg=f"length {l}")


def test_stft_channels_and_series_do_not_mix():
    x, stft = randn(3, 2, 33), STFT()
    u = stft(x)
    for i in range(3):
        for c in range(2): assert_allclose(u[i:i + 1, 2 * c:2 * c + 2], stft(x[i:i + 1, c:c + 1]), atol=1e-6)


def test_stft_gradient_against_finite_differences():
    stft, l = STFT(), 13
    target, x = randn(1, 2, 5, stft.n_frames(l), seed=1), randn(1, 1, l)
    def f(x):
        u = stft(x)
        return (u * target).sum() + (stft.inverse(u * u.abs(), l) ** 2).sum()
    leaf = x.clone().requires_grad_()
    f(leaf).backward()
    for i in range(l):
        d = torch.zeros_like(x)
        d[..., i] = 1e-2
        slope = (f(x + d).double() - f(x - d).double()).item() / 2e-2
        assert_allclose(leaf.grad[0, 0, i].item(), slope, rtol=2e-2, atol=5e-2)
    leaf = x.clone().requires_grad_()
    (stft.inverse(stft(leaf), l) * randn(1, 1, l, seed=2)).sum().backward()
    assert_allclose(leaf.grad, randn(1, 1, l, seed=2), atol=1e-5)  # the way there and back is the identity, so is its Jacobian


@pytest.mark.parametrize("kw", [dict(n_fft=7), dict(n_fft=1), dict(n_fft=0), dict(n_fft=8., ), dict(n_fft="8"), dict(hop_length=0), dict(hop_length=5), dict(hop_length=1.5)])
def test_stft_refuses_bad_windows(kw):
    with pytest.raises(ValueError, match=next(iter(kw))): STFT(**kw)


# augmentations

NAMED = {"amplitude_resize": aug.amplitude_resize, "gaussian_noise": aug.gaussian_noise, "flip": aug.flip, "slope": aug.slope, "window_warp": aug.window_warp,
         "slice_and_shuffle": aug.slice_and_shuffle, "stft_mask": aug.stft_mask, "stft_noise": aug.stft_noise, **{f"{k} (setting)": v for k, v in aug.AUGMENTATIONS.items()}}
every_augmentation = pytest.mark.parametrize("f", NAMED.values(), ids=NAMED.keys())


@every_augmentation
@pytest.mark.parametrize("shape", [(5, 1, 16), (4, 3, 65), (1, 2, 33), (3, 1, 151)])
def test_augmentations_keep_shape_and_input_and_follow_their_generator_only(f, shape):
    x, before = randn(*shape), torch.get_rng_state()
    copy = x.clone()
    a, b, other = f(x, gen(1)), f(x, gen(1)), f(x, gen(2))
    assert a.shape == x.shape and a.dtype == x.dtype and torch.isfinite(a).all()
    assert torch.equal(a, b) and torch.equal(x, copy) and torch.equal(before, torch.get_rng_state())
    assert shape[0] == 1 or not torch.equal(a, other)


@every_augmentation
def test_augmentations_draw_anew_for_every_series(f):
    x = randn(1, 2, 64).expand(64, -1, -1).contiguous()
    views = f(x, gen())
    assert len(torch.unique(views, dim=0)) > (1 if f is aug.flip else 32)  # a block of the STFT may be too small to hide anything
    changed = x.clone()
    changed[7] = randn(2, 64, seed=9)
    others = torch.arange(64) != 7
    assert_allclose(f(changed, gen())[others], views[others], atol=1e-6)  # no series looks at another


@every_augmentation
def test_augmentations_pass_gradients(f):
    x = randn(3, 1, 32).requires_grad_()
    f(x, gen()).square().sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


def test_window_warp_is_interpolation_at_the_warped_places():
    for l, window, low, high in [(50, 0.4, 0.9, 2.0), (65, 0.4, 0.9, 2.0), (33, 0.2, 0.5, 0.9), (16, 0.9, 1.5, 3.0)]:
        x = randn(6, 2, l)
        g, w = gen(3), round(window * l)
        a = torch.rand(6, 1, generator=g).double().numpy() * (l - w)
        s = low + (high - low) * torch.rand(6, 1, generator=g).double().numpy()
        got = aug.window_warp(x, gen(3), window=window, low=low, high=high).numpy()
        for i in range(6):
            a_i, s_i = a[i, 0], s[i, 0]
            # time of the longer series at which each sample of the original is heard, and its inverse
            knots_new, knots_old = [0, a_i, a_i + s_i * w, l + (s_i - 1) * w], [0, a_i, a_i + w, l]
            places = np.interp(np.linspace(0, l - 1 + (s_i - 1) * w, l), knots_new, knots_old).clip(0, l - 1)
            for c in range(2): assert_allclose(got[i, c], np.interp(places, np.arange(l), x[i, c].numpy()), atol=1e-4)


def test_window_warp_has_the_documented_parameters():
    l = 100
    ramp = torch.arange(float(l)).expand(4000, 1, l).contiguous()  # a ramp shows the places that are read
    places = aug.window_warp(ramp, gen())[:, 0]
    assert_allclose(places[:, 0], 0, atol=1e-4)
    assert_allclose(places[:, -1], l - 1, atol=0.5)  # a window that touches the end is a half sample short there
    steps = places.diff(dim=1)
    assert (steps >= -1e-4).all()
    outside = steps[:, 1][(steps[:, 1] - steps[:, -4]).abs() < 1e-3]  # where the window touches neither end
    assert len(outside) > 3000
    s = (outside * (l - 1) - (l - 1)) / 40 + 1  # a step outside is (l - 1 + (s - 1) w) / (l - 1)
    assert stats.kstest(s.numpy(), stats.uniform(0.9, 1.1).cdf).pvalue > 1e-3


def test_slice_and_shuffle_is_cutting_and_joining():
    b, l, n = 40, 37, 4
    x = randn(b, 3, l)
    g = gen(5)
    cuts, order = (torch.rand(b, n - 1, generator=g) * l).long().numpy(), torch.rand(b, n, generator=g).argsort(-1).numpy()
    got = aug.slice_and_shuffle(x, gen(5), n_segments=n).numpy()
    for i in range(b):
        pieces = np.split(x[i].numpy(), np.sort(cuts[i]), axis=-1)
        assert np.array_equal(got[i], np.concatenate([pieces[j] for j in order[i]], -1))


def test_slice_and_shuffle_statistics():
    l, b = 20, 6000
    i = torch.arange(float(l)).expand(b, 1, l).contiguous()
    view = aug.slice_and_shuffle(i, gen())[:, 0]
    assert torch.equal(view.sort(-1).values, i[:, 0])  # nothing lost, nothing twice
    first = view[:, 0]
    # the first piece (edge 0) leads in at least a quarter of the cases; the rest begins at a uniform cut
    breaks = (view.diff(dim=-1) != 1).sum(-1)
    assert breaks.max() == 3 and breaks.min() == 0
    untouched = (breaks == 0).float().mean().item()
    assert 1 / 24 < untouched < 0.15  # the identity among 24 orders, and what empty pieces add
    assert 0.2 < (first == 0).float().mean() < 0.35


def test_statistics_of_the_simple_augmentations():
    n, one = 20000, torch.ones(20000, 1, 4)
    factor = aug.amplitude_resize(one, gen(), sigma=0.2)
    assert torch.equal(factor[..., 0], factor[..., 3])
    assert stats.kstest(factor[:, 0, 0].numpy(), stats.norm(1, 0.2).cdf).pvalue > 1e-3
    noise = aug.gaussian_noise(one, gen(), sigma=0.05) - 1
    assert stats.kstest(noise.flatten()[:n].numpy(), stats.norm(0, 0.05).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noise[:, 0, 0], noise[:, 0, 1])[0, 1]) < 0.03
    flipped = aug.flip(one, gen(), p=0.3)[:, 0]
    assert set(flipped.unique().tolist()) == {-1., 1.} and stats.binomtest(int((flipped[:, 0] < 0).sum()), n, 0.3).pvalue > 1e-3
    line = aug.slope(torch.zeros(n, 1, 9), gen(), sigma=0.005)[:, 0]
    assert (line[:, 0] == 0).all() and line.diff(n=2, dim=-1).abs().max() < 1e-6
    assert stats.kstest(line[:, 1].numpy(), stats.norm(0, 0.005).cdf).pvalue > 1e-3
    rough = STFT(8)(aug.stft_noise(randn(1, 1, 16), gen(), sigma=0., n_fft=8))
    assert_allclose(rough, STFT(8)(randn(1, 1, 16)), atol=1e-5)  # no noise, no change


def test_stft_mask_silences_a_block_of_the_documented_size():
    b, l, n_fft = 200, 96, 16
    x, stft, g = randn(b, 1, l), STFT(n_fft), gen(2)
    u, inside = stft(x), []
    for n in u.shape[2:]:
        width = 0.25 * n * torch.rand(b, 1, generator=g)
        start = torch.rand(b, 1, generator=g) * (n - width)
        inside.append([[start[i] <= k < start[i] + width[i] for k in range(n)] for i in range(b)])
    block = torch.tensor(inside[0])[:, :, None] & torch.tensor(inside[1])[:, None]
    z = torch.complex(u[:, 0], u[:, 1]).masked_fill(block, 0)
    want = torch.istft(z, n_fft, n_fft // 4, window=torch.hann_window(n_fft), length=l)
    assert_allclose(aug.stft_mask(x, gen(2), n_fft=n_fft)[:, 0], want, atol=2e-5)
    assert block.any() and block.float().mean((1, 2)).max() < 0.1


# autoencoder

@pytest.mark.parametrize("l", [16, 17, 31, 33, 64, 65, 70, 96, 140, 398, 500, 945, 1024, 4096])
def test_encoder_and_decoder_sizes(l):
    stft = STFT()
    t = stft.n_frames(l)
    widths = halvings(t)
    rate = max(1, round(l / 2 / 8))
    n = max(1, int(math.log2(rate)))  # the thesis' number of halvings
    want = t
    for _ in range(len(widths) - 1): want //= 2
    assert widths[-1] == want and (len(widths) - 1 == n or widths[-1] in range(8, 16) or l < 40)
    if l <= 140:
        u = randn(2, 2, 5, t)
        e, d = Encoder(2, widths, dim=8, n_res_blocks=1).eval(), Decoder(2, widths, dim=8, n_res_blocks=1).eval()
        assert e(u).shape == (2, 8, 5, widths[-1]) and d(e(u)).shape == u.shape


@pytest.mark.parametrize("l, tokens, encoder", [(96, 60, None), (500, 75, None), (152, 45, None), (128, 40, None), (1024, 40, None), (945, 70, None), (140, 40, 265_792),
                                               (512, 40, None), (398, 60, None), (70, 45, None), (65, 40, None)])
def test_token_grids_of_the_thesis(l, tokens, encoder):
    tok = Tokenizer(1, l, dim=64 if encoder else 8, n_res_blocks=4 if encoder else 1)
    assert tok.n_tokens == tokens
    if encoder: assert sum(p.numel() for p in tok.encoder.parameters()) == encoder


def test_the_encoder_continues_the_edge():
    with training.seeded(0): enc = Encoder(2, [20, 10, 5], dim=3)
    h = randn(2, 2, 5, 20)
    by_hand = torch.cat([h[..., :1], h, h[..., -1:]], -1)
    by_hand = torch.cat([by_hand[..., :1, :], by_hand, by_hand[..., -1:, :]], -2)
    assert torch.equal(enc[0](h), by_hand)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pointwise_is_a_convolution(layout):
    with training.seeded(0): point = Pointwise(6, 4).double().to(memory_format=layout)
    h, g = randn(3, 6, 5, 8).double().to(memory_format=layout).requires_grad_(), randn(3, 4, 5, 8).double()
    ours, theirs = (torch.autograd.grad((out := f(h)), [h, point.weight, point.bias], g) + (out,) for f in (point, lambda h: F.conv2d(h, point.weight, point.bias)))
    for a, b in zip(ours, theirs): assert_allclose(a.detach(), b.detach(), atol=1e-12)
    assert point(h).is_contiguous(memory_format=layout) or layout is torch.contiguous_format


# vector quantiser

def quantiser(K=7, d=5, **kw):
    vq = VectorQuantizer(K, d, **kw)
    vq.start(randn(4, d, 3, 6, seed=11), gen(12))
    return vq


def test_nearest_code_by_brute_force():
    vq, z = quantiser(), randn(3, 5, 4, 6, seed=1)
    q = vq.eval()(z)
    flat, codes = z.permute(0, 2, 3, 1).reshape(-1, 5).double().numpy(), vq.codebook.double().numpy()
    want = np.array([min(range(7), key=lambda k: ((v - codes[k])**2).sum()) for v in flat]).reshape(3, 4, 6)
    assert np.array_equal(q.s.numpy(), want) and q.s.dtype == torch.int64
    assert_allclose(q.z_q, vq.codebook[q.s].permute(0, 3, 1, 2), atol=1e-6)
    assert_allclose(q.commitment, ((flat - codes[want.ravel()])**2).mean(), rtol=1e-5)
    assert torch.equal(vq.lookup(q.s), vq.codebook[q.s].permute(0, 3, 1, 2))


def test_gradients_of_the_quantiser():
    vq, z, w = quantiser().eval(), randn(2, 5, 3, 4, seed=1).requires_grad_(), randn(2, 5, 3, 4, seed=2)
    (vq(z).z_q * w).sum().backward()
    assert_allclose(z.grad, w)  # straight through
    z.grad = None
    q = vq(z)
    q.commitment.backward()
    assert_allclose(z.grad, 2 * (z - vq.lookup(q.s)).detach() / z.numel(), atol=1e-7)
    assert not list(vq.parameters())


def test_codebook_is_the_bias_corrected_moving_average():
    "From a k-means start: sums and counts in float64, in the closed form Σ γ^(n-i) x_i instead of step by step."
    K, d, decay = 7, 5, 0.8
    vq = quantiser(decay=decay, revive_below=0)
    counts, sums = [vq.ema_count.double().numpy().copy()], [vq.ema_sum.double().numpy().copy()]
    assert_allclose(counts[0].sum(), 1, rtol=1e-5)
    codes = vq.codebook.double().numpy().copy()
    vq.train()
    for step in range(60):
        z = randn(3, d, 4, 6, seed=100 + step) * (1 + step / 30)
        flat = z.permute(0, 2, 3, 1).reshape(-1, d).double().numpy()
        s = ((flat[:, None] - codes[None])**2).sum(-1).argmin(1)
        chosen = np.eye(K)[s] / len(flat)
        counts.append((1 - decay) * chosen.sum(0))
        sums.append((1 - decay) * chosen.T @ flat)
        q = vq(z)
        assert np.array_equal(q.s.flatten().numpy(), s), step
        weights = decay**np.arange(step + 1, -1, -1.)
        n, m = np.einsum("i,ik->k", weights, counts), np.einsum("i,ikd->kd", weights, sums)
        codes = np.where(n[:, None] > 1e-8, m / np.maximum(n, 1e-8)[:, None], codes)
        assert_allclose(vq.codebook.numpy(), codes, atol=2e-5, err_msg=f"step {step}")
    assert_allclose(vq.ema_weight, 1, rtol=1e-5)


def test_a_cold_codebook_moves_to_the_mean_of_its_vectors_in_one_step():
    "Bias correction: without it the first step would give (1 - γ) times the mean."
    vq = VectorQuantizer(2, 3, decay=0.9, revive_below=0)
    vq.codebook.copy_(torch.tensor([[1., 0, 0], [-1, 0, 0]]))
    z = torch.cat([randn(1, 3, 2, 20) * 0.1 + torch.tensor([2., 1, 0])[:, None, None], randn(1, 3, 2, 20, seed=1) * 0.1 - torch.tensor([2., 1, 0])[:, None, None]])
    vq.train()(z)
    assert_allclose(vq.codebook, z.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize("n_iter", [1, 3, 10])
def test_start_is_lloyds_algorithm(n_iter):
    from sklearn.cluster import KMeans
    K, d = 6, 4
    z = randn(5, d, 4, 10) + 3 * randn(5, d, 1, 1, seed=1)
    flat = z.permute(0, 2, 3, 1).reshape(-1, d)
    first = VectorQuantizer(K, d, revive_below=0)
    first.start(z, gen(4), n_iter=0)
    assert all((flat == code).all(-1).any() for code in first.codebook)  # k-means begins with vectors of the data
    vq = VectorQuantizer(K, d, revive_below=0)
    vq.start(z, gen(4), n_iter=n_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        km = KMeans(K, init=first.codebook.double().numpy(), n_init=1, max_iter=n_iter, algorithm="lloyd", tol=0).fit(flat.double().numpy())
    inertia = ((flat[:, None] - vq.codebook)**2).sum(-1).amin(1).sum().item()
    assert_allclose(inertia, km.inertia_, rtol=1e-4)
    assert_allclose(vq.codebook.numpy(), km.cluster_centers_, atol=1e-4)


def test_quantiser_against_vector_quantize_pytorch():
    vqp = pytest.importorskip("vector_quantize_pytorch")
    K, d, vq = 7, 5, quantiser(decay=0.8, revive_below=0)
    other = vqp.VectorQuantize(dim=d, codebook_size=K, decay=0.8, commitment_weight=1.0, threshold_ema_dead_code=0, rotation_trick=False, eps=1e-12)
    book = other._codebook
    book.embed.copy_(vq.codebook[None]), book.embed_avg.copy_(vq.ema_sum[None]), book.cluster_size.copy_(vq.ema_count[None])
    if hasattr(book, "initted"): book.initted.fill_(True)
    vq.train(), other.train()
    for step in range(20):
        z = randn(3, d, 4, 6, seed=50 + step)
        flat = z.permute(0, 2, 3, 1).reshape(1, -1, d)
        mine, theirs = z.clone().requires_grad_(), flat.clone().requires_grad_()
        q = vq(mine)
        z_q, s, loss = other(theirs)
        assert np.array_equal(q.s.flatten().numpy(), s.flatten().numpy())
        assert_allclose(q.z_q.detach().permute(0, 2, 3, 1).reshape(-1, d), z_q.detach()[0], atol=1e-5)
        assert_allclose(q.commitment.item(), loss.item(), rtol=1e-4)
        (q.commitment + q.z_q.square().sum()).backward()
        (loss.sum() + z_q.square().sum()).backward()
        assert_allclose(mine.grad.permute(0, 2, 3, 1).reshape(-1, d), theirs.grad[0], atol=1e-4)
        # theirs counts vectors, ours shares of them; put both on the same footing for the next step
        book.embed.copy_(vq.codebook[None]), book.embed_avg.copy_(vq.ema_sum[None]), book.cluster_size.copy_(vq.ema_count[None])


def test_dead_codes_move_onto_data():
    vq = quantiser(decay=0.5, revive_below=0.1)
    vq.codebook[3] = 1e3
    vq.ema_count[3], vq.ema_sum[3] = 0, 0
    z = randn(2, 5, 3, 6, seed=1)
    vq.train()(z, gen())
    flat = z.permute(0, 2, 3, 1).reshape(-1, 5)
    assert (flat == vq.codebook[3]).all(-1).any()
    never = quantiser(decay=0.5, revive_below=0)
    never.codebook[3] = 1e3
    never.ema_count[3], never.ema_sum[3] = 0, 0
    never.train()(z, gen())
    assert (never.codebook[3] == 1e3).all()
    one, two = quantiser(decay=0.5, revive_below=0.9).train(), quantiser(decay=0.5, revive_below=0.9).train()
    one(z, gen(1)), two(z, gen(1))
    assert torch.equal(one.codebook, two.codebook)


def test_the_quantiser_stands_still_in_evaluation():
    vq = quantiser().eval()
    before = {k: v.clone() for k, v in vq.state_dict().items()}
    vq(randn(2, 5, 3, 6))
    assert all(torch.equal(v, before[k]) for k, v in vq.state_dict().items())


def test_orthogonality_turns_codes_away_and_keeps_what_is_orthogonal():
    def overlap(vq):
        e = F.normalize(vq.codebook, dim=1)
        return (e @ e.T - torch.eye(len(e))).square().sum().item()
    plain, turned = quantiser(4, 6, decay=0.5, revive_below=0).train(), quantiser(4, 6, decay=0.5, revive_below=0, orthogonality=1.0).train()
    z = randn(6, 6, 3, 6, seed=1) + 2
    for _ in range(20): plain(z, gen()), turned(z, gen())
    assert overlap(turned) < overlap(plain)
    vq = VectorQuantizer(3, 3, decay=0.5, revive_below=0, orthogonality=1.0)
    vq.codebook.copy_(3 * torch.eye(3)), vq.ema_count.fill_(1 / 3), vq.ema_sum.copy_(torch.eye(3)), vq.ema_weight.fill_(1)
    vq.train()((3 * torch.eye(3))[None, :, :, None])
    assert_allclose(vq.codebook, 3 * torch.eye(3), atol=1e-5)


def test_perplexity_is_exp_of_scipys_entropy():
    s = torch.randint(5, (6, 9), generator=gen())
    counts, perplexity = codebook_usage(s, 8)
    want = np.bincount(s.flatten().numpy(), minlength=8)
    assert np.array_equal(counts.numpy(), want) and math.isclose(perplexity, math.exp(stats.entropy(want)), rel_tol=1e-5)
    assert codebook_usage(s.numpy(), 8)[1] == perplexity
    assert math.isclose(codebook_usage(torch.arange(8), 8)[1], 8, rel_tol=1e-5) and codebook_usage(torch.zeros(4, dtype=int), 8)[1] == 1


# self-supervised losses: the papers' sums, element by element, in float64

def textbook_barlow(z1, z2, lambd=0.005):
    b, d = z1.shape
    z1, z2 = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z1, z2))  # the small constant of a batch norm
    C = z1.T @ z2 / b
    on = sum((1 - C[i, i])**2 for i in range(d))
    off = sum(C[i, j]**2 for i in range(d) for j in range(d) if i != j)
    return (on + lambd * off) / d


def textbook_variance(z, eps=1e-4): return np.mean([max(0, 1 - math.sqrt(z[:, j].var(ddof=1) + eps)) for j in range(z.shape[1])])


def textbook_vicreg(z1, z2, sim=25, var=25, cov=1):
    b, d = z1.shape
    def c(z):
        C = np.cov(z, rowvar=False).reshape(d, d)
        return sum(C[i, j]**2 for i in range(d) for j in range(d) if i != j) / d
    return sim * ((z1 - z2)**2).mean() + var * (textbook_variance(z1) + textbook_variance(z2)) + cov * (c(z1) + c(z2))


def textbook_vibcreg(z1, z2, sim=25, var=25, cov=100):
    b, d = z1.shape
    def c(z):
        z = z - z.mean(0)
        z = z / np.sqrt((z**2).sum(0))
        C = z.T @ z
        return sum(C[i, j]**2 for i in range(d) for j in range(d) if i != j) / d**2
    return sim * ((z1 - z2)**2).mean() + var * (textbook_variance(z1) + textbook_variance(z2)) + cov * (c(z1) + c(z2))


LOSSES = dict(barlow=(barlow_twins_loss, textbook_barlow), vicreg=(vicreg_loss, textbook_vicreg), vibcreg=(vibcreg_loss, textbook_vibcreg))
every_loss = pytest.mark.parametrize("loss, textbook", LOSSES.values(), ids=LOSSES.keys())


@every_loss
@pytest.mark.parametrize("b, d", [(2, 7), (3, 16), (5, 16), (16, 5), (8, 8), (9, 8), (7, 8), (32, 3)])
def test_ssl_losses_are_the_textbooks(loss, textbook, b, d):
    z1, z2 = randn(b, d, dtype=torch.float64) * 0.7 + 0.3, randn(b, d, seed=1, dtype=torch.float64) - 1
    want = textbook(z1.numpy(), z2.numpy())
    assert_allclose(loss(z1, z2).item(), want, rtol=1e-6)
    assert_allclose(loss(z1.float(), z2.float()).item(), want, rtol=1e-4)


@every_loss
@pytest.mark.parametrize("b, d", [(3, 6), (6, 3), (2, 4)])
def test_ssl_gradients(loss, textbook, b, d):
    z1, z2 = (0.6 * randn(b, d, seed=s, dtype=torch.float64) for s in (3, 4))
    assert torch.autograd.gradcheck(loss, (z1.requires_grad_(), z2.requires_grad_()), eps=1e-7, atol=1e-4)


@every_loss
def test_ssl_invariances(loss, textbook):
    z1, z2 = randn(6, 9, dtype=torch.float64), randn(6, 9, seed=1, dtype=torch.float64)
    value, rows, columns = loss(z1, z2).item(), torch.randperm(6, generator=gen()), torch.randperm(9, generator=gen())
    assert_allclose(loss(z1[rows], z2[rows]).item(), value, rtol=1e-10)
    assert_allclose(loss(z1[:, columns], z2[:, columns]).item(), value, rtol=1e-10)
    assert_allclose(loss(z2, z1).item(), value, rtol=1e-10)
    assert_allclose(loss(-z1, -z2).item(), value, rtol=1e-10)
    assert_allclose(loss(z1 + 3, z2 + 3).item(), value, rtol=1e-9)
    scale = torch.linspace(0.5, 9, 9, dtype=torch.float64)
    if loss is barlow_twins_loss: assert_allclose(loss(z1 * scale + 2, z2 * 4).item(), value, rtol=1e-4)
    big = dict(sim=0, var=0)
    if loss is vibcreg_loss: assert_allclose(loss(z1 * scale, z2 * 4, **big).item(), loss(z1, z2, **big).item(), rtol=1e-9)
    if loss is vicreg_loss: assert_allclose(loss(3 * z1, 3 * z2, **big).item(), 81 * loss(z1, z2, **big).item(), rtol=1e-9)


@every_loss
def test_ssl_losses_at_their_minimum(loss, textbook):
    "Orthogonal features with zero mean and unit variance, equal in both views."
    z = torch.tensor(np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).T[:, 1:] * 1.5, dtype=torch.float64)
    assert 0 <= loss(z, z).item() < 1e-9 if loss is not barlow_twins_loss else loss(z, z).item() < (1 / 4)**2 + 1e-6


@every_loss
def test_ssl_losses_stay_finite_where_features_are_constant(loss, textbook):
    z1 = torch.ones(5, 8).requires_grad_()
    z2 = torch.cat([torch.zeros(5, 4), randn(5, 4)], 1).requires_grad_()
    value = loss(z1, z2)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(z1.grad).all() and torch.isfinite(z2.grad).all()


@every_loss
@pytest.mark.parametrize("shapes", [((1, 4), (1, 4)), ((3, 4), (3, 5)), ((3,), (3,))])
def test_ssl_losses_refuse_what_is_no_pair_of_batches(loss, textbook, shapes):
    with pytest.raises(ValueError, match="projections|at least 2"): loss(*(torch.zeros(s) for s in shapes))


@pytest.mark.parametrize("b, d", [(3, 10), (10, 3), (5, 5)])
def test_cross_square_sum(b, d):
    z1, z2 = randn(b, d, dtype=torch.float64), randn(b, d, seed=1, dtype=torch.float64)
    assert_allclose(cross_square_sum(z1, z2).item(), np.linalg.norm(z1.numpy().T @ z2.numpy(), "fro")**2, rtol=1e-12)


def test_pooling():
    z = randn(2, 3, 4, 5)
    flat = z.numpy().reshape(2, 3, 20)
    assert_allclose(pool(z), np.concatenate([flat.mean(-1), flat.max(-1)], 1), rtol=1e-5)


@pytest.mark.parametrize("b, g", [(64, 6), (13, 6), (5, 6), (3, 6), (2, 6)])
def test_iternorm_is_the_inverse_square_root(b, g):
    "With enough Newton steps: V diag(λ^-½) Vᵀ of the covariance, which is drawn towards a multiple of the identity where the batch is small."
    x = randn(b, 2 * g, dtype=torch.float64) @ torch.diag(torch.linspace(0.5, 2, 2 * g, dtype=torch.float64)) + 1
    norm = IterNorm(2 * g, group=g, n_iter=40).double().train()
    got = norm(x).detach().numpy()
    for k in range(2):
        z = x[:, k * g:(k + 1) * g].numpy()
        z = z - z.mean(0)
        cov = z.T @ z / b + 1e-5 * np.eye(g)
        alpha = max(0, 1 - b / (2 * g))
        cov = (1 - alpha) * cov + alpha * np.trace(cov) / g * np.eye(g)
        lam, V = np.linalg.eigh(cov)
        assert_allclose(got[:, k * g:(k + 1) * g], z @ (V / np.sqrt(lam)) @ V.T, atol=1e-6)
    if b >= 2 * g:
        z = got[:, :g]
        assert_allclose(z.T @ z / b, np.eye(g), atol=1e-3)


def test_iternorm_five_steps_whiten_well_conditioned_features_and_gradients_are_right():
    x = randn(200, 8, dtype=torch.float64)
    z = IterNorm(8).double().train()(x)
    assert_allclose((z.T @ z / 200).detach(), np.eye(8), atol=1e-2)
    norm = IterNorm(4).double().train()
    assert torch.autograd.gradcheck(norm, randn(6, 4, dtype=torch.float64).requires_grad_(), atol=1e-5)


def test_iternorm_in_evaluation_uses_running_statistics_only():
    norm = IterNorm(8, group=4)
    for i in range(200): norm.train()(2 * randn(64, 8, seed=i) + 3)
    state = {k: v.clone() for k, v in norm.state_dict().items()}
    x = 2 * randn(500, 8, seed=999) + 3
    z = norm.eval()(x)
    assert_allclose(z[:3].detach(), norm(x[:3]).detach(), atol=1e-5)  # row by row
    assert_allclose((z.T @ z / 500).detach(), np.eye(8), atol=0.35)
    assert all(torch.equal(v, state[k]) for k, v in norm.state_dict().items())


@pytest.mark.parametrize("method", LOSSES)
@pytest.mark.parametrize("b", [2, 3, 5, 20])
def test_ssl_head_at_small_batches(method, b):
    with training.seeded(0): head = SSLHead(method, 8, dim=64).train()
    z1, z2 = randn(b, 8, 5, 4).requires_grad_(), randn(b, 8, 5, 4, seed=1).requires_grad_()
    value = head(z1, z2)
    value.backward()
    assert value.shape == () and torch.isfinite(value) and all(torch.isfinite(z.grad).all() for z in (z1, z2))


@pytest.mark.parametrize("method", LOSSES)
def test_ssl_head_where_all_series_of_a_batch_are_the_same(method):
    with training.seeded(0): head = SSLHead(method, 8, dim=64).train()
    z1, z2 = randn(1, 8, 5, 4).repeat(6, 1, 1, 1).requires_grad_(), randn(6, 8, 5, 4, seed=1).requires_grad_()
    head(z1, z2).backward()
    assert all(torch.isfinite(z.grad).all() and z.grad.abs().max() < 1e8 for z in (z1, z2))


# tokenizer

@pytest.mark.parametrize("ssl", [None, *LOSSES])
def test_the_loss_of_stage_1_is_the_sum_of_its_documented_terms(ssl):
    with training.seeded(0): objective = TokenizerLoss(Tokenizer(2, 33, dim=8, n_res_blocks=1, n_codes=6), ssl=ssl, augment="gauss", commitment=0.5, projector_dim=16, aug_weight=0.3)
    x = randn(6, 2, 33)
    objective.start(x, gen())
    objective.eval()  # nothing moves, so that the terms can be made again
    terms, tok = objective(x, gen(3)), objective.tokenizer
    u, z = tok.stft(x), tok.latents(x)
    q = tok.vq(z)
    u_hat = tok.decoder(q.z_q)
    mse = lambda a, b: ((a.detach().double().numpy() - b.detach().double().numpy())**2).mean()
    want = dict(time=mse(tok.stft.inverse(u_hat, 33), x), stft=mse(u_hat, u), commitment=0.5 * mse(z, tok.vq.lookup(q.s)))
    if ssl:
        view = aug.gaussian_noise(x, gen(3))
        z2 = tok.latents(view)
        v_hat = tok.decoder(z2)
        want |= dict(augmented=0.3 * (mse(tok.stft.inverse(v_hat, 33), view) + mse(v_hat, tok.stft(view))), ssl=objective.head(q.z_q, z2).item())
    for k, v in want.items(): assert_allclose(terms[k].item(), v, rtol=1e-3, err_msg=k)
    assert set(terms) == {"loss", *want}
    assert_allclose(terms["loss"].item(), sum(want.values()), rtol=1e-3)


# training

def test_order_against_a_plain_list():
    for n, batch in [(10, 3), (7, 7), (5, 8), (1, 4), (12, 4)]:
        order = Order(n, batch, seed=5)
        stream = [i for e in range(6) for i in Order(n, batch, seed=5).epoch(e).tolist()]
        size = min(batch, n)
        steps = len(stream) // size
        assert all(sorted(order.epoch(e).tolist()) == list(range(n)) for e in range(3))
        for k in [*range(steps), *reversed(range(steps))]:  # also asked for out of order
            assert order.batch(k).tolist() == stream[k * size:(k + 1) * size]
    assert Order(50, 5, seed=1).epoch(0).tolist() != Order(50, 5, seed=2).epoch(0).tolist() != Order(50, 5, seed=2).epoch(1).tolist()


def test_cosine_is_torchs():
    opt = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=50)
    for step in range(50):
        assert_allclose(cosine_lr(step, 50, 0.3), opt.param_groups[0]["lr"], atol=1e-12)
        opt.step(), schedule.step()
    warm = [cosine_lr(i, 100, 1.0, warmup=10) / cosine_lr(i, 100, 1.0) for i in range(20)]
    assert_allclose(warm, [min(1, (i + 1) / 10) for i in range(20)])


class Linear(nn.Module):
    "A small objective with dropout and random noise from the generator."
    def __init__(self, p=0.0):
        super().__init__()
        with training.seeded(3): self.f = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(p), nn.Linear(8, 1))
        self.register_buffer("seen", torch.zeros(()))
        self.batches = []

    def forward(self, x, y, generator=None):
        if self.training: self.seen += 1
        noise = 0.1 * torch.randn(x.shape, generator=generator)
        self.batches.append((x.detach().clone(), noise))
        fit, norm = F.mse_loss(self.f(x + noise), y), 1e-3 * self.f[0].weight.square().sum()
        return dict(loss=fit + norm, fit=fit, norm=norm)


DATA = randn(30, 4), randn(30, 1, seed=1)


def test_training_is_adamw_on_a_cosine_as_written_by_hand():
    objective, by_hand = Linear(), Linear()
    history = train(objective, DATA, steps=25, batch_size=8, lr=0.01, weight_decay=0.1, warmup=3, seed=4, log_every=5)
    order, m, v = Order(30, 8, 4), {}, {}
    rows = []
    for step in range(25):
        x, y = (t[order.batch(step)] for t in DATA)
        x0, noise = objective.batches[step]
        assert torch.equal(x, x0)  # the batches are those of the order
        fit, norm = F.mse_loss(by_hand.f(x + noise), y), 1e-3 * by_hand.f[0].weight.square().sum()
        rows.append([(fit + norm).item(), fit.item(), norm.item()])
        by_hand.zero_grad()
        (fit + norm).backward()
        lr = 0.01 * min(1, (step + 1) / 3) * 0.5 * (1 + math.cos(math.pi * step / 25))
        with torch.no_grad():
            for name, p in by_hand.named_parameters():
                m[name] = 0.9 * m.get(name, 0) + 0.1 * p.grad
                v[name] = 0.999 * v.get(name, 0) + 0.001 * p.grad**2
                if p.ndim > 1: p -= lr * 0.1 * p  # weights decay, biases do not
                p -= lr * (m[name] / (1 - 0.9**(step + 1))) / ((v[name] / (1 - 0.999**(step + 1))).sqrt() + 1e-8)
    for (name, p), q in zip(by_hand.named_parameters(), objective.parameters()): assert_allclose(q.detach(), p.detach(), atol=1e-5, err_msg=name)
    want = np.array(rows).reshape(5, 5, 3).mean(1)
    for i, k in enumerate(["loss", "fit", "norm"]): assert_allclose(history[k], want[:, i], rtol=1e-4)
    assert history["step"] == [5, 10, 15, 20, 25]
    assert_allclose(history["epoch"], np.array(history["step"]) * 8 / 30)
    assert not objective.training


def test_history_ends_with_the_last_step_whatever_the_interval():
    history = train(Linear(), DATA, steps=7, batch_size=8, log_every=3)
    assert history["step"] == [3, 6, 7] and len(history["loss"]) == 3


def test_history_fills_gaps_and_writes_csv(tmp_path):
    import csv
    h = History()
    h.add(step=1, loss=2.)
    h.add(step=2, loss=1., valid_loss=3.)
    h.add(step=3, valid_loss=2.)
    assert h["step"] == [1, 2, 3] and math.isnan(h["valid_loss"][0]) and math.isnan(h["loss"][2])
    h.save(tmp_path / "h.csv")
    rows = list(csv.reader(open(tmp_path / "h.csv")))
    assert rows[0] == ["step", "loss", "valid_loss"] and rows[2] == ["2", "1.0", "3.0"]


def test_training_leaves_the_global_generators_alone():
    import random
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    train(Linear(0.5), DATA, steps=5, batch_size=8, valid=DATA)
    assert before[0] == random.getstate() and (before[1] == np.random.get_state()[1]).all() and torch.equal(before[2], torch.get_rng_state())
    one, two, other = Linear(0.5), Linear(0.5), Linear(0.5)
    train(one, DATA, steps=5, batch_size=8, seed=1)
    torch.rand(100)
    train(two, DATA, steps=5, batch_size=8, seed=1), train(other, DATA, steps=5, batch_size=8, seed=2)
    same = lambda a, b: all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values()))
    assert same(one, two) and not same(one, other)


def test_validation_changes_nothing_and_the_best_state_comes_back():
    plain, watched = Linear(0.3), Linear(0.3)
    train(plain, DATA, steps=12, batch_size=8, seed=1, log_every=2)
    history = train(watched, DATA, steps=12, batch_size=8, seed=1, log_every=2, valid=DATA)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), watched.state_dict().values()))
    assert len(history["valid_loss"]) == 6

    class Curve(nn.Module):
        "Its validation loss is a given list; its weight counts the lines of the history."
        def __init__(self):
            super().__init__()
            self.w, self.n = nn.Parameter(torch.zeros(1)), 0
        def forward(self, x, generator=None):
            if self.training: return dict(loss=-self.w.sum() * 10)
            self.n += 1
            self.states = [*getattr(self, "states", []), self.w.detach().clone()]
            return dict(loss=torch.tensor([5., 2., 1., 3., 0.5 if self.n > 9 else 4.])[self.n - 1])
    curve = Curve()
    train(curve, (torch.zeros(4, 1),), steps=10, batch_size=4, log_every=2, valid=(torch.zeros(4, 1),), keep_best=True)
    assert torch.equal(curve.w.detach(), curve.states[2]) and not torch.equal(curve.w.detach(), curve.states[4])


@pytest.mark.parametrize("n, batch", [(10, 3), (9, 4), (3, 8)])
def test_evaluate_loss_is_the_mean_over_series(n, batch):
    class Value(nn.Module):
        def forward(self, x, generator=None): return dict(loss=x.mean())
    x = randn(n, 3)
    assert_allclose(evaluate_loss(Value(), (x,), batch_size=batch), x.mean().item(), rtol=1e-5)


def interrupted_at(step, monkeypatch):
    "Ctrl-C in the forward pass of a given training step."
    class Cut(Linear):
        def forward(self, *args, **kw):
            if len(self.batches) == step: raise KeyboardInterrupt
            return super().forward(*args, **kw)
    return Cut


@pytest.mark.parametrize("step", [1, 7, 13, 19])
@pytest.mark.parametrize("keep_best", [False, True])
def test_a_run_cut_off_in_mid_epoch_ends_as_if_it_had_not_been(tmp_path, monkeypatch, step, keep_best):
    kw = dict(steps=20, batch_size=8, seed=1, log_every=3, lr=0.05, **(dict(valid=DATA, keep_best=True) if keep_best else {}))
    whole = Linear(0.3)
    want = train(whole, DATA, folder=tmp_path / "whole", checkpoint_every=0, **kw)
    cut = interrupted_at(step + (step // 3 * math.ceil(30 / 8) if keep_best else 0), monkeypatch)(0.3)
    with pytest.raises(KeyboardInterrupt): train(cut, DATA, folder=tmp_path / "cut", checkpoint_every=0, **kw)
    again = Linear(0.3)
    got = train(again, DATA, folder=tmp_path / "cut", checkpoint_every=0, **kw)
    for (k, a), b in zip(whole.state_dict().items(), again.state_dict().values()): assert torch.equal(a, b), k
    for k in want:
        if k != "seconds": assert got[k] == want[k], k
    assert [p.name for p in (tmp_path / "cut").glob(".*")] == [".lock"] and len(list((tmp_path / "cut").glob("checkpoint-*"))) <= 2


def test_a_finished_run_is_not_run_again(tmp_path):
    one, two = Linear(), Linear()
    h = train(one, DATA, steps=6, batch_size=8, folder=tmp_path)
    assert train(two, DATA, steps=6, batch_size=8, folder=tmp_path) == h and not two.batches
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))


@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:50], lambda b: b"", lambda b: b"\xff" * 20 + b[20:], lambda b: b[:9] + b"#" + b[10:]],
                         ids=["truncated", "header only", "empty", "bad header", "one byte of the header"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    for step in (3, 6): save_checkpoint(tmp_path, step, dict(a=torch.full((50,), float(step))), dict(step=step, seconds=0.0, settings=dict(lr=1), history={}, best=None))
    newest = sorted(tmp_path.glob("checkpoint-*"))[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match="checkpoint-00000006.*damaged"): tensors, meta = load_checkpoint(tmp_path, dict(lr=1))
    assert meta["step"] == 3 and (tensors["a"] == 3).all()


def test_a_flipped_bit_in_the_weights_of_a_checkpoint_is_noticed(tmp_path):
    for step in (3, 6): save_checkpoint(tmp_path, step, dict(a=torch.full((50,), float(step))), dict(step=step, seconds=0.0, settings=dict(lr=1), history={}, best=None))
    newest = sorted(tmp_path.glob("checkpoint-*"))[-1]
    raw = bytearray(newest.read_bytes())
    raw[-3] ^= 16
    newest.write_bytes(raw)
    with pytest.warns(UserWarning, match="damaged"): tensors, meta = load_checkpoint(tmp_path, dict(lr=1))
    assert meta["step"] == 3


def test_all_checkpoints_damaged_means_from_the_beginning(tmp_path):
    (tmp_path / "checkpoint-00000003.safetensors").write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="damaged"): assert load_checkpoint(tmp_path, {}) is None
    assert load_checkpoint(tmp_path / "nowhere", {}) is None


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(Linear(), DATA, steps=4, batch_size=8, lr=0.01, folder=tmp_path)
    with pytest.raises(ValueError, match="lr was 0.01, now 0.02"): train(Linear(), DATA, steps=4, batch_size=8, lr=0.02, folder=tmp_path)
    with pytest.raises(ValueError, match="steps was 4, now 5"): train(Linear(), DATA, steps=5, batch_size=8, lr=0.01, folder=tmp_path)


def test_a_failed_write_leaves_the_checkpoints_that_are_there(tmp_path, monkeypatch):
    import os
    for step in (3, 6): save_checkpoint(tmp_path, step, dict(a=torch.ones(3)), dict(step=step, settings={}))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    def full(*a): raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError): save_checkpoint(tmp_path, 9, dict(a=torch.ones(3)), dict(step=9, settings={}))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_loss_that_is_not_a_number_is_an_error_that_says_what_to_do():
    class Bad(Linear):
        def forward(self, x, y, generator=None): return {k: v * float("nan") for k, v in super().forward(x, y, generator).items()}
    with pytest.raises(FloatingPointError, match="Lower lr"): train(Bad(), DATA, steps=3, batch_size=8)


# the prior

def brute_mask(shape, name, g):
    gamma = dict(cosine=lambda r: math.cos(math.pi / 2 * r), linear=lambda r: 1 - r, square=lambda r: 1 - r * r, cubic=lambda r: 1 - r**3, sqrt=lambda r: 1 - math.sqrt(r))[name]
    r, scores = 1 - torch.rand(shape[0], 1, generator=g), torch.rand(shape, generator=g)
    mask = np.zeros(shape, bool)
    for i in range(shape[0]):
        n = min(max(1, math.ceil(gamma(r[i].item()) * shape[1])), shape[1])
        for j in sorted(range(shape[1]), key=lambda j: scores[i, j].item())[:n]: mask[i, j] = True
    return mask


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("shape", [(40, 11), (7, 1), (30, 40)])
def test_masks_against_a_loop(name, shape):
    assert np.array_equal(random_mask(shape, SCHEDULES[name], gen(8)).numpy(), brute_mask(shape, name, gen(8)))


def test_mean_masked_share_of_the_cosine_is_two_over_pi():
    mask = random_mask((20000, 40), SCHEDULES["cosine"], gen())
    assert abs(mask.float().mean().item() - (2 / math.pi + 0.5 / 40)) < 0.01  # rounding up adds half a token
    assert_allclose(mask.float().mean(0), mask.float().mean().item(), atol=0.02)  # no place is preferred
    assert mask.sum(1).min() >= 1 and mask.sum(1).float().std() > 5  # an r for every row


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_fall_from_one_to_nothing(name):
    g = SCHEDULES[name](torch.linspace(0, 1, 101))
    assert_allclose([g[0], g[-1]], [1, 0], atol=1e-6)
    assert (g.diff() <= 1e-7).all()


def prior(n_tokens=9, n_codes=6, n_classes=3, **kw):
    with training.seeded(7): p = MaskGIT(n_tokens, n_codes, n_classes, code_dim=8, dim=16, depth=2, heads=2, head_dim=8, **kw)
    with torch.no_grad():
        for w in p.parameters(): w += 0.3 * torch.randn(w.shape, generator=gen(w.numel()))
    return p.eval()


def test_the_loss_of_stage_2_is_cross_entropy_of_the_hidden_tokens_only():
    p = prior()
    s, y = torch.randint(6, (20, 9), generator=gen()), torch.randint(3, (20,), generator=gen(1))
    for training_mode in (False, True):
        objective = MaskGITLoss(p, p_unconditional=0.4).train(training_mode)
        got = objective(s, y, gen(4))["loss"].item()
        g = gen(4)
        hidden = random_mask((20, 9), SCHEDULES["cosine"], g)
        c = y.clone()
        if training_mode: c[torch.rand(20, generator=g) < 0.4] = 3
        logits = p(torch.where(hidden, 6, s), c).double().detach().numpy()
        total, n = 0, 0
        for i in range(20):
            for j in range(9):
                if hidden[i, j]:
                    total += math.log(np.exp(logits[i, j]).sum()) - logits[i, j, s[i, j]]
                    n += 1
        assert_allclose(got, total / n, rtol=1e-5)


def test_the_loss_does_not_see_hidden_tokens_and_drops_classes_as_often_as_asked():
    p, y = prior(), torch.randint(3, (400,), generator=gen(1))
    seen = []
    p.register_forward_pre_hook(lambda m, args: seen.append(args))
    s = torch.randint(6, (400, 9), generator=gen())
    MaskGITLoss(p, p_unconditional=0.2).train()(s, y, gen(2))
    tokens, classes = seen[0]
    assert torch.equal(tokens == 6, random_mask((400, 9), SCHEDULES["cosine"], gen(2)))
    assert stats.binomtest(int((classes == 3).sum()), 400, 0.2).pvalue > 1e-3 and torch.equal(classes[classes != 3], y[classes != 3])
    MaskGITLoss(p, p_unconditional=0.2).eval()(s, y, gen(2))
    assert torch.equal(seen[1][1], y)  # nothing is dropped in evaluation


def brute_fill(p, s, y, g, *, steps=10, choice_temperature=4.0, temperature=1.0, guidance_scale=1.0, name="cosine"):
    gamma = dict(cosine=lambda r: math.cos(math.pi / 2 * r), linear=lambda r: 1 - r, square=lambda r: 1 - r * r, cubic=lambda r: 1 - r**3, sqrt=lambda r: 1 - math.sqrt(r))[name]
    s, (b, N) = s.clone(), s.shape
    K = p.mask_token
    holes_at_first = [(s[i] == K).sum().item() for i in range(b)]
    trace = []
    for t in range(1, steps + 1):
        logits = p(s, y).double()
        if guidance_scale != 1:
            free = p(s, torch.full_like(y, p.no_class)).double()
            logits = free + guidance_scale * (logits - free)
        u = torch.rand(b, N, 1, generator=g)[..., 0]
        choice = None if t == steps else -torch.empty(b, N).exponential_(generator=g).clamp(min=1e-20).log()
        for i in range(b):
            sure, holes = {}, [j for j in range(N) if s[i, j] == K]
            for j in range(N):
                if j not in holes: continue
                v = (logits[i, j] / temperature).detach().numpy()
                log_p = v - v.max() - math.log(np.exp(v - v.max()).sum())
                below, k = 0.0, -1
                while below <= u[i, j].item() and k < K - 1:
                    k += 1
                    below += math.exp(log_p[k])
                s[i, j] = k
                if t < steps: sure[j] = log_p[k] + choice_temperature * (1 - t / steps) * choice[i, j].item()
            if t < steps:
                left = math.floor(gamma(t / steps) * holes_at_first[i] + 1e-9)
                for j in sorted(sure, key=sure.get)[:left]: s[i, j] = K
        trace.append((s == K).sum(1).tolist())
    return s, trace


@pytest.mark.parametrize("kw", [{}, dict(steps=1), dict(steps=3, choice_temperature=0.), dict(steps=7, temperature=0.5), dict(guidance_scale=2.5), dict(guidance_scale=0.),
                                dict(steps=25), dict(steps=5, schedule="linear"), dict(schedule="sqrt"), dict(schedule="cubic"), dict(schedule="square")], ids=str)
def test_filling_against_a_loop(kw):
    p = prior()
    s = torch.full((8, 9), 6)
    s[4:6, 2:5] = torch.randint(6, (2, 3), generator=gen())  # some tokens are known
    s[7] = torch.randint(6, (9,), generator=gen())  # and here there is nothing to do
    y = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    got = fill(p, s, y, gen(6), **kw)
    with torch.no_grad(): want, _ = brute_fill(p, s, y, gen(6), **{("name" if k == "schedule" else k): v for k, v in kw.items()})
    assert torch.equal(got, want)
    known = s != 6
    assert torch.equal(got[known], s[known]) and (got >= 0).all() and (got < 6).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_number_of_holes_after_every_step(name):
    p, seen = prior(40), []
    p.token.register_forward_pre_hook(lambda m, args: seen.append(sorted((args[0] == 6).sum(1).tolist())))
    s = torch.full((2, 40), 6)
    s[1, :17] = 0
    fill(p, s, torch.tensor([0, 3]), gen(), steps=10, schedule=name)
    gamma = lambda r: SCHEDULES[name](torch.tensor(r, dtype=torch.float64)).item()
    assert seen == [[math.floor(gamma(t / 10) * n + 1e-6) for n in (23, 40)] for t in range(10)]


@pytest.mark.parametrize("scale, calls", [(1, 4), (1.0, 4), (2.0, 8), (0.0, 8)])
def test_guidance_costs_a_second_pass_only_where_it_does_something(scale, calls):
    p, n = prior(), []
    p.token.register_forward_pre_hook(lambda m, args: n.append(0))
    fill(p, torch.full((3, 9), 6), torch.tensor([0, 1, 2]), gen(), steps=4, guidance_scale=scale)
    assert len(n) == calls


def test_a_prior_that_knows_the_answer_writes_it_and_a_draw_has_the_right_odds():
    class Known(nn.Module):
        mask_token, no_class = 4, 1
        def __init__(self, logits): super().__init__(); self.logits = logits
        def forward(self, s, y): return self.logits.expand(len(s), -1, -1)
    answer = torch.tensor([0, 3, 2, 1, 1])
    assert (fill(Known(50. * F.one_hot(answer, 4).float()), torch.full((6, 5), 4), torch.zeros(6, dtype=int), gen()) == answer).all()
    odds = torch.tensor([0.1, 0.2, 0.3, 0.4])
    s = fill(Known(odds.log().expand(5, 4)), torch.full((4000, 5), 4), torch.zeros(4000, dtype=int), gen(), steps=1)
    assert stats.chisquare(np.bincount(s.flatten(), minlength=4), np.array([0.1, 0.2, 0.3, 0.4]) * s.numel()).pvalue > 1e-3


def test_the_prior_sees_both_sides_the_class_and_the_place():
    p, s = prior(), torch.randint(6, (1, 9), generator=gen())
    y = torch.tensor([0])
    base = p(s, y)
    assert base.shape == (1, 9, 6)
    for j in (0, 8):
        other = s.clone()
        other[0, j] = (s[0, j] + 1) % 6
        assert (p(other, y) - base).abs().sum(-1)[0].gt(1e-7).all()  # every place hears of every token
    assert not torch.allclose(p(s, torch.tensor([1])), base) and not torch.allclose(p(s.flip(1), y).flip(1), base)


@pytest.mark.parametrize("n", [1, 41, 300])
def test_attention_is_pytorchs(n):
    q, k, v = randn(3, 2, 3, n, 16).double().requires_grad_()
    ours, theirs = maskgit.attention(q, k, v), F.scaled_dot_product_attention(q, k, v)
    assert_allclose(ours.detach(), theirs.detach(), atol=1e-12)
    g = randn(2, 3, n, 16).double()
    for a, b in zip(torch.autograd.grad(ours, [q, k, v], g), torch.autograd.grad(theirs, [q, k, v], g)): assert_allclose(a, b, atol=1e-12)


def test_dropout_falls_on_attention_weights():
    q, k = torch.zeros(2, 400, 2, 40, 4)
    with training.seeded(0): seen = maskgit.attention(q, k, torch.eye(40).expand(400, 2, 40, 40), .25)  # the weights themselves
    assert set(seen.unique().tolist()) == {0.0, float(torch.tensor(1 / 40) / .75)} and abs(float((seen == 0).float().mean()) - .25) < .01


@pytest.mark.parametrize("K", [3, 32, 1024])
def test_draws_follow_their_probabilities(K):
    p = randn(K).softmax(-1)
    p[K // 2] = 0
    often = torch.bincount(maskgit.draw(p.expand(200_000, K), torch.Generator().manual_seed(0)), minlength=K)
    kept = p > 0
    assert often[~kept].sum() == 0
    assert stats.chisquare(often[kept], (p[kept].double() / p[kept].double().sum() * 200_000)).pvalue > 1e-3


def test_draws_reach_both_ends_of_rounding():
    p = torch.tensor([[0., 0., 1., 0.], [1., 0., 0., 0.], [0., 0., 0., 1.]])
    assert torch.equal(maskgit.draw(p.expand(5000, 3, 4)).unique(dim=0), torch.tensor([[2, 0, 3]]))
    assert maskgit.draw(torch.full((2000, 1024), 1e-30)).max() < 1024


def test_equal_rows_are_computed_once():
    with training.seeded(0): prior = maskgit.MaskGIT(6, 5, 3, code_dim=4, dim=8, depth=1).eval()
    s, y = torch.randint(6, (9, 6), generator=torch.Generator().manual_seed(0)).repeat(3, 1), torch.tensor([0, 1, 3]).repeat_interleave(9)
    seen = []
    prior.token.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    with torch.no_grad(): assert_allclose(maskgit._once(prior, s, y), prior(s, y), atol=1e-6)
    maskgit.fill(prior, torch.full((50, 6), 5), torch.arange(50) % 2, steps=3)
    assert seen == [27, 27, 2, 50, 50]


def test_attention_is_softmax_of_scaled_products():
    with training.seeded(1): block = maskgit.Block(12, 3, 5, 2.0, 0.0).eval()
    h = randn(2, 7, 12)
    rms = lambda x, w: x / np.sqrt((x**2).mean(-1, keepdims=True) + np.finfo(np.float32).eps) * w
    x, get = h.double().numpy(), lambda p: p.detach().double().numpy()
    qkv = rms(x, get(block.norm1.weight)) @ get(block.qkv.weight).T
    out = np.zeros((2, 7, 15))
    for k in range(3):
        q, key, v = (qkv[..., i * 15 + k * 5:i * 15 + (k + 1) * 5] for i in range(3))
        a = np.exp(q @ key.transpose(0, 2, 1) / math.sqrt(5))
        out[..., k * 5:(k + 1) * 5] = a / a.sum(-1, keepdims=True) @ v
    x = x + out @ get(block.out.weight).T
    f = rms(x, get(block.norm2.weight)) @ get(block.ff[0].weight).T + get(block.ff[0].bias)
    f = f * stats.norm.cdf(f)  # GELU
    assert_allclose(block(h).detach(), x + f @ get(block.ff[3].weight).T + get(block.ff[3].bias), atol=1e-5)


def test_the_codebook_becomes_the_table_of_tokens():
    p, codes = prior(), randn(6, 8)
    p.use_codebook(codes)
    assert torch.equal(p.token.weight[:6], codes)
    assert_allclose(p.token.weight[6].detach(), codes.mean(0), atol=1e-6)
