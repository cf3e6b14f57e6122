"""Each stage alone: a tokenizer, a prior on its tokens, and what one leaves of the other."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from toys import fingerprint, fitted, says, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.engine.failures import NonFiniteError
from ncvq_nb.estimator import stages
from ncvq_nb.estimator.sampling import choice_temperature_for


def test_stages_can_be_fitted_one_by_one():
    X, y = sines()
    m = tiny()
    with pytest.raises(NotFittedError):
        m.fit_prior(X, y)
    m.fit_tokenizer(X, y)
    assert not hasattr(m, "prior_") and m.encode(X).shape[0] == 12
    with pytest.raises(NotFittedError):
        m.sample(3)
    assert fingerprint(m.fit_prior(X, y)) == fingerprint(fitted())


def test_a_tokenizer_alone_is_saved_and_loaded(tmp_path):
    X, y = sines()
    m = tiny().fit_tokenizer(X)
    m.save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert np.array_equal(again.encode(X), m.encode(X)) and not hasattr(again, "prior_")
    with pytest.raises(NotFittedError):
        again.sample(1)
    assert fingerprint(again.fit_prior(X, y)) == fingerprint(m.fit_prior(X, y))


def test_fitting_the_tokenizer_anew_forgets_the_prior():
    m = fitted().fit_tokenizer(sines()[0])
    with pytest.raises(NotFittedError):
        m.sample(1)


def test_changed_parameters_do_not_break_a_fitted_model():
    "The networks know their own sizes."
    X, y = sines()
    m = fitted()
    s = m.encode(X)
    m.set_params(n_codes=4, dim=16)
    assert m.decode(s).shape == X.shape
    assert m.fit_prior(X, y).sample(2).shape == (2, 1, 33)


def test_an_interrupted_prior_leaves_the_old_one_with_its_classes(monkeypatch):
    (X, _), m = sines(), fitted(names=["sit", "walk"])
    before, state = m.sample(3, "walk", random_state=0), fingerprint(m)

    def stop(*args, **kw):
        raise KeyboardInterrupt

    with monkeypatch.context() as c:
        c.setattr(stages, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            m.fit_prior(X, np.array(["a", "b", "c"])[np.arange(12) % 3])
    assert m.classes_.tolist() == ["sit", "walk"] and len(m.class_prior_) == 2
    assert fingerprint(m) == state
    assert np.array_equal(m.sample(3, "walk", random_state=0), before)


def test_a_run_of_the_prior_on_other_labels_or_series_is_refused(tmp_path):
    X, y = sines()
    m = tiny().fit(X, y, run_dir=tmp_path / "q")
    for other in ((X, 1 - y), (X + 1, y)):
        with says("other settings", "fingerprint"):
            m.fit_prior(*other, run_dir=tmp_path / "q")
    m.fit_prior(X, y, run_dir=tmp_path / "q")
    assert "prior_digest" not in m.data_
    m.fit_prior(X, 1 - y)
    m.save(tmp_path / "m")
    assert m.data_["prior_digest"] != m.data_["digest"]
    assert NCVQ.load(tmp_path / "m").data_ == m.data_
    assert m.data_["prior_digest"] in (tmp_path / "m" / "README.md").read_text()


def test_a_run_of_a_prior_belongs_to_its_tokenizer(tmp_path):
    X, y = sines()
    first = tiny(random_state=1).fit(X, y, run_dir=tmp_path)
    again = tiny(random_state=1).fit_tokenizer(X, y).fit_prior(X, y, run_dir=tmp_path)
    assert fingerprint(again) == fingerprint(first), "the same tokenizer, trained once more"
    other = tiny(random_state=1).fit_tokenizer(X[::-1].copy(), y)
    other.data_ = first.data_  # what only the weights tell apart
    with says("other settings", "tokenizer was"):
        other.fit_prior(X, y, run_dir=tmp_path)


def test_a_run_goes_on_with_other_settings_of_sampling(tmp_path):
    X, y = sines()
    first = tiny(random_state=1).fit(X, y, run_dir=tmp_path)
    changed = dict(temperature=0.8, guidance_scale=2.0, observation_noise=0.0, unconditional="null")
    again = tiny(random_state=1, **changed).fit(X, y, run_dir=tmp_path)
    assert fingerprint(again) == fingerprint(first) and again.temperature == 0.8
    with says("other settings", "p_unconditional"):
        tiny(random_state=1, p_unconditional=0.5, **changed).fit(X, y, run_dir=tmp_path)


def test_a_run_that_is_fitted_stage_by_stage_goes_on(tmp_path):
    X, y = sines()
    alone = tiny().fit_tokenizer(X, run_dir=tmp_path).fit_prior(X, y, run_dir=tmp_path)
    again = tiny().fit_tokenizer(X, run_dir=tmp_path).fit_prior(X, y, run_dir=tmp_path)
    assert fingerprint(again) == fingerprint(alone)
    with says("fingerprint"):
        alone.fit_prior(X, 1 - y, run_dir=tmp_path)


def test_a_run_without_a_seed_goes_on_with_the_one_it_had(tmp_path):
    X, y = sines()
    one = tiny(random_state=None).fit_tokenizer(X, y, run_dir=tmp_path)
    two = tiny(random_state=None).fit(X, y, run_dir=tmp_path)
    assert one.seed_ == two.seed_ and fingerprint(two) == fingerprint(
        fitted(random_state=one.seed_)
    )


def test_the_pace_changes_lines_but_not_the_model(tmp_path):
    m = tiny(epochs=12).fit(*sines(), run_dir=tmp_path, log_every=5, checkpoint_every=1e9)
    for stage in ("tokenizer", "prior"):
        assert m.history_[stage]["step"] == [5, 10, 12]
        last = "checkpoint-00000012.safetensors"
        assert [p.name for p in (tmp_path / stage).glob("check*")] == [last]
    often = tiny(epochs=12).fit(*sines(), run_dir=tmp_path / "b", log_every=1, checkpoint_every=0)
    assert fingerprint(often) == fingerprint(m)
    assert len(list((tmp_path / "b" / "prior").glob("checkpoint-*"))) == 2


# What is left of a fitted model


@pytest.mark.parametrize("lr", [(1e30, 1e-3), (1e-3, 1e30)], ids=["tokenizer", "prior"])
def test_a_fitted_model_stays_what_it_was_where_training_anew_fails(lr):
    (X, y), m = sines(), fitted()
    state, rate = fingerprint(m), m.lr
    with pytest.raises(NonFiniteError):
        m.set_params(lr=lr).fit(X, y)
    assert fingerprint(m.set_params(lr=rate)) == state


def test_a_run_that_is_refused_late_leaves_the_model_as_it_was(tmp_path):
    (X, y), m = sines(), tiny()
    state = fingerprint(m.fit(X, y, run_dir=tmp_path, log_every=1))
    with says("log_every was 1"):
        m.fit(X, y, run_dir=tmp_path, log_every=2)
    assert fingerprint(m) == state


def test_one_value_is_too_few_for_batch_norm():
    with says("batch_size must be at least 2", "found 1"):
        tiny(ssl=None, bands=2, width=1, batch_size=1).fit(sines()[0])


# A prior on other series than the tokenizer's


def test_a_prior_of_one_length_leaves_the_tokenizer_its_ends():
    X, y = sines(n=12)
    unequal = [x[0, : 20 + i] for i, x in enumerate(X)]
    m = tiny().fit_tokenizer(unequal)
    codes, ends = m.encode(unequal[:3]), np.isnan(m.reconstruct(unequal)).sum()
    m.fit_prior(X[..., :31], y)
    assert np.array_equal(m.encode(unequal[:3]), codes)
    assert np.isnan(m.reconstruct(unequal)).sum() == ends > 0
    assert not np.isnan(m.sample(3)).any(), "samples have the length that the prior has seen"


def test_noise_on_the_order_goes_by_the_series_of_the_prior(tmp_path):
    X = np.tile(sines(n=12)[0], (100, 1, 1))
    m = tiny(epochs=0.01).fit_tokenizer(X[:12])
    wanted = choice_temperature_for(m.fit_prior(X), None)
    assert wanted == (1200 / 500) ** 2
    m.save(tmp_path / "m")
    assert choice_temperature_for(NCVQ.load(tmp_path / "m"), None) == wanted
    assert choice_temperature_for(m.fit_prior(X[:12]), None) == 4


def test_a_schedule_that_is_set_later_is_for_the_next_fit():
    m = fitted()
    want = m.sample(4, random_state=0)
    m.set_params(mask_schedule="linear")
    assert np.array_equal(m.sample(4, random_state=0), want)


def test_classes_that_training_never_shows_are_refused():
    X, y = sines()
    with says("p_unconditional must be less than 1 where y is given"):
        tiny(p_unconditional=1).fit(X, y)
    assert tiny(p_unconditional=1, epochs=1).fit(X).sample(1).shape == (1, 1, 33)
