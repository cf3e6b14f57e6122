"""Folders and files from strangers: nothing in them is run, nothing outside them is touched, and no size that they claim is believed."""
import hashlib, io, json, os, pickle, shutil, struct, subprocess, sys, warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from ncvq_nb import NCVQ
from ncvq_nb.cli import demo
from ncvq_nb.data import Dataset, load_ucr, read_dataset, read_series
from ncvq_nb.experiments import run_grid
from ncvq_nb.generator import _config_hash
from ncvq_nb.metrics import Report, fcn_for
from ncvq_nb.training import load_checkpoint, save_checkpoint

TINY = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=1, random_state=0)
X, y = np.sin(np.arange(6 * 33)).reshape(6, 1, 33).astype("f"), np.array(["sit", "stand"] * 3)


class Payload:
    "Unpickled, it would leave a file behind."
    def __init__(self, marker): self.marker = marker
    def __reduce__(self): return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "m"
    NCVQ(**TINY).fit(X, y).save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "m")
    return tmp_path / "m"


# Forgeries: as their maker would have it, every hash is right

def seal(folder, config=None):
    "Make all hashes right; `config` is written if given."
    config = config or json.loads((folder / "config.json").read_text())
    for name in config["sha256"]:
        if (folder / name).is_file() and name.endswith(".safetensors"): config["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    config["sha256"]["config.json"] = _config_hash(config)
    (folder / "config.json").write_text(json.dumps(config))


def config(*keys, value=None, drop=False, grow=None):
    "A forgery of one place of config.json."
    def forge(folder):
        c = at = json.loads((folder / "config.json").read_text())
        for k in keys[:-1]: at = at[k]
        if drop: del at[keys[-1]]
        else: at[keys[-1]] = value if grow is None else grow(at[keys[-1]])
        seal(folder, c)
    return forge


def unsealed(digest):
    "A wrong hash of the weights."
    def forge(folder):
        c = json.loads((folder / "config.json").read_text())
        c["sha256"]["prior.safetensors"] = digest
        c["sha256"]["config.json"] = _config_hash(c)
        (folder / "config.json").write_text(json.dumps(c))
    return forge


def several(*forgeries): return lambda folder: [f(folder) for f in forgeries]
def sizes(**kw): return several(*(config("modules", "tokenizer", k, value=v) for k, v in kw.items()), *(config("data", k, value=kw[k]) for k in ("length", "channels") if k in kw))


def weights(change, name="tokenizer.safetensors"):
    "A forgery of the tensors."
    def forge(folder):
        t = from_bytes((folder / name).read_bytes())
        change(t)
        (folder / name).write_bytes(to_bytes(t))
        seal(folder)
    return forge


def header(change, name="tokenizer.safetensors", data=lambda b: b):
    "A forgery of the header of a safetensors file."
    def forge(folder):
        b = (folder / name).read_bytes()
        n = struct.unpack("<Q", b[:8])[0]
        text = change(json.loads(b[8:8 + n]))
        text = (text if isinstance(text, str) else json.dumps(text)).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + data(b[8 + n:]))
        seal(folder)
    return forge


def blob(make, name="tokenizer.safetensors"):
    "Another file in the place of the weights."
    def forge(folder):
        (folder / name).write_bytes(make((folder / name).read_bytes()))
        seal(folder)
    return forge


def pickled(folder):
    torch.save(Payload(folder / "pwned"), folder / "tokenizer.safetensors")
    seal(folder)


def sparse(name, size):
    def forge(folder):
        with open(folder / name, "wb") as f: f.truncate(size)
    return forge


def link(name, target): return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to(target))
def fifo(name): return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))
def text(change): return lambda folder: (folder / "config.json").write_text(change((folder / "config.json").read_text()))
def first(h): return next(k for k in h if k != "__metadata__")
def offsets(*where): return lambda h: {**h, first(h): {**h[first(h)], "data_offsets": list(where)}}
def overlapping(h): return {k: {**v, "data_offsets": [0, v["data_offsets"][1] - v["data_offsets"][0]]} if "data_offsets" in v else v for k, v in h.items()}
def nested(n): return text(lambda t: t.replace('"format"', f'"x": {"[" * n}{"]" * n}, "format"', 1))
nan, inf = float("nan"), float("inf")

