"""Steps that are captured once and repeated, as a CUDA graph does, equal steps taken one by one.

`Tape` keeps the rules of a CUDA graph without a GPU: it notes the tensor operations of one call,
and repeats them on the same memory without running any Python again. Whatever reads a value on the
host is an error, as it is while a graph is captured. The graph itself is tried where there is a
GPU.
"""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ncvq_nb.engine.objective import Losses, Objective
from ncvq_nb.engine.optimisers import OPTIMISERS, adamw, make_optimiser
from ncvq_nb.engine.runtime import seed_of, seeded
from ncvq_nb.engine.stepper import Stepper, cuda_graph
from ncvq_nb.maskgit import MaskGIT, MaskGITLoss
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from ncvq_nb.training import BatchSampler, TrainingSettings, cosine_lr, evaluate_loss, train
from toys import Line, walks

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
METHODS = [(None, None), ("barlow", "warp"), ("vicreg", "slice"), ("vibcreg", "gauss")]
DIAGNOSTICS = {"perplexity", "projection_std"}
ON_HOST = (
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "equal",
    "masked_select",
    "_unique2",
    "unique_dim",
)

# A CUDA graph without a GPU


def tensors(tree):
    return [t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]


def same_memory(tree):
    "The tensors as they are now, whatever becomes of their shapes."
    return tree_map_only(torch.Tensor, torch.Tensor.detach, tree)


class Tape(TorchDispatchMode):
    "Operations of a call, with the tensors they read and wrote."

    def __init__(self):
        super().__init__()
        self.notes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name.removeprefix("aten::") not in ON_HOST, f"the host waits for {func}"
        kwargs = kwargs or {}
        read = same_memory((args, kwargs))
        out = func(*args, **kwargs)
        aliases = [r.alias_info for r in func._schema.returns if r.alias_info]
        is_view = any(not alias.is_write for alias in aliases)
        if is_view or torch.Tag.inplace_view in func.tags:
            return out  # views see their memory filled anew by themselves
        written = [] if aliases else same_memory(tensors(out))
        self.notes.append((func, *read, written))
        return out

    @torch.no_grad()
    def repeat(self):
        for func, args, kwargs, written in self.notes:
            for a, b in zip(written, tensors(func(*args, **kwargs))):
                a.copy_(b)


def tape(f, generator):
    "Like `cuda_graph`, but that noting a step takes it; so the first repetition is left out."
    noted = Tape()
    with noted:
        found = f()
    turns = iter([lambda: None])

    def replay():
        next(turns, noted.repeat)()

    return replay, found


# What is trained: an objective and its data


def tokenizer(ssl, augment):
    x = torch.from_numpy(walks(length=50)[0])
    tok = Tokenizer(2, 50, dim=8, n_res_blocks=1, n_codes=8, orthogonality=0.1)
    objective = TokenizerLoss(tok, ssl=ssl, augment=augment, projector_dim=64)
    objective.init_codebook(x, torch.Generator().manual_seed(0))
    return objective, (x,)


def prior(dropout):
    objective = MaskGITLoss(MaskGIT(10, 8, 3, dim=32, depth=1, dropout=dropout))
    gen = torch.Generator().manual_seed(0)
    s = torch.randint(8, (24, 10), generator=gen)
    return objective, (s, torch.randint(3, (24,), generator=gen))


OBJECTIVES = {f"{ssl}-{augment}": (tokenizer, ssl, augment) for ssl, augment in METHODS}
OBJECTIVES |= {"prior": (prior, 0.0), "prior-dropout": (prior, 0.1)}


def moments(opt):
    "The optimiser's state of every parameter."
    states = opt.state_dict()["state"].items()
    return {f"{j}.{k}": v for j, state in states for k, v in state.items()}


def take_steps(
    make,
    *settings,
    capture,
    device="cpu",
    steps=12,
    precision="float32",
    bad_batches=(),
    optimizer="adamw",
):
    "Losses, diagnostics, norms and the end of a few steps, each with its own batch, seed and rate."
    with seeded(0):
        objective, data = make(*settings)
    objective.to(device, memory_format=torch.channels_last).train()
    data = [t.to(device) for t in data]
    opt = make_optimiser(optimizer, objective, 0.01, 0.01, True, precision)
    stepper = Stepper(objective, opt, precision, defer=True, capture=capture)
    gen, seen = torch.Generator(device), []
    for i in range(steps):
        stepper.set_lr(cosine_lr(i, steps, 0.01))
        gen.manual_seed(seed_of(i))
        batch = [t[(i + torch.arange(16)).to(device) % 24] for t in data]
        if i in bad_batches:
            batch[0] = batch[0] * float("nan")
        losses, norm = stepper.step(i, batch, gen)
        row = {**losses.named(), **losses.diagnostics, "grad_norm": norm}
        seen.append({k: float(v) for k, v in row.items()})
    state = {k: v.clone() for k, v in {**objective.state_dict(), **moments(opt)}.items()}
    return {k: np.array([row[k] for row in seen]) for k in seen[0]}, state, stepper.refused()


