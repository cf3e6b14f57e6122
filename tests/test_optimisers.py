"""Muon beside PyTorch's own, and what it moves."""

import pytest
import torch
from tensors import randn
from torch import nn

from ncvq_nb.engine.optimisers import OPTIMISERS, Muon, adamw, make_optimiser, set_rate


class Net(nn.Module):
    "Two layers of one shape, a wider one, a convolution, an embedding, a norm and a parameter."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.wide = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 24)
        self.conv, self.words = nn.Conv1d(3, 6, 4), nn.Embedding(5, 7)
        self.norm, self.place = nn.LayerNorm(9), nn.Parameter(torch.randn(4, 2))


def gradients(net, seed):
    "Random ones for every parameter, the same for the same seed."
    for i, p in enumerate(net.parameters()):
        p.grad = randn(*p.shape, seed=100 * seed + i)


def moved(net, before):
    "By how much each parameter was moved."
    return {k: v.detach() - before[k] for k, v in net.named_parameters()}


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_matrices_move_as_by_pytorchs_muon(weight_decay):
    ours, lr = Net(), 4e-3
    opt = make_optimiser("muon", ours, lr, weight_decay, precision="bfloat16")
    names = [f"{k}.weight" for k in ("one", "two", "wide", "conv")]
    theirs = [p.detach().clone().flatten(1) for k, p in ours.named_parameters() if k in names]
    # PyTorch's decays by its own rate, ours by the rate of all parameters
    reference = torch.optim.Muon(theirs, lr=5 * lr, weight_decay=weight_decay / 5)
    for step in range(6):
        gradients(ours, step)
        for k, p in zip(names, theirs):
            p.grad = ours.get_parameter(k).grad.flatten(1)
        reference.step()
        opt.step()
    for k, p in zip(names, theirs):
        found = ours.get_parameter(k).detach().flatten(1)
        torch.testing.assert_close(found, p, rtol=0, atol=4e-3)  # products in bfloat16, 0.02 a step


def test_all_else_moves_as_by_adamw():
    ours, theirs = Net(), Net()
    opts = make_optimiser("muon", ours, 0.01, 0.3), adamw(theirs, 0.01, 0.3)
    for step in range(4):
        for net, opt in zip((ours, theirs), opts):
            gradients(net, step)
            set_rate(opt, 0.01 / (1 + step))
            opt.step()
    for k, p in ours.named_parameters():
        same = torch.equal(p, theirs.get_parameter(k))
        assert same != (k in [f"{m}.weight" for m in ("one", "two", "wide", "conv")]), k


@pytest.mark.parametrize("name", OPTIMISERS)
def test_each_parameter_is_moved_once_and_one_without_a_gradient_stays(name):
    net = Net()
    net.two.weight.requires_grad_(False)
    opt = make_optimiser(name, net, 0.01, 0.0)
    params = [p for group in opt.param_groups for p in group["params"]]
    assert len({id(p) for p in params}) == len(params) == len([*net.parameters()]) - 1
    before = {k: v.detach().clone() for k, v in net.named_parameters()}
    gradients(net, 0)
    net.conv.weight.grad = net.place.grad = None
    opt.step()
    still = {k for k, v in moved(net, before).items() if not v.any()}
    assert still == {"two.weight", "conv.weight", "place"}


def test_an_update_has_the_rates_length_whatever_the_gradients():
    "Singular values of about 1 times five times the rate, times the root of rows over columns."
    net = Net()
    opt, before = Muon(net, 0.01, 0.0), {k: v.detach().clone() for k, v in net.named_parameters()}
    gradients(net, 0)
    net.one.weight.grad *= 1e-4
    net.wide.weight.grad *= 1e4
    opt.step()
    change = moved(net, before)
    for k, length in (("one", 0.05), ("two", 0.05), ("wide", 0.05 * 3**0.5)):
        singular = torch.linalg.svdvals(change[f"{k}.weight"])
        assert 0.6 * length < singular.min() and singular.max() < 1.25 * length, k


def test_a_network_without_matrices_is_adamws():
    net = nn.LayerNorm(4)
    opt = make_optimiser("muon", net, 0.01, 0.0)
    gradients(net, 0)
    before = {k: v.detach().clone() for k, v in net.named_parameters()}
    opt.step()
    assert all(v.any() for v in moved(net, before).values())
