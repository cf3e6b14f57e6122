"""Options of iterative decoding: against definitions, SciPy and priors whose answer is known."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import qmc

from ncvq_nb import NCVQ
from ncvq_nb.engine.runtime import seeded
from ncvq_nb.estimator.decoding import (
    CRITIC_GROUPS,
    GUIDANCE_SCHEDULES,
    ORDERS,
    guidance_at,
    halton_ranks,
    radical_inverse,
    self_critic,
    token_probabilities,
    unveiling_order,
)
from ncvq_nb.estimator.settings import SAMPLING_RULES
from ncvq_nb.maskgit import MaskGIT, iterative_decoding
from tensors import gen, randn
from toys import fitted, says, sines

# Probabilities


@pytest.mark.parametrize("K", [2, 7, 300])
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.9, 1 - 1e-4, 1.0])
def test_the_nucleus_against_its_definition(K, top_p):
    logits = 2 * randn(20, K)
    logits[0] = 0.0  # all alike
    got, p = token_probabilities(logits, top_p=top_p), logits.softmax(-1)

    def nucleus(full, share):
        kept, total = set(), 0.0
        for k in sorted(range(K), key=lambda k: -full[k]):
            if kept and total >= share:
                return kept
            kept.add(k)
            total += full[k]
        return kept

    for row, full in zip(got.tolist(), p.tolist()):
        kept = {k for k in range(K) if row[k]}
        assert nucleus(full, top_p - 1e-6) <= kept <= nucleus(full, top_p + 1e-6)  # rounding
        assert all(row[k] == full[k] for k in kept)


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-4])
def test_no_temperature_is_the_most_probable_token(temperature):
    logits = 50 * randn(3, 9, 6)
    p = token_probabilities(logits, temperature)
    assert_allclose(p.amax(-1), 1, atol=1e-6)
    assert torch.equal(p.argmax(-1), logits.argmax(-1))
    p = token_probabilities(logits, 2.0, 1.0)
    assert_allclose(p, (logits / 2).softmax(-1), atol=1e-6)
    assert torch.equal(token_probabilities(logits), logits.softmax(-1))  # to the bit


# Orders


@pytest.mark.parametrize("f, t", [(1, 1), (1, 7), (5, 19), (5, 75), (3, 3), (33, 4)])
def test_the_halton_order_against_scipy(f, t):
    points, cells = qmc.Halton(2, scramble=False).random(40 * f * t + 500), {}
    for u, v in points + 1e-9:  # on the line between two cells, SciPy's may be rounded down
        cells.setdefault((int(u * f), int(v * t)), len(cells))
    ranks = halton_ranks(f, t)
    assert len(cells) == f * t
    assert all(ranks[cell] == rank for cell, rank in cells.items())
    inverse = np.transpose([np.divide(*radical_inverse(np.arange(500), b)) for b in (2, 3)])
    assert_allclose(inverse, points[:500], atol=1e-12)


def test_the_first_tokens_in_halton_order_are_spread():
    "Discrepancy as SciPy measures it, whatever the shift, below that of random orders."

    def discrepancy(order):
        ranks = (-order).argsort(-1).argsort(-1).view(-1, 5, 20)
        cells = [(r < 12).nonzero() for r in ranks]
        scale = torch.tensor([5, 20])
        return [qmc.discrepancy((c + 0.5) / scale, method="WD") for c in cells]

    halton, chance = (
        discrepancy(unveiling_order(k, (50, 100), (5, 20), gen())) for k in ("halton", "random")
    )
    assert np.mean(halton) < np.quantile(chance, 0.1) and np.ptp(halton) < 1e-6


def test_every_row_has_its_own_shift():
    order = unveiling_order("halton", (200, 12), (3, 4), gen())
    assert len(order.unique(dim=0)) == 12
    first = order.argmax(-1).bincount(minlength=12)
    assert (first > 4).all()  # each place comes first in some
    assert torch.equal(order, unveiling_order("halton", (200, 12), (3, 4), gen()))
    assert unveiling_order("random", (200, 12), None, gen()).unique(dim=0).shape == (200, 12)
    assert unveiling_order("halton", (2, 12)).shape == (2, 12)  # without a grid, one row


# Guidance


@pytest.mark.parametrize("name", GUIDANCE_SCHEDULES)
def test_guidance_grows_to_its_scale(name):
    w = [guidance_at(t, 9, 4.0, name) for t in range(1, 10)]
    assert w == sorted(w) and w[-1] == 4 and guidance_at(1, 1, 4.0, name) == 4
    if name != "constant":
        assert w[0] == 1
        assert_allclose(w[4], 2.5)
        assert_allclose(np.add(w, w[::-1]), 5)
    assert w[2] == dict(constant=4, linear=1.75, cosine=2.5 - 1.5 * math.cos(math.pi / 4))[name]
    assert [guidance_at(t, 9, 1.0, name) for t in (1, 5, 9)] == [1, 1, 1]


# Decoding


def prior(n_tokens=12, n_codes=6):
    with seeded(7):
        sizes = dict(code_dim=8, dim=16, depth=1, heads=2, head_dim=8)
        p = MaskGIT(n_tokens, n_codes, 3, **sizes)
        for w in p.parameters():
            w.data += 0.3 * torch.randn(w.shape)
    return p.eval()


def masked(n=6, known=()):
    s = torch.full((n, 12), 6)
    s[:, list(known)] = torch.randint(6, (n, len(known)), generator=gen(3))
    return s, torch.arange(n) % 4


OPTIONS = (
    *(dict(order=k, grid=(3, 4)) for k in ORDERS),
    dict(top_p=0.5, temperature=0.7),
    dict(temperature=1e-9, choice_temperature=0.0),
    *(dict(guidance_scale=3.0, guidance_schedule=k) for k in GUIDANCE_SCHEDULES),
    dict(revisions=3),
    dict(revisions=1, revise_share=1.0, order="halton", guidance_scale=2.0),
)


@pytest.mark.parametrize("kw", OPTIONS, ids=str)
def test_whatever_the_options_no_token_is_masked_and_known_ones_stay(kw):
    p, (s, y) = prior(), masked(known=(0, 4, 5))
    s[0, :11] = 2  # one is asked for
    s[1] = 3  # none is
    s[2, 8:] = 7  # beyond the end of a series
    p.token = torch.nn.Embedding.from_pretrained(torch.cat([p.token.weight, randn(1, 8)]))
    got = iterative_decoding(p, s, y, gen(), steps=5, **kw)
    fixed = s != 6
    assert torch.equal(got[fixed], s[fixed])
    assert (got[~fixed] < 6).all() and (got >= 0).all()
    assert torch.equal(got, iterative_decoding(p, s, y, gen(), steps=5, **kw))


def test_defaults_are_what_is_not_said():
    p, (s, y) = prior(), masked()
    said = dict(temperature=1.0, top_p=1.0, order="confidence", guidance_schedule="constant")
    for w in (1.0, 2.0):
        plain = iterative_decoding(p, s, y, gen(), guidance_scale=w)
        more = iterative_decoding(p, s, y, gen(), guidance_scale=w, revisions=0, **said)
        assert torch.equal(plain, more)


@pytest.mark.parametrize("order", ["random", "halton"])
def test_tokens_are_unveiled_in_their_order(order):
    p, (s, y), seen = prior(), masked(40, known=(1, 7)), []
    p.token.register_forward_pre_hook(lambda m, args: seen.append(args[0] == 6))
    kw = dict(steps=6, schedule="linear", order=order, grid=(3, 4))
    iterative_decoding(p, s, y, gen(), **kw)
    early = unveiling_order(order, s.shape, (3, 4), gen())
    for t, still in enumerate(seen[1:], 1):  # in the first, equal rows are one
        left = math.floor((1 - t / 6) * 10 + 1e-6)
        last = early.masked_fill(s != 6, math.inf).argsort(-1)[:, :left]
        assert torch.equal(still, torch.zeros_like(still).scatter(1, last, True))


def test_no_temperature_in_one_step_is_the_argmax_of_the_prior():
    p, (s, y) = prior(), masked()
    with torch.no_grad():
        want = p(s, y).argmax(-1)
    for kw in (dict(temperature=1e-9), dict(top_p=1e-9), dict(temperature=1e-300, top_p=0.5)):
        assert torch.equal(iterative_decoding(p, s, y, gen(), steps=1, **kw), want)


# A second look


def test_the_critic_says_what_the_prior_says_about_hidden_tokens():
    p, y = prior(), torch.tensor([0, 3])
    s, doubted = torch.randint(6, (2, 12), generator=gen()), torch.ones(2, 12, dtype=torch.bool)
    doubted[:, :3], seen = False, []
    p.token.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    with torch.no_grad():
        c = self_critic(p, s, y, doubted, gen())
        hidden, want = torch.stack(seen) == 6, torch.zeros(2, 12)
        for h in hidden:
            log_p = p(s.masked_fill(h, 6), y).log_softmax(-1)
            want[h] = log_p[h].gather(-1, s[h][:, None])[:, 0]
    assert_allclose(c, want, atol=1e-6)
    assert torch.equal(hidden.sum(0), doubted.long())  # each once, and no other
    assert len(hidden) == CRITIC_GROUPS and hidden.sum(-1).max() <= 3


def test_a_revision_masks_the_least_probable_tokens_alone():
    p, (s, y), seen = prior(), masked(known=(0, 5)), []
    p.token.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    kw = dict(steps=1, revisions=2, revise_share=0.25)
    iterative_decoding(p, s, y, gen(), **kw)
    assert len(seen) == 1 + 2 * (CRITIC_GROUPS + 1)
    for first in (1, 2 + CRITIC_GROUPS):
        again = seen[first + CRITIC_GROUPS] == 6
        assert (again.sum(-1) == 3).all() and not again[:, [0, 5]].any()  # ⌈0.25 · 10⌉


class Repeats(torch.nn.Module):
    "A prior of sequences that repeat one token: as often as it is seen, and it once more."

    mask_token, no_class = 4, 1

    def forward(self, s, y):
        counts = torch.nn.functional.one_hot(s, 5)[..., :4].sum(1, keepdim=True)
        return (3.0 * counts).expand(-1, s.shape[1], -1)


def test_revisions_mend_what_does_not_go_together():
    s, y = torch.full((500, 8), 4), torch.zeros(500, dtype=int)

    def odd(**kw):
        found = iterative_decoding(Repeats(), s, y, gen(), steps=2, schedule="sqrt", **kw)
        return (found != found.mode(-1).values[:, None]).float().mean()

    assert odd(revisions=6, revise_share=0.25) < odd() / 3


# The estimator


@pytest.fixture(scope="module")
def model():
    return fitted(sampling_steps=3)


def test_parameters_and_keywords_say_the_same(model, tmp_path):
    kw = dict(order="halton", top_p=0.8, temperature=0.7, revisions=1, revise_share=0.3)
    want = model.sample(5, random_state=0, guidance_scale=2.0, guidance_schedule="linear", **kw)
    with pytest.MonkeyPatch.context() as m:
        for k, v in dict(kw, guidance_scale=2.0, guidance_schedule="linear").items():
            m.setattr(model, k, v)
        model.save(tmp_path / "m")
        assert np.array_equal(model.sample(5, random_state=0), want)
    again = NCVQ.load(tmp_path / "m")
    assert again.get_params()["order"] == "halton" and again.revisions == 1
    assert np.array_equal(again.sample(5, random_state=0), want)
    assert not np.array_equal(model.sample(5, random_state=0), want)
    none = dict.fromkeys(SAMPLING_RULES)
    assert np.array_equal(model.sample(5, random_state=0, **none), model.sample(5, random_state=0))


def test_what_was_observed_stays_in_a_second_look(model):
    X, _ = sines()
    X[:, :, 10:15] = np.nan
    kw = dict(revisions=2, revise_share=1.0, order="halton", random_state=0)
    found, known = model.impute(X, **kw), ~np.isnan(X)
    assert np.isfinite(found).all() and np.array_equal(found[known], X[known])


def test_unknown_names_are_told_with_those_that_are_known(model):
    X, _ = sines()
    for ask in (lambda **k: model.sample(2, **k), lambda **k: model.impute(X, **k)):
        with says("'topp' is no setting of sampling", *map(repr, SAMPLING_RULES), kind=TypeError):
            ask(topp=0.5)
    with says("order must be one of 'confidence', 'random', 'halton'", "found 'sobol'"):
        model.sample_tokens(2, order="sobol")
