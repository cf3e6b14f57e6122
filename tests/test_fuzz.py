"""Thousands of made-up inputs: each is either taken, and then what comes out is right, or refused by an error of our own that names what is wrong."""
import csv, json, math, shutil, traceback, warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

import ncvq_nb
from ncvq_nb import NCVQ
from ncvq_nb import metrics as mt
from ncvq_nb.augment import AUGMENTATIONS, amplitude_resize, flip, gaussian_noise, slice_and_shuffle, slope, stft_mask, stft_noise, window_warp
from ncvq_nb.data import Dataset, Standardiser, check_labels, check_series, holdout, read_dataset, read_series
from ncvq_nb.maskgit import SCHEDULES, random_mask
from ncvq_nb.ssl import SSL_LOSSES
from ncvq_nb.stft import STFT
from ncvq_nb.training import load_checkpoint, save_checkpoint
from ncvq_nb.vq import VectorQuantizer, codebook_usage

CASES = dict(series=900, labels=700, dataset=150, stft=500, scaler=500, augment=400, holdout=250, npz=120, table=250, ts=120, bad_npz=300, bad_text=500, bad_model=300, bad_checkpoint=150,
             fit=250, encode=300, decode=150, sample=200, error=150, features=300, probe=60, memory=80, codes=150, map=40, bootstrap=60, counts=80, classifier=8, report=60, quantise=80, losses=120, masks=80)
TINY = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=1, random_state=0, device="cpu")
OURS = Path(ncvq_nb.__file__).parent
REFUSED = object()
used = set()
pytestmark = pytest.mark.filterwarnings("ignore:.*float32 is too coarse:UserWarning")


def fuzz(name, /, **strategies):
    "As many cases as `CASES` says, the same ones every time."
    used.add(name)
    def decorate(f): return settings(max_examples=CASES[name], deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))(given(**strategies)(f))
    return decorate


def test_there_are_five_thousand_cases_and_more(): assert sum(CASES.values()) >= 5000 and used == set(CASES)


def tried(f, *names):
    "What `f()` returns, without a warning that is not ours; or REFUSED, where an error of ours says one of `names`."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for known in ("float32 is too coarse", "is damaged and is passed over"): warnings.filterwarnings("ignore", f"(?s).*{known}", UserWarning)
            return f()
    except (ValueError, TypeError, OSError, FloatingPointError) as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        if OURS not in Path(last.filename).parents: raise AssertionError(f"not our error, from {last.filename}:{last.lineno}: {type(e).__name__}: {e}") from e
        if not any(n in str(e) for n in names): raise AssertionError(f"the error names none of {names}: {e}") from e
        return REFUSED


# Series of every kind

KINDS = dict(noise=lambda r, s: r.normal(size=s), wave=lambda r, s: np.sin(np.arange(s[-1]) * r.uniform(.01, 3)) * np.ones(s), constant=lambda r, s: np.full(s, r.normal()), zeros=lambda r, s: np.zeros(s), ramp=lambda r, s: np.arange(math.prod(s), dtype=float).reshape(s),
             steps=lambda r, s: r.integers(0, 2, s).astype(float), spike=lambda r, s: (np.arange(math.prod(s)) == 0).reshape(s) * 1.0, alike=lambda r, s: np.broadcast_to(r.normal(size=s[-1:]), s).copy(), heavy=lambda r, s: r.standard_cauchy(s))
LAYOUTS = dict(plain=lambda a: a, fortran=np.asfortranarray, strided=lambda a: np.repeat(a, 2, -1)[..., ::2], backward=lambda a: a[..., ::-1].copy()[..., ::-1], frozen=lambda a: (a.setflags(write=False), a)[1],
               list=lambda a: a.tolist(), tuple=lambda a: tuple(a), tensor=lambda a: torch.from_numpy(np.ascontiguousarray(a)) if a.dtype.kind in "fib" and a.dtype.isnative and a.dtype.itemsize <= 8 else a,
               masked=lambda a: np.ma.masked_array(a, False), swapped=lambda a: a.astype(a.dtype.newbyteorder()))


@st.composite
def series(draw, sizes=((1, 5), (1, 3), (1, 40)), kinds=tuple(KINDS), scales=st.just(0), dtypes=("f4", "f8"), layouts=tuple(LAYOUTS)):
    "An array (n, c, l), or (n, l) for one channel, in some layout, and what it holds as float64."
    shape = tuple(draw(st.integers(*s)) for s in sizes)
    r = np.random.default_rng(draw(st.integers(0, 2**32)))
    with np.errstate(all="ignore"): a = (KINDS[draw(st.sampled_from(kinds))](r, shape) * 10.0 ** draw(scales) + draw(st.sampled_from([0, 0, 0, 1, -5]))).astype(draw(st.sampled_from(dtypes)))
    if shape[1] == 1 and draw(st.booleans()): a = a[:, 0]
    return LAYOUTS[draw(st.sampled_from(layouts))](a), np.asarray(a).astype(float).reshape(shape)


def hostile_series(long=40):
    "Series of every kind, scale, type and layout, and things that are none."
    anything = series(sizes=((1, 5), (1, 3), (1, long)), scales=st.one_of(st.just(0), st.integers(-300, 300), st.integers(-45, 39)), dtypes=("f2", "f4", "f8", "f8", "i1", "u2", "i8", "u8", "?", ">f4", "g")).map(lambda p: p[0])
    def spoil(a, what, seed):
        r = np.random.default_rng(seed)
        if what == "ragged": return [list(np.ravel(row)[:1 + i]) for i, row in enumerate(np.asarray(a))]
        if what == "frame":
            pd = pytest.importorskip("pandas")
            return pd.DataFrame(np.asarray(a).reshape(len(a), -1))
        a = np.array(a)
        if what in ("nan", "inf", "-inf"):
            a = a.astype(float)
            a.flat[r.integers(a.size)] = float(what)
        return {"objects": lambda: a.astype(object), "text": lambda: a.astype(str), "complex": lambda: a * 1j, "flat": a.ravel, "deep": lambda: a[None, None], "none": lambda: None, "number": lambda: a.flat[0], "no series": lambda: a[:0], "no time": lambda: a[..., :0],
                "dates": lambda: np.zeros(a.shape, "M8[s]"), "bytes": lambda: b"abc", "dict": lambda: {"a": 1}, "set": lambda: {1, 2}, "range": lambda: range(5), "generator": lambda: (row for row in a), "masked": lambda: np.ma.masked_array(a, r.random(a.shape) < .5), "half": lambda: [a, None]}.get(what, lambda: a)()
    spoilt = st.builds(spoil, series(dtypes=("f8",), layouts=("plain",)).map(lambda p: p[0]), st.sampled_from(["nan", "inf", "-inf", "ragged", "frame", "objects", "text", "complex", "flat", "deep", "none", "number", "no series", "no time", "dates", "bytes", "dict", "set", "range", "generator", "masked", "half"]), st.integers(0, 2**32))
    return st.one_of(anything, anything, spoilt)


