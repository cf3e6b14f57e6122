"""Random tensors, the same ones at every call: `from tensors import gen, randn`."""

import torch


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=gen(seed), dtype=dtype)
