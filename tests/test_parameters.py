"""Rules for parameters, and callables that are told apart by what they do."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from toys import ENV, says

from ncvq_nb.augment import compose, flip, gaussian_noise
from ncvq_nb.engine.parameters import (
    as_json,
    check_parameters,
    number_below_one,
    number_from,
    one_of,
    one_or_pair,
    or_none,
    positive_number,
    truth_value,
    whole_number,
)

nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    "rule, good, bad",
    [
        (whole_number(2), [2, np.int8(3), 2**70], [1, 2.0, True, "2", None, nan]),
        (number_from(0), [0, 0.5, np.float32(1), 1e300], [-1e-9, inf, nan, True, "0", None, 1j]),
        (number_from(0, 1), [0, 1, True - 0.5], [1.1, -0.1]),
        (number_below_one(), [0, 0.999], [1, -0.1, nan]),
        (positive_number(), [1e-9, 3], [0, -1, inf]),
        (truth_value(), [True, False, np.bool_(True)], [1, 0, None, "True"]),
        (one_of(None, "a"), [None, "a", np.str_("a")], ["b", 0, np.array(["a"]), []]),
        (or_none(whole_number(1)), [None, 1], [0, "x"]),
        (one_or_pair(whole_number(1)), [1, (1, 2), [1, 2]], [(1,), (1, 0), (1, 2, 3), []]),
    ],
    ids=lambda v: getattr(v, "allowed", None),
)
def test_a_rule_allows_what_it_says(rule, good, bad):
    for v in good:
        check_parameters(dict(size=v), dict(size=rule))
    for v in bad:
        with says(f"size must be {rule.allowed}", f"found {v!r}"):
            check_parameters(dict(size=v), dict(size=rule))


# Callables


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
        f"import sys; sys.path.insert(0, {here!r}); from test_parameters import VIEWS, as_json; "
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


def test_values_become_what_json_has():
    assert as_json((1, [np.float32(0.5), None])) == [1, [0.5, None]]
    assert type(as_json(np.int64(3))) is int
    assert as_json(np.arange(3)) == as_json(np.arange(3)) != as_json(np.arange(4))
    assert as_json(np.random.default_rng(0)) == "Generator"