def as_float(X):
    "What `X` holds, by another way, or None where it is no series."
    if getattr(X, "dtype", None) == object: return None
    try: a = np.asarray(X.tolist() if hasattr(X, "tolist") else X.to_numpy() if hasattr(X, "to_numpy") else X)
    except (ValueError, TypeError): return None
    if np.ma.is_masked(X) or a.dtype.kind not in "fiub" or a.ndim not in (2, 3) or not a.size: return None
    a = a.astype(float) if a.ndim == 3 else a.astype(float)[:, None]
    return a if np.isfinite(a).all() else None


@fuzz("series", X=hostile_series(5000), least=st.sampled_from([1, 1, 4, 100]))
def test_series_are_read_or_refused(X, least):
    out, want = tried(lambda: check_series(X, name="my_X", min_length=least), "my_X"), as_float(X)
    if want is None: assert out is REFUSED
    elif want.shape[2] < least or np.abs(want).max() > 3.4028236e38: assert out is REFUSED
    else:
        assert out is not REFUSED and out.dtype == np.float32 and out.flags.c_contiguous and out.flags.writeable and out.shape == want.shape
        np.testing.assert_allclose(out, want, rtol=6e-8, atol=1.5e-45)


# Labels of every kind

LABELS = dict(
    small=st.integers(-3, 3), integers=st.integers(-2**63, 2**63 - 1), huge=st.integers(-2**80, 2**80), text=st.text(max_size=5), words=st.sampled_from(["a", "b", "longer word", "1", "01", "ü", "漢", "nan", "None", "", " "]), floats=st.floats(allow_nan=False), whole=st.integers(-9, 9).map(float), any_float=st.floats(),
    booleans=st.booleans(), bytes=st.binary(max_size=3), none=st.none(), tuples=st.tuples(st.integers(0, 2)), pairs=st.tuples(st.integers(0, 2), st.integers(0, 2)), lists=st.lists(st.integers(0, 2), max_size=2), dicts=st.just({}), objects=st.builds(object), complex=st.complex_numbers(), numpy=st.sampled_from([np.int8(1), np.uint64(2**63), np.float32(2), np.str_("x"), np.bool_(True)]))
FORMS = dict(list=list, tuple=tuple, array=lambda y: np.asarray(y), objects=lambda y: (lambda a: ([a.__setitem__(i, v) for i, v in enumerate(y)], a)[1])(np.empty(len(y), object)), column=lambda y: np.asarray(y)[:, None], series=lambda y: pytest.importorskip("pandas").Series(y),
             category=lambda y: pytest.importorskip("pandas").Series(y).astype("category"), halves=lambda y: np.asarray(y, "f2"), unsigned=lambda y: np.asarray(y, "u8"), tensor=torch.tensor, frozen=lambda y: (lambda a: (a.setflags(write=False), a)[1])(np.asarray(y)))


