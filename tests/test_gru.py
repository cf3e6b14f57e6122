"""Small recurrent networks side by side, against PyTorch's own and against loops"""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from ncvq_nb.engine.progress import progress_bar
from ncvq_nb.evaluation.gru import StackedGRU, apply_stack, draw_rows, take_rows, train_stack
from toys import global_state

BAR = progress_bar(1, "GRU", shown=False)


def inputs(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def with_reset_gate(net, diagonal):
    "Weights of some size, so that no gate is near its middle; V diagonal where asked."
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p += inputs(*p.shape, seed=i) - 0.5
        if diagonal:
            net.V.copy_(torch.diag_embed(inputs(*net.V.shape[:2])))
    return net


def test_states_and_gradients_are_those_of_torch():
    "Where V is diagonal, it does not matter on which side of it the reset gate acts."
    net, x = with_reset_gate(StackedGRU(4, 3, [5, 6]), diagonal=True), inputs(2, 7, 4, 5)
    mine = torch.stack(net.states(x), 1)  # (runs, time, units, batch)
    mine.square().sum().backward()
    for i in range(2):
        gru = nn.GRU(4, 3)
        with torch.no_grad():
            gru.weight_ih_l0.copy_(torch.cat([net.W[i], net.W_n[i]]))
            gru.weight_hh_l0.copy_(torch.cat([net.U[i], net.V[i]]))
            gru.bias_ih_l0.copy_(torch.cat([net.b[i], net.b_n[i]])[:, 0])
            gru.bias_hh_l0.zero_()
        states, _ = gru(x[i].transpose(1, 2))
        states.square().sum().backward()
        assert_allclose(mine[i].detach(), states.detach().transpose(1, 2), atol=1e-6)
        g = gru.weight_ih_l0.grad
        assert_allclose(torch.cat([net.W.grad[i], net.W_n.grad[i]]), g, atol=1e-5)
        own, g = torch.cat([net.U.grad[i], net.V.grad[i]]), gru.weight_hh_l0.grad.clone()
        off = ~torch.eye(3, dtype=bool)
        own[6:][off], g[6:][off] = 0, 0  # off the diagonal the two cells differ
        assert_allclose(own, g, atol=1e-5)


def test_the_reset_gate_acts_before_the_matrix():
    net, x = with_reset_gate(StackedGRU(2, 3, [1]), diagonal=False), inputs(1, 4, 2, 1)
    W, U, W_n, V, out, b, b_n, b_out = (p[0].detach().double().numpy() for p in net.parameters())
    h, said = np.zeros((3, 1)), []
    for x_t in x[0].double().numpy():
        r, z = np.split(1 / (1 + np.exp(-(W @ x_t + U @ h + b))), 2)
        h = z * h + (1 - z) * np.tanh(W_n @ x_t + V @ (r * h) + b_n)
        said.append((out @ h + b_out).item())
    assert_allclose(net.each(x).detach()[0, :, 0], said, rtol=1e-5)
    assert_allclose(net.last(x).detach()[0, 0], said[-1], rtol=1e-5)


def test_weights_begin_as_in_the_published_code():
    net = StackedGRU(6, 3, range(400))
    assert (net.b == 1).all() and (net.b_n == 0).all() and (net.b_out == 0).all()
    bounds = dict(W=6 / 15, U=6 / 15, W_n=6 / 12, V=6 / 12, out=6 / 4)  # 6 / (inputs + outputs)
    for name, square in bounds.items():
        w = getattr(net, name).detach()
        assert w.abs().max() < square**0.5 < 1.01 * w.abs().max(), name
        assert_allclose(w.var(), square / 3, rtol=0.1)


def mean_square(net, x, which):
    return (net.last(x) - which).square()


def trained(pools, seeds, n_steps=4, batch_size=6, X=inputs(30, 5, 2), lr=1e-3):
    net, rngs = StackedGRU(2, 2, seeds), [np.random.default_rng(s) for s in seeds]
    how = dict(n_steps=n_steps, batch_size=batch_size, rngs=rngs, bar=BAR, lr=lr)
    train_stack(net, X, pools, mean_square, **how)
    return net


def test_no_network_depends_on_its_neighbours():
    before = global_state()
    few, many = [np.arange(4), np.arange(4, 30)], [np.arange(15), np.arange(15, 30)]
    threads = torch.get_num_threads()
    alone, both = trained([few], [7]), trained([many, few], [3, 7])
    for p, q in zip(alone.parameters(), both.parameters()):
        assert_allclose(p[0].detach(), q[1].detach(), atol=1e-6)
        assert (p[0] - q[0]).abs().max() > 1e-3 or p.numel() == 1
    assert global_state() == before and torch.get_num_threads() == threads


def test_a_loss_is_the_sum_over_pools_of_means():
    "Pools that are taken whole, in whatever order: ten steps as PyTorch alone takes them."
    X, pools = inputs(30, 5, 2), [np.arange(2), np.arange(2, 20)]
    net = StackedGRU(2, 2, [0])
    opt = torch.optim.Adam(net.parameters(), 0.1)
    for _ in range(10):
        parts = [net.last(take_rows(X, p[None])) - k for k, p in enumerate(pools)]
        opt.zero_grad()
        sum(part.square().mean() for part in parts).backward()
        opt.step()
    longer = [np.arange(20), np.arange(20, 30)]  # a neighbour whose batches are wider
    moved = trained([pools, longer], [0, 1], n_steps=10, batch_size=18, X=X, lr=0.1)
    for p, q in zip(net.parameters(), moved.parameters()):
        assert_allclose(p[0].detach(), q[0].detach(), atol=1e-3)


def test_rows_are_drawn_without_repetition_and_evenly():
    rng, counts = np.random.default_rng(0), np.zeros(9)
    for _ in range(600):
        rows = draw_rows([np.arange(6), np.arange(6, 9)], 4, rng)
        assert len(rows) == 7 and len(set(rows)) == 7
        np.add.at(counts, rows, 1)
    assert_allclose(counts[:6], 400, atol=60)
    assert (counts[6:] == 600).all()


@pytest.mark.parametrize("n", [3, 1024, 2500])
def test_all_rows_are_asked_about(n):
    X = torch.arange(2500.0)[:, None, None].expand(-1, 2, 1)
    rows = [np.arange(n)[::-1], np.arange(5)]

    def read(net, x):
        return x[:, 0, 0]

    for found, r in zip(apply_stack(None, X, rows, read), rows):
        assert_array_equal(found, r)
