"""Configurations from strangers: no part and no size that is impossible is believed."""

import shutil

import pytest
import torch
from forging import config, several, sizes, watched, weights
from toys import fitted, posix

from ncvq_nb import NCVQ
from ncvq_nb.estimator.model_check import KEYS

NAN, INF = float("nan"), float("inf")
TOKENIZER = ("channels", "length", "n_fft", "dim", "n_res_blocks", "n_codes", "decay")
PRIOR = ("n_tokens", "n_codes", "code_dim", "dim", "depth", "heads", "head_dim")
LARGE = ("n_tokens", "n_codes", "n_classes", "code_dim", "dim", "depth", "heads", "head_dim")


def least(k):
    "What is just too small for a size of the tokenizer, or no whole number."
    return 1.5 if k in ("n_res_blocks", "decay") else 0


def more_codes(tensors):
    for k, shape in {"token.weight": (10, 8), "head.4.weight": (9, 8), "head.4.bias": (9,)}.items():
        tensors[k] = torch.zeros(shape)


FORGED = {
    **{
        f"{k} {v!r}": config("modules", "tokenizer", k, value=v)
        for k in TOKENIZER
        for v in (least(k), -1, "8", None, [8], {}, NAN)
    },
    **{
        f"prior's {k} {v!r}": config("modules", "prior", k, value=v)
        for k in (*PRIOR, "dropout")
        for v in (-1, "8", None, [8], NAN)
    },
    "another window": sizes(n_fft=16),
    "prior for other tokens": several(
        weights(lambda t: t.update(position=torch.zeros(41, 16)), "prior.safetensors"),
        config("modules", "prior", "n_tokens", value=41),
    ),
    "prior for more codes": several(
        weights(more_codes, "prior.safetensors"),
        config("modules", "prior", "n_codes", value=9),
    ),
    # what does not fit together
    "another length": config("data", "length", value=40),
    "more channels": config("data", "channels", value=2),
    "length a word": config("data", "length", value="33"),
    "data a list": config("data", value=[]),
    "scale nought": config("scaler", "std", value=[0.0]),
    "scale negative": config("scaler", "std", value=[-1.0]),
    "scale NaN": config("scaler", "std", value=[NAN]),
    "scale infinite": config("scaler", "std", value=[INF]),
    "two scales": config("scaler", "std", value=[1.0, 1.0]),
    "scale true": config("scaler", "std", value=[True]),
    "mean a word": config("scaler", "mean", value=["x"]),
    "mean missing": config("scaler", "mean", value=[]),
    "mean nested": config("scaler", "mean", value=[[0.0]]),
    "mean NaN": config("scaler", "mean", value=[NAN]),
    "a class too many": config("classes", value=["a", "b", "c"]),
    "classes in disorder": config("classes", value=["stand", "sit"]),
    "a class twice": config("classes", value=["sit", "sit"]),
    "classes mixed": config("classes", value=[1, "sit"]),
    "classes nested": config("classes", value=[["sit"], ["stand"]]),
    "classes null": config("classes", value=None),
    "classes real": config("classes", value=[0.5, 1.5]),
    "classes true": config("classes", value=[False, True]),
    "no classes": config("classes", value=[]),
    "classes of 2**70": config("classes", value=[1, 2**70]),
    "shares beyond 1": config("class_prior", value=[5.0, -4.0]),
    "shares NaN": config("class_prior", value=[NAN, 0.5]),
    "a share too few": config("class_prior", value=[1.0]),
    "shares null": config("class_prior", value=None),
    "shares words": config("class_prior", value=["a", "b"]),
    "seed a word": config("seed", value="x"),
    "seed negative": config("seed", value=-1),
    "seed null": config("seed", value=None),
    "seed real": config("seed", value=0.5),
    "no modules": config("modules", value={}),
    "prior alone": config("modules", "tokenizer", drop=True),
    "an unknown module": config("modules", "critic", value={}),
    "module a list": config("modules", "prior", value=[]),
    "a size too many": config("modules", "prior", "magic", value=1),
    "history no columns": config("history", "tokenizer", value=3),
    "history a word": config("history", "tokenizer", "loss", value="abc"),
    "history in disorder": config("history", "tokenizer", "loss", value=[1.0] * 9),
    "history of another": config("history", "critic", value={}),
    "setting unknown": config("settings", "magic", value=1),
    "setting self": config("settings", "self", value=1),
    "setting device": config("settings", "device", value="cpu"),
    "dim a word": config("settings", "dim", value="8"),
    "schedule a list": config("settings", "mask_schedule", value=[]),
    "steps null": config("settings", "sampling_steps", value=None),
    "guidance NaN": config("settings", "guidance_scale", value=NAN),
    "choice a word": config("settings", "choice_temperature", value="x"),
    "unconditional anything": config("settings", "unconditional", value="x"),
    "an unknown key": config("surprise", value=1),
    "learned a word": config("learned_with", value="x"),
    "learned by no stage": config("learned_with", value={"critic": {}}),
    "learned with another's": config("learned_with", value={"prior": {"dim": 8}}),
    "learned with nonsense": config("learned_with", value={"tokenizer": {"dim": "8"}}),
    **{f"no {k}": config(k, drop=True) for k in sorted(KEYS - {"format", "library", "sha256"})},
}
HEAVY = {  # in a process with limits alone
    **{
        f"{k} of 10**{e}": config("modules", "tokenizer", k, value=10**e)
        for k in ("channels", "dim", "n_codes", "n_res_blocks")
        for e in (9, 30)
    },
    **{
        f"prior's {k} of 10**{e}": config("modules", "prior", k, value=10**e)
        for k in (*LARGE, "ff_mult")
        for e in (9, 30, 400)
    },
    # about a gigabyte each, which the process would have: its peak is measured
    "dim of 3000": config("modules", "tokenizer", "dim", value=3000),
    "n_codes of 2 * 10**7": config("modules", "tokenizer", "n_codes", value=2 * 10**7),
    "prior's n_codes of 2 * 10**7": config("modules", "prior", "n_codes", value=2 * 10**7),
    "prior's n_tokens of 10**7": config("modules", "prior", "n_tokens", value=10**7),
    "prior's n_classes of 10**7": config("modules", "prior", "n_classes", value=10**7),
    "n_fft of 2**27": sizes(n_fft=2**27, length=2**27 * 4),
    "n_fft of 2**31": sizes(n_fft=2**31, length=2**31 * 4),
    "n_fft of 2**62": sizes(n_fft=2**62, length=2**64),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "m"
    fitted(names=["sit", "stand"], epochs=1).save(folder)
    return folder


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_configuration_is_refused_by_name(saved, tmp_path, name):
    shutil.copytree(saved, folder := tmp_path / "m")
    FORGED[name](folder)
    with pytest.raises((ValueError, FileNotFoundError)) as e:
        NCVQ.load(folder)
    assert str(folder) in str(e.value)


@posix
def test_under_watch_no_size_that_is_claimed_is_believed(saved, tmp_path):
    found = watched(saved, tmp_path, {**FORGED, **HEAVY})
    assert not {k: v for k, v in found.items() if v != "refused"}
    assert len(found) == len(FORGED) + len(HEAVY) + 4
