"""Rules for parameters: what is allowed, and the words for what is not."""

from fractions import Fraction

import numpy as np
import pytest
from toys import says

from ncvq_nb.engine.parameters import (
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
        (number_below_one(), [0, 0.999], [1, -0.1, nan, Fraction(1, 2), -(10**400)]),
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
        with says(f"size must be {rule.allowed}", f"found {v!r}"[:90]):
            check_parameters(dict(size=v), dict(size=rule))
