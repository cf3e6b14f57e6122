"""Sizes of encoder and decoder against the thesis, and layers against torch's own."""

import math

import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional as F

from ncvq_nb.autoencoder import Decoder, Encoder, Pointwise, downsampled_lengths
from ncvq_nb.engine.runtime import seeded
from ncvq_nb.stft import STFT
from tensors import randn


@pytest.mark.parametrize("l", [16, 17, 31, 33, 64, 65, 70, 96, 140, 398, 500, 945, 1024, 4096])
def test_encoder_and_decoder_sizes(l):
    t = STFT().n_frames(l)
    widths = downsampled_lengths(t)
    n = max(1, int(math.log2(max(1, round(l / 2 / 8)))))  # the thesis' number of halvings
    assert widths[-1] == t // 2 ** (len(widths) - 1)
    assert len(widths) - 1 == n or widths[-1] in range(8, 16) or l < 40
    if l <= 140:
        u = randn(2, 2, 5, t)
        encoder = Encoder(2, widths, dim=8, n_res_blocks=1).eval()
        decoder = Decoder(2, widths, dim=8, n_res_blocks=1).eval()
        z = encoder(u)
        assert z.shape == (2, 8, 5, widths[-1]) and decoder(z).shape == u.shape


def test_the_encoder_continues_the_edge():
    with seeded(0):
        enc = Encoder(2, [20, 10, 5], dim=3)
    h = randn(2, 2, 5, 20)
    by_hand = torch.cat([h[..., :1], h, h[..., -1:]], -1)
    by_hand = torch.cat([by_hand[..., :1, :], by_hand, by_hand[..., -1:, :]], -2)
    assert torch.equal(enc[0](h), by_hand)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pointwise_is_a_convolution(layout):
    with seeded(0):
        point = Pointwise(6, 4).double().to(memory_format=layout)
    h = randn(3, 6, 5, 8).double().to(memory_format=layout).requires_grad_()
    g = randn(3, 4, 5, 8).double()
    ours, theirs = point(h), F.conv2d(h, point.weight, point.bias)
    assert_allclose(ours.detach(), theirs.detach(), atol=1e-12)
    wanted = [h, point.weight, point.bias]
    for a, b in zip(torch.autograd.grad(ours, wanted, g), torch.autograd.grad(theirs, wanted, g)):
        assert_allclose(a, b, atol=1e-12)
    assert point(h).is_contiguous(memory_format=layout) or layout is torch.contiguous_format
