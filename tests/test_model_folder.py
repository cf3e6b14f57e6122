"""Folders of models: damaged ones, strangers' ones, and those that earlier versions saved.

Nothing in them is run, nothing outside them is touched, and no size that they claim is believed.
"""

import json
import os
import pickle
import shutil
import struct
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from conftest import THOROUGH
from forging import blob, by_torch, config, header, read, seal, text, unsealed, watched, weights
from fuzzing import REFUSED, damage, fuzz, tried
from hypothesis import strategies as st
from safetensors.torch import save as to_bytes
from toys import DRIVERS, TINY, as_dataset, fingerprint, fitted, posix, says, script, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.engine.checkpoints import load_checkpoint, save_checkpoint
from ncvq_nb.estimator.model_folder import FORMAT, config_digest
from ncvq_nb.evaluation.fcn import fcn_for
from ncvq_nb.evaluation.report import Report
from ncvq_nb.io.archive import load_ucr
from ncvq_nb.io.files import read_series


@pytest.fixture(scope="module")
def model():
    return fitted(names=["sit", "stand"], device="cpu")


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    model.save(folder := tmp_path_factory.mktemp("saved") / "m")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "m")
    return tmp_path / "m"


# Forgeries


def pickled(folder):
    by_torch(folder / "tokenizer.safetensors", folder / "pwned")
    seal(folder)


def sparse(name, size):
    def forge(folder):
        with open(folder / name, "wb") as f:
            f.truncate(size)

    return forge


def link(name, target):
    def forge(folder):
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return forge


