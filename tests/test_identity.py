"""Parameters as JSON; callables are told apart by all that decides what they do."""

import functools
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from toys import ENV, says, sines, tiny

import ncvq_nb as nv
from ncvq_nb.augment import compose, flip, gaussian_noise
from ncvq_nb.engine.identity import Named, as_json
from ncvq_nb.evaluation.fcn import FCNClassifier


def noisy(sigma):
    return lambda x, generator=None: gaussian_noise(x, generator, sigma=sigma)


VIEWS = [
    functools.partial(gaussian_noise, sigma=0.05),
    functools.partial(gaussian_noise, sigma=3.0),
    compose(flip, gaussian_noise),
    compose(gaussian_noise, flip),
    noisy(0.05),
    noisy(3.0),
    lambda x, generator=None: x * 2,
    lambda x, generator=None: x * 3,
    lambda x, generator=None, k=2: x * k,
    lambda x, generator=None, k=3: x * k,
    flip,
    gaussian_noise,
]


def test_callables_are_told_apart_by_what_they_do():
    assert len({as_json(v) for v in VIEWS}) == len(VIEWS)
    assert as_json(noisy(0.05)) == as_json(VIEWS[4])
    assert "gaussian_noise" in as_json(VIEWS[0]) and "sigma=0.05" in as_json(VIEWS[0])

    def again(n):
        return again(n - 1) if n else 0  # carries itself along

    assert as_json(again) == as_json(again)


def test_names_of_callables_are_the_same_in_another_process():
    here = os.path.dirname(__file__)
    program = (
        f"import sys; sys.path.insert(0, {here!r}); from test_identity import VIEWS, as_json; "
        "print(*map(as_json, VIEWS), sep='|')"
    )
    r = subprocess.run(
        [sys.executable, "-c", program],
        env={**ENV, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert r.stdout.strip() == "|".join(map(as_json, VIEWS))


class Shaker:
    "An object whose method is an augmentation."

    def __init__(self, sigma):
        self.sigma = sigma

    def shake(self, x, generator=None):
        return x * self.sigma

    def __call__(self, x, generator=None):
        return x + self.sigma


class Slotted:
    __slots__ = ("sigma",)

    def __call__(self, x, generator=None):
        return x


class Net(torch.nn.Module):
    def __init__(self, seed, slope=0.1):
        super().__init__()
        self.slope = slope
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.rand(3, generator=generator))

    def forward(self, x, generator=None):
        return x * self.weight.sum()


def with_global(value, source="def view(x, generator=None):\n    return x * strength"):
    "A function of a module of one's own in which the name `strength` stands for something."
    module = types.ModuleType("__main__")
    module.strength = value
    exec(source, module.__dict__)
    return module.view


def with_helper(factor):
    source = (
        f"def helper(x):\n    return x * {factor}\n"
        "def view(x, generator=None):\n    return (lambda z: helper(z))(x)"
    )
    return with_global(None, source)


def closed_over(value):
    def view(x, generator=None):
        return x, value

    return view


REACHED = dict(  # two of one name that do different things
    a_global=lambda i: with_global(float(i)),
    a_global_array=lambda i: with_global(np.full(3, i)),
    a_helper=lambda i: with_helper(i),
    a_bound_method=lambda i: Shaker(i).shake,
    an_object=lambda i: Shaker(i),
    weights=lambda i: Net(i),
    an_attribute_of_a_network=lambda i: Net(0, slope=i),
    a_network_in_a_closure=lambda i: closed_over(Net(i)),
    a_dict_in_a_closure=lambda i: closed_over({"sigma": [i]}),
    a_tensor_in_a_closure=lambda i: closed_over(torch.full((2,), i)),
    a_default=lambda i: functools.partial(gaussian_noise, sigma=i),
    a_function_in_a_composition=lambda i: compose(flip, Shaker(i).shake),
    a_cached_function=lambda i: functools.lru_cache(with_helper(i)),
    a_name=lambda i: Named(str(i), lambda x, generator: x),
    a_classifier=lambda i: FCNClassifier(max_steps=1, random_state=i).fit(*sines(n=6)),
)


@pytest.mark.parametrize("kind", REACHED)
def test_whatever_a_callable_reaches_tells_it_apart(kind):
    one, again, other = (as_json(REACHED[kind](i), strict=True) for i in (1, 1, 2))
    assert one == again != other


UNKNOWN = dict(  # whose state cannot be seen
    generator=with_global(np.random.default_rng(0)),
    old_generator=with_global(np.random.RandomState(0)),
    torch_generator=closed_over(torch.Generator()),
    slots=Slotted(),
    a_file=closed_over(sys.stdout),
    a_hook=Net(0),
)
UNKNOWN["a_hook"].register_forward_hook(print)


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_cannot_be_told_apart_is_asked_for_a_name(kind):
    with says("augment holds", "Named('a name of your own'"):
        as_json(UNKNOWN[kind], strict=True, name="augment")
    as_json(UNKNOWN[kind])  # for a saved model, which nothing is compared with
    assert as_json(Named("mine", UNKNOWN[kind]), strict=True) == "mine"
    with says("name must be a text"):
        Named("", UNKNOWN[kind])


def test_run_folders_and_grids_ask_before_they_train(tmp_path):
    X, y = sines()
    model = tiny(augment=Slotted())
    with says("augment holds a test_identity.Slotted"):
        model.fit(X, y, run_dir=tmp_path / "run")
    data = nv.Dataset("d", X, y, X, y)
    with says("augment holds a test_identity.Slotted"):
        nv.run_grid([data], {"s": dict(augment=Slotted())}, [0], tmp_path / "grid")
    assert not list(tmp_path.rglob("*.*"))
    model.fit(X, y).save(tmp_path / "model")


def test_a_grid_does_not_hand_out_the_report_of_another_function(tmp_path):
    X, y = sines()
    data, sizes = nv.Dataset("d", X, y, X, y), tiny().get_params()
    del sizes["random_state"]

    def run(augment):
        settings = {"s": {**sizes, "augment": augment}}
        how = dict(n_samples=2, cas_total=4, fcn=dict(max_steps=1), cache_dir=False)
        return nv.run_grid([data], settings, [0], tmp_path, n_resamples=2, **how)

    assert len(run(with_helper(1.0))) == 1
    with says("holds the report of another model", "augment was"):
        run(with_helper(2.0))


def test_values_become_what_json_has():
    assert as_json((1, [np.float32(0.5), None])) == [1, [0.5, None]]
    assert type(as_json(np.int64(3))) is int
    assert as_json(np.arange(3)) == as_json(np.arange(3)) != as_json(np.arange(4))
    assert as_json(np.random.default_rng(0)) == "Generator"
