"""What each parameter of the estimator may be: whatever it may not is named before any work."""

import numpy as np
import pytest
import torch
from toys import fitted, says, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.engine import runtime
from ncvq_nb.estimator import compiling
from ncvq_nb.estimator.compiling import is_captured, is_compiled
from ncvq_nb.estimator.settings import (
    EARLIER,
    check_settings,
    differences,
    renamed,
    settings_of,
    training_settings,
)

nan, inf = float("nan"), float("inf")
BAD = dict(
    ssl=["x", 3, True],
    augment=["x", 3],
    n_fft=[7, 0, -8, "8", 8.0],
    dim=[0, -1, 2.5, "8", None],
    n_res_blocks=[-1, 1.5, "1", None],
    n_codes=[0, -1, 1.5, "8", None],
    decay=[-0.1, 1.0, 2, "x", None, nan],
    dead_code_threshold=[-1, "x", None, nan],
    orthogonality=[-1, 2, "x", None],
    commitment=[-1, "x", None, nan],
    aug_weight=[-1, "x", nan],
    spectral_weight=[-1, "x", None, nan],
    ssl_weight=[-1, "x", nan],
    projector_dim=[0, -1, 2.5, "x", None],
    prior_dim=[0, -1, 1.5, "x", None],
    prior_depth=[-1, 1.5, "x", None],
    prior_heads=[0, -1, 1.5, "x", None],
    prior_dropout=[-0.1, 1.5, "x", None],
    finetune_codebook=["x"],
    compile=["x", None, 1],
    warm_start=["x", None, 1],
    mask_schedule=["x", None, 3, len],
    p_unconditional=[-1, 2, "x", None],
    sampling_steps=[0, -1, 1.5, "x", None],
    choice_temperature=[-1, "x", nan],
    guidance_scale=["x", None, nan],
    temperature=[0, -1, "x", None, nan],
    top_p=[0, 1.1, "x", None, nan],
    order=["x", None, 3],
    guidance_schedule=["x", None, 3],
    revisions=[-1, 1.5, "x", None],
    revise_share=[0, 1.1, "x", None, nan],
    unconditional=["x", None],
    epochs=[0, -1, "x", (1, 2, 3), (1,), nan, inf, (0, 1), (1, -1), (1, False)],
    batch_size=[0, -1, "x", 2.5, 0.5, (1, 2, 3), None],
    bands=[0, 3, "x", 1.5],
    width=[0, -1, "x", (1, 2, 3), (8, 0)],
    code_dim=[0, -1, "x", 2.5],
    observation_noise=[-0.1, nan, "x"],
    warmup=[-0.1, 1, "x"],
    optimizer=["x", "Adam", None, 3, ("muon", "x"), ("muon",) * 3],
    lr=[0, -1, "x", None, inf, nan, (1,), (1e-3, 0)],
    weight_decay=[-1, "x", None, nan, (1, 2, 3), (0, -1)],
    validation_fraction=[-0.1, 1, 1.5, "x", None, nan],
    precision=["x", 16, "float16", None],
    device=["x", 3, "meta"],
    random_state=[-1, 1.5, "x"],
    transformer=["sqrt", 3, np.log],
    clip=["test", 1, (1, 0), (0, 0), (None, None), (0, nan), (1, 2, 3), (0, "1")],
    integers=["x", None, 1],
)


# What is refused


def test_no_parameter_is_left_out_below():
    assert set(NCVQ().get_params()) - set(BAD) == {"verbose"}


@pytest.mark.parametrize(
    "name, value",
    [(k, v) for k, vs in BAD.items() for v in vs],
    ids=lambda v: repr(v) if not callable(v) else v.__name__,
)
def test_bad_parameters_are_named_before_anything_is_done(name, value):
    m = tiny(**{name: value})
    before = set(vars(m))
    with says(name):
        m.fit(*sines())
    assert set(vars(m)) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    with says("device", "cuda"):
        tiny(device="cuda").fit(*sines())


def test_batches_of_one_are_refused_where_series_are_compared():
    with says("batch_size", "2"):
        tiny("barlow", batch_size=1).fit(*sines())
    alone = tiny(None, batch_size=1, epochs=1).fit(*sines(n=3))
    assert alone.sample(1).shape == (1, 1, 33)


def test_whitening_needs_whole_groups():
    with says("projector_dim", "64", "100"):
        tiny("vibcreg", projector_dim=100).fit(*sines())


@pytest.mark.parametrize(
    "change, found",
    [
        (lambda x: x[..., :-1], "(2, 1, 32)"),
        (lambda x: x.numpy(), "ndarray"),
        (lambda x: x.log(), "NaN or infinity"),
    ],
)
def test_views_that_are_none_are_named(change, found):
    with says("augment must keep shape (2, 1, 33), all finite", f"but made {found}"):
        tiny("barlow", lambda x, generator: change(x)).fit(*sines())