try: to_bytes({"a": torch.zeros(1, dtype=torch.complex64)})
except KeyError: COMPLEX = {}  # an old safetensors writes none
else: COMPLEX = {"complex numbers": weights(lambda t: t.update({"vq.codebook": t["vq.codebook"].to(torch.complex64)}))}

FORGED = {
    # what is no safetensors file
    "a pickle as weights": pickled, "a zip bomb's head": blob(lambda b: b"PK\3\4" + b"\0" * 100),
    "header of a terabyte": blob(lambda b: struct.pack("<Q", 2**40) + b[8:]), "header beyond 2**63": blob(lambda b: b"\xff" * 8 + b[8:]), "header longer than the file": blob(lambda b: struct.pack("<Q", len(b)) + b[8:]),
    "header of nothing": blob(lambda b: bytes(8)), "seven bytes": blob(lambda b: b[:7]), "header no object": header(lambda h: [1]), "header nested": header(lambda h: "[" * 100_000), "header no text": blob(lambda b: struct.pack("<Q", 4) + b"\xff" * 4),
    "offsets out of range": header(offsets(0, 2**40)), "offsets negative": header(offsets(-8, 8)), "offsets backward": header(offsets(8, 0)), "offsets overlap": header(overlapping), "a hole in the data": header(lambda h: h, data=lambda b: b + b"\0" * 64),
    "shape overflows": header(lambda h: {**h, first(h): {**h[first(h)], "shape": [2**62, 2**62]}}), "shape negative": header(lambda h: {**h, first(h): {**h[first(h)], "shape": [-1]}}),
    "unknown dtype": header(lambda h: {**h, first(h): {**h[first(h)], "dtype": "OBJ"}}),
    # other tensors
    "tensor missing": weights(lambda t: t.pop("vq.codebook")), "tensor too many": weights(lambda t: t.update(extra=torch.zeros(3))), "tensor turned": weights(lambda t: t.update({"vq.ema_sum": torch.zeros(1, 64)})),
    "prior's tensor missing": weights(lambda t: t.pop("position"), "prior.safetensors"), "no tensors": weights(lambda t: t.clear()),
    "doubles": weights(lambda t: t.update({k: v.double() for k, v in t.items()})), "whole numbers": weights(lambda t: t.update({"vq.codebook": t["vq.codebook"].long()})), **COMPLEX,
    "halves": weights(lambda t: t.update(position=t["position"].bfloat16()), "prior.safetensors"),
    "NaN among the codes": weights(lambda t: t["vq.codebook"][0].fill_(nan)), "infinity in the prior": weights(lambda t: t["position"][0].fill_(-inf), "prior.safetensors"),
    # sizes
    "n_fft of 2**27": sizes(n_fft=2**27, length=2**27 * 4), "n_fft of 2**31": sizes(n_fft=2**31, length=2**31 * 4), "n_fft of 2**62": sizes(n_fft=2**62, length=2**64),
    **{f"{k} of 10**{e}": config("modules", "tokenizer", k, value=10**e) for k in ("channels", "dim", "n_codes", "n_res_blocks") for e in (9, 30)},
    **{f"prior's {k} of 10**{e}": config("modules", "prior", k, value=10**e) for k in ("n_tokens", "n_codes", "n_classes", "code_dim", "dim", "depth", "heads", "head_dim", "ff_mult") for e in (9, 30, 400)},
    **{f"{k} {v!r}": config("modules", "tokenizer", k, value=v) for k in ("channels", "length", "n_fft", "dim", "n_res_blocks", "n_codes", "decay") for v in (0 if k not in ("n_res_blocks", "decay") else 1.5, -1, "8", None, [8], {}, nan)},
    **{f"prior's {k} {v!r}": config("modules", "prior", k, value=v) for k in ("n_tokens", "n_codes", "code_dim", "dim", "depth", "heads", "head_dim", "dropout") for v in (-1, "8", None, [8], nan)},
    "another window": sizes(n_fft=16), "prior for other tokens": several(weights(lambda t: t.update(position=torch.zeros(41, 16)), "prior.safetensors"), config("modules", "prior", "n_tokens", value=41)),
    "prior for more codes": several(weights(lambda t: t.update({"token.weight": torch.zeros(10, 8), "head.4.weight": torch.zeros(9, 8), "head.4.bias": torch.zeros(9)}), "prior.safetensors"), config("modules", "prior", "n_codes", value=9)),
    # what does not fit together
    "another length": config("data", "length", value=40), "more channels": config("data", "channels", value=2), "length a word": config("data", "length", value="33"), "data a list": config("data", value=[]),
    "scale nought": config("scaler", "std", value=[0.0]), "scale negative": config("scaler", "std", value=[-1.0]), "scale NaN": config("scaler", "std", value=[nan]), "scale infinite": config("scaler", "std", value=[inf]), "two scales": config("scaler", "std", value=[1.0, 1.0]),
    "scale true": config("scaler", "std", value=[True]), "mean a word": config("scaler", "mean", value=["x"]), "mean missing": config("scaler", "mean", value=[]), "mean nested": config("scaler", "mean", value=[[0.0]]), "mean NaN": config("scaler", "mean", value=[nan]),
    "a class too many": config("classes", value=["a", "b", "c"]), "classes in disorder": config("classes", value=["stand", "sit"]), "a class twice": config("classes", value=["sit", "sit"]), "classes mixed": config("classes", value=[1, "sit"]),
    "classes nested": config("classes", value=[["sit"], ["stand"]]), "classes null": config("classes", value=None), "classes real": config("classes", value=[0.5, 1.5]), "classes true": config("classes", value=[False, True]), "no classes": config("classes", value=[]), "classes of 2**70": config("classes", value=[1, 2**70]),
    "shares beyond 1": config("class_prior", value=[5.0, -4.0]), "shares NaN": config("class_prior", value=[nan, 0.5]), "a share too few": config("class_prior", value=[1.0]), "shares null": config("class_prior", value=None), "shares words": config("class_prior", value=["a", "b"]),
    "seed a word": config("seed", value="x"), "seed negative": config("seed", value=-1), "seed null": config("seed", value=None), "seed real": config("seed", value=0.5),
    "no modules": config("modules", value={}), "prior alone": config("modules", "tokenizer", drop=True), "an unknown module": config("modules", "critic", value={}), "module a list": config("modules", "prior", value=[]), "a size too many": config("modules", "prior", "magic", value=1),
    "history no columns": config("history", "tokenizer", value=3), "history a word": config("history", "tokenizer", "loss", value="abc"), "history in disorder": config("history", "tokenizer", "loss", value=[1.0] * 9), "history of another": config("history", "critic", value={}),
    "setting unknown": config("settings", "magic", value=1), "setting self": config("settings", "self", value=1), "setting device": config("settings", "device", value="cpu"), "dim a word": config("settings", "dim", value="8"), "schedule a list": config("settings", "mask_schedule", value=[]),
    "steps null": config("settings", "sampling_steps", value=None), "guidance NaN": config("settings", "guidance_scale", value=nan), "choice a word": config("settings", "choice_temperature", value="x"), "unconditional anything": config("settings", "unconditional", value="x"),
    "an unknown key": config("surprise", value=1), **{f"no {k}": config(k, drop=True) for k in ("settings", "seed", "data", "scaler", "classes", "class_prior", "modules", "history")},
    # the file itself
    "newer": config("format", value=2), "much newer": config("format", value=10**30), "format true": config("format", value=True), "format 1.0": config("format", value=1.0), "format nought": config("format", value=0),
    **{f"nested {n} deep": nested(n) for n in (100, 900, 950, 970, 980, 990, 1000, 10_000, 1_000_000)}, "a number of a million digits": text(lambda t: t.replace('"seed": 0', '"seed": ' + "1" * 10**6, 1)),
    "a key twice": text(lambda t: t.replace('"format": 1', '"format": 2, "format": 1', 1)), "a key twice deep inside": text(lambda t: t.replace('"channels": 1', '"channels": 7, "channels": 1', 1)),
    "config of 4 GB": sparse("config.json", 2**32), "weights of 1 TB": sparse("tokenizer.safetensors", 2**40), "config in UTF-16": lambda d: (d / "config.json").write_bytes((d / "config.json").read_text().encode("utf-16")),
    # ways out of the folder
    **{f"file {k!r}": config("sha256", k, value="0" * 64) for k in ("../x", "../../etc/passwd", "/etc/passwd", "..", "", "a/b.safetensors", "README.md", "tokenizer.safetensors\0", "C:\\x")}, **{f"hash {v!r}": unsealed(v) for v in (1, None, "", [], "0" * 64)},
    **{f"{n} is {t}": link(n, t) for n in ("config.json", "tokenizer.safetensors") for t in ("/dev/zero", "/dev/stdin", "/etc/passwd", "nowhere", ".", "config.json" if n == "config.json" else "tokenizer.safetensors")},
    **{f"{n} is a pipe": fifo(n) for n in ("config.json", "prior.safetensors")},
}
HEAVY = {k for k in FORGED if k.startswith(("n_fft of", "config of", "weights of")) or "10**" in k or "/dev/" in k or "pipe" in k}  # in a process with limits alone



