"""Turns, operations and memory are counted right."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from conftest import by_night
from ncvq_nb.bench import timing
from ncvq_nb.bench.timing import count_flops, interleave
from toys import TINY


def test_interleave_takes_turns_and_keeps_to_its_budget(monkeypatch):
    now, log = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def f(name, seconds):
        def run():
            log.append(name)
            now[0] += seconds

        return run

    a, b = f("a", 1.0), f("b", 2.0)
    assert_allclose(interleave([a, b], repeats=4, seconds=1e9), [[1000] * 4, [2000] * 4])
    assert "".join(log) == "aabb" + "abba" * 2
    assert interleave([a], repeats=10, seconds=5.5).shape == (1, 6)
    assert interleave([a], repeats=10, seconds=0.1).shape == (1, 3)
    assert interleave([a], repeats=2, seconds=0.1).shape == (1, 2)
    log.clear()
    assert_allclose(interleave([f("a", 0.008)], repeats=2, seconds=9), [[8, 8]])
    assert len(log) == 2 + 2 * 3  # at least 20 ms a turn


def test_operations_by_hand():
    layer, x = nn.Linear(30, 20), torch.randn(7, 30)
    product = 2 * 7 * 30 * 20
    assert count_flops(lambda: layer(x)) == product
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * product
    x.requires_grad_()
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * product
    conv, images = nn.Conv2d(3, 5, (3, 4), stride=(1, 2)), torch.zeros(2, 3, 8, 10)
    assert count_flops(lambda: conv(images)) == 2 * 2 * 5 * (6 * 4) * 3 * (3 * 4)
    q = torch.randn(2, 3, 9, 16)
    attention = nn.functional.scaled_dot_product_attention
    assert count_flops(lambda: attention(q, q, q)) == 2 * (2 * 3 * 9 * 9 * 16) * 2
    a, b = torch.randn(4, 5).bfloat16(), torch.randn(5, 6).bfloat16()
    assert count_flops(lambda: torch.mm(a, b)) == 2 * 4 * 5 * 6


@pytest.mark.slow
@by_night("peaks are measured in the growth of a workload")
def test_peak_memory_is_of_the_new_process_alone():
    ballast = np.ones((900, 1024, 1024), np.uint8)  # 0.9 GB here must not show there
    there = timing.peak_memory("stage1/naive", "reference", calls=1, batch=6, length=32, **TINY)
    assert timing.resident_mb() > 900 and ballast.any()
    assert 50 < there < 850


def test_what_a_new_process_says_when_it_fails():
    with pytest.raises(RuntimeError, match="no root: ValueError: math domain error"):
        timing.answer_of_new_process("math:sqrt", -1, "no root")
    assert timing.answer_of_new_process("builtins:print", 1.5, "") == 1.5


def test_the_machine(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "8589934592")
    found = timing.machine()
    assert {"cpu", "cores", "threads", "torch", "malloc", "amx", "avx512_bf16"} <= set(found)
    line = timing.machine_line(found)
    assert "MALLOC_TRIM_THRESHOLD_=8589934592" in line and torch.__version__ in line
