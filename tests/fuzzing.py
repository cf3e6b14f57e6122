"""Made-up inputs by the thousand: `from fuzzing import REFUSED, fuzz, hostile_series, tried`.

Each input is either taken, and then what comes out is right, or refused by an error of this library
that names what is wrong. The same inputs are made every time.
"""

import math
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import THOROUGH
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ncvq_nb

OURS = Path(ncvq_nb.__file__).parent
REFUSED = object()
WARNINGS = (  # that an input may raise
    "float32 is too coarse",
    "is damaged and is passed over",
    "far from all other values",
)


def fuzz(n, /, **strategies):
    "That many made-up cases, the same ones every time; a quarter unless NCVQ_THOROUGH is set"

    def decorate(f):
        how = dict(deadline=None, database=None, derandomize=True)
        how |= dict(max_examples=n if THOROUGH else n // 4)
        how |= dict(suppress_health_check=list(HealthCheck))
        return settings(**how)(given(**strategies)(f))

    return decorate


def tried(f, *names):
    """What `f()` returns, or REFUSED where an error says one of `names`.

    The error must be raised in this library, and no warning but those expected may be heard.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for known in WARNINGS:
                warnings.filterwarnings("ignore", f"(?s).*{known}", UserWarning)
            return f()
    except (ValueError, TypeError, OSError, FloatingPointError) as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        said = f"{type(e).__name__}: {e}"
        if OURS not in Path(last.filename).parents:
            where = f"{last.filename}:{last.lineno}"
            raise AssertionError(f"not our error, from {where}: {said}") from e
        assert any(n in str(e) for n in names), f"the error names none of {names}: {said}"
        return REFUSED


# Series of every kind

KINDS = dict(  # of a generator r and a shape s
    noise=lambda r, s: r.normal(size=s),
    wave=lambda r, s: np.sin(np.arange(s[-1]) * r.uniform(0.01, 3)) * np.ones(s),
    constant=lambda r, s: np.full(s, r.normal()),
    zeros=lambda r, s: np.zeros(s),
    ramp=lambda r, s: np.arange(math.prod(s), dtype=float).reshape(s),
    steps=lambda r, s: r.integers(0, 2, s).astype(float),
    spike=lambda r, s: (np.arange(math.prod(s)) == 0).reshape(s) * 1.0,
    alike=lambda r, s: np.broadcast_to(r.normal(size=s[-1:]), s).copy(),
    heavy=lambda r, s: r.standard_cauchy(s),
)
TAME = [k for k in KINDS if k != "heavy"]


def frozen(a):
    "An array that cannot be written to."
    a.setflags(write=False)
    return a


def as_tensor(a):
    "A tensor, where there is one of that type."
    plain = a.dtype.kind in "fib" and a.dtype.isnative and a.dtype.itemsize <= 8
    return torch.from_numpy(np.ascontiguousarray(a)) if plain else a


LAYOUTS = dict(
    plain=lambda a: a,
    fortran=np.asfortranarray,
    strided=lambda a: np.repeat(a, 2, -1)[..., ::2],
    backward=lambda a: a[..., ::-1].copy()[..., ::-1],
    frozen=frozen,
    list=lambda a: a.tolist(),
    tuple=lambda a: tuple(a),
    tensor=as_tensor,
    masked=lambda a: np.ma.masked_array(a, False),
    swapped=lambda a: a.astype(a.dtype.newbyteorder()),
)


@st.composite
def series(
    draw,
    sizes=((1, 5), (1, 3), (1, 40)),
    kinds=tuple(KINDS),
    scales=st.just(0),
    dtypes=("f4", "f8"),
    layouts=tuple(LAYOUTS),
):
    "An array (n, c, l), or (n, l) for one channel, in some layout, and what it holds as float64."
    shape = tuple(draw(st.integers(*s)) for s in sizes)
    r = np.random.default_rng(draw(st.integers(0, 2**32)))
    with np.errstate(all="ignore"):
        a = KINDS[draw(st.sampled_from(kinds))](r, shape) * 10.0 ** draw(scales)
        a = a + draw(st.sampled_from([0, 0, 0, 1, -5]))
        a = a.astype(draw(st.sampled_from(dtypes)))
    if shape[1] == 1 and draw(st.booleans()):
        a = a[:, 0]
    return LAYOUTS[draw(st.sampled_from(layouts))](a), np.asarray(a).astype(float).reshape(shape)


SPOILT = {  # what is no array of finite series, made of an array a and a generator r
    "ragged": lambda a, r: [list(np.ravel(row)[: 1 + i]) for i, row in enumerate(a)],
    "frame": lambda a, r: pytest.importorskip("pandas").DataFrame(a.reshape(len(a), -1)),
    "objects": lambda a, r: a.astype(object),
    "text": lambda a, r: a.astype(str),
    "complex": lambda a, r: a * 1j,
    "flat": lambda a, r: a.ravel(),
    "deep": lambda a, r: a[None, None],
    "none": lambda a, r: None,
    "number": lambda a, r: a.flat[0],
    "no series": lambda a, r: a[:0],
    "no time": lambda a, r: a[..., :0],
    "dates": lambda a, r: np.zeros(a.shape, "M8[s]"),
    "bytes": lambda a, r: b"abc",
    "dict": lambda a, r: {"a": 1},
    "set": lambda a, r: {1, 2},
    "range": lambda a, r: range(5),
    "generator": lambda a, r: (row for row in a),
    "masked": lambda a, r: np.ma.masked_array(a, r.random(a.shape) < 0.5),
    "half": lambda a, r: [a, None],
}


def spoil(a, what, seed):
    "An array made into something else."
    r = np.random.default_rng(seed)
    if what not in SPOILT:
        a = np.array(a)
        a.flat[r.integers(a.size)] = float(what)
        return a
    return SPOILT[what](np.array(a), r)


def hostile_series(long=40):
    "Series of every kind, scale, type and layout, and things that are none."
    anything = series(
        sizes=((1, 5), (1, 3), (1, long)),
        scales=st.one_of(st.just(0), st.integers(-300, 300), st.integers(-45, 39)),
        dtypes=("f2", "f4", "f8", "f8", "i1", "u2", "i8", "u8", "?", ">f4", "g"),
    ).map(lambda p: p[0])
    plain = series(dtypes=("f8",), layouts=("plain",)).map(lambda p: p[0])
    what = st.sampled_from(["nan", "inf", "-inf", *SPOILT])
    return st.one_of(anything, anything, st.builds(spoil, plain, what, st.integers(0, 2**32)))


# Labels of every kind

LABELS = dict(
    small=st.integers(-3, 3),
    integers=st.integers(-(2**63), 2**63 - 1),
    huge=st.integers(-(2**80), 2**80),
    text=st.text(max_size=5),
    words=st.sampled_from(["a", "b", "longer word", "1", "01", "ü", "漢", "nan", "None", "", " "]),
    floats=st.floats(allow_nan=False),
    whole=st.integers(-9, 9).map(float),
    any_float=st.floats(),
    booleans=st.booleans(),
    bytes=st.binary(max_size=3),
    none=st.none(),
    tuples=st.tuples(st.integers(0, 2)),
    pairs=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    lists=st.lists(st.integers(0, 2), max_size=2),
    dicts=st.just({}),
    objects=st.builds(object),
    complex=st.complex_numbers(),
    numpy=st.sampled_from(
        [np.int8(1), np.uint64(2**63), np.float32(2), np.str_("x"), np.bool_(True)]
    ),
)


def as_objects(y):
    "An array of objects, whatever they are."
    a = np.empty(len(y), object)
    for i, v in enumerate(y):
        a[i] = v
    return a


FORMS = dict(
    list=list,
    tuple=tuple,
    array=lambda y: np.asarray(y),
    objects=as_objects,
    column=lambda y: np.asarray(y)[:, None],
    series=lambda y: pytest.importorskip("pandas").Series(y),
    category=lambda y: pytest.importorskip("pandas").Series(y).astype("category"),
    halves=lambda y: np.asarray(y, "f2"),
    unsigned=lambda y: np.asarray(y, "u8"),
    tensor=torch.tensor,
    frozen=lambda y: frozen(np.asarray(y)),
)


@st.composite
def labels(draw, n=st.integers(0, 6)):
    "Labels as a list, and the same in some form."
    one = st.sampled_from(list(LABELS)).map(lambda k: [k])
    mixed = st.lists(st.sampled_from(list(LABELS)), min_size=1, max_size=2)
    n, kinds = draw(n), draw(st.one_of(one, mixed))
    values = draw(st.lists(st.one_of(*(LABELS[k] for k in kinds)), min_size=n, max_size=n))
    form = draw(st.sampled_from(list(FORMS)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return values, FORMS[form](values)
    except Exception:
        return values, values  # there is no such array


# Features of every kind

ODD_FEATURES = dict(  # of an array Z (n, d)
    flat=np.ravel,
    text=lambda Z: Z.astype(str),
    ragged=lambda Z: [[1.0], [1.0, 2.0]],
    none=lambda Z: None,
    list=lambda Z: Z.tolist(),
    deep=lambda Z: Z[:, :, None],
    tensor=torch.from_numpy,
    objects=lambda Z: Z.astype(object),
)


def make_features(n, d, kind, exponent, seed, odd):
    r = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        Z = KINDS[kind](r, (n, d)) * 10.0**exponent if n else np.zeros((0, d))
    if odd in ("nan", "inf") and n:
        Z.flat[0] = float(odd)
    return ODD_FEATURES[odd](Z) if odd in ODD_FEATURES else Z


def features(n=st.integers(0, 12), d=st.integers(1, 4)):
    "Features (n, d) of every kind and scale, and things that are none."
    return st.builds(
        make_features,
        n,
        d,
        kind=st.sampled_from(list(KINDS)),
        exponent=st.one_of(st.just(0), st.integers(-300, 300)),
        seed=st.integers(0, 2**32),
        odd=st.sampled_from([None] * 8 + ["nan", "inf", *ODD_FEATURES]),
    )


# Files that were damaged

HITS = ["set", "set", "bit", "insert", "delete", "double", "zero", "cut"]


def hit(b, how, at, new):
    "Bytes that are changed at one place."
    if not b:
        return b
    i = int(at * len(b))
    return {
        "set": b[:i] + new + b[i + len(new) :],
        "bit": b[:i] + bytes([b[i] ^ 1 << new[0] % 8]) + b[i + 1 :],
        "insert": b[:i] + new + b[i:],
        "delete": b[:i] + b[i + len(new) :],
        "double": b[:i] + b[i : i + 20] + b[i:],
        "zero": b[:i] + bytes(len(new) * 8) + b[i + len(new) * 8 :],
        "cut": b[:i],
    }[how]


@st.composite
def damage(draw):
    "A function by which some bytes are changed, put in, taken out, doubled or cut off."
    place = st.floats(0, 1, exclude_max=True)
    one = st.tuples(st.sampled_from(HITS), place, st.binary(min_size=1, max_size=4))
    hits = draw(st.lists(one, min_size=1, max_size=3))

    def spoil(b):
        for how, at, new in hits:
            b = hit(b, how, at, new)
        return b

    return spoil
