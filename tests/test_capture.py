"""Steps that are captured once and repeated, as a CUDA graph does, equal steps that are taken one by one.

`Tape` keeps the rules of a CUDA graph without a GPU: it notes the tensor operations of one call, and repeats them on the same memory without running any Python again.
Whatever reads a value on the host is an error, as it is while a graph is captured. The graph itself is tried where there is a GPU.
"""
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ncvq_nb.maskgit import MaskGIT, MaskGITLoss
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from ncvq_nb.training import Stepper, _adamw, cosine_lr, cuda_graph, evaluate_loss, seed_of, seeded, train
from test_devices import DEVICES

ON_HOST = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "unique_dim")


def tensors(tree): return [t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]


class Tape(TorchDispatchMode):
    "Operations of a call, with the tensors they read and wrote."
    def __init__(self):
        super().__init__()
        self.notes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name.removeprefix("aten::") not in ON_HOST, f"the host waits for {func}"
        kwargs, returns = kwargs or {}, func._schema.returns
        read = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs))  # the same memory, whatever becomes of these tensors' shapes
        out = func(*args, **kwargs)
        if torch.Tag.inplace_view in func.tags or any(r.alias_info and not r.alias_info.is_write for r in returns): return out  # views see their memory filled anew by themselves
        written = [] if any(r.alias_info for r in returns) else tree_map_only(torch.Tensor, torch.Tensor.detach, tensors(out))
        self.notes.append((func, *read, written))
        return out

    @torch.no_grad()
    def repeat(self):
        for func, args, kwargs, kept in self.notes:
            for a, b in zip(kept, tensors(func(*args, **kwargs))): a.copy_(b)


def tape(f, generator):
    "Like `cuda_graph`, but that noting a step takes it; so the first repetition is left out."
    made = Tape()
    with made: found = f()
    turns = iter([lambda: None])
    return lambda: next(turns, made.repeat)(), found


def tokenizer(ssl, augment):
    o = TokenizerLoss(Tokenizer(2, 50, dim=8, n_res_blocks=1, n_codes=8, orthogonality=.1), ssl=ssl, augment=augment, projector_dim=64)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(24, 2, 50)).cumsum(-1).astype(np.float32))
    o.start(x, torch.Generator().manual_seed(0))
    return o, (x,)


def prior(dropout):
    o, gen = MaskGITLoss(MaskGIT(10, 8, 3, dim=32, depth=1, dropout=dropout)), torch.Generator().manual_seed(0)
    return o, (torch.randint(8, (24, 10), generator=gen), torch.randint(3, (24,), generator=gen))


OBJECTIVES = {**{f"{ssl}-{augment}": (tokenizer, ssl, augment) for ssl, augment in ((None, None), ("barlow", "warp"), ("vicreg", "slice"), ("vibcreg", "gauss"))}, "prior": (prior, 0.0), "prior-dropout": (prior, .1)}


def run(make, *settings, capture, device="cpu", steps=12, precision="float32", spoil=()):
    "Losses, norms and the end of a few steps, each with its own batch, seed and rate."
    with seeded(0):
        o, data = make(*settings)
        o, data = o.to(device, memory_format=torch.channels_last).train(), [t.to(device) for t in data]
    stepper = Stepper(o, _adamw(o, .01, .01, captured=True), precision, defer=True, capture=capture)
    gen, seen = torch.Generator(device), []
    with seeded(0, device):
        for i in range(steps):
            stepper.rate(cosine_lr(i, steps, .01))
            gen.manual_seed(seed_of(i)), torch.manual_seed(seed_of(i))
            batch = [t[(i + torch.arange(16)).to(device) % 24] for t in data]
            if i in spoil: batch[0] = batch[0] * float("nan")
            terms, norm = stepper.step(i, batch, gen)
            seen.append([*map(float, terms.values()), float(norm)])
    state = {**o.state_dict(), **{f"{j}.{k}": v for j, s in stepper.opt.state_dict()["state"].items() for k, v in s.items()}}
    return np.array(seen), {k: v.clone() for k, v in state.items()}, stepper.refused()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_repeated_steps_are_those_taken_one_by_one(name, precision):
    one, state, _ = run(*OBJECTIVES[name], capture=None, precision=precision)
    two, again, refused = run(*OBJECTIVES[name], capture=tape, precision=precision)
    assert np.isfinite(one).all() and len(np.unique(one[:, 0])) == len(one) and np.array_equal(one, two)
    assert refused is None and state.keys() == again.keys() and all(torch.equal(state[k], again[k]) for k in state)


def test_a_bad_batch_is_refused_within_the_graph():
    kw = dict(steps=10, spoil=(7,))
    (one, state, refused), (two, again, too) = (run(*OBJECTIVES["barlow-warp"], capture=c, **kw) for c in (None, tape))
    _, before, _ = run(*OBJECTIVES["barlow-warp"], capture=tape, steps=10, spoil=(7, 8, 9))
    assert refused == too == 7 and np.isnan(two[7]).any() and np.array_equal(one, two, equal_nan=True)
    weights = [k for k in state if k.startswith("tokenizer.encoder") and k.endswith("weight")]
    assert weights and all(torch.equal(again[k], state[k]) and torch.equal(again[k], before[k]) for k in weights)  # the optimiser has stood still


def test_what_is_watched_is_of_training_steps_though_series_are_judged_between_them():
    def watched(capture):
        with seeded(0): o, (x,) = tokenizer("barlow", "warp")
        s, gen, seen = Stepper(o.train(), _adamw(o, .01, 0, captured=True), defer=True, capture=capture), torch.Generator(), []
        for i in range(8):
            s.step(i, [x[:16] if i % 2 else x[8:]], gen.manual_seed(i))
            seen.append({k: float(v) for k, v in o.vitals().items()})
            evaluate_loss(o, (x[:2],))
        return seen
    one, two = watched(None), watched(tape)
    assert one == two and len({v["spread"] for v in one}) == 8


def test_the_tape_finds_what_a_graph_would_not_see():
    "Numbers that Python draws are frozen, and a look at a value is an error: else the tests above would prove nothing."
    def frozen(x, generator): return x * float(np.random.default_rng(int(generator.initial_seed())).normal())
    one, two = (run(tokenizer, "barlow", frozen, capture=c)[0] for c in (None, tape))
    assert np.array_equal(one[:4], two[:4]) and not np.array_equal(one[4:], two[4:])
    def look(x, generator): return x if x.mean() > 0 else -x
    with pytest.raises(AssertionError, match="the host waits"): run(tokenizer, "barlow", look, capture=tape)


def test_no_gpu_no_graph():
    o, data = prior(0.0)
    with pytest.raises(ValueError, match="capture=True needs a GPU, but data is on cpu"): train(o, data, steps=1, capture=True)


@pytest.mark.parametrize("device", DEVICES[1:])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_cuda_graph_takes_the_same_steps(name, device):
    one, _, _ = run(*OBJECTIVES[name], capture=None, device=device)
    two, _, refused = run(*OBJECTIVES[name], capture=cuda_graph, device=device)
    np.testing.assert_allclose(two[:6], one[:6], rtol=.01)  # sums on a GPU come in any order, and tokens hang on rounding
    assert refused is None and np.isfinite(two).all()
