"""What a run writes down of itself, in memory, as a CSV file and as a table."""

import csv
import math

import numpy as np
import pytest
from toys import fitted, sines, tiny

from ncvq_nb.engine.history import History


def test_gaps_are_filled_and_written_as_csv(tmp_path):
    h = History()
    h.add(step=1, loss=2.0)
    h.add(step=2, loss=1.0, valid_loss=3.0)
    h.add(step=3, valid_loss=2.0)
    assert h["step"] == [1, 2, 3] and math.isnan(h["valid_loss"][0]) and math.isnan(h["loss"][2])
    h.save(tmp_path / "h.csv")
    rows = list(csv.reader((tmp_path / "h.csv").open(newline="")))
    assert rows[0] == ["step", "loss", "valid_loss"] and rows[2] == ["2", "1.0", "3.0"]
    pd = pytest.importorskip("pandas")
    pd.testing.assert_frame_equal(h.to_frame(), pd.read_csv(tmp_path / "h.csv"))


def test_columns_of_both_stages():
    m = fitted(validation_fraction=0.25, aug_weight=0.1)
    head = ["step", "epoch", "lr", "seconds", "loss"]
    terms = ["time", "stft", "commitment", "augmented", "ssl"]
    diagnostics = ["perplexity", "projection_std"]
    end = ["valid_loss", "grad_norm"]
    assert [*m.history_["tokenizer"]] == [*head, *terms, *diagnostics, *end]
    assert [*m.history_["prior"]][:5] == head and [*m.history_["prior"]][-2:] == end
    for h in m.history_.values():
        assert len({len(column) for column in h.values()}) == 1
        assert all(np.isfinite(column).all() for column in h.values())
    loss = sum(np.array(m.history_["tokenizer"][k]) for k in terms)
    np.testing.assert_allclose(m.history_["tokenizer"]["loss"], loss, rtol=1e-5)


def test_the_file_of_a_run_holds_its_history(tmp_path):
    m = tiny().fit(*sines(), run_dir=tmp_path)
    for stage, history in m.history_.items():
        with open(tmp_path / stage / "history.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        assert {k: [float(row[k]) for row in rows] for k in rows[0]} == history


def test_it_shows_itself():
    assert repr(History()) == "History(empty)" and History()._repr_markdown_() == "nothing yet"
    h = History(step=[5, 10], epoch=[1, 2], lr=[0, 0], seconds=[1, 61], loss=[2.0, 0.5])
    assert repr(h) == "History(2 lines, 10 steps)"
    text = h._repr_markdown_()
    assert text.startswith("10 steps in 61 s") and "| loss | 2 | 0.5 |" in text
