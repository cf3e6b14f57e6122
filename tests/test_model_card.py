"""The model card: what it says, what it keeps, and what a stranger's file cannot do to it."""

import hashlib
import json
import os
import re
from importlib.util import find_spec

import numpy as np
import pytest

import ncvq_nb as nv
from ncvq_nb import NCVQ
from toys import as_dataset, fitted, sines, tiny

NAMES = "sit", "stand up"


@pytest.fixture(scope="module")
def model():
    return fitted(NAMES, epochs=1)


@pytest.fixture(scope="module")
def report(model):
    X, y = sines(n=24, names=NAMES)
    data = as_dataset((X[:12], y[:12]), (X[12:], y[12:]), name="chairs")
    small = dict(n_samples=8, n_resamples=20, cas_total=24, fcn=dict(max_steps=20))
    return nv.evaluate(model, data, **small, cache_dir=False, random_state=0, verbose=False)


def card_of(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


# What the card says


def test_the_card_says_what_the_model_is(model, report, tmp_path):
    folder = tmp_path / "m"
    model.save(folder, report=report)
    config = json.loads((folder / "config.json").read_text())
    head, body = re.match(r"---\n(.*?)\n---\n(.*)", card_of(folder), re.S).groups()
    assert "library_name: ncvq_nb" in head and "time-series" in head
    assert not re.search(r"^license", head, re.M)
    assert "| name | chairs |" in body and "| series | 12 |" in body
    assert f"| {config['data']['digest']} |" in body
    assert "sit (50 %), stand up (50 %)" in body
    for k, v in config["settings"].items():
        assert f"| {k} | {v} |" in body
    for row in report:
        assert row.metric in body
        assert all(ref.what in body or ref.kind in body for ref in row.references)
    assert "floor" in body
    listed = dict(re.findall(r"\| ([\w.]+) \| \d+ \| ([0-9a-f]{64}) \|", body))
    hashes = {k: hashlib.sha256(b).hexdigest() for k, b in contents(folder).items()}
    assert listed == {k: v for k, v in hashes.items() if k != "README.md"}


def test_the_code_of_the_card_works(model, tmp_path):
    model.save(tmp_path / "m")
    code = re.search(r"```python\n(.*?)```", card_of(tmp_path / "m"), re.S)[1]
    assert '"path/to/this/folder"' in code
    names = dict(X=sines()[0])
    exec(code.replace('"path/to/this/folder"', repr(str(tmp_path / "m"))), names)
    assert np.array_equal(names["Z"], model.transform(sines()[0]))
    assert names["X_hat"].shape == (12, 1, 33)


def test_the_card_without_report_labels_or_prior(tmp_path):
    tiny(epochs=1, ssl=None).fit(sines()[0]).save(tmp_path / "m", data_name="heart beats")
    card = card_of(tmp_path / "m")
    for said in ("heart beats", "no labels", "Not measured", "model.sample(10)"):
        assert said in card
    assert "without self-supervision" in card and "self-supervised" not in card
    tiny().fit_tokenizer(sines()[0]).save(tmp_path / "t")
    card = card_of(tmp_path / "t")
    assert "does not sample" in card and "name | not given" in card


@pytest.mark.skipif(
    find_spec("huggingface_hub") is None,
    reason="huggingface_hub is an extra: pip install 'ncvq_nb[hub]'",
)
def test_the_hubs_own_reader_understands_the_card(model, report, tmp_path):
    from huggingface_hub import ModelCard

    model.save(tmp_path / "m", report=report)
    data = ModelCard.load(tmp_path / "m" / "README.md").data
    assert data.library_name == "ncvq_nb" and data.license is None
    assert {"time-series", "vq-vae", "self-supervised-learning"} <= set(data.tags)


# A card that is there already


@pytest.fixture
def owned(model, report, tmp_path):
    "A saved model whose owner has changed the card, and that card."
    model.save(tmp_path / "owned", report=report)
    card = card_of(tmp_path / "owned")
    card = card.replace("# license: yours to choose, before this is published\n", "")
    card = card.replace("---\n", "---\nlicense: mit\n", 1) + "\nA line of its owner: ß.\n"
    (tmp_path / "owned" / "README.md").write_text(card, encoding="utf-8")
    return tmp_path / "owned", card


def test_a_model_that_is_saved_as_it_was_read_keeps_its_card(owned, tmp_path):
    folder, card = owned
    NCVQ.load(folder).save(tmp_path / "b")
    NCVQ.load(tmp_path / "b").save(tmp_path / "b")
    assert card_of(tmp_path / "b") == card
    assert contents(tmp_path / "b") == contents(folder)
    NCVQ.load(folder).save(tmp_path / "d", data_name="stools")  # who says more gets a new card
    new = card_of(tmp_path / "d")
    assert "| name | stools |" in new and "A line" not in new


def other_settings(model):
    model.set_params(guidance_scale=2.0)


def other_weights(model):
    model.tokenizer_.bands[0].vq.codebook[0, 0] += 1e-3


def another_model(model):
    model.fit(*sines(), run_dir=None)


@pytest.mark.parametrize("change", [other_settings, other_weights, another_model])
def test_a_model_that_was_changed_gets_a_new_card(owned, tmp_path, change):
    model = NCVQ.load(owned[0])
    change(model)
    model.save(tmp_path / "c")
    card = card_of(tmp_path / "c")
    assert "Not measured" in card and "A line of its owner" not in card


def removed(file):
    file.unlink()


def no_text(file):
    file.write_bytes(b"\xff\xfe\x00")


def too_long(file):
    file.write_text("x" * 2**20)


def a_folder(file):
    file.unlink()
    file.mkdir()


def a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def a_link_to_a_secret(file):
    secret = file.parents[1] / "secret"
    secret.write_text("my key")
    file.unlink()
    file.symlink_to(secret)


@pytest.mark.parametrize(
    "damage", [removed, no_text, too_long, a_folder, a_pipe, a_link_to_a_secret]
)
def test_a_card_that_cannot_be_read_is_written_anew(model, tmp_path, damage):
    model.save(tmp_path / "a")
    damage(tmp_path / "a" / "README.md")
    NCVQ.load(tmp_path / "a").save(tmp_path / "b")
    card = card_of(tmp_path / "b")
    assert card.startswith("---\nlibrary_name") and "my key" not in card


def test_a_card_names_some_classes_and_keeps_its_size(model, tmp_path):
    model.save(tmp_path / "m", data_name="n" * 10**6)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    many = dict(classes=["x" * 500 + str(i) for i in range(5000)], class_prior=[2e-4] * 5000)
    settings = config["settings"] | dict(augment="a" * 10**6)
    card = nv.estimator.model_card.model_card(config | many | dict(settings=settings), {})
    assert len(card) < 30_000 and " and 4,900 more. The fingerprint" in card
    assert len(card_of(tmp_path / "m")) < 10_000
