"""New series of all kinds or of given classes, and tokens that lead back to series."""

import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from fuzzing import REFUSED, fuzz, tried
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from toys import fitted, says, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.estimator.sampling import class_indices


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def named():
    X, y = sines(channels=2, names=["sit", "stand"])
    return tiny(device="cpu").fit(X, y)


# What is asked for


@pytest.mark.parametrize(
    "kw, parts",
    [
        (dict(n=0), ["n must", "0"]),
        (dict(n=-1), ["n must"]),
        (dict(), ["n must", "None"]),
        (dict(n=2.5), ["n must", "2.5"]),
        (dict(y=0), ["n must"]),
        (dict(n=2, y=5), ["y", "5", "0, 1"]),
        (dict(n=2, y="a"), ["y", "'a'"]),
        (dict(n=3, y=[0, 1]), ["y", "3"]),
        (dict(y=[]), ["y"]),
        (dict(y=[[0]]), ["y", "(1, 1)"]),
        (dict(n=1, sampling_steps=0), ["sampling_steps"]),
        (dict(n=1, random_state="x"), ["random_state"]),
        (dict(n=1, random_state=-1), ["random_state"]),
        (dict(n=1, guidance_scale="x"), ["guidance_scale"]),
        (dict(n=1, choice_temperature="x"), ["choice_temperature"]),
        (dict(n=1, guidance_scale=float("nan")), ["guidance_scale"]),
        (dict(n=1, choice_temperature=-1), ["choice_temperature"]),
    ],
    ids=str,
)
def test_bad_requests(model, kw, parts):
    with says(*parts):
        model.sample(**kw)


def test_unknown_labels_are_shown_as_they_were_given(named):
    with says("'lie'", "'sit', 'stand'") as e:
        named.sample(2, y="lie")
    assert "np." not in str(e.value)
    with says("y") as e:
        named.sample(2, y=3)
    assert "np." not in str(e.value)


def test_labels_for_a_model_without_classes():
    m = fitted(ssl=None, epochs=1).fit(sines()[0])
    assert m.classes_ is None and m.sample(2, random_state=0).shape == (2, 1, 33)
    with says("y was given", "without labels"):
        m.sample(2, y=0)


def test_a_tokenizer_without_a_prior_says_what_is_missing():
    X, y = sines()
    m = tiny().fit_tokenizer(X, y)
    for call in (lambda: m.sample(2), lambda: m.impute(X)):
        with says("has a tokenizer, but no prior yet", "fit_prior", kind=NotFittedError):
            call()
    with says("not fitted", kind=NotFittedError):
        tiny().sample(2)


# Classes


def test_samples_without_a_label_have_the_classes_of_training(tmp_path):
    y = np.array([0] * 9 + [1] * 3)
    m = tiny().fit(sines()[0], y)
    assert m.class_prior_.tolist() == [0.75, 0.25]
    drawn = class_indices(m, 4000, None, 0)
    assert abs((drawn == 1).mean() - 0.25) < 0.03
    assert set(class_indices(m.set_params(unconditional="null"), 10, None, 0)) == {2}
    m.save(tmp_path / "m")
    assert NCVQ.load(tmp_path / "m").class_prior_.tolist() == [0.75, 0.25]


def test_classes_steer_the_samples():
    "Two classes with tokens of their own: a prior that is trained a little longer parts them."
    shape, sign = np.sin(np.linspace(0, 6, 32)), np.where(np.arange(16) % 2, 1, -1)
    noise = 0.01 * np.random.default_rng(0).normal(size=(16, 1, 32))
    X = sign[:, None, None] * shape + noise
    m = tiny(None, None, epochs=(100, 150), lr=5e-3).fit(X, np.arange(16) % 2)
    mean = [m.sample(20, y=c, random_state=0)[:, 0].mean(0) @ shape for c in (0, 1)]
    assert mean[0] < 0 < mean[1]


