"""Saved models and files from strangers: `from forging import config, seal, watched, weights`.

A forgery is a function of a model's folder that changes one thing in it and then makes all hashes
right again, as whoever made the folder would have done.
"""

import hashlib
import json
import os
import pickle
import shutil
import struct

import numpy as np
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from toys import DRIVERS, script

from ncvq_nb.estimator.model_folder import config_digest

# Pickles


class Payload:
    "Unpickled, it would leave a folder behind."

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def objects(path, marker):
    np.savez(path, X=np.array([Payload(marker)], dtype=object))


def labels(path, marker):
    np.savez(path, X=np.zeros((2, 9)), y=np.array([Payload(marker)] * 2, dtype=object))


def disguised(path, marker):
    path.write_bytes(pickle.dumps(Payload(marker)))


def by_torch(path, marker):
    torch.save(Payload(marker), path)


PICKLES = (objects, labels, disguised, by_torch)

# A configuration


def read(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def write(folder, config):
    config["sha256"]["config.json"] = config_digest(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def seal(folder, config=None):
    "Make all hashes right; `config` is written if given."
    config = config or read(folder)
    for name in config["sha256"]:
        if (folder / name).is_file() and name.endswith(".safetensors"):
            config["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    write(folder, config)


def config(*keys, value=None, drop=False):
    "One place of config.json, replaced or taken out."

    def forge(folder):
        c = at = read(folder)
        for k in keys[:-1]:
            at = at[k]
        if drop:
            del at[keys[-1]]
        else:
            at[keys[-1]] = value
        seal(folder, c)

    return forge


def several(*forgeries):
    def forge(folder):
        for f in forgeries:
            f(folder)

    return forge


def sizes(**kw):
    "Sizes of the tokenizer, and the same ones of the data."
    modules = [config("modules", "tokenizer", k, value=v) for k, v in kw.items()]
    data = [config("data", k, value=kw[k]) for k in ("length", "channels") if k in kw]
    return several(*modules, *data)


def unsealed(digest):
    "A wrong hash of the weights."

    def forge(folder):
        c = read(folder)
        c["sha256"]["prior.safetensors"] = digest
        write(folder, c)

    return forge


def text(change):
    "Another text of config.json, whose hashes are left alone."

    def forge(folder):
        file = folder / "config.json"
        file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")

    return forge


# Weights


def weights(change, name="tokenizer.safetensors"):
    "Other tensors."

    def forge(folder):
        t = from_bytes((folder / name).read_bytes())
        change(t)
        (folder / name).write_bytes(to_bytes(t))
        seal(folder)

    return forge


def with_head(content, change):
    "The content of a safetensors file with another header: a text, or what JSON makes one of."
    n = struct.unpack("<Q", content[:8])[0]
    head = change(content[8 : 8 + n].decode())
    head = (head if isinstance(head, str) else json.dumps(head)).encode()
    return struct.pack("<Q", len(head)) + head + content[8 + n :]


def blob(make, name="tokenizer.safetensors"):
    "Another file in the place of the weights."

    def forge(folder):
        (folder / name).write_bytes(make((folder / name).read_bytes()))
        seal(folder)

    return forge


def header(change):
    "Another header of the weights, made of that which is there."
    return blob(lambda b: with_head(b, lambda head: change(json.loads(head))))


# Under watch


def watched(saved, home, forged):
    "What forgeries, and pickles in the place of data, do to a process of its own: name → words."
    for i, forge in enumerate(forged.values()):
        shutil.copytree(saved, home / str(i))
        forge(home / str(i))
    for make in PICKLES:
        make(home / f"{make.__name__}.npz", home / "pwned")
    (home / "run").mkdir()
    by_torch(home / "run" / "checkpoint-00000009.safetensors", home / "pwned")
    found = script(DRIVERS / "watched.py", saved, home, len(forged), timeout=300)
    assert not (home / "pwned").exists() and found.pop("good") == "loaded"
    names = dict(enumerate(forged))
    return {names[int(k)] if k.isdigit() else k: v for k, v in found.items()}