@pytest.mark.parametrize("name", [k for k in FORGED if k not in HEAVY])
def test_a_forged_model_is_refused_by_name(folder, name):
    FORGED[name](folder)
    with pytest.raises((ValueError, FileNotFoundError)) as e: NCVQ.load(folder)
    assert str(folder) in str(e.value) and not (folder / "pwned").exists()


def test_the_forger_can_seal_a_good_model(folder):
    "Or the tests above would show nothing."
    seal(folder)
    want = NCVQ.load(folder).sample(2, "sit", random_state=0)
    for harmless in (weights(lambda t: None), header(lambda h: h), config("library", value="9.9"), config("settings", "sampling_steps", value=20)):
        harmless(folder)
        assert np.array_equal(NCVQ.load(folder).sample(2, "sit", random_state=0), want)


def test_a_link_to_a_file_is_followed(folder, tmp_path):
    "As in the caches of model hubs."
    (folder / "prior.safetensors").rename(tmp_path / "blob")
    (folder / "prior.safetensors").symlink_to(tmp_path / "blob")
    assert NCVQ.load(folder).sample(1).shape == (1, 1, 33)


# Checkpoints

def checkpoint(folder, meta=None, settings=None, **tensors):
    save_checkpoint(folder, 3, {"w": torch.ones(2), **tensors}, dict(step=3, seconds=0.0, settings=settings or {"n": 1}, history={}, best=None) if meta is None else meta)
    return folder / "checkpoint-00000003.safetensors"