@st.composite
def labels(draw, n=st.integers(0, 6)):
    n, kinds = draw(n), draw(st.one_of(st.sampled_from(list(LABELS)).map(lambda k: [k]), st.lists(st.sampled_from(list(LABELS)), min_size=1, max_size=2)))
    values = draw(st.lists(st.one_of(*(LABELS[k] for k in kinds)), min_size=n, max_size=n))
    form = draw(st.sampled_from(list(FORMS)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return values, FORMS[form](values)
    except Exception: return values, values  # there is no such array


@fuzz("labels", pair=labels(), more=st.sampled_from([0, 0, 0, 0, 1]))
def test_labels_are_kept_or_refused(pair, more):
    values, y = pair
    out = tried(lambda: check_labels(y, len(values) + more, name="my_y"), "my_y")
    if more and not (hasattr(y, "__len__") and len(y) == len(values) + more): assert out is REFUSED
    if out is REFUSED:
        plain = values and not more and (all(type(v) is int and -2**63 <= v < 2**63 for v in values) or all(type(v) is str and v.strip("\0") == v and v not in ("", "nan", "NaN", "None", "<NA>") for v in values)) and isinstance(y, (list, tuple))
        assert not plain, f"refused {y!r}"
        return
    assert out.shape == (len(values),) and (out.dtype == np.int64 or out.dtype.kind == "U" or not values)
    for given_, kept in zip(y.tolist() if hasattr(y, "tolist") else y, out.tolist()):
        if isinstance(given_, list): (given_,) = given_
        if isinstance(given_, bytes): given_ = given_.rstrip(b"\0").decode()
        if isinstance(given_, tuple): (given_,) = given_
        assert kept == (given_.rstrip("\0") if isinstance(given_, str) else given_) and isinstance(kept, str) == isinstance(given_, str), f"{given_!r} became {kept!r}"


@fuzz("dataset", X=hostile_series(), X_test=st.one_of(st.none(), hostile_series()), y=labels(), y_test=st.one_of(st.none(), labels()), name=st.text(max_size=20))
def test_data_sets_are_whole_or_refused(X, X_test, y, y_test, name):
    d = tried(lambda: Dataset(name, X, y[1], X_test, y_test and y_test[1]), "X_train", "y_train", "X_test", "y_test")
    if d is REFUSED: return
    assert len(d.X_train) == len(d.y_train) == len(y[0]) and (d.X_test is None) == (X_test is None) and repr(d) and list(d.classes) == sorted(set(d.y_train.tolist()))


@fuzz("holdout", y=st.one_of(labels(st.integers(0, 30)).map(lambda p: p[1]), st.integers(-2, 50), st.none(), st.floats(), st.just("abc"), st.just({})), fraction=st.one_of(st.floats(0.01, .99), st.floats(), st.just("x"), st.none(), st.just(1)), seed=st.integers(0, 2**32))
def test_parting_in_two_loses_nothing(y, fraction, seed):
    parts = tried(lambda: holdout(y, fraction, seed), "fraction", "y_or_n", "series")
    if parts is REFUSED: return
    a, b = parts
    n = y if isinstance(y, int) else len(y)
    assert sorted([*a, *b]) == list(range(n)) and len(a) and len(b)
    if not isinstance(y, int): assert {str(v) for v in check_labels(y, n)[a]} == {str(v) for v in check_labels(y, n)}


# Scaling and the time–frequency picture

@fuzz("scaler", pair=series(sizes=((1, 5), (1, 3), (1, 60)), scales=st.integers(-44, 38), layouts=("plain", "list")), other=series(sizes=((1, 4), (1, 3), (1, 60)), scales=st.integers(-44, 38), layouts=("plain",)))
def test_scaling_is_undone(pair, other):
    (X, want), (Y, there) = pair, other
    scaler = tried(lambda: Standardiser().fit(X), "X")
    if scaler is REFUSED: return
    assert np.isfinite(scaler.mean_).all() and (scaler.std_ > 0).all()
    Z = tried(lambda: scaler.transform(X), "-")
    assert np.isfinite(Z).all() and np.abs(Z).max() <= 1.01 * math.sqrt(Z.size) + 1e6 * (scaler.std_.max() >= 1)
    X32 = check_series(X)
    step = np.abs(X32).max((0, 2), keepdims=True) * 2e-7 + np.asarray(scaler.std_)[:, None] * (np.abs(Z).max() + 1) * 2e-7
    back = tried(lambda: scaler.inverse_transform(Z), "range of float32")
    if back is REFUSED: assert np.abs(X32).max() > 3e38
    else: assert back.dtype == np.float32 and (np.abs(back.astype(float) - X32) <= step + 1e-44).all()
    Z = tried(lambda: scaler.transform(Y), "X has", "X lies", "X has values")
    if Z is not REFUSED:
        assert np.isfinite(Z).all() and Z.dtype == np.float32
        tried(lambda: scaler.inverse_transform(Z), "range of float32")


@fuzz("stft", n_fft=st.integers(2, 40).map(lambda k: 2 * k), hop=st.one_of(st.none(), st.integers(1, 40)), extra=st.one_of(st.integers(0, 130), st.integers(0, 5000)), c=st.integers(1, 3), kind=st.sampled_from([k for k in KINDS if k != "heavy"]), scale=st.integers(-30, 30), seed=st.integers(0, 2**32), exotic=st.booleans())
def test_the_picture_leads_back_exactly(n_fft, hop, extra, c, kind, scale, seed, exotic):
    stft = tried(lambda: STFT(np.int64(n_fft) if exotic else n_fft, hop), "hop_length")
    if stft is REFUSED: assert hop > n_fft // 2; return
    l = n_fft + extra
    x = torch.from_numpy(KINDS[kind](np.random.default_rng(seed), (2, c, l))).float()
    x = x / x.abs().max().clamp(min=1e-30) * 10.0**scale
    u = tried(lambda: stft(x), "x has")
    assert u.shape == (2, 2 * c, stft.n_freqs, stft.n_frames(l)) and u.dtype == torch.float32
    if not stft.hop_length <= n_fft // 4: assume(n_fft <= 24)  # at wider steps the last window's rim divides by little
    back = tried(lambda: stft.inverse(u, l), "length")
    assert back.shape == x.shape and float((back - x).abs().max()) <= 10.0**scale * (1e-4 if stft.hop_length <= max(n_fft // 4, 1) else 2e-2)
    assert tried(lambda: stft(x[..., :n_fft - 1]), "x has length") is REFUSED and tried(lambda: stft(x[0]), "x must") is REFUSED and tried(lambda: stft.inverse(u, l + n_fft), "length") is REFUSED


AUGMENT = {**AUGMENTATIONS, **{f.__name__: f for f in (amplitude_resize, flip, gaussian_noise, slice_and_shuffle, slope, stft_mask, stft_noise, window_warp)}}


@fuzz("augment", name=st.sampled_from(list(AUGMENT)), pair=series(sizes=((1, 4), (1, 3), (1, 200)), scales=st.integers(-20, 20), layouts=("plain",)), seed=st.integers(0, 2**32), spoil=st.sampled_from([None] * 8 + ["flat", "whole", "parameter"]))
def test_views_keep_shape_and_stay_finite(name, pair, seed, spoil):
    x, f = torch.from_numpy(pair[1].astype("f4")), AUGMENT[name]
    gen = lambda: torch.Generator().manual_seed(seed)
    if spoil == "flat": assert tried(lambda: f(x[:, 0], gen()), "x must") is REFUSED; return
    if spoil == "whole" and name not in ("stft_mask", "stft_noise"): assert tried(lambda: f(x.long(), gen()), "x must") is REFUSED; return
    if spoil == "parameter": assert tried(lambda: slice_and_shuffle(x, gen(), n_segments=0), "n_segments") is REFUSED and tried(lambda: window_warp(x, gen(), window=2), "window") is REFUSED; return
    before = x.clone()
    view = tried(lambda: f(x, gen()), "x has length")
    if view is REFUSED: assert name.startswith("stft") and x.shape[-1] < 4; return
    assert view.shape == x.shape and view.dtype == torch.float32 and view.isfinite().all() and torch.equal(x, before) and torch.equal(view, f(x, gen()))
    if name in ("slice", "slice_and_shuffle"): assert torch.equal(view.sort(-1).values, x.sort(-1).values)
    if name == "flip": assert torch.equal(view.abs(), x.abs())


# Files: what was written is what is read

@pytest.fixture(scope="module")
def home(tmp_path_factory): return tmp_path_factory.mktemp("fuzz")


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\t\"',:;|#@ ", exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=6).filter(lambda s: s.lower() not in ("nan", "none", "na", "null", "<na>", "?", "n/a") and not number(s))


def number(s):
    try: float(s)
    except ValueError: return False
    return True


@fuzz("npz", pair=series(scales=st.integers(-30, 30), dtypes=("f2", "f4", "f8", "i4", "?"), layouts=("plain", "fortran", "swapped")), words=st.lists(WORDS, min_size=5, max_size=5), kind=st.sampled_from(["none", "words", "integers", "split"]), compress=st.booleans())
def test_arrays_come_back_from_npz(home, pair, words, kind, compress):
    X, want = pair
    assume(np.isfinite(want).all())
    y = {"words": np.array(words[:len(X)]), "integers": np.arange(len(X)) - 2}.get(kind)
    held = {"X_train": X, "y_train": np.arange(len(X)), "X_test": X[::-1], "y_test": np.arange(len(X))[::-1]} if kind == "split" else {"X": X} | ({} if y is None else {"y": y})
    (np.savez_compressed if compress else np.savez)(home / "a.npz", **held)
    found = tried(lambda: read_dataset(home / "a.npz"), "a.npz")
    np.testing.assert_allclose(found.X_train, want, rtol=6e-8, atol=1e-44)
    if kind == "split": assert np.array_equal(found.X_test, found.X_train[::-1]) and np.array_equal(found.y_test, found.y_train[::-1])
    elif y is None: assert found.y_train is None
    else: assert found.y_train.tolist() == y.tolist()


@fuzz("table", pair=series(sizes=((1, 6), (1, 1), (1, 30)), scales=st.integers(-30, 30), dtypes=("f4", "f8"), layouts=("plain",)), words=st.lists(WORDS, min_size=6, max_size=6), kind=st.sampled_from(["none", "words", "integers"]), place=st.sampled_from(["first", "last"]), delimiter=st.sampled_from("\t,;"), head=st.booleans(), suffix=st.sampled_from([".csv", ".tsv"]), bom=st.booleans())
def test_tables_by_the_csv_module_come_back(home, pair, words, kind, place, delimiter, head, suffix, bom):
    X, y = pair[1][:, 0], None
    assume(np.isfinite(X).all())
    if kind != "none": y = words[:len(X)] if kind == "words" else list(range(len(X)))
    rows = [x.tolist() if y is None else [k, *x.tolist()] if place == "first" else [*x.tolist(), k] for x, k in zip(X, y or X)]
    names = [f"t{i}" for i in range(X.shape[1])]
    with open(f := home / f"a{suffix}", "w", newline="", encoding="utf-8-sig" if bom else "utf-8") as out:
        csv.writer(out, delimiter=delimiter).writerows(([names if y is None else ["kind", *names] if place == "first" else [*names, "kind"]] if head else []) + rows)
    ask = None if y is None else "kind" if head else place
    found = tried(lambda: read_series(f, label=ask), f.name)
    assert found is not REFUSED and found[0].shape == (len(X), 1, X.shape[1])
    np.testing.assert_allclose(found[0][:, 0], X, rtol=6e-8, atol=1e-44)
    assert found[1] is None if y is None else found[1].tolist() == y
    guess = tried(lambda: read_series(f), f.name)  # the same, or not at all, where text tells labels from values
    if guess is not REFUSED and kind == "words" and len(X[0]) > 1: assert guess[1].tolist() == y and np.array_equal(guess[0], found[0])


@fuzz("ts", pair=series(scales=st.integers(-30, 30), dtypes=("f4",), layouts=("plain",)), words=st.lists(WORDS, min_size=5, max_size=5), kind=st.sampled_from(["none", "words", "integers"]))
def test_ts_files_come_back(home, pair, words, kind):
    X = pair[1]
    y = None if kind == "none" else words[:len(X)] if kind == "words" else list(range(len(X)))
    lines = [":".join([",".join(map(repr, ch.tolist())) for ch in x] + ([] if y is None else [str(y[i])])) for i, x in enumerate(X)]
    (home / "a.ts").write_text("# made up\n@problemName a\n@classLabel " + ("false" if y is None else "true " + " ".join(map(str, y))) + "\n@data\n" + "\n".join(lines) + "\n", encoding="utf-8")
    found = tried(lambda: read_series(home / "a.ts"), "a.ts")
    np.testing.assert_allclose(found[0], X, rtol=6e-8, atol=1e-44)
    assert found[1] is None if y is None else found[1].tolist() == y


# Files that were damaged

@st.composite
def damage(draw):
    "Some bytes changed, put in, taken out, doubled or cut off."
    hits = draw(st.lists(st.tuples(st.sampled_from(["set", "set", "bit", "insert", "delete", "double", "zero", "cut"]), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3))
    def spoil(b):
        for how, at, new in hits:
            if not b: return b
            i = int(at * len(b))
            b = {"set": b[:i] + new + b[i + len(new):], "bit": b[:i] + bytes([b[i] ^ 1 << new[0] % 8]) + b[i + 1:], "insert": b[:i] + new + b[i:], "delete": b[:i] + b[i + len(new):], "double": b[:i] + b[i:i + 20] + b[i:], "zero": b[:i] + bytes(len(new) * 8) + b[i + len(new) * 8:], "cut": b[:i]}[how]
        return b
    return spoil


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    X, y, out = np.random.default_rng(0).normal(size=(4, 2, 9)), np.array(["a", "b", "a", "c"]), []
    for save in (np.savez, np.savez_compressed):
        save(f := tmp_path_factory.mktemp("npz") / "a.npz", X=X, y=y)
        out.append(f.read_bytes())
    return X, y, out


@fuzz("bad_npz", spoil=damage(), which=st.integers(0, 1))
def test_a_damaged_npz_is_right_or_refused(home, npz, spoil, which):
    X, y, whole = npz
    (home / "b.npz").write_bytes(spoil(whole[which]))
    found = tried(lambda: read_series(home / "b.npz"), "b.npz")
    if found is not REFUSED: assert np.array_equal(found[0], X.astype("f4")) and found[1].tolist() == y.tolist()


TEXTS = {"b.csv": "label,t0,t1,t2\na,0.5,1e-3,-7\nb,2,3.25,4\na,0,0,0.125\n", "b.tsv": "1\t0.5\t0.25\t3\n2\t-1.5\t2\t1e5\n1\t3\t4\t5\n", "c.csv": "0.5;1;2;3\n4;5;6;7\n", "b.ts": "#x\n@problemName b\n@timeStamps false\n@univariate false\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n-1,0.5,1e2:0,0,0:b\n"}


@fuzz("bad_text", spoil=damage(), name=st.sampled_from(list(TEXTS)), label=st.sampled_from(["auto", "auto", None]))
def test_a_damaged_text_is_whole_or_refused(home, spoil, name, label):
    (home / name).write_bytes(spoil(TEXTS[name].encode()))
    found = tried(lambda: read_series(home / name, label=label), name)
    if found is REFUSED: return
    X, y = found
    assert X.ndim == 3 and X.dtype == np.float32 and np.isfinite(X).all() and (label is not None or y is None) and (y is None or len(y) == len(X))
    body = sum(c == ord("\n") or c == ord("\r") for c in (home / name).read_bytes()) + 1
    assert len(X) <= body


# A model

@pytest.fixture(scope="module")
def model():
    t, y = np.linspace(0, 1, 33), np.arange(12) % 2
    X = np.sin(2 * np.pi * (2 + 2 * y)[:, None, None] * t + np.arange(2)[:, None]) + .1 * np.random.default_rng(0).normal(size=(12, 2, 33))
    return NCVQ(**{**TINY, "epochs": 3}).fit(X, np.array(["sit", "stand"])[y])


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    model.save(path := tmp_path_factory.mktemp("saved") / "m")
    return path


def state(m): return {f"{k}.{n}": v.numpy().tobytes() for k in ("tokenizer_", "prior_") for n, v in getattr(m, k).state_dict().items()} | m.get_params() | dict(classes=m.classes_.tolist(), mean=m.scaler_.mean_.tolist(), std=m.scaler_.std_.tolist(), history=m.history_, seed=m.seed_, data=m.data_)


@fuzz("bad_model", spoil=damage(), name=st.sampled_from(["config.json", "config.json", "tokenizer.safetensors", "prior.safetensors", "README.md"]), swap=st.booleans())
def test_a_damaged_model_is_the_same_or_refused(home, folder, model, spoil, name, swap):
    shutil.rmtree(home / "m", ignore_errors=True)
    shutil.copytree(folder, home / "m")
    (home / "m" / name).write_bytes(spoil((folder / name).read_bytes()))
    found = tried(lambda: NCVQ.load(home / "m", device="cpu"), str(home / "m"))
    if found is not REFUSED: assert state(found) == {**state(model), "device": "cpu"} and not name.endswith("safetensors") or (home / "m" / name).read_bytes() == (folder / name).read_bytes()


@fuzz("bad_checkpoint", spoil=damage())
def test_a_damaged_checkpoint_is_the_same_or_passed_over(home, spoil):
    run = home / "run"
    shutil.rmtree(run, ignore_errors=True)
    tensors, meta = {"w": torch.arange(12.).reshape(3, 4), "n": torch.tensor(3)}, dict(step=3, seconds=1.5, settings={"n": 1, "lr": 0.001}, history={"step": [1, 2, 3], "loss": [.5, .25, .125]}, best=None)
    save_checkpoint(run, 3, tensors, meta)
    (path := run / "checkpoint-00000003.safetensors").write_bytes(spoil(path.read_bytes()))
    found = tried(lambda: load_checkpoint(run, {"n": 1}), str(run))
    if found is None or found is REFUSED: return
    assert found[1] == meta and found[0].keys() == tensors.keys() and all(torch.equal(found[0][k], v) and found[0][k].dtype == v.dtype for k, v in tensors.items())


@fuzz("encode", X=st.one_of(hostile_series(), series(sizes=((1, 4), (2, 2), (33, 33)), scales=st.integers(-44, 38)).map(lambda p: p[0]), series(sizes=((1, 3), (1, 3), (32, 34)), scales=st.integers(-300, 300), dtypes=("f8",)).map(lambda p: p[0])))
def test_what_a_model_makes_of_series(model, X):
    s = tried(lambda: model.encode(X), "X")
    if s is REFUSED:
        for f in (model.transform, model.reconstruct, model.features): assert tried(lambda: f(X), "X") is REFUSED
        return
    n = len(s)
    assert s.dtype == np.int64 and s.shape == (n, model.tokenizer_.n_tokens) and 0 <= s.min() and s.max() < 8
    X_hat = tried(lambda: model.decode(s), "-")
    assert X_hat.shape == (n, 2, 33) and X_hat.dtype == np.float32 and np.isfinite(X_hat).all() and model.encode(X_hat).shape == s.shape
    if np.abs(model.scaler_.transform(X)).max() < 100: np.testing.assert_allclose(model.reconstruct(X), X_hat, atol=1e-4)
    for Z in (model.transform(X), model.features(X, quantised=False)): assert Z.shape == (n, 16) and Z.dtype == np.float32 and np.isfinite(Z).all()


def test_series_far_away_are_seen_through_their_tokens(model):
    "What the network makes of them is large, the codes are not: nothing of the former may remain."
    X = 1e8 * np.random.default_rng(0).normal(size=(3, 2, 33))
    s = model.encode(X)
    np.testing.assert_allclose(model.reconstruct(X), model.decode(s), atol=1e-4)
    codes = model.tokenizer_.codebook[torch.from_numpy(s)]
    np.testing.assert_allclose(model.transform(X), torch.cat([codes.mean(1), codes.amax(1)], 1), atol=1e-4)


@fuzz("decode", seed=st.integers(0, 2**32), n=st.integers(0, 4), width=st.sampled_from([40, 40, 40, 40, 39, 0]), low=st.sampled_from([0, 0, 0, -1]), high=st.sampled_from([8, 8, 8, 9, 2**31]), dtype=st.sampled_from(["i8", "i8", "u1", "i4", "u8", "f8", "?", "O", "U"]), form=st.sampled_from([np.asarray, np.asarray, list, np.ndarray.tolist, np.asfortranarray, lambda a: a[0] if len(a) else a, lambda a: [[1], [1, 2]], lambda a: None, lambda a: "text", lambda a: a[None]]))
def test_what_a_model_makes_of_tokens(model, seed, n, width, low, high, dtype, form):
    assert model.tokenizer_.n_tokens == 40
    with np.errstate(all="ignore"): s = form(np.random.default_rng(seed).integers(low, high, (n, width)).astype(dtype))
    X = tried(lambda: model.decode(s), "s must", "s is", "s holds", "s cannot")
    try: plain = np.asarray(s)
    except ValueError: plain = np.zeros(0)
    if plain.dtype.kind in "iu" and plain.shape == (n, 40) and n and plain.min() >= 0 and plain.max() < 8: assert X.shape == (n, 2, 33) and X.dtype == np.float32 and np.isfinite(X).all()
    else: assert X is REFUSED


@fuzz("sample", n=st.one_of(st.integers(-1, 3), st.integers(1, 3).map(np.int64), st.none(), st.floats(0, 3), st.just("2")), y=st.one_of(st.none(), st.sampled_from(["sit", "stand", "lie", "", 0, None, np.str_("sit"), b"sit"]), st.lists(st.sampled_from(["sit", "stand"]), max_size=4), st.lists(st.sampled_from(["sit", "lie", 1, None, 2.5]), max_size=3), st.just([["sit"]]), st.just([["sit"], ["sit", "sit"]]), st.just({}), st.just({"sit"})),
      seed=st.one_of(st.integers(-1, 2**70), st.none(), st.just("x"), st.floats(0, 1), st.builds(np.random.default_rng, st.just(0))), steps=st.one_of(st.none(), st.integers(-1, 3), st.just(1.5)), guide=st.one_of(st.none(), st.floats(-5, 5), st.just("x"), st.just(float("nan"))))
def test_what_a_model_makes_up(model, n, y, seed, steps, guide):
    s = tried(lambda: model.sample_tokens(n, y, random_state=seed, sampling_steps=steps, guidance_scale=guide), "n must", "y must", "y has", "y was", "y holds", "y cannot", "random_state", "sampling_steps", "guidance_scale")
    if s is REFUSED: return
    want = len(y) if isinstance(y, list) else n
    assert s.shape == (want, 40) and s.dtype == np.int64 and 0 <= s.min() and s.max() < 8
    assert set(np.ravel([] if y is None else y)) <= {"sit", "stand"}
    X = tried(lambda: model.decode(s), "-")
    assert X.shape == (want, 2, 33) and X.dtype == np.float32 and np.isfinite(X).all()


CHOICES = dict(ssl=[None, "barlow", "vicreg", "vibcreg"], augment=[None, "warp", "slice", "gauss"], n_fft=[4, 8, 8, 16, np.int64(8), 6], dim=[1, 8, np.int32(8)], n_res_blocks=[0, 1], n_codes=[1, 2, 8], decay=[0, .9, np.float32(.5)], revive_below=[0, .02, 2.0], orthogonality=[0, 1], projector_dim=[1, 16], prior_dim=[1, 16, np.int64(16)], prior_depth=[0, 1], prior_heads=[1, 2], prior_dropout=[0, .5],
               mask_schedule=list(SCHEDULES), p_unconditional=[0, .2, 1], finetune_codebook=[True, False], epochs=[.1, 1, (1, 2), [2, 1]], batch_size=[1, 2, 3, 64, (2, 64)], lr=[1e-3, (1e-2, 1e-4)], validation_fraction=[0, 0, .2, .5, .9], unconditional=["ancestral", "null"], precision=["float32"] * 4 + ["bfloat16"], random_state=[0, None, 2**40])


@fuzz("fit", X=st.one_of(series(sizes=((2, 6), (1, 2), (4, 60)), scales=st.one_of(st.just(0), st.integers(-44, 37))).map(lambda p: p[0]), series(sizes=((1, 4), (1, 2), (4, 50)), scales=st.integers(-300, 300), dtypes=("f8",)).map(lambda p: p[0]), hostile_series(), st.integers(60, 5000).map(lambda l: np.sin(np.arange(3 * l)).reshape(3, l))),
      y=st.one_of(st.none(), st.integers(0, 3).map(lambda k: lambda n: [i % (k + 1) for i in range(n)]), st.sampled_from([lambda n: list("abcdefgh"[:n]), lambda n: ["one"] * n, lambda n: np.arange(n) - 2.0, lambda n: np.arange(n) % 2 == 0, lambda n: [0] * (n - 1) + [7], lambda n: [None] * n, lambda n: [0.5] * n, lambda n: [2**60, -2**60, 3, 3, 3, 3][:n], lambda n: range(n - 1), lambda n: [b"x"] * n])), chosen=st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in CHOICES.items()}))
def test_models_are_fitted_or_refused(X, y, chosen):
    n = len(X) if hasattr(X, "__len__") else 0
    m = NCVQ(**{**TINY, **chosen})
    names = "X", "y", *CHOICES
    if tried(lambda: m.fit(X, None if y is None else y(n)), *names) is REFUSED:
        with pytest.raises(NotFittedError): m.sample(1)
        return
    A = check_series(X)
    assert all(np.isfinite(v).all() for h in m.history_.values() for v in h.values())
    assert m.encode(X).shape == (n, m.tokenizer_.n_tokens) and m.transform(X).shape == (n, 2 * m.dim)
    X_hat = tried(lambda: m.reconstruct(X), "range of float32")
    if X_hat is not REFUSED: assert X_hat.shape == A.shape and X_hat.dtype == np.float32 and np.isfinite(X_hat).all()
    if y is not None: assert m.classes_.tolist() == sorted(set(check_labels(y(n), n).tolist())) and abs(m.class_prior_.sum() - 1) < 1e-9
    new = tried(lambda: m.sample(2, None if y is None else m.classes_[-1], random_state=0, sampling_steps=2), "range of float32")
    if new is not REFUSED: assert new.shape == (2, *A.shape[1:]) and new.dtype == np.float32 and np.isfinite(new).all()


@pytest.mark.parametrize("chosen", [dict(dim=np.int64(8)), dict(prior_dim=np.int32(16), prior_depth=np.int8(1)), dict(n_fft=np.int64(8)), dict(decay=np.float32(.5)), dict(n_codes=np.uint8(8)), dict(prior_dropout=np.float64(.5))], ids=str)
def test_settings_out_of_numpy_are_saved(tmp_path, chosen):
    m = NCVQ(**{**TINY, **chosen}).fit(np.sin(np.arange(99.)).reshape(3, 33))
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert np.array_equal(again.sample(2, random_state=0), m.sample(2, random_state=0))
    assert {k: again.get_params()[k] for k in chosen} == chosen


def test_a_loaded_model_knows_how_many_features_it_has(tmp_path):
    "Those of its networks, not those of settings that were changed afterwards."
    m = NCVQ(**TINY).fit(X := np.sin(np.arange(99.)).reshape(3, 33)).set_params(dim=16)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert len(again.get_feature_names_out()) == again.transform(X).shape[1] == 16


# Figures of merit

@fuzz("error", pair=series(sizes=((1, 5), (1, 3), (1, 60)), scales=st.integers(-44, 38), dtypes=("f4", "f8")), seed=st.integers(0, 2**32), n_fft=st.sampled_from([8, 4, 16, 3, 0, 8.0, "8"]), spoil=st.sampled_from([None] * 6 + ["fewer", "shorter", "nan"]))
def test_errors_of_reconstruction(pair, seed, n_fft, spoil):
    X, want = pair
    Y = want * np.random.default_rng(seed).normal(size=want.shape) * .5
    Y = {"fewer": Y[1:], "shorter": Y[..., 1:], "nan": Y * np.nan}.get(spoil, Y)
    e = tried(lambda: mt.reconstruction_error(X, Y, n_fft=n_fft), "X", "n_fft")
    if e is REFUSED: return
    assert spoil is None and e["mse"] >= 0 and e["stft"] >= 0 and math.isfinite(e["mse"]) and math.isfinite(e["stft"])
    X32, Y32 = check_series(X).astype(float), check_series(Y).astype(float)
    np.testing.assert_allclose(e["mse"], ((X32 - Y32)**2).mean(), rtol=1e-6)
    assert (e["mse"] > 0) == (e["stft"] > 0)
    same = mt.reconstruction_error(X, X, n_fft=n_fft)
    assert same["mse"] == same["stft"] == 0


def features(n=st.integers(0, 12), d=st.integers(1, 4)):
    def make(n, d, kind, exponent, seed, spoil):
        r = np.random.default_rng(seed)
        with np.errstate(all="ignore"): Z = KINDS[kind](r, (n, d)) * 10.0**exponent if n else np.zeros((0, d))
        if spoil in ("nan", "inf") and n: Z.flat[0] = float(spoil)
        return {"flat": lambda: Z.ravel(), "text": lambda: Z.astype(str), "ragged": lambda: [[1.], [1., 2.]], "none": lambda: None, "list": Z.tolist, "deep": lambda: Z[:, :, None], "tensor": lambda: torch.from_numpy(Z), "objects": lambda: Z.astype(object)}.get(spoil, lambda: Z)()
    return st.builds(make, n, d, st.sampled_from(list(KINDS)), st.one_of(st.just(0), st.integers(-300, 300)), st.integers(0, 2**32), st.sampled_from([None] * 8 + ["nan", "inf", "flat", "text", "ragged", "none", "list", "deep", "tensor", "objects"]))


@fuzz("features", A=features(), B=features(), k=st.integers(0, 6), splits=st.integers(0, 4), n_new=st.one_of(st.none(), st.integers(0, 8)))
def test_figures_of_features(A, B, k, splits, n_new):
    d = tried(lambda: mt.fid(A, B), "A has", "B has", "A holds", "A cannot", "B holds", "B cannot")
    if d is not REFUSED: assert 0 <= d < math.inf and mt.fid(A, A) <= 1e-6 * max(1e-300, np.square(np.asarray(A, float)).max() * 100)
    v = tried(lambda: mt.diversity(A, B, k=k, n_new=n_new), "real", "new", "k is", "series")
    if v is not REFUSED: assert all(0 <= v[name] <= 1 for name in ("precision", "recall", "coverage")) and v["density"] >= 0
    i = tried(lambda: mt.inception_score(A, n_splits=splits), "P ", "n_splits")
    if i is not REFUSED: assert i[0] >= 1 - 1e-9 and i[1] >= 0
    n, c = 5, 3
    P = np.random.default_rng(k).dirichlet(np.ones(c), n)
    i = tried(lambda: mt.inception_score(P, n_splits=splits), "n_splits")
    assert i is REFUSED and not 1 <= splits <= n or 1 - 1e-9 <= i[0] <= c
    y = tried(lambda: mt.class_diversity(A, [j % 2 for j in range(len(A))], B, None if k == 6 else ["a"] * len(B) if k == 5 else [j % 2 for j in range(len(B))], k=max(k, 1)), "real", "new", "y_") if hasattr(A, "__len__") and hasattr(B, "__len__") else REFUSED
    if y is not REFUSED: assert k < 5 and all(math.isnan(x) or x >= 0 for x in y.values())


@fuzz("probe", A=features(st.integers(1, 12)), B=features(st.integers(1, 6)), y=labels(st.integers(1, 12)), z=labels(st.integers(1, 6)), plain=st.integers(0, 3), unit=st.integers(-130, 130))
def test_probes_answer_or_refuse(A, B, y, z, plain, unit):
    if plain:  # two classes far apart, in any unit
        n, m = 4 + plain, 3
        A, y, B, z = ((np.arange(k)[:, None] % 2 + .01 * np.arange(k)[:, None]) * 10.0**unit for k in (n, 0, m, 0)), None, None, None
        A, _, B, _ = A
        y, z = (None, list("aba")) if plain == 3 else (np.arange(n) % 2, np.arange(m) % 2)
        out = tried(lambda: mt.probe(A, y, B, z, n_neighbors=1), "y_train")
        assert out is REFUSED if plain == 3 else out == {"knn": 1.0, "svm": 1.0}
        return
    out = tried(lambda: mt.probe(A, y[1], B, z[1]), "Z_t", "y_t")
    if out is not REFUSED: assert 0 <= out["knn"] <= 1 and 0 <= out["svm"] <= 1


@fuzz("memory", A=series(sizes=((1, 6), (1, 2), (1, 20)), scales=st.integers(-44, 38)), seed=st.integers(0, 2**32), n=st.tuples(st.integers(1, 5), st.integers(1, 5)), other=st.one_of(st.none(), hostile_series()), draws=st.integers(0, 3))
def test_memorisation_is_a_share(A, seed, n, other, draws):
    X, want = A
    r = np.random.default_rng(seed)
    new, test = (np.resize(want, (k, *want.shape[1:])) * r.uniform(.5, 1, (k, 1, 1)) for k in n)
    m = tried(lambda: mt.memorisation(new if other is None else other, X, test, n_draws=draws), "X_new", "X_train", "X_test", "X lies", "n_draws")
    if m is not REFUSED: assert draws and 0 <= m["share"] <= 1 and 0 <= m["copies"] <= 1 and m["ratio"] >= 0
    if other is None and draws and tried(lambda: check_series(want), "X") is not REFUSED: assert m is not REFUSED


@fuzz("codes", seed=st.integers(0, 2**32), shape=st.lists(st.integers(0, 4), max_size=3), low=st.integers(-1, 0), high=st.integers(1, 9), n_codes=st.integers(1, 8), dtype=st.sampled_from(["i8", "i8", "i4", "u1", "f8", "c8", "?"]), ragged=st.sampled_from([False] * 9 + [True]))
def test_codes_are_counted(seed, shape, low, high, n_codes, dtype, ragged):
    with np.errstate(all="ignore"): s = np.random.default_rng(seed).integers(low, high, shape).astype(dtype)
    s = [[1], [1, 2]] if ragged else s
    found = tried(lambda: codebook_usage(s, n_codes), "s must", "expected sequence")  # PyTorch's own words for lists of unequal length
    assert (found is not REFUSED) == bool(not ragged and s.dtype.kind in "iu" and (not s.size or s.min() >= 0 and s.max() < n_codes))
    if found is not REFUSED: assert found[0].tolist() == np.bincount(s.ravel().astype(int), minlength=n_codes).tolist() and 1 - 1e-9 <= found[1] <= n_codes + 1e-9


@fuzz("map", sets=st.lists(features(st.integers(1, 8), st.just(3)), min_size=0, max_size=3), method=st.sampled_from(["pca"] * 6 + ["tsne", "umap"]))
def test_maps_are_flat_and_finite(sets, method):
    flat = tried(lambda: mt.embed_2d(*sets, method=method), "set ", "rows", "method")
    if flat is not REFUSED: assert [f.shape for f in flat] == [(len(Z), 2) for Z in sets] and all(np.isfinite(f).all() for f in flat)


@fuzz("bootstrap", Z=features(), n=st.integers(0, 5), confidence=st.one_of(st.floats(.1, .99), st.floats()), paired=st.booleans(), method=st.sampled_from(["percentile", "spread", "x"]))
def test_intervals_are_in_order(Z, n, confidence, paired, method):
    values = np.sin(np.arange(n + 1.))
    a = tried(lambda: mt.bootstrap_interval(lambda *v: float(np.mean(v[0])), values, *([] if not isinstance(Z, np.ndarray) or not paired else [Z]), n_resamples=n + 1, confidence=confidence, paired=paired, method=method), "method", "confidence", "n_resamples", "arrays", "array ")
    if a is not REFUSED: assert a[0] <= a[1] and -2.1 < a[0] and a[1] < 2.1


@fuzz("counts", y=st.one_of(labels(), st.just((0, None)), st.just((0, 5))), at_least=st.integers(0, 50))
def test_labels_to_be_made_are_as_frequent(y, at_least):
    out = tried(lambda: mt.cas_labels(y[1], at_least=at_least), "y_train")
    if out is not REFUSED: assert len(out) >= max(at_least, len(y[0])) and set(out.tolist()) == set(check_labels(y[1], len(y[0])).tolist())


@fuzz("classifier", pair=series(sizes=((2, 5), (1, 2), (1, 12)), scales=st.integers(-40, 37)), batch=st.integers(0, 3), y=labels(st.integers(2, 5)), plain=st.booleans(), far=st.sampled_from([1, 1e20]))
def test_classifiers_are_fitted_or_refused(pair, batch, y, plain, far):
    X, want = pair
    labels_ = [i % 2 for i in range(len(want))] if plain else y[1]
    f = mt.FCNClassifier(max_steps=1, batch_size=batch, precision="float32", device="cpu")
    if tried(lambda: f.fit(X, labels_), "X", "y", "batch_size") is REFUSED: return
    P = f.predict_proba(X)
    assert P.shape == (len(want), len(f.classes_)) and np.allclose(P.sum(1), 1) and set(f.predict(X)) <= set(f.classes_)
    tried(lambda: f.predict(want * far), "X")


@fuzz("report", name=st.text(max_size=10), metric=st.text(max_size=10), values=st.lists(st.floats(), min_size=4, max_size=4), note=st.text(max_size=20), kind=st.text(max_size=5))
def test_reports_come_back(home, name, metric, values, note, kind):
    assume(not any("\ud800" <= ch <= "\udfff" for ch in name + metric + note + kind))
    r = mt.Report(name, [mt.Row(metric, *values[:3], "lower", (mt.Beside(kind, values[3], note),))], [note], {"note": note})
    again = mt.Report.load(tried(lambda: r.save(home / "r"), "-"))
    assert again.to_dict() == r.to_dict() and repr(again) and again._repr_html_() and again._repr_markdown_()


# Parts of the networks

@fuzz("quantise", seed=st.integers(0, 2**32), shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5)), n_codes=st.integers(1, 9), kind=st.sampled_from([k for k in KINDS if k != "heavy"]), scale=st.integers(-15, 15), revive=st.sampled_from([0, .02, 5.0]), orthogonality=st.sampled_from([0, .5, 1]))
def test_codes_are_the_nearest_and_stay_finite(seed, shape, n_codes, kind, scale, revive, orthogonality):
    z = torch.from_numpy(KINDS[kind](np.random.default_rng(seed), shape)).float() * 10.0**scale
    vq, gen = VectorQuantizer(n_codes, shape[1], revive_below=revive, orthogonality=orthogonality), torch.Generator().manual_seed(seed)
    vq.start(z, gen)
    q = vq(z, gen)
    assert q.z_q.shape == z.shape and q.s.shape == (shape[0], *shape[2:]) and q.s.dtype == torch.int64 and 0 <= q.s.min() and q.s.max() < n_codes
    assert all(v.isfinite().all() for v in (*vq.state_dict().values(), q.z_q, q.commitment))