def assert_same(one, two):
    "Two histories are equal to the last bit."
    assert one.keys() == two.keys()
    for k in one:
        np.testing.assert_array_equal(one[k], two[k], err_msg=k)  # NaN equals NaN


@pytest.mark.parametrize("capture", [None, tape])
def test_what_was_trained_goes_from_memory_with_the_stepper(capture):
    objective, x, y = Line(), torch.ones(8, 4), torch.ones(8, 1)
    opt = adamw(objective, 0.01, 0.0, True)
    stepper = Stepper(objective, opt, defer=True, capture=capture)
    for i in range(5):
        stepper.step(i, [x, y], torch.Generator())
    gone = weakref.ref(objective)
    gc.collect()
    gc.disable()  # reference cycles stay until Python looks for them, and a projector is large
    try:
        del stepper, objective, opt
        assert gone() is None
    finally:
        gc.enable()


# Captured steps


STEPS = [(name, "adamw") for name in OBJECTIVES] + [("barlow-warp", "muon"), ("prior", "muon")]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name, optimizer", STEPS)
def test_repeated_steps_are_those_taken_one_by_one(name, optimizer, precision):
    how = dict(precision=precision, optimizer=optimizer)
    one, state, _ = take_steps(*OBJECTIVES[name], capture=None, **how)
    two, again, refused = take_steps(*OBJECTIVES[name], capture=tape, **how)
    assert all(np.isfinite(v).all() for v in one.values())
    assert len(np.unique(one["loss"])) == 12 and refused is None
    assert_same(one, two)
    assert state.keys() == again.keys()
    assert all(torch.equal(state[k], again[k]) for k in state)


@pytest.mark.parametrize("name", ["barlow-warp", "prior"])
def test_weights_that_are_converted_at_once_are_those_that_autocast_converts(name):
    "Deferred steps in bfloat16 beside steps that the host looks at."

    def end(defer):
        with seeded(0):
            objective, data = OBJECTIVES[name][0](*OBJECTIVES[name][1:])
        objective.to(memory_format=torch.channels_last).train()
        opt = adamw(objective, 0.01, 0.01)
        stepper, gen = Stepper(objective, opt, "bfloat16", defer=defer), torch.Generator()
        assert bool(stepper.low) == defer
        losses = []
        for i in range(6):
            gen.manual_seed(i)
            with seeded(i):
                losses.append(float(stepper.step(i, [t[:16] for t in data], gen)[0].loss))
        return losses, [p.detach().clone() for p in objective.parameters()]

    (one, weights), (two, others) = end(False), end(True)
    assert len(set(one)) == 6
    np.testing.assert_allclose(two, one, rtol=2e-3)
    for a, b in zip(weights, others):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_a_bad_batch_is_refused_within_the_graph(optimizer):
    def end(capture, *bad_batches):
        how = dict(capture=capture, steps=10, bad_batches=bad_batches, optimizer=optimizer)
        return take_steps(*OBJECTIVES["barlow-warp"], **how)

    (one, state, refused), (two, again, too) = end(None, 7), end(tape, 7)
    _, before, _ = end(tape, 7, 8, 9)
    assert refused == too == 7 and np.isnan(two["loss"][7])
    assert_same(one, two)
    weights = [k for k in state if "encoder" in k and k.endswith("weight")]
    assert weights
    weights += [k for k in state if k.endswith("momentum")]
    assert (optimizer == "muon") == any(k.endswith("momentum") for k in weights)
    for k in weights:  # the optimiser has stood still
        assert torch.equal(again[k], state[k]) and torch.equal(again[k], before[k])