def refused(folder):
    with pytest.warns(UserWarning, match="checkpoint-00000003.*damaged"): assert load_checkpoint(folder, {"n": 1}) is None


def test_a_pickle_is_no_checkpoint(tmp_path):
    path = checkpoint(tmp_path)
    for make in (lambda: torch.save(Payload(tmp_path / "pwned"), path), lambda: path.write_bytes(pickle.dumps(Payload(tmp_path / "pwned")))):
        make()
        refused(tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("meta", [[], {}, 3, "x", None, {"settings": 3}, {"settings": {"n": 1}}, {"settings": {"n": 1}, "step": "x", "seconds": 0.0, "history": {}, "best": None}], ids=str)
def test_a_checkpoint_without_a_story_is_passed_over(tmp_path, meta):
    checkpoint(tmp_path, meta=meta if meta is not None else "null")
    refused(tmp_path)


@pytest.mark.parametrize("old, new", [('step\\": 3', 'step\\": 2'), ('seconds\\": 0.0', 'seconds\\": 9.0'), ('"shape":[2]', '"shape":[1,2]'), ('"w"', '"v"')])
def test_a_changed_head_of_a_checkpoint_is_noticed(tmp_path, old, new):
    path = checkpoint(tmp_path)
    b = path.read_bytes()
    n = struct.unpack("<Q", b[:8])[0]
    text = b[8:8 + n].decode()
    assert old in text
    text = text.replace(old, new, 1).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b[8 + n:])
    refused(tmp_path)


def test_a_checkpoint_of_other_networks_is_named(tmp_path):
    "Its settings are right, its tensors are not."
    kw = {**TINY, "epochs": 2}
    NCVQ(**kw).fit(X, y, run_dir=tmp_path)
    path = max((tmp_path / "tokenizer").glob("checkpoint-*"))
    with safe_open(path, "pt") as f: meta, t = json.loads(f.metadata()["ncvq_nb"]), {k: f.get_tensor(k) for k in f.keys()}
    good = dict(t)
    for change in (lambda: t.pop("objective.tokenizer.vq.codebook"), lambda: t.update({"objective.tokenizer.vq.codebook": torch.zeros(1, 1)}), lambda: t.update({"optimiser.999.step": torch.zeros(())}), lambda: t.update({"optimiser.x": torch.zeros(())})):
        t.clear(), t.update(good), change()
        save_checkpoint(path.parent, meta["step"], t, meta)
        with pytest.raises(ValueError, match="tokenizer"): NCVQ(**kw).fit(X, y, run_dir=tmp_path)