@fuzz("losses", seed=st.integers(0, 2**32), b=st.integers(1, 6), d=st.integers(1, 8), name=st.sampled_from(list(SSL_LOSSES)), kind=st.sampled_from([k for k in KINDS if k != "heavy"]), scale=st.integers(-12, 6), other=st.integers(0, 1))
def test_losses_are_finite_and_so_are_their_slopes(seed, b, d, name, kind, scale, other):
    r = np.random.default_rng(seed)
    z1, z2 = (torch.from_numpy(KINDS[kind](r, (b + k, d))).float().mul(10.0**scale).requires_grad_() for k in (0, other))
    loss = tried(lambda: SSL_LOSSES[name][0](z1, z2), "projections", "at least 2")
    if loss is REFUSED: assert other or b < 2; return
    loss.backward()
    assert loss.isfinite() and loss > -1e-3 * max(1, float(loss.detach().abs())) and z1.grad.isfinite().all() and z2.grad.isfinite().all()


@fuzz("masks", b=st.integers(1, 5), n=st.integers(1, 40), name=st.sampled_from(list(SCHEDULES)), seed=st.integers(0, 2**32))
def test_masks_hide_at_least_one(b, n, name, seed):
    hidden = random_mask((b, n), SCHEDULES[name], torch.Generator().manual_seed(seed))
    assert hidden.shape == (b, n) and hidden.dtype == torch.bool and (hidden.sum(1) >= 1).all()
