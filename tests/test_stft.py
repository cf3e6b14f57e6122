"""The STFT is SciPy's, its inverse torch's, at every length."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import signal
from torch.nn import functional as F

from fuzzing import KINDS, REFUSED, TAME, fuzz, tried
from hypothesis import assume
from hypothesis import strategies as st
from ncvq_nb.stft import STFT, overlap_add
from tensors import randn


def scipy_stft(x, n_fft, hop):
    """(b, c, l) -> (b, 2c, f, t).

    SciPy divides by the sum of the window and continues series at the ends in its own way, so both
    are done here.
    """
    b, c, l = x.shape
    half = n_fft // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (half, half)), mode="reflect")
    window = signal.get_window("hann", n_fft)  # periodic
    _, _, u = signal.stft(
        padded, window=window, nperseg=n_fft, noverlap=n_fft - hop, boundary=None, padded=False
    )
    u = u[..., : 1 + l // hop] * window.sum()  # (b, c, f, t)
    return np.stack([u.real, u.imag], 2).reshape(b, 2 * c, half + 1, -1)


@pytest.mark.parametrize("n_fft, hop", [(8, 2), (4, 1), (16, 4), (8, 1), (8, 3), (8, 4), (32, 8)])
def test_stft_is_scipys(n_fft, hop):
    stft = STFT(n_fft, hop)
    for l in {n_fft, n_fft + 1, n_fft + 3, 65, 96}:
        x = randn(3, 2, l)
        assert_allclose(stft(x).numpy(), scipy_stft(x.numpy(), n_fft, hop), atol=2e-5)


def test_the_round_trip_is_exact_at_every_length():
    stft = STFT(8)
    for l in [*range(8, 65), 127, 255, 945]:
        for c in (1, 3):
            x = randn(2, c, l, seed=l)
            u = stft(x)
            assert u.shape == (2, 2 * c, 5, stft.n_frames(l)) and u.dtype == torch.float32
            assert_allclose(stft.inverse(u, l), x, atol=2e-6, err_msg=f"length {l}")


@pytest.mark.parametrize("n_fft, hop", [(8, 2), (4, 2), (16, 4), (8, 3), (12, 5)])
def test_the_inverse_is_torchs_on_images_of_no_series(n_fft, hop):
    stft = STFT(n_fft, hop)
    for l in range(n_fft, n_fft + 25):
        u = randn(2, 6, n_fft // 2 + 1, stft.n_frames(l), seed=l)
        z = torch.complex(u[:, 0::2], u[:, 1::2]).flatten(0, 1)
        if n_fft + hop * (z.shape[-1] - 1) - n_fft // 2 < l:
            z = F.pad(z, (0, 1))
        want = torch.istft(z, n_fft, hop, window=torch.hann_window(n_fft), center=True, length=l)
        got = stft.inverse(u, l)
        assert got.shape == (2, 3, l)
        assert_allclose(got.flatten(0, 1), want, atol=2e-5, err_msg=f"length {l}")


@pytest.mark.parametrize("n, hop", [(8, 2), (8, 3), (5, 5), (4, 7)])
def test_overlap_add_against_a_loop(n, hop):
    frames = randn(3, 6, n)
    got = overlap_add(frames, hop)
    want = torch.zeros(3, max(got.shape[1], 5 * hop + n))
    for m in range(6):
        want[:, m * hop : m * hop + n] += frames[:, m]
    assert_allclose(got, want[:, : got.shape[1]], atol=1e-6)
    assert (want[:, got.shape[1] :] == 0).all()


def test_channels_and_series_do_not_mix():
    x, stft = randn(3, 2, 33), STFT()
    u = stft(x)
    for i in range(3):
        for c in range(2):
            alone = stft(x[i : i + 1, c : c + 1])
            assert_allclose(u[i : i + 1, 2 * c : 2 * c + 2], alone, atol=1e-6)


def test_gradients_against_finite_differences():
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


def test_the_round_trip_has_the_identity_as_its_jacobian():
    stft, leaf, g = STFT(), randn(1, 1, 13).requires_grad_(), randn(1, 1, 13, seed=2)
    (stft.inverse(stft(leaf), 13) * g).sum().backward()
    assert_allclose(leaf.grad, g, atol=1e-5)


@pytest.mark.parametrize(
    "kw",
    [
        dict(n_fft=7),
        dict(n_fft=1),
        dict(n_fft=0),
        dict(n_fft=8.0),
        dict(n_fft="8"),
        dict(hop_length=0),
        dict(hop_length=5),
        dict(hop_length=1.5),
    ],
    ids=str,
)
def test_bad_windows_are_refused(kw):
    with pytest.raises(ValueError, match=next(iter(kw))):
        STFT(**kw)


@fuzz(
    500,
    n_fft=st.integers(2, 40).map(lambda k: 2 * k),
    hop=st.one_of(st.none(), st.integers(1, 40)),
    extra=st.one_of(st.integers(0, 130), st.integers(0, 5000)),
    c=st.integers(1, 3),
    kind=st.sampled_from(TAME),
    scale=st.integers(-30, 30),
    seed=st.integers(0, 2**32),
    exotic=st.booleans(),
)
def test_series_of_every_kind_come_back(n_fft, hop, extra, c, kind, scale, seed, exotic):
    stft = tried(lambda: STFT(np.int64(n_fft) if exotic else n_fft, hop), "hop_length")
    if stft is REFUSED:
        assert hop > n_fft // 2
        return
    l = n_fft + extra
    x = torch.from_numpy(KINDS[kind](np.random.default_rng(seed), (2, c, l))).float()
    x = x / x.abs().max().clamp(min=1e-30) * 10.0**scale
    u = tried(lambda: stft(x), "x has")
    assert u.shape == (2, 2 * c, stft.n_freqs, stft.n_frames(l)) and u.dtype == torch.float32
    narrow = stft.hop_length <= max(n_fft // 4, 1)
    assume(narrow or n_fft <= 24)  # at wider steps the last window's rim divides by little
    back = tried(lambda: stft.inverse(u, l), "length")
    assert back.shape == x.shape
    assert float((back - x).abs().max()) <= 10.0**scale * (1e-4 if narrow else 2e-2)
    assert tried(lambda: stft(x[..., : n_fft - 1]), "x has length") is REFUSED
    assert tried(lambda: stft(x[0]), "x must") is REFUSED
    assert tried(lambda: stft.inverse(u, l + n_fft), "length") is REFUSED