# Data sets

def objects(path, marker): np.savez(path, X=np.array([Payload(marker)], dtype=object))
def labels(path, marker): np.savez(path, X=np.zeros((2, 9)), y=np.array([Payload(marker)] * 2, dtype=object))
def disguised(path, marker): path.write_bytes(pickle.dumps(Payload(marker)))
def by_torch(path, marker): torch.save(Payload(marker), path)


@pytest.mark.parametrize("make", [objects, labels, disguised, by_torch])
def test_a_pickle_in_a_data_set_is_never_opened(tmp_path, make):
    f, marker = tmp_path / "Evil.npz", tmp_path / "pwned"
    make(f, marker)
    for read in (read_series, read_dataset, lambda f: load_ucr("Evil", f.parent)):
        with pytest.raises(ValueError, match="Evil.npz"): read(f)
    assert not marker.exists()


def test_the_payload_would_have_worked(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "pwned")))
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize("descr, shape", [("<f8", (2**40,)), ("<f8", (2**62, 2**62)), ("<f8", (-1, 5)), ("|O", (3,)), ("<U1000000000", (9,)), ("|V8", (2, 2)), ("[('a', '<f8')]", (2, 2)), ("__import__('os').mkdir('pwned')", (2, 2))], ids=str)
def test_a_forged_header_in_a_data_set_is_refused(tmp_path, monkeypatch, descr, shape):
    import zipfile
    monkeypatch.chdir(tmp_path)
    head = f"{{'descr': {descr if descr[0] in '[_' else repr(descr)}, 'fortran_order': False, 'shape': {shape!r}}}".ljust(117) + "\n"
    with zipfile.ZipFile("a.npz", "w") as z: z.writestr("X.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + bytes(64))
    with pytest.raises((ValueError, TypeError), match="a.npz"): read_series("a.npz")
    assert not Path("pwned").exists()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ts", ".npz"])
def test_a_device_is_no_data_set(tmp_path, suffix):
    for name, target in (("zero", "/dev/zero"), ("null", "/dev/null")):
        (f := tmp_path / f"{name}{suffix}").symlink_to(target)
        with pytest.raises(ValueError, match=name): read_series(f)
    os.mkfifo(f := tmp_path / f"pipe{suffix}")
    with pytest.raises(ValueError, match="pipe"): read_series(f)


@pytest.mark.parametrize("name", ["../secret", "a/b", "..", ".", "", "/etc/passwd", "a\\b", "a\0b"])
def test_the_name_of_a_ucr_set_is_no_path(tmp_path, monkeypatch, name):
    for where in (tmp_path / "secret.npz", tmp_path / "in" / "a" / "b.npz"):
        where.parent.mkdir(parents=True, exist_ok=True)
        np.savez(where, X_train=np.zeros((2, 7)), X_test=np.zeros((2, 7)))
    with pytest.raises(ValueError, match="name"): load_ucr(name, tmp_path / "in")
    monkeypatch.setenv("NCVQ_DATA", str(tmp_path / "in"))
    with pytest.raises(ValueError, match="name"): load_ucr(name)


# Names that become names of files

NAMES = ["../../x", "{elsewhere}/x", "..", ".", "a/b", "a\\b", "a\0b", "a\nb", "CON", "x" * 300, "ü 漢", "$(touch pwned)", "-rf", "<b>|`"]


def absolute(name, tmp_path): return name.replace("{elsewhere}", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("name", NAMES, ids=lambda n: repr(n)[:20])
def test_a_grid_stays_in_its_folder_whatever_a_data_set_is_called(tmp_path, name):
    (home := tmp_path / "a" / "b" / "grid").mkdir(parents=True)
    data = Dataset(absolute(name, tmp_path), X, y, X, y)
    results = run_grid([data], {"tiny": {"dim": "wrong"}}, [0], home)
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(home)]
    assert not outside
    assert len(list(home.glob("*/tiny/0/error.txt"))) == 1 and len(results.failed) == 1


@pytest.mark.parametrize("name", ["../up", "{elsewhere}/x", "..", "a/b"])
def test_a_grid_stays_in_its_folder_whatever_a_setting_is_called(tmp_path, name):
    (home := tmp_path / "a" / "b" / "grid").mkdir(parents=True)
    run_grid([Dataset("d", X, y, X, y)], {absolute(name, tmp_path): {"dim": "wrong"}}, [0], home)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(home)]
    assert len(list(home.glob("d/*/0/error.txt"))) == 1


