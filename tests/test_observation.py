"""Observation noise: what the decoder leaves out, in samples and in saved models."""

import json
import shutil

import numpy as np
import pytest
import torch

import ncvq_nb as nv
from ncvq_nb.estimator.observation import GROUP, ROWS, ObservationNoise, fit_noise, group_sizes
from toys import says, sines, tiny


def roughness(X):
    return np.diff(X, axis=2).std() / X.std()


@pytest.fixture(scope="module")
def fitted():
    X, y = sines(90, length=40)
    X = X + 0.3 * np.random.default_rng(0).standard_normal(X.shape).astype("float32")
    return tiny(random_state=0).fit(X, y), X, y


def test_samples_are_the_mean_and_noise_of_the_power_of_the_residuals(fitted):
    model, X, y = fitted
    mean = model.sample(200, random_state=0, observation_noise=0)
    assert np.array_equal(mean, model.decode(model.sample_tokens(200, random_state=0)))
    full = model.sample(200, random_state=0)
    half = model.sample(200, random_state=0, observation_noise=0.5)
    assert np.allclose(2 * (half - mean), full - mean, atol=1e-4)
    power, left = ((full - mean) ** 2).mean(), ((X - model.reconstruct(X)) ** 2).mean()
    assert 0.8 < power / left < 1.25
    assert abs(roughness(full) - roughness(X)) < abs(roughness(mean) - roughness(X))


def test_noise_is_that_of_the_class(fitted):
    model, X, y = fitted
    noise, r = model.noise_, X - model.reconstruct(X)
    v = noise.variances()
    assert v.shape == (len(model.classes_) + 1, len(noise.rows))
    every = torch.einsum("i,icl,icm->lm", v[-1], noise.rows, noise.rows)
    z = torch.from_numpy(r / model.scaler_.std_[:, None].astype("float32")).flatten(1)
    assert torch.allclose(every, z.T @ z / len(z), atol=0.3 * float(z.square().mean()))
    n = max(noise.config["counts"])
    assert n <= ROWS and sum(noise.config["counts"]) == len(noise.rows)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 30, 64])
def test_a_draw_mixes_one_group_and_keeps_the_moment(n):
    noise, gen = ObservationNoise([n], 1, n, labelled=False, group=GROUP), torch.Generator()
    noise.rows.copy_(torch.eye(n)[:, None])  # a draw shows its weights
    w = noise(torch.zeros(20_000, dtype=int), gen.manual_seed(0))[:, 0]
    assert torch.allclose(w.norm(dim=1), torch.ones(len(w)), atol=1e-5)
    sizes = group_sizes(n, GROUP)
    assert sum(sizes) == n and min(sizes) >= min(n, GROUP) and max(sizes) < 2 * GROUP
    used = torch.stack([part.ne(0).any(1) for part in w.split(sizes, dim=1)], 1)
    assert torch.equal(used.sum(1), torch.ones(len(w), dtype=int))
    assert torch.allclose(w.T @ w / len(w), torch.eye(n) / n, atol=0.02)


def test_the_noise_of_earlier_models_is_one_gaussian():
    noise, gen = ObservationNoise([64], 1, 64, labelled=False), torch.Generator()
    assert "group" not in noise.config
    noise.rows.copy_(torch.eye(64)[:, None])
    v = torch.full((3, 64), 1 / 64).sqrt()
    wanted = v * torch.randn(3, 64, generator=gen.manual_seed(0))
    assert torch.equal(noise(torch.zeros(3, dtype=int), gen.manual_seed(0))[:, 0], wanted)


@pytest.mark.parametrize("n", [2, 3, 5, 90])
def test_no_row_is_the_residual_of_a_series(n):
    r = torch.randn(n, 1, 500, generator=torch.Generator().manual_seed(0))
    noise = fit_noise(torch.zeros_like, r, torch.zeros(n, dtype=int), 1, None, seed=0)
    unit = [a.flatten(1) / a.flatten(1).norm(dim=1, keepdim=True) for a in (noise.rows, r)]
    assert (unit[0] @ unit[1].T).abs().max() < 0.9


def test_a_saved_model_keeps_its_noise_and_an_earlier_one_has_none(fitted, tmp_path):
    model, *_ = fitted
    model.save(tmp_path / "new")
    again = nv.NCVQ.load(tmp_path / "new")
    assert np.array_equal(again.sample(5, random_state=1), model.sample(5, random_state=1))
    before = tiny(observation_noise=0, random_state=0)
    vars(before).update({k: v for k, v in vars(model).items() if k.endswith("_")})
    del before.noise_
    before.save(tmp_path / "old")
    noted = json.loads((tmp_path / "old/config.json").read_text())["settings"]
    assert "observation_noise" not in noted
    old = nv.NCVQ.load(tmp_path / "old")
    assert old.observation_noise == 0 and not hasattr(old, "noise_")
    s = model.sample_tokens(5, random_state=1)
    assert np.array_equal(old.sample(5, random_state=1, observation_noise=1), model.decode(s))


def test_odd_noise_is_refused(fitted, tmp_path):
    model, *_ = fitted
    with says("observation_noise", "-1"):
        model.sample(2, observation_noise=-1)
    with says("observation_noise", kind=TypeError):
        model.sample_tokens(2, observation_noise=1.0)
    model.save(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "n")
    (tmp_path / "n/noise.safetensors").write_bytes(b"nothing")
    with says("not a complete model"):
        nv.NCVQ.load(tmp_path / "n")


def test_without_labels_and_with_gaps():
    X, _ = sines(40, length=40)
    X = X.copy()
    X[:20, :, 10:20] = np.nan
    model = tiny(random_state=0).fit(X)
    assert model.noise_.config["labelled"] is False
    assert np.isfinite(model.sample(7, random_state=0)).all()
    assert isinstance(model.noise_, ObservationNoise)
