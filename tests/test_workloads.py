"""The workloads do what they say: their steps are the library's, in the sizes of the thesis."""

import copy

import pytest
import torch

from ncvq_nb import NCVQ
from ncvq_nb.augment import AUGMENTATIONS
from ncvq_nb.bench import workloads
from ncvq_nb.bench.timing import count_flops
from ncvq_nb.bench.workloads import Case, bench_series, build_workload
from ncvq_nb.engine.runtime import seed_of, seeded
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from ncvq_nb.training import BatchSampler, TrainingSettings, cosine_lr, train
from toys import TINY

SMALL = dict(batch=6, length=32, device="cpu", n_samples=4, **TINY)


def test_a_step_is_a_step_of_train():
    x, steps, lr = torch.from_numpy(bench_series(20, 64)[0]), 5, 1e-3
    model = NCVQ.thesis(lr=lr)
    with seeded(0):
        tokenizer = Tokenizer(1, 64, dim=8, n_res_blocks=2, n_codes=8)
        a = TokenizerLoss(tokenizer, ssl="barlow", augment="warp", projector_dim=64)
    a.init_codebook(x, torch.Generator().manual_seed(0))
    b = copy.deepcopy(a).train()
    settings = dict(steps=steps, batch_size=8, lr=lr, weight_decay=model.weight_decay, seed=0)
    train(a, (x,), TrainingSettings(**settings))
    stepper = workloads.make_stepper(Case(model, None, None, x, "float32", 4), b)
    sampler, gen = BatchSampler(len(x), 8, 0), torch.Generator()
    for i in range(steps):
        stepper.set_lr(cosine_lr(i, steps, lr))
        gen.manual_seed(seed_of(0, "step", i))
        stepper.step(i, [x[sampler.batch(i)]], gen)
    for (k, v), w in zip(a.state_dict().items(), b.state_dict().values()):
        assert torch.equal(v, w), k


@pytest.mark.parametrize("ssl", [None, "barlow", "vibcreg"])
def test_what_is_measured_has_the_sizes_of_the_thesis(ssl):
    X, y = bench_series(4, 140)
    model = NCVQ.thesis(**workloads.WORKLOADS[f"stage1/{ssl or 'naive'}"][1])
    o = workloads.make_objective(Case(model, X, y, torch.from_numpy(X), "float32", 4))
    c = o.tokenizer.config
    sizes = [c[k] for k in ("n_fft", "dim", "n_res_blocks", "n_codes", "decay")]
    assert sizes == [8, 64, 4, 32, 0.9] and model.ssl == ssl
    assert o.tokenizer.bands[0].encoder[1].weight.is_contiguous(memory_format=torch.channels_last)
    if ssl is not None:
        assert o.heads["0"].projector[0].weight.shape == (4096, 128)
        assert o.augment is AUGMENTATIONS["warp"]
    assert (model.prior_dim, model.prior_depth, model.prior_heads) == (256, 4, 2)
    assert (model.sampling_steps, model.choice_temperature) == (10, 4)
    assert (model.guidance_scale, model.unconditional) == (1, "null")


def test_arithmetic_of_a_step_by_hand():
    "What a wider projector of Barlow Twins adds: two projections and the b × b products."
    b, d = 6, TINY["dim"]

    def flops(p):
        return count_flops(build_workload("stage1/barlow", **{**SMALL, "projector_dim": p}).ours)

    def layer(i, o):
        return 3 * 2 * b * i * o  # forward, and backward to weights and input

    def by_hand(p):
        projections = 2 * (layer(2 * d, p) + 2 * layer(p, p))
        products = 2 * 2 * b * b * p  # two Z Zᵀ
        return projections + products + 2 * products  # and each backward to both of its factors

    assert flops(64) - flops(32) == by_hand(64) - by_hand(32)


def test_series_of_a_class_cost_the_reference_twice_the_passes():
    null, one = (build_workload(w, **SMALL, sampling_steps=3) for w in ("sample", "sample/class"))
    assert count_flops(null.ours) == count_flops(one.ours)
    assert 1.5 < count_flops(one.reference) / count_flops(null.reference) < 2


def test_the_reference_is_not_compiled():
    module = torch.nn.Linear(3, 2)
    module.compile()
    twin = workloads.eager(module)
    assert module._compiled_call_impl is not None and twin._compiled_call_impl is None
    assert torch.equal(twin.weight, module.weight)