def test_a_subclass_without_all_parameters_is_refused():
    class Short(NCVQ):
        def __init__(self, dim=8):
            super().__init__(dim=dim)

    with says("Short must take all parameters of NCVQ", kind=TypeError):
        Short().fit(*sines())


def test_a_compiler_that_is_missing_is_said_before_training(monkeypatch):
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with says("compile=True needs a C++ compiler"):
        tiny(compile=True).fit(*sines())


# What the settings come to


def test_epochs_batches_and_pairs_become_steps():
    def steps(**settings):
        m = tiny(**settings)
        m.seed_ = 0
        return tuple(training_settings(m, stage, n=10).steps for stage in (0, 1))

    assert steps(epochs=(2, 3), batch_size=(5, 4)) == (4, 8)  # 3 × 10 / 4 = 7.5
    assert steps(epochs=0.01) == (1, 1)
    assert steps(epochs=None) == (755, 223)
    m = fitted(epochs=(2, 4), batch_size=5)
    assert [h["epoch"][-1] for h in m.history_.values()] == pytest.approx([2, 4], abs=0.2)


def test_every_stage_has_its_own_settings():
    m = tiny(lr=(1e-3, 2e-3), weight_decay=[0, 1], batch_size=(5, 6), precision="bfloat16")
    m.seed_ = 0
    one, two = (training_settings(m, i, n=10, log_every=3, keep_best=i == 1) for i in (0, 1))
    assert (one.lr, two.lr, one.weight_decay, two.weight_decay) == (1e-3, 2e-3, 0, 1)
    assert (one.batch_size, two.batch_size) == (5, 6) and one.seed != two.seed
    assert one.precision == "bfloat16" and one.log_every == 3
    assert two.keep_best and not one.keep_best


def test_steps_are_captured_on_a_gpu_alone(monkeypatch):
    def found(**how):
        m = tiny(**how)
        return is_captured(m, 0), is_captured(m, 1), is_compiled(m, 6_999), is_compiled(m, 7_000)

    assert found(device="cpu") == found(device="cpu", compile=False) == (False,) * 4
    assert found(device="cpu", compile=True) == (False, False, True, True)
    monkeypatch.setattr(compiling, "find_device", lambda name: torch.device("cuda"))
    assert found() == (True, True, False, True)
    assert found(augment=lambda x, generator: x) == (False, True, False, True)
    assert found(compile=True) == (True,) * 4 and found(compile=False) == (False,) * 4


def test_what_is_noted_leaves_out_what_does_not_matter():
    noted = settings_of(tiny())
    aside = {"verbose", "device", "compile"}
    every = set(NCVQ().get_params())
    later = {k for k, v in EARLIER.items() if tiny().get_params()[k] == v}
    assert {"observation_noise", "optimizer"} == set(EARLIER) - later
    assert every - set(noted) == {*aside, *later, "warm_start"}  # noted where there are any
    other = dict(temperature=0.9, top_p=0.9, order="random", guidance_schedule="linear")
    other |= dict(revisions=1, revise_share=0.2)
    other |= dict(warmup=0.1, bands=2, width=4, code_dim=3, spectral_weight=0.1)
    m = tiny(transformer="log", clip="train", integers=True, warm_start=True, **other)
    assert every - set(settings_of(m)) == aside and settings_of(m)["warm_start"] is True
    assert check_settings(tiny(), views=True) is None
    assert differences(noted, {**noted, "dim": 9, "x": 1}) == [
        "dim was 8, now 9",
        "x was None, now 1",
    ]


def test_names_of_earlier_versions_are_read():
    assert renamed({"revive_below": 1, "dim": 2}) == {"dead_code_threshold": 1, "dim": 2}


def test_the_thesis_settings():
    m = NCVQ.thesis("barlow", "slice", random_state=3)
    want = dict(
        ssl="barlow",
        augment="slice",
        n_fft=8,
        dim=64,
        n_res_blocks=4,
        n_codes=32,
        decay=0.9,
        commitment=1.0,
        aug_weight=0.1,
        ssl_weight=1.0,
        projector_dim=4096,
        prior_dim=256,
        prior_depth=4,
        prior_heads=2,
        prior_dropout=0.0,
        p_unconditional=0.2,
        sampling_steps=10,
        choice_temperature=4.0,
        guidance_scale=1.0,
        unconditional="null",
        epochs=1000,
        batch_size=(128, 256),
        lr=1e-3,
        weight_decay=1e-3,
        random_state=3,
    )
    got = m.get_params()
    assert {k: got[k] for k in want} == want
    assert NCVQ.thesis(epochs=5).epochs == 5 and NCVQ.thesis().ssl_weight is None


def test_random_states_of_numpy_are_taken():
    for random_state in (np.random.default_rng(0), np.random.RandomState(0), None, np.int64(3)):
        check_settings(tiny(random_state=random_state), views=True)
