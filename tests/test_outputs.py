"""Labels of samples, data frames and tokens as text."""

import numpy as np
import pytest
from toys import fitted, says

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def model():
    return fitted(names=["sit", "walk"], sampling_steps=2, epochs=1)


def test_labels_of_samples_are_those_they_were_made_for(model):
    X, y = model.sample(6, random_state=3, return_y=True)
    assert np.array_equal(X, model.sample(6, random_state=3))
    assert sorted(y) == ["sit"] * 3 + ["walk"] * 3  # as often as in training
    assert np.array_equal(model.sample(y=y, random_state=3), X)  # asked for, the same again
    X, y = model.sample(2, "walk", return_y=True)
    assert y.tolist() == ["walk", "walk"]
    rng = np.random.default_rng(5)
    one, y = model.sample(4, random_state=rng, return_y=True)
    assert np.array_equal(one, model.sample(4, random_state=np.random.default_rng(5)))


def test_series_without_a_class_have_no_label(model):
    none = fitted(epochs=1, sampling_steps=1).set_params(unconditional="null")
    assert none.sample(2, return_y=True)[1] is None
    frame, y = none.sample(2, return_y=True, as_frame=True)
    assert frame.shape == (2, 33) and y is None


def test_frames_and_labels_make_a_table(model):
    X, y = model.sample(4, random_state=0, return_y=True, as_frame=True)
    table = X.assign(label=y)
    assert isinstance(y, pd.Series) and list(table)[-2:] == ["t32", "label"]
    assert table.pop("label").tolist() == y.tolist()
    np.testing.assert_array_equal(model.encode(table), model.encode(X))
    features = model.set_output(transform="pandas").transform(X.set_axis(list("abcd")))
    model.set_output(transform="default")
    assert features.index.tolist() == list("abcd") and list(features)[0] == "ncvq0"


def test_tokens_as_text_and_back(model):
    X = model.sample(3, random_state=0)
    s, text = model.encode(X), model.encode(X, as_text=True)
    assert text.shape == (3,) and text[0].split() == [str(t) for t in s[0]]
    for form in (text, text.tolist(), pd.Series(text)):
        assert np.array_equal(model.decode(form), model.decode(s))
    for bad, parts in (
        ("1 2", ["s must be a list of texts"]),
        (["1 2"], [f"(n, {s.shape[1]})"]),
        (["a b"], ["'a'", "numbers and blanks"]),
        (["-1 2"], ["'-1'"]),
        ([text[0], "1"], ["unequal length"]),
        (["9" * 100_000], ["s holds"]),
    ):
        with says(*parts) as e:
            model.decode(bad)
        assert len(str(e.value)) < 300