def fifo(name):
    def forge(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return forge


def in_utf_16(folder):
    file = folder / "config.json"
    file.write_bytes(file.read_text(encoding="utf-8").encode("utf-16"))


def first(head, **change):
    "A header whose first tensor has another entry."
    name = next(k for k in head if k != "__metadata__")
    return {**head, name: {**head[name], **change}}


def entry(**change):
    return header(lambda head: first(head, **change))


def overlapping(head):
    "Every tensor at the beginning of the data."
    for v in head.values():
        if "data_offsets" in v:
            low, high = v["data_offsets"]
            v["data_offsets"] = [0, high - low]
    return head


def replaced(old, new):
    def change(t):
        assert old in t
        return t.replace(old, new, 1)

    return text(change)


def nested(n):
    return replaced('"format"', f'"x": {"[" * n}{"]" * n}, "format"')


def as_type(name, dtype, file="tokenizer.safetensors"):
    return weights(lambda t: t.update({name: t[name].to(dtype)}), file)


def filled(name, value, file="tokenizer.safetensors"):
    return weights(lambda t: t[name][0].fill_(value), file)


def can_be_written(dtype):
    "Not in every version of safetensors."
    try:
        to_bytes({"a": torch.zeros(1, dtype=dtype)})
    except KeyError:
        return False
    return True


NOW, LATER = f'"format": {FORMAT}', f'"format": {FORMAT + 1}'
FILES = ("config.json", "tokenizer.safetensors")
OUTSIDE = ["../x", "../../etc/passwd", "/etc/passwd", "..", "", "a/b.safetensors", "README.md"]
OUTSIDE += ["tokenizer.safetensors\0", "C:\\x"]
FORGED = {
    # what is no safetensors file
    "a pickle as weights": pickled,
    "a zip bomb's head": blob(lambda b: b"PK\3\4" + b"\0" * 100),
    "header of a terabyte": blob(lambda b: struct.pack("<Q", 2**40) + b[8:]),
    "header beyond 2**63": blob(lambda b: b"\xff" * 8 + b[8:]),
    "header longer than the file": blob(lambda b: struct.pack("<Q", len(b)) + b[8:]),
    "header of nothing": blob(lambda b: bytes(8)),
    "seven bytes": blob(lambda b: b[:7]),
    "header no object": header(lambda h: [1]),
    "header nested": header(lambda h: "[" * 100_000),
    "header no text": blob(lambda b: struct.pack("<Q", 4) + b"\xff" * 4),
    "offsets out of range": entry(data_offsets=[0, 2**40]),
    "offsets negative": entry(data_offsets=[-8, 8]),
    "offsets backward": entry(data_offsets=[8, 0]),
    "offsets overlap": header(overlapping),
    "data beyond the last tensor": blob(lambda b: b + b"\0" * 64),
    "shape overflows": entry(shape=[2**62, 2**62]),
    "shape negative": entry(shape=[-1]),
    "unknown dtype": entry(dtype="OBJ"),
    # other tensors
    "tensor missing": weights(lambda t: t.pop("bands.0.vq.codebook")),
    "tensor too many": weights(lambda t: t.update(extra=torch.zeros(3))),
    "tensor turned": weights(lambda t: t.update({"vq.ema_sum": torch.zeros(1, 64)})),
    "prior's tensor missing": weights(lambda t: t.pop("position"), "prior.safetensors"),
    "no tensors": weights(lambda t: t.clear()),
    "doubles": weights(lambda t: t.update({k: v.double() for k, v in t.items()})),
    "whole numbers": as_type("bands.0.vq.codebook", torch.int64),
    "halves": as_type("position", torch.bfloat16, "prior.safetensors"),
    "NaN among the codes": filled("bands.0.vq.codebook", float("nan")),
    "infinity in the prior": filled("position", -float("inf"), "prior.safetensors"),
    # the configuration as a file
    "newer": config("format", value=FORMAT + 1),
    "much newer": config("format", value=10**30),
    "format true": config("format", value=True),
    "format 1.0": config("format", value=1.0),
    "format nought": config("format", value=0),
    **{f"nested {n} deep": nested(n) for n in (100, 900, 950, 970, 980, 990, 1000, 10**4, 10**6)},
    "a number of a million digits": replaced('"seed": 0', '"seed": ' + "1" * 10**6),
    "a key twice": replaced(NOW, f"{LATER}, {NOW}"),
    "a key twice deep inside": replaced('"channels": 1', '"channels": 7, "channels": 1'),
    "config in UTF-16": in_utf_16,
    # ways out of the folder
    **{f"file {k!r}": config("sha256", k, value="0" * 64) for k in OUTSIDE},
    **{f"hash {v!r}": unsealed(v) for v in (1, None, "", [], "0" * 64)},
    **{f"{n} is {t}": link(n, t) for n in FILES for t in ("/etc/passwd", "nowhere", ".", n)},
}
if can_be_written(torch.complex64):
    FORGED["complex numbers"] = as_type("bands.0.vq.codebook", torch.complex64)
HEAVY = {  # in a process with limits alone
    "config of 4 GB": sparse("config.json", 2**32),
    "weights of 1 TB": sparse("tokenizer.safetensors", 2**40),
    **{f"{n} is {t}": link(n, t) for n in FILES for t in ("/dev/zero", "/dev/stdin")},
    **{f"{n} is a pipe": fifo(n) for n in ("config.json", "prior.safetensors")},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_folder_is_refused_by_name(folder, name):
    FORGED[name](folder)
    with pytest.raises((ValueError, FileNotFoundError)) as e:
        NCVQ.load(folder)
    assert str(folder) in str(e.value) and not (folder / "pwned").exists()


def test_the_forger_can_seal_a_good_model(folder):
    "Or the tests above would show nothing."
    seal(folder)
    want = NCVQ.load(folder).sample(2, "sit", random_state=0)
    for harmless in (
        weights(lambda t: None),
        header(lambda h: h),
        config("library", value="9.9"),
        config("settings", "sampling_steps", value=20),
    ):
        harmless(folder)
        assert np.array_equal(NCVQ.load(folder).sample(2, "sit", random_state=0), want)


def test_a_link_to_a_file_is_followed(folder, tmp_path):
    "As in the caches of model hubs."
    (folder / "prior.safetensors").rename(tmp_path / "blob")
    (folder / "prior.safetensors").symlink_to(tmp_path / "blob")
    assert NCVQ.load(folder).sample(1).shape == (1, 1, 33)


@posix
def test_under_watch_no_folder_from_a_stranger_runs_writes_or_swells(saved, tmp_path):
    found = watched(saved, tmp_path, {**FORGED, **HEAVY})
    assert not {k: v for k, v in found.items() if v != "refused"}
    assert len(found) == len(FORGED) + len(HEAVY) + 4


# Nothing is unpickled, anywhere


def everything(folder, home):
    "Read one of each: a model, a checkpoint, data sets, a classifier from its cache, a report."
    X, y = sines(n=6, names=["sit", "stand"])
    assert NCVQ.load(folder).sample(1, random_state=0).shape == (1, 1, 33)
    meta = dict(step=3, seconds=0.0, settings={"n": 1}, history={}, best=None)
    save_checkpoint(home / "run", 3, {"w": torch.ones(2)}, meta)
    assert load_checkpoint(home / "run", {"n": 1}) is not None
    np.savez(home / "a.npz", X=X, y=y)
    (home / "a.csv").write_text("a,0.5,1\nb,1,0.5\n")
    (home / "a.tsv").write_text("1\t0.5\t1\n2\t1\t0.5\n")
    (home / "a.ts").write_text("@classLabel true a\n@data\n1,2:a\n")
    for kind in ("npz", "csv", "tsv", "ts"):
        assert read_series(home / f"a.{kind}")[1] is not None
    assert load_ucr("GunPoint").n_classes == 2
    ask = dict(cache_dir=home, max_steps=1, precision="float32", device="cpu")
    for _ in range(2):
        fcn_for(as_dataset((X, y)), **ask)
    assert Report.load(Report("r").save(home / "r")).name == "r"


UNPICKLERS = {
    pickle: ("load", "loads", "Unpickler", "_Unpickler"),
    torch: ("load",),
    torch.serialization: ("load",),
    joblib: ("load",),
    torch.jit: ("load",),
}


def test_no_unpickler_is_ever_called(folder, tmp_path, monkeypatch):
    everything(folder, tmp_path)  # what is imported late may do what it likes

    def never(*args, **kw):
        raise AssertionError("something is unpickled")

    for module, names in UNPICKLERS.items():
        for name in names:
            monkeypatch.setattr(module, name, never)
    everything(folder, tmp_path)


# Damage


def state(model):
    "All that a saved model knows."
    facts = dict(
        weights=fingerprint(model),
        classes=model.classes_.tolist(),
        mean=model.scaler_.mean_.tolist(),
        std=model.scaler_.std_.tolist(),
        constant=model.scaler_.constant_.tolist(),
        history=model.history_,
        seed=model.seed_,
        data=model.data_,
    )
    return {**model.get_params(), "n_fft": model.tokenizer_.config["n_fft"], **facts}


NAMES = ["config.json", "config.json", "tokenizer.safetensors", "prior.safetensors", "README.md"]


@fuzz(300, spoil=damage(), name=st.sampled_from(NAMES))
def test_a_damaged_model_is_the_same_or_refused(saved, model, spoil, name):
    copy = saved.with_name("damaged")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(saved, copy)
    (copy / name).write_bytes(spoil((saved / name).read_bytes()))
    found = tried(lambda: NCVQ.load(copy, device="cpu"), str(copy))
    if found is REFUSED:
        return
    assert state(found) == state(model)
    if name.endswith("safetensors"):
        assert (copy / name).read_bytes() == (saved / name).read_bytes()


# Full disks and killed processes

CALLS = dict(model=21, report=10, table=9, figure=5, run=66)  # that touch the disk
SAME_AGAIN = ("run", "model")  # what the same command, given again, makes whole


@pytest.fixture(scope="module")
def faults(shared):
    "What was found after every fault, by the kind of what was written."

    def make(folder):
        found = script(DRIVERS / "faults.py", folder / "work", 9 if THOROUGH else 33, *CALLS)
        (folder / "found.json").write_text(json.dumps(found))

    found = json.loads((shared("faults", make) / "found.json").read_text())
    return {kind: [row for row in found if row["kind"] == kind] for kind in CALLS}


def is_explained(row):
    "Is there the old state or the new one?"
    return row["age"] in ("old", "new")


@posix
@pytest.mark.slow
@pytest.mark.parametrize("kind", CALLS)
def test_whatever_call_goes_wrong_the_old_or_the_new_state_is_there(faults, kind):
    "Of models, and of whatever else is written."
    rows = faults[kind]
    assert {row["how"] for row in rows} >= {"full", "kill"}
    # the two folders of a run are made by an old filelock itself
    assert CALLS[kind] - 2 * (kind == "run") <= rows[0]["of"] <= CALLS[kind], (
        "the number of calls has changed: is the driver still at all of them?"
    )
    for row in rows:
        why = {k: v for k, v in row.items() if k != "said"}
        assert is_explained(row) and "crash" not in row, why
        assert row["killed"] == (row["how"] == "kill"), why
        if not row["killed"]:
            said = " ".join([row.get("error", ""), *row["said"]])
            heard = "No space left" in said or "no checkpoint was written" in said
            # a move of a model into its place
            tried_again = kind == "model" and row["age"] == "new"
            tried_again |= kind == "run" and row.get("result", 0) > row["of"]
            assert heard or tried_again, f"silent: {why}"
            assert not row["left"], why
        if kind in SAME_AGAIN:
            assert row["same"] and not row["left_after"], why


@contextmanager
def full_disk(limit):
    "The system itself refuses to let any file grow beyond so many bytes."
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@posix
@pytest.mark.parametrize("limit", [0, 500, 20_000])
def test_a_disk_that_is_really_full(model, folder, tmp_path, limit):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    other, want = tiny(random_state=5), fingerprint(fitted(random_state=5))
    other.fit(*sines())
    with full_disk(limit), pytest.raises(OSError, match="File too large"):
        other.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    run = tmp_path / "run"
    if limit < 1000:
        with full_disk(limit), pytest.raises(OSError, match="File too large"):
            other.fit(*sines(), run_dir=run)
        assert not list(run.iterdir()), "no time is lost"
    else:
        said = "no checkpoint was written.*File too large.*training goes on"
        with full_disk(limit), pytest.warns(UserWarning, match=said):
            assert fingerprint(other.fit(*sines(), run_dir=run)) == want
    assert not [p for p in tmp_path.rglob(".*") if p.name != ".lock"]


def test_a_folder_that_cannot_be_written(model, tmp_path, monkeypatch):
    def refuse(*args, **kw):
        raise PermissionError(13, "Permission denied")

    if os.name == "posix" and os.geteuid() == 0:  # root may write anywhere: imitated
        monkeypatch.setattr(Path, "mkdir", refuse)
        monkeypatch.setattr(Path, "write_bytes", refuse)
    else:
        os.chmod(tmp_path, 0o500)
    try:
        with pytest.raises(PermissionError):
            model.save(tmp_path / "model")
        m = tiny()
        with pytest.raises(PermissionError):
            m.fit(*sines(), run_dir=tmp_path / "new")
        assert not hasattr(m, "tokenizer_"), "before any time is lost"
        with pytest.raises(PermissionError):
            Report("r").save(tmp_path / "new" / "report")
    finally:
        os.chmod(tmp_path, 0o700)
    assert not list(tmp_path.iterdir())


# What is saved is what is loaded


@pytest.mark.parametrize(
    "chosen",
    [
        dict(dim=np.int64(8)),
        dict(prior_dim=np.int32(16), prior_depth=np.int8(1)),
        dict(n_fft=np.int64(8)),
        dict(decay=np.float32(0.5)),
        dict(n_codes=np.uint8(8)),
        dict(prior_dropout=np.float64(0.5)),
    ],
    ids=str,
)
def test_settings_out_of_numpy_are_saved(tmp_path, chosen):
    m = tiny(**{"epochs": 1, **chosen})
    m.fit(sines(n=3)[0]).save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert np.array_equal(again.sample(2, random_state=0), m.sample(2, random_state=0))
    assert {k: again.get_params()[k] for k in chosen} == chosen


def test_a_saved_model_says_with_what_it_was_trained(saved, tmp_path):
    model, codes = NCVQ.load(saved), TINY["n_codes"]
    noted = model.learned_with_
    model.set_params(n_codes=500, ssl="vicreg", epochs=70).save(folder := tmp_path / "m")
    was = read(folder)["learned_with"]
    assert was["tokenizer"] == dict(n_codes=codes, ssl=noted["tokenizer"]["ssl"], epochs=3)
    assert was["prior"] == dict(epochs=3)
    card = (folder / "README.md").read_text()
    assert f"500 now; {codes} when the tokenizer" in card and "vicreg self-sup" not in card
    again = NCVQ.load(folder)
    assert again.n_codes == 500 and again.learned_with_ == noted
    again.save(tmp_path / "n")
    assert read(tmp_path / "n") == read(folder)


@pytest.mark.parametrize(
    "wrong", [dict(top_p=95), dict(order="Halton"), dict(integers=1), dict(lr="x")], ids=str
)
def test_what_could_not_be_read_is_not_written(saved, folder, wrong):
    model, before = NCVQ.load(saved).set_params(**wrong), fingerprint(NCVQ.load(saved))
    with says(next(iter(wrong))):
        model.save(folder)
    assert fingerprint(NCVQ.load(folder)) == before


def test_a_readme_of_its_owner_is_not_written_over(model, tmp_path):
    (tmp_path / "README.md").write_text("# my notes")
    with says("README.md", "no model card"):
        model.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "# my notes"
    with says("report must be what `evaluate` returns", kind=TypeError):
        model.save(tmp_path / "m", report="report.json")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_a_model_by_a_generator_can_be_made_again(tmp_path, kind):
    X, y = sines()
    model = tiny(random_state=kind(0), epochs=1).fit(X, y)
    model.save(tmp_path / "m")
    loaded = NCVQ.load(tmp_path / "m")
    assert loaded.random_state == model.seed_ == read(tmp_path / "m")["settings"]["random_state"]
    assert fingerprint(loaded.fit(X, y)) == fingerprint(model)


def test_a_loaded_model_knows_how_many_features_it_has(tmp_path):
    "Those of its networks, not those of settings that were changed afterwards."
    X = sines(n=3)[0]
    tiny(epochs=1).fit(X).set_params(dim=16).save(tmp_path / "m")
    again = NCVQ.load(tmp_path / "m")
    assert len(again.get_feature_names_out()) == again.transform(X).shape[1] == 16


# Earlier formats

FORMER = dict(dead_code_threshold="revive_below", projection_std="spread")


def formerly(names):
    return {FORMER.get(k, k): v for k, v in names.items()}


def to_format_1(folder):
    "A saved model as the first version of this library wrote it."
    c = read(folder)
    assert c["format"] == FORMAT
    c["format"], c["settings"] = 1, formerly(c["settings"])
    for part in ("modules", "history"):
        c[part] = {k: formerly(v) for k, v in c[part].items()}
    c["sha256"]["config.json"] = config_digest(c)
    (folder / "config.json").write_text(json.dumps(c, indent=1), encoding="utf-8")


def test_models_of_format_1_still_load(model, saved, folder, tmp_path):
    to_format_1(folder)
    written = (folder / "config.json").read_text(encoding="utf-8")
    for today, before in FORMER.items():
        assert f'"{before}"' in written and f'"{today}"' not in written
    again, X = NCVQ.load(folder, device="cpu"), sines()[0]
    assert state(again) == state(model)
    assert np.array_equal(again.encode(X), model.encode(X))
    for label in (None, "sit"):
        ask = dict(y=label, random_state=0)
        assert np.array_equal(again.sample_tokens(3, **ask), model.sample_tokens(3, **ask))
        assert np.array_equal(again.sample(3, **ask), model.sample(3, **ask))
    again.save(tmp_path / "again")
    assert read(tmp_path / "again")["format"] == FORMAT
    for name in ("config.json", "tokenizer.safetensors", "prior.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_a_changed_model_of_format_1_is_noticed(folder):
    to_format_1(folder)
    replaced('"revive_below": 0.02', '"revive_below": 0.03')(folder)
    with pytest.raises(ValueError, match="its checksum is wrong"):
        NCVQ.load(folder)
