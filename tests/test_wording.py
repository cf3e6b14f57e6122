"""Values and lists as messages quote them: whole where they are short, cut where they are not."""

import time

import numpy as np
import pytest
import torch

from ncvq_nb.io.wording import listed, quoted, readable, shortened


@pytest.mark.parametrize(
    "v", [None, 3, 0.1, "it's", b"\0", [1, (2, {})], {"b": 1, "a": 2}, (1,), {3}, torch.zeros(2)]
)
def test_what_is_short_is_as_it_is(v):
    assert quoted(v) == repr(v) and shortened(repr(v)) == repr(v)


@pytest.mark.parametrize(
    "v, begins, ends",
    [
        ("x" * 10**7, "'xxx", "length 10,000,000)"),
        ("\U0001f600\n" * 10**6, "'\U0001f600\\n", "length 2,000,000)"),
        (b"\xff" * 10**7, "b'\\xff", "length 10,000,000)"),
        (list(range(10**7)), "[0, 1", "...]"),
        ({i: i for i in range(10**6)}, "{0: 0", "...}"),
        ([["x" * 10**6]], "[['xxx", "x']]"),
        (np.arange(10**6), "array([", ")"),
        ({"a": "y" * 10**6, "b": 2}, "{'a': 'yyy", "'b': 2}"),
    ],
    ids="text emojis bytes list dict nested array values".split(),
)
def test_what_is_long_is_cut_without_being_written_out(v, begins, ends):
    began = time.perf_counter()
    text = quoted(v)
    assert len(text) < 500 and text.startswith(begins) and text.endswith(ends)
    assert time.perf_counter() - began < 1


def test_a_text_keeps_its_ends():
    text = "begin " + "x" * 5000 + " end"
    cut = shortened(text, 100)
    assert cut.startswith("begin x") and cut.endswith("x end") and len(cut) < 150
    left = int(cut.split("(")[1].split(" ")[0].replace(",", ""))
    assert len(cut) - len(f"… ({left:,} characters) …") + left == len(text)
    assert shortened("x" * 1000) == "x" * 1000 and len(shortened("x" * 1001)) < 1050


def test_lists_name_the_first_and_count_all():
    assert listed([]) == "none" and listed(np.array([])) == "none"
    scalars = np.str_("a"), np.float32(0.5), np.int64(3)
    assert [*map(quoted, scalars)] == ["'a'", "0.5", "3"]
    assert listed(["a", "b"]) == listed(np.array(["a", "b"])) == "'a', 'b'"
    assert listed({"a": 1}, each=str) == "a"
    assert listed(np.arange(9), each=str) == "0, 1, 2, 3, 4, 5, 6, 7, … (9 in all)"
    assert listed(np.arange(8), each=str) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert len(listed(["x" * 10**6] * 10**4)) < 1000


def test_control_characters_are_seen_and_do_nothing():
    assert readable("a\x1b[31m\x00\x7f\ud800b\n\té€😀") == "a�[31m���b\n\té€😀"
    readable("\udfff").encode()
