"""Tiny models and tiny data, one place for all tests: `from toys import TINY, sines, tiny`.

Everything is drawn from the seed that it is given. A test that needs another size changes that one
setting: `tiny(epochs=1)`, `NCVQ(**{**TINY, "n_codes": 4})`.
"""

import functools
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from ncvq_nb import NCVQ, Dataset
from ncvq_nb.engine.objective import Losses, Objective

# Settings

TINY = dict(
    n_fft=8,
    width=8,
    dim=8,
    n_res_blocks=1,
    n_codes=8,
    projector_dim=16,
    prior_dim=16,
    prior_depth=1,
    lr=1e-3,
    warmup=0.0,
    precision="float32",
    choice_temperature=2.0,
    epochs=3,
    random_state=0,
)
SETTINGS = {k: v for k, v in TINY.items() if k != "random_state"}  # what a grid takes
OPTIONS = [word for k, v in TINY.items() for word in (f"--{k}", str(v))]  # what a command takes

# Processes of their own: one thread each, figures without a screen

DRIVERS = Path(__file__).parent / "drivers"
ONE_THREAD = dict(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", MPLBACKEND="Agg")
ENV = {**os.environ, **ONE_THREAD}
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals, fork and limits of POSIX")


def spare_cpp(monkeypatch):
    "Let compiled modules be graphs of forward and backward, without half a minute of C++."
    compile = functools.partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", compile)


def script(*args, env=ENV, **options):
    "A Python process of its own; what it printed last, as JSON."
    command = [sys.executable, *map(str, args)]
    how = dict(stdin=subprocess.DEVNULL, capture_output=True, text=True)
    r = subprocess.run(command, env=env, **how, **options)
    assert r.returncode == 0, r.stderr[-3000:]
    return json.loads(r.stdout.splitlines()[-1])


def forked(work, seconds=120):
    """`work()` in a fork, which spares the seconds of a fresh process: its exit status and result.

    Where it hangs, the status is that of SIGALRM, and there is no result.
    """
    r, w = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        pid = os.fork()
    if not pid:
        signal.alarm(seconds)
        try:
            answer = dict(result=work())
        except BaseException as e:
            answer = dict(error=f"{type(e).__name__}: {e}")
        os.write(w, json.dumps(answer).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    return os.waitpid(pid, 0)[1], json.loads(text or "{}")


# Data


def noise(n=12, length=24, channels=None, seed=0):
    "White noise (n, length), or (n, channels, length), in float32, and labels 0 and 1 in turn."
    shape = (n, length) if channels is None else (n, channels, length)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32), np.arange(n) % 2


def sines(n=12, length=33, channels=1, seed=0, names=None):
    "Noisy sines of two or four periods, by class: (n, channels, length) float32, and labels."
    rng, t = np.random.default_rng(seed), np.linspace(0, 1, length)
    y = np.arange(n) % 2
    phase = 2 * np.pi * (2 + 2 * y)[:, None, None] * t + np.arange(channels)[:, None]
    X = np.sin(phase) + 0.1 * rng.normal(size=(n, channels, length))
    return X.astype(np.float32), y if names is None else np.array(names)[y]


def walks(n=24, length=64, channels=2, seed=0):
    "Random walks (n, channels, length) in float32, and labels 0 and 1 in turn."
    steps = np.random.default_rng(seed).normal(size=(n, channels, length))
    return steps.cumsum(-1).astype(np.float32), np.arange(n) % 2


def as_dataset(train, test=None, name="toy"):
    "A `Dataset` of (X, y) pairs; without `test`, the training series are its test series too."
    return Dataset(name, *train, *(train if test is None else test))


# Models


def tiny(*args, **changes):
    "The smallest model, not yet fitted; `changes` replace settings of TINY."
    return NCVQ(*args, **{**TINY, **changes})


def fitted(names=None, **changes):
    "The smallest model, fitted to sines whose classes are called 0 and 1, or as `names` says."
    return tiny(**changes).fit(*sines(names=names))


def weights(model):
    "Every tensor of a fitted model, by name, in main memory."
    return {
        f"{part}.{k}": v.cpu()
        for part in ("tokenizer_", "prior_")
        if hasattr(model, part)
        for k, v in getattr(model, part).state_dict().items()
    }


def fingerprint(model):
    "SHA-256 over all tensors: equal for two models that are equal to the last bit."
    content = (k.encode() + v.numpy().tobytes() for k, v in weights(model).items())
    return hashlib.sha256(b"".join(content)).hexdigest()


class Line(Objective):
    "The smallest objective: the mean squared error of y = w x + b, whatever the generator says."

    def __init__(self, n_in=4, n_out=1, seed=0):
        super().__init__()
        gen = torch.Generator().manual_seed(seed)
        self.w = torch.nn.Parameter(torch.randn(n_in, n_out, generator=gen))
        self.b = torch.nn.Parameter(torch.zeros(n_out))

    def forward(self, x, y, generator=None):
        return Losses((x @ self.w + self.b - y).square().mean())


# What tests ask


def says(*parts, kind=(ValueError, TypeError)):
    "`pytest.raises` for an error of that kind whose message has all `parts`."
    return pytest.raises(kind, match="(?s)" + "".join(f"(?=.*{re.escape(p)})" for p in parts))


def global_state():
    "The states of the global generators of `random`, NumPy and torch, to be compared."
    name, keys, position, *_ = np.random.get_state()
    return random.getstate(), keys.tobytes(), position, torch.get_rng_state().numpy().tobytes()