@pytest.mark.parametrize("name", NAMES, ids=lambda n: repr(n)[:20])
def test_a_classifiers_cache_stays_in_its_folder(tmp_path, name):
    (home := tmp_path / "a" / "cache").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fcn_for(Dataset(absolute(name, tmp_path), X, y), cache_dir=home, max_steps=1, precision="float32", device="cpu")
    assert [p.parent for p in tmp_path.rglob("*") if p.is_file()] == [home]


def test_a_pickle_in_the_cache_is_replaced(tmp_path):
    data, ask = Dataset("d", X, y), dict(cache_dir=tmp_path, max_steps=1, precision="float32", device="cpu")
    fcn_for(data, **ask)
    (path,) = tmp_path.glob("*.safetensors")
    torch.save(Payload(tmp_path / "pwned"), path)
    with pytest.warns(UserWarning, match="damaged"): fcn_for(data, **ask)
    assert not (tmp_path / "pwned").exists() and path.stat().st_size > 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fcn_for(data, **ask)


@pytest.mark.parametrize("name", ["../up", "{elsewhere}/x", "..", "a/b", ""])
def test_the_demonstration_writes_beside_it_whatever_the_set_is_called(tmp_path, monkeypatch, name):
    import ncvq_nb.cli as cli
    (home := tmp_path / "a" / "home").mkdir(parents=True)
    monkeypatch.chdir(home)
    seen = []
    def stop(model, data, out, **kw): seen.append(out); raise ValueError("far enough")
    monkeypatch.setattr(cli, "find_dataset", lambda *args, **kw: Dataset(absolute(name, tmp_path), X, y, X, y)), monkeypatch.setattr(cli, "present", stop)
    with pytest.raises(SystemExit): demo(["x", "--quiet", *(w for k, v in TINY.items() for w in (f"--{k}", str(v)))])
    assert seen[0].resolve().parent == home and seen[0].name.endswith("_demo")


@pytest.mark.parametrize("label", ["$\\frac$", "$$", "$a$ $\\", "a\\b", "<script>", "\\undefined{", "_^_", "%d %s {0}"])
def test_labels_are_shown_as_text(label):
    "Not as formulas, which may not be well-formed, nor as HTML."
    data = Dataset(f"set {label}", X, np.where(y == "sit", label, "stand"), X, np.where(y == "sit", label, "stand"))
    assert "<script>" not in data._repr_html_()
    from ncvq_nb import plots
    for fig in (plots.plot_samples(data.X_train, data.y_train, data.X_test, data.y_test, data.X_train, data.y_train, title=data.name), plots.plot_reconstructions(data.X_train, data.X_test, data.y_test, title=label),
                plots.plot_embedding(np.arange(12.).reshape(6, 2), data.y_train, title=label)): fig.savefig(io.BytesIO(), dpi=40)


# Reports

@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "3", '{"name": "x", "rows": 3, "notes": [], "settings": {}}', '{"name": "x", "rows": [{}], "notes": [], "settings": {}}', '{"name": "x", "rows": [3], "notes": [], "settings": {}}', "[" * 100_000,
                                  '{"name": "x", "rows": [{"metric": "a", "value": "b", "low": 1, "high": 2, "better": "", "beside": []}], "notes": [], "settings": {}}', "\ufffe"])
def test_a_damaged_report_is_named(tmp_path, text):
    (tmp_path / "r.json").write_text(text, encoding="utf-16" if text == "\ufffe" else "utf-8")
    with pytest.raises(ValueError, match="r.json"): Report.load(tmp_path / "r")


# Nothing is unpickled, anywhere

