"""The floor of FID: what fresh series of the same process have, at any number of them"""

import numpy as np
import pytest

from ncvq_nb.evaluation.fid_floor import fid_floor
from ncvq_nb.evaluation.rows import RealFeatures, fid_rows
from ncvq_nb.metrics import fid


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("n", [20, 100, 600])
def test_it_is_what_fresh_series_have(n):
    r = rng(n)
    spread = np.r_[np.ones(4), np.full(12, 0.1)]  # as features do: few directions matter
    floors, fresh = [], []
    for _ in range(8):
        T = spread * r.normal(size=(100, 16))
        floors.append(fid_floor(T, n))
        fresh.append(fid(spread * r.normal(size=(n, 16)), T))
    assert 0.65 < np.mean(floors) / np.mean(fresh) < 1.4


def test_it_does_not_depend_on_how_many_training_series_there_are():
    "Thirty training series: a perfect generator is near the floor, and far below what they have."
    r = rng()
    E, T, *sets = (r.normal(size=(n, 8)) for n in (30, 400, *[400] * 3))
    row, small = fid_rows(RealFeatures(E, T), sets, None, lambda *a, **k: (0, 0), rng())
    train = next(v.value for v in row.references if v.kind == "train")
    assert 0.5 < row.value / row.floor < 2 and train > 4 * row.value
    assert small.metric == "FID at train size" and small.floor == train


def test_what_is_no_number_of_series_is_named():
    for change in (dict(n=0), dict(n=2.5), dict(n_draws="x")):
        with pytest.raises(ValueError, match=f"{[*change][0]} must be a whole number"):
            fid_floor(np.eye(4), **dict(n=4) | change)


def test_halves_keep_weights_and_class_shares():
    T, y = rng().normal(size=(60, 3)), np.repeat([0, 1], [20, 40])
    T = T + 9 * y[:, None]
    assert fid_floor(T, 60, labels=y) < 0.7 * fid_floor(T, 60)
    w = np.where(y == 1, 1.0, 0.0)
    ignored = fid_floor(T + 99.0 * (1 - y)[:, None], 60, weights=w)
    assert ignored == pytest.approx(fid_floor(T, 60, weights=w))
    assert np.isnan(fid_floor(T[:3], 3)) and fid_floor(T[:4], 9) > 0
