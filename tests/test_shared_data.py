"""Small runs on further UCR sets, which lie beside the checkout where there are any: odd lengths, 27 series, 60 classes, labels −1 and 1."""
from pathlib import Path

import numpy as np
import pytest

from ncvq_nb import NCVQ, load_ucr

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "ucr"
TINY = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=32, prior_depth=1, batch_size=16, random_state=0)

FACTS = dict(SonyAIBORobotSurface2=(27, 953, 65, 2, 40), SonyAIBORobotSurface1=(20, 601, 70, 2, 45), Symbols=(25, 995, 398, 6, 60), ShapesAll=(600, 600, 512, 60, 40), ECG5000=(500, 4500, 140, 5, 40),
             Wafer=(1000, 6164, 152, 2, 45), TwoPatterns=(1000, 4000, 128, 4, 40))


def load(name):
    if not (FOLDER / f"{name}.npz").exists(): pytest.skip(f"{FOLDER.name}/{name}.npz is not there")
    return load_ucr(name, FOLDER)


@pytest.mark.parametrize("name", FACTS)
def test_a_few_steps_on(name):
    data = load(name)
    n, n_test, l, c, n_tokens = FACTS[name]
    assert data.X_train.shape == (n, 1, l) and data.X_test.shape == (n_test, 1, l) and len(np.unique(data.y_train)) == c
    m = NCVQ("barlow", "slice", **TINY, epochs=4 * 16 / n).fit(data.X_train, data.y_train)
    assert m.history_["tokenizer"]["step"][-1] in (3, 4, 5) and m.tokenizer_.n_tokens == n_tokens
    X = data.X_test[:40]
    assert m.encode(X).shape == (40, n_tokens) and m.reconstruct(X).shape == X.shape and np.isfinite(m.reconstruct(X)).all()
    assert m.classes_.tolist() == np.unique(data.y_train).tolist()
    X_new = m.sample(y=m.classes_, random_state=0)  # one of each class
    assert X_new.shape == (c, 1, l) and np.isfinite(X_new).all()


def test_labels_of_wafer_stay_minus_one_and_one(tmp_path):
    data = load("Wafer")
    m = NCVQ(None, **TINY, epochs=0.02).fit(data.X_train, data.y_train)
    m.save(tmp_path / "m")
    assert {str(k) for k in NCVQ.load(tmp_path / "m").classes_} == {"-1", "1"} and m.classes_.dtype == data.y_train.dtype
    assert m.sample(2, y=data.y_train[0]).shape == (2, 1, 152)


def test_units_come_back_after_a_little_training():
    "A constant would have a relative error of 1."
    data = load("SonyAIBORobotSurface2")
    X = 50 * data.X_train + 300
    m = NCVQ(None, **{**TINY, "n_codes": 16}, epochs=120).fit(X)
    X_hat = m.reconstruct(X)
    assert 250 < X_hat.mean() < 350 and ((X_hat - X)**2).mean() < 0.6 * X.var()