def everything(folder, tmp_path):
    "Read one of each: a model, a checkpoint, data sets of every kind, a classifier from the cache, a report."
    assert NCVQ.load(folder).sample(1, random_state=0).shape == (1, 1, 33)
    checkpoint(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run", {"n": 1}) is not None
    np.savez(tmp_path / "a.npz", X=X, y=y)
    (tmp_path / "a.csv").write_text("a,0.5,1\nb,1,0.5\n"), (tmp_path / "a.tsv").write_text("1\t0.5\t1\n2\t1\t0.5\n"), (tmp_path / "a.ts").write_text("@classLabel true a\n@data\n1,2:a\n")
    for kind in ("npz", "csv", "tsv", "ts"): assert read_series(tmp_path / f"a.{kind}")[1] is not None
    assert load_ucr("GunPoint").n_classes == 2
    for _ in range(2): fcn_for(Dataset("d", X, y), cache_dir=tmp_path, max_steps=1, precision="float32", device="cpu")
    assert Report.load(Report("r").save(tmp_path / "r")).name == "r"


def test_no_unpickler_is_ever_called(folder, tmp_path, monkeypatch):
    everything(folder, tmp_path)  # what is imported late may do what it likes
    def never(*args, **kw): raise AssertionError("something is unpickled")
    for module, names in ((pickle, ("load", "loads", "Unpickler", "_Unpickler")), (torch, ("load",)), (torch.serialization, ("load",)), (joblib, ("load",)), (torch.jit, ("load",))):
        for name in names: monkeypatch.setattr(module, name, never)
    everything(folder, tmp_path)


def test_under_watch_no_folder_from_a_stranger_runs_writes_or_swells(saved, tmp_path):
    "In a process of its own, with Python's audit hook, 4 GB of address space, and the peak of its memory measured."
    for i, (name, forge) in enumerate(FORGED.items()):
        shutil.copytree(saved, tmp_path / str(i))
        forge(tmp_path / str(i))
    for make in (objects, labels, disguised, by_torch): make(tmp_path / f"{make.__name__}.npz", tmp_path / "pwned")
    checkpoint(tmp_path / "run")
    torch.save(Payload(tmp_path / "pwned"), tmp_path / "run" / "checkpoint-00000009.safetensors")
    code = """if True:
        import json, os, resource, signal, sys, warnings
        sys.dont_write_bytecode = True
        from pathlib import Path
        from ncvq_nb import NCVQ
        from ncvq_nb.data import load_ucr, read_series
        from ncvq_nb.training import load_checkpoint
        good, home, n = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
        warnings.simplefilter("ignore")
        NCVQ.load(good).sample(1), load_ucr("GunPoint")
        seen = []
        def watch(event, args):
            writes = event == "open" and (isinstance(args[1], str) and set(args[1]) & set("wax+") or isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes or event in ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "socket.connect", "ctypes.dlopen"): seen.append(f"{event} {args}")
        sys.addaudithook(watch)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
        class Slow(BaseException): pass
        def ring(*args): raise Slow
        signal.signal(signal.SIGALRM, ring)
        found = {}
        def attempt(name, load):
            before = peak()
            signal.setitimer(signal.ITIMER_REAL, 5)
            try: load(); said = "loaded"
            except (ValueError, FileNotFoundError) as e: said = "refused" if str(home) in str(e) else f"unclear: {e}"
            except BaseException as e: said = f"{type(e).__name__}: {e}"
            finally: signal.setitimer(signal.ITIMER_REAL, 0)
            if peak() - before > 100: said += f", {peak() - before} MB"
            if seen: said += f", {seen}"; seen.clear()
            found[name] = said
        for i in range(n): attempt(i, lambda: NCVQ.load(home / str(i)))
        for name in ("objects", "labels", "disguised", "by_torch"): attempt(name, lambda: read_series(home / f"{name}.npz"))
        attempt("good", lambda: (NCVQ.load(good).sample(1), load_checkpoint(home / "run", {"n": 1})[0]["w"], load_ucr("GunPoint")))
        print(json.dumps(found))"""
    out = subprocess.run([sys.executable, "-c", code, str(saved), str(tmp_path), str(len(FORGED))], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert out.returncode == 0, out.stderr[-3000:]
    names, found = dict(enumerate(FORGED)), json.loads(out.stdout)
    wrong = {names[int(k)] if k.isdigit() else k: v for k, v in found.items() if v != ("loaded" if k == "good" else "refused")}
    assert not wrong and not (tmp_path / "pwned").exists(), "\n".join(f"{k}: {v}" for k, v in wrong.items())
