"""Augmentations against loops over series, and their distributions against SciPy's."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats

from fuzzing import REFUSED, fuzz, series, tried
from hypothesis import strategies as st
from ncvq_nb import augment as aug
from ncvq_nb.stft import STFT
from tensors import gen, randn

FUNCTIONS = (
    aug.amplitude_resize,
    aug.gaussian_noise,
    aug.flip,
    aug.slope,
    aug.window_warp,
    aug.slice_and_shuffle,
    aug.stft_mask,
    aug.stft_noise,
)
NAMED = {f.__name__: f for f in FUNCTIONS}
NAMED |= {f"{k} (setting)": v for k, v in aug.AUGMENTATIONS.items()}
every_augmentation = pytest.mark.parametrize("f", NAMED.values(), ids=NAMED.keys())


def agrees(sample, distribution):
    "Does a sample follow a distribution, by the test of Kolmogorov and Smirnov?"
    return stats.kstest(sample.numpy(), distribution.cdf).pvalue > 1e-3


@every_augmentation
@pytest.mark.parametrize("shape", [(5, 1, 16), (4, 3, 65), (1, 2, 33), (3, 1, 151)])
def test_shape_and_input_stay_and_only_the_generator_matters(f, shape):
    x, before = randn(*shape), torch.get_rng_state()
    copy = x.clone()
    a, b, other = f(x, gen(1)), f(x, gen(1)), f(x, gen(2))
    assert a.shape == x.shape and a.dtype == x.dtype and torch.isfinite(a).all()
    assert torch.equal(a, b) and torch.equal(x, copy) and torch.equal(before, torch.get_rng_state())
    assert shape[0] == 1 or not torch.equal(a, other)


@every_augmentation
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_stays_also_in_short_series(f, dtype):
    for l in (2, 3, 16):
        view = f(randn(4, 2, l).to(dtype), gen())
        assert view.dtype == dtype and view.shape == (4, 2, l) and view.isfinite().all()


@every_augmentation
def test_every_series_has_random_numbers_of_its_own(f):
    x = randn(1, 2, 64).expand(64, -1, -1).contiguous()
    views = f(x, gen())
    # a flip has two outcomes, and a block of the STFT may be too small to hide anything
    assert len(torch.unique(views, dim=0)) > (1 if f is aug.flip else 32)
    changed = x.clone()
    changed[7] = randn(2, 64, seed=9)
    others = torch.arange(64) != 7
    assert_allclose(f(changed, gen())[others], views[others], atol=1e-6)


@every_augmentation
def test_gradients_pass(f):
    x = randn(3, 1, 32).requires_grad_()
    f(x, gen()).square().sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "l, window, low, high",
    [(50, 0.4, 0.9, 2.0), (65, 0.4, 0.9, 2.0), (33, 0.2, 0.5, 0.9), (16, 0.9, 1.5, 3.0)],
)
def test_window_warp_is_numpys_interpolation_at_the_warped_places(l, window, low, high):
    x, g, w = randn(6, 2, l), gen(3), round(window * l)
    a = torch.rand(6, 1, generator=g).double().numpy() * (l - w)
    s = low + (high - low) * torch.rand(6, 1, generator=g).double().numpy()
    got = aug.window_warp(x, gen(3), window=window, low=low, high=high).numpy()
    for i in range(6):
        a_i, s_i = a[i, 0], s[i, 0]
        # time of the longer series at which each sample of the original is heard, and its inverse
        knots_new, knots_old = [0, a_i, a_i + s_i * w, l + (s_i - 1) * w], [0, a_i, a_i + w, l]
        places = np.interp(np.linspace(0, l - 1 + (s_i - 1) * w, l), knots_new, knots_old)
        for c in range(2):
            want = np.interp(places.clip(0, l - 1), np.arange(l), x[i, c].numpy())
            assert_allclose(got[i, c], want, atol=1e-4)


def test_window_warp_has_the_documented_parameters():
    l = 100
    ramp = torch.arange(float(l)).expand(4000, 1, l).contiguous()  # shows the places that are read
    places = aug.window_warp(ramp, gen())[:, 0]
    assert_allclose(places[:, 0], 0, atol=1e-4)
    # a window that touches the end is a half sample short there
    assert_allclose(places[:, -1], l - 1, atol=0.5)
    steps = places.diff(dim=1)
    assert (steps >= -1e-4).all()
    # where the window touches neither end, a step outside of it is (l - 1 + (s - 1) w) / (l - 1)
    outside = steps[:, 1][(steps[:, 1] - steps[:, -4]).abs() < 1e-3]
    assert len(outside) > 3000
    assert agrees((outside * (l - 1) - (l - 1)) / 40 + 1, stats.uniform(0.9, 1.1))


def test_slice_and_shuffle_is_cutting_and_joining():
    b, l, n = 40, 37, 4
    x, g = randn(b, 3, l), gen(5)
    cuts = (torch.rand(b, n - 1, generator=g) * l).long().numpy()
    order = torch.rand(b, n, generator=g).argsort(-1).numpy()
    got = aug.slice_and_shuffle(x, gen(5), n_segments=n).numpy()
    for i in range(b):
        pieces = np.split(x[i].numpy(), np.sort(cuts[i]), axis=-1)
        assert np.array_equal(got[i], np.concatenate([pieces[j] for j in order[i]], -1))


def test_slice_and_shuffle_statistics():
    i = torch.arange(20.0).expand(6000, 1, 20).contiguous()
    view = aug.slice_and_shuffle(i, gen())[:, 0]
    assert torch.equal(view.sort(-1).values, i[:, 0])  # nothing lost, nothing twice
    breaks = (view.diff(dim=-1) != 1).sum(-1)
    assert breaks.max() == 3 and breaks.min() == 0
    untouched = (breaks == 0).float().mean()
    assert 1 / 24 < untouched < 0.15  # the identity among 24 orders, and what empty pieces add
    # the first piece leads in at least a quarter of the cases; the rest begins at a uniform cut
    assert 0.2 < (view[:, 0] == 0).float().mean() < 0.35


def test_amplitude_resize_multiplies_by_a_normal_factor():
    factor = aug.amplitude_resize(torch.ones(20000, 1, 4), gen(), sigma=0.2)
    assert torch.equal(factor[..., 0], factor[..., 3])
    assert agrees(factor[:, 0, 0], stats.norm(1, 0.2))


def test_gaussian_noise_is_white_and_normal():
    noise = aug.gaussian_noise(torch.ones(20000, 1, 4), gen(), sigma=0.05) - 1
    assert agrees(noise.flatten()[:20000], stats.norm(0, 0.05))
    assert abs(np.corrcoef(noise[:, 0, 0], noise[:, 0, 1])[0, 1]) < 0.03


def test_flip_has_its_probability():
    flipped = aug.flip(torch.ones(20000, 1, 4), gen(), p=0.3)[:, 0]
    assert set(flipped.unique().tolist()) == {-1.0, 1.0}
    assert stats.binomtest(int((flipped[:, 0] < 0).sum()), 20000, 0.3).pvalue > 1e-3


def test_slope_is_a_line_of_normal_slope():
    line = aug.slope(torch.zeros(20000, 1, 9), gen(), sigma=0.005)[:, 0]
    assert (line[:, 0] == 0).all() and line.diff(n=2, dim=-1).abs().max() < 1e-6
    assert agrees(line[:, 1], stats.norm(0, 0.005))


def test_stft_noise_of_no_size_changes_nothing():
    x = randn(1, 1, 16)
    view = aug.stft_noise(x, gen(), sigma=0.0, n_fft=8)
    assert_allclose(STFT(8)(view), STFT(8)(x), atol=1e-5)


def test_stft_mask_silences_a_block_of_the_documented_size():
    b, l, n_fft = 200, 96, 16
    x, g = randn(b, 1, l), gen(2)
    u, inside = STFT(n_fft)(x), []
    for n in u.shape[2:]:
        width = 0.25 * n * torch.rand(b, 1, generator=g)
        start = torch.rand(b, 1, generator=g) * (n - width)
        inside.append([[start[i] <= k < start[i] + width[i] for k in range(n)] for i in range(b)])
    block = torch.tensor(inside[0])[:, :, None] & torch.tensor(inside[1])[:, None]
    z = torch.complex(u[:, 0], u[:, 1]).masked_fill(block, 0)
    want = torch.istft(z, n_fft, n_fft // 4, window=torch.hann_window(n_fft), length=l)
    assert_allclose(aug.stft_mask(x, gen(2), n_fft=n_fft)[:, 0], want, atol=2e-5)
    assert block.any() and block.float().mean((1, 2)).max() < 0.1


PIECES = ("slice_and_shuffle", "slice (setting)")
SCALED = series(sizes=((1, 4), (1, 3), (1, 200)), scales=st.integers(-20, 20), layouts=("plain",))


@fuzz(
    400,
    name=st.sampled_from(list(NAMED)),
    pair=SCALED,
    seed=st.integers(0, 2**32),
    odd=st.sampled_from([None] * 8 + ["flat", "whole", "parameter"]),
)
def test_series_of_every_kind_have_views(name, pair, seed, odd):
    x, f = torch.from_numpy(pair[1].astype("f4")), NAMED[name]
    if odd == "flat":
        assert tried(lambda: f(x[:, 0], gen(seed)), "x must") is REFUSED
        return
    if odd == "whole" and not name.startswith("stft"):
        assert tried(lambda: f(x.long(), gen(seed)), "x must") is REFUSED
        return
    if odd == "parameter":
        cut, warp = aug.slice_and_shuffle, aug.window_warp
        assert tried(lambda: cut(x, gen(seed), n_segments=0), "n_segments") is REFUSED
        assert tried(lambda: warp(x, gen(seed), window=2), "window") is REFUSED
        return
    before = x.clone()
    view = tried(lambda: f(x, gen(seed)), "x has length")
    if view is REFUSED:
        assert name.startswith("stft") and x.shape[-1] < 2
        return
    assert view.shape == x.shape and view.dtype == torch.float32 and view.isfinite().all()
    assert torch.equal(x, before) and torch.equal(view, f(x, gen(seed)))
    if name in PIECES:
        assert torch.equal(view.sort(-1).values, x.sort(-1).values)
    if name == "flip":
        assert torch.equal(view.abs(), x.abs())