def test_a_prior_without_a_null_class_says_so():
    m, (X, _) = fitted(p_unconditional=0.0), sines()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m.sample(4, random_state=0)
        m.sample(4, 1, random_state=0)
    gappy = X.copy()
    gappy[:, 0, 5:9] = np.nan
    with pytest.warns(UserWarning, match="p_unconditional=0"):
        m.impute(gappy, random_state=0)
    with pytest.warns(UserWarning, match="p_unconditional=0"):
        m.sample(4, 1, guidance_scale=2.0, random_state=0)
    with pytest.warns(UserWarning, match="p_unconditional=0"):
        m.set_params(unconditional="null").sample(4, random_state=0)


# Randomness and precision


def test_what_decides_without_a_label_is_checked(model):
    other = deepcopy(model).set_params(unconditional="Null")
    with says("unconditional must be", "'Null'"):
        other.sample(3)
    assert other.sample(3, y=0).shape[0] == 3


def test_guidance_asks_how_the_prior_was_trained_and_not_what_was_set_since(model):
    how = dict(y=1, random_state=0, guidance_scale=3.0)
    want = model.sample(8, **how)
    other = deepcopy(model).set_params(p_unconditional=0.0)
    assert np.array_equal(other.sample(8, **how), want)
    own = dict(y=1, random_state=0)
    assert np.array_equal(other.sample(8, **own), model.sample(8, **own))
    assert np.isfinite(other.score_samples(sines()[0])).all()
    bare = fitted(p_unconditional=0.0).set_params(p_unconditional=0.2)
    with says("p_unconditional=0"):
        bare.score_samples(sines()[0])
    with pytest.warns(UserWarning, match="p_unconditional=0"):
        bare.sample(2, y=1, guidance_scale=2.0)


def test_requests_are_refused_by_what_is_wrong_with_them(model):
    with says("n must be a whole number of at least 1 where y is one label, here 1, found None"):
        model.sample(y=1)
    with says("n must be a whole number of at least 1, found True"):
        model.sample(True)
    assert model.sample(2, random_state=2**64 + 3).shape[0] == 2
    assert deepcopy(model).set_params(epochs=0).sample(2).shape[0] == 2  # an epoch for the next fit


def test_without_labels_many_series_bring_an_order_nearly_at_random():
    bare = tiny(choice_temperature=None).fit(sines()[0])
    bare.data_ = bare.data_ | dict(series=2000)
    a, b, c = (bare.sample(4, random_state=0, choice_temperature=v) for v in (None, 16.0, 4.0))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    ours = fitted(choice_temperature=None)
    ours.data_ = ours.data_ | dict(series=2000)
    a, b = (ours.sample(4, random_state=0, choice_temperature=v) for v in (None, 4.0))
    assert np.array_equal(a, b)


def test_samples_follow_their_random_state(model):
    a, b = (model.sample(4, random_state=seed) for seed in (1, 2))
    assert np.array_equal(a, model.sample(4, random_state=1)) and not np.array_equal(a, b)
    assert not np.array_equal(model.sample(40), model.sample(40))
    rng = np.random.default_rng(3)
    assert not np.array_equal(model.sample(4, random_state=rng), model.sample(4, random_state=rng))


def test_samples_are_their_tokens_decoded(model):
    s = model.sample_tokens(3, y=1, random_state=5)
    assert s.dtype == np.int64 and s.shape == (3, 40)
    mean = model.sample(3, y=1, random_state=5, observation_noise=0)
    assert np.array_equal(model.decode(s), mean)


def test_bfloat16_is_used_for_samples_too():
    m, seen = fitted(ssl=None, epochs=1), []
    m.prior_.blocks[0].ff[1].register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    for precision in ("float32", "bfloat16"):
        m.set_params(precision=precision).sample(2, guidance_scale=1.0, random_state=0)
    assert set(seen[:20]) == {torch.float32} and set(seen[20:]) == {torch.bfloat16}


# Tokens


@pytest.mark.parametrize(
    "s, parts",
    [
        (np.zeros((2, 3), int), ["s must", "(2, 3)"]),
        (np.zeros(40, int), ["s must"]),
        (np.zeros((2, 40)), ["float64"]),
        (np.full((2, 40), 8), ["0 to 7", "8"]),
        (np.full((2, 40), -1), ["-1"]),
        (np.zeros((0, 40), int), ["s"]),
        ("text", ["s must"]),
    ],
    ids=["width", "rank", "float", "too great", "negative", "empty", "text"],
)
def test_bad_tokens(model, s, parts):
    assert model.tokenizer_.n_tokens == 40
    with says(*parts):
        model.decode(s)