def test_diagnostics_are_of_training_steps_though_the_loss_is_evaluated_between_them():
    def diagnostics(capture):
        with seeded(0):
            objective, (x,) = tokenizer("barlow", "warp")
        opt = adamw(objective.train(), 0.01, 0, captured=True)
        stepper = Stepper(objective, opt, defer=True, capture=capture)
        gen, seen = torch.Generator(), []
        for i in range(8):
            batch = [x[:16] if i % 2 else x[8:]]
            losses, _ = stepper.step(i, batch, gen.manual_seed(i))
            evaluate_loss(objective, (x[:2],))
            seen.append({k: float(v) for k, v in losses.diagnostics.items()})
        return seen

    one, two = diagnostics(None), diagnostics(tape)
    assert one == two and one[0].keys() == DIAGNOSTICS
    assert len({v["projection_std"] for v in one}) == 8


def test_the_tape_finds_what_a_graph_would_not_see():
    "Numbers that Python draws are frozen, a look at a value is an error: what the above rests on."

    def frozen(x, generator):
        return x * float(np.random.default_rng(int(generator.initial_seed())).normal())

    def look(x, generator):
        return x if x.mean() > 0 else -x

    one, two = (take_steps(tokenizer, "barlow", frozen, capture=c)[0] for c in (None, tape))
    assert np.array_equal(one["loss"][:4], two["loss"][:4])
    assert not np.array_equal(one["loss"][4:], two["loss"][4:])
    with pytest.raises(AssertionError, match="the host waits"):
        take_steps(tokenizer, "barlow", look, capture=tape)


def test_no_gpu_no_graph():
    data = torch.zeros(8, 4), torch.zeros(8, 1)
    with pytest.raises(ValueError, match="capture=True needs a GPU, but data is on cpu"):
        train(Line(), data, TrainingSettings(steps=1), capture=True)


class Root(Objective):
    "A finite loss whose gradient is none at 0: the square root."

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x, generator=None):
        self.seen += 1
        return Losses((self.w[0] * x).square().sum().sqrt() + self.w.sum())


def test_the_optimiser_stands_still_on_its_own_until_somebody_asks():
    """What happens on a GPU, where no step waits for the host.

    The fused optimiser of the CPU heeds the same flag.
    """
    objective, gen = Root(), torch.Generator()
    opt = torch.optim.AdamW(objective.parameters(), lr=0.1, fused=True)
    stepper, good, bad = Stepper(objective, opt, defer=True), [torch.ones(2)], [torch.zeros(2)]
    stepper.step(0, good, gen)
    assert stepper.refused() is None
    w = objective.w
    moved, steps = w.detach().clone(), opt.state[w]["step"].clone()
    assert not torch.equal(moved, torch.ones(3))
    for i, batch in enumerate((bad, good, bad), start=1):
        stepper.step(i, batch, gen)
    assert torch.equal(w, moved) and opt.state[w]["step"] == steps and stepper.refused() == 1
    stepper.restore()
    assert objective.seen == 1


# On a GPU


@pytest.mark.cuda
@gpu
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_cuda_graph_takes_the_same_steps(name):
    one, _, _ = take_steps(*OBJECTIVES[name], capture=None, device="cuda")
    two, _, refused = take_steps(*OBJECTIVES[name], capture=cuda_graph, device="cuda")
    assert refused is None and all(np.isfinite(v).all() for v in two.values())
    for k in one.keys() - DIAGNOSTICS:  # sums on a GPU come in any order; tokens hang on rounding
        np.testing.assert_allclose(two[k][:6], one[k][:6], rtol=0.01, err_msg=k)


@pytest.mark.cuda
@gpu
@pytest.mark.parametrize("capture", [None, cuda_graph])
@pytest.mark.parametrize("ssl, augment", METHODS)
def test_no_step_waits_for_the_host(ssl, augment, capture):
    x = torch.from_numpy(walks()[0]).cuda()
    tok = Tokenizer(2, 64, dim=16, n_res_blocks=1, n_codes=16)
    objective = TokenizerLoss(tok, ssl=ssl, augment=augment, projector_dim=64).cuda().train()
    opt = adamw(objective, 1e-3, 1e-5, captured=capture is not None)
    stepper = Stepper(objective, opt, capture=capture)
    gen, sampler = torch.Generator("cuda"), BatchSampler(24, 16, 0, "cuda")

    def step(i):
        stepper.set_lr(cosine_lr(i, 20, 1e-3))
        gen.manual_seed(i)
        return stepper.step(i, [x[sampler.batch(i)]], gen)

    for i in range(6):
        step(i)
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for i in range(6, 12):
            losses, norm = step(i)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert stepper.refused() is None
    assert all(map(torch.isfinite, [*losses.named().values(), norm]))