TOKENS = [
    np.asarray,
    np.asarray,
    list,
    np.ndarray.tolist,
    np.asfortranarray,
    lambda a: a[0] if len(a) else a,
    lambda a: [[1], [1, 2]],
    lambda a: None,
    lambda a: "text",
    lambda a: a[None],
]


@fuzz(
    150,
    seed=st.integers(0, 2**32),
    n=st.integers(0, 4),
    width=st.sampled_from([40, 40, 40, 40, 39, 0]),
    low=st.sampled_from([0, 0, 0, -1]),
    high=st.sampled_from([8, 8, 8, 9, 2**31]),
    dtype=st.sampled_from(["i8", "i8", "u1", "i4", "u8", "f8", "?", "O", "U"]),
    form=st.sampled_from(TOKENS),
)
def test_tokens_are_decoded_or_refused(named, seed, n, width, low, high, dtype, form):
    with np.errstate(all="ignore"):
        s = form(np.random.default_rng(seed).integers(low, high, (n, width)).astype(dtype))
    X = tried(lambda: named.decode(s), "s must", "s is", "s holds", "s cannot")
    try:
        plain = np.asarray(s)
    except ValueError:
        plain = np.zeros(0)
    good = plain.dtype.kind in "iu" and plain.shape == (n, 40) and n
    if good and plain.min() >= 0 and plain.max() < 8:
        assert X.shape == (n, 2, 33) and X.dtype == np.float32 and np.isfinite(X).all()
    else:
        assert X is REFUSED


NAMED = ("n must", "y must", "y has", "y was", "y holds", "y cannot", "random_state")


@fuzz(
    200,
    n=st.one_of(
        st.integers(-1, 3),
        st.integers(1, 3).map(np.int64),
        st.none(),
        st.floats(0, 3),
        st.just("2"),
    ),
    y=st.one_of(
        st.none(),
        st.sampled_from(["sit", "stand", "lie", "", 0, None, np.str_("sit"), b"sit"]),
        st.lists(st.sampled_from(["sit", "stand"]), max_size=4),
        st.lists(st.sampled_from(["sit", "lie", 1, None, 2.5]), max_size=3),
        st.just([["sit"]]),
        st.just([["sit"], ["sit", "sit"]]),
        st.just({}),
        st.just({"sit"}),
    ),
    seed=st.one_of(
        st.integers(-1, 2**70),
        st.none(),
        st.just("x"),
        st.floats(0, 1),
        st.builds(np.random.default_rng, st.just(0)),
    ),
    steps=st.one_of(st.none(), st.integers(-1, 3), st.just(1.5)),
    guide=st.one_of(st.none(), st.floats(-5, 5), st.just("x"), st.just(float("nan"))),
)
def test_requests_are_met_or_refused(named, n, y, seed, steps, guide):
    ask = dict(random_state=seed, sampling_steps=steps, guidance_scale=guide)
    s = tried(lambda: named.sample_tokens(n, y, **ask), *NAMED, "sampling_steps", "guidance_scale")
    if s is REFUSED:
        return
    want = len(y) if isinstance(y, list) else n
    assert s.shape == (want, 40) and s.dtype == np.int64 and 0 <= s.min() and s.max() < 8
    assert set(np.ravel([] if y is None else y)) <= {"sit", "stand"}
    X = tried(lambda: named.decode(s), "-")
    assert X.shape == (want, 2, 33) and X.dtype == np.float32 and np.isfinite(X).all()


def test_decoding_does_not_depend_on_company(named):
    s = named.sample_tokens(300, random_state=0)
    assert_allclose(named.decode(s)[[3, 270]], named.decode(s[[3, 270]]), atol=1e-5)


def test_bytes_are_the_text_that_they_stand_for(named):
    want = named.sample(3, "sit", random_state=0)
    assert np.array_equal(named.sample(3, b"sit", random_state=0), want)
    assert np.array_equal(class_indices(named, None, np.array([b"stand", b"sit"]), 0), [1, 0])
