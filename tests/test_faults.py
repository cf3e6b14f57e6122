"""Full disks, killed processes, truncated and changed files: no earlier good state is lost, nothing half-written is taken for whole."""
import json, os, random, subprocess, sys, warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import ncvq_nb as nv
from ncvq_nb import NCVQ
from ncvq_nb.data import write_atomically
from ncvq_nb.experiments import Results
from ncvq_nb.metrics import Report, Row
from ncvq_nb.training import load_checkpoint, save_checkpoint
from conftest import THOROUGH

DRIVERS, ENV = Path(__file__).parent / "drivers", {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
TINY = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=4, batch_size=6, random_state=0)
TINY_CELL = {k: v for k, v in TINY.items() if k != "random_state"}
posix = pytest.mark.skipif(os.name != "posix", reason="needs kill -9, fork and limits of POSIX")


def noise(n=12, l=24): return np.random.default_rng(0).normal(size=(n, l)).astype(np.float32), np.arange(n) % 2


def script(*args, **kw): return subprocess.run([sys.executable, *map(str, args)], env=ENV, capture_output=True, text=True, **kw)


@posix
@pytest.mark.parametrize("kind, calls", [("model", 21), ("report", 10), ("table", 8), ("figure", 5), ("run", 65)])
def test_whatever_call_goes_wrong_the_old_or_the_new_state_is_there(tmp_path, kind, calls):
    r = script(DRIVERS / "faults.py", tmp_path, kind, 9 if THOROUGH else 21)
    assert r.returncode == 0, r.stderr[-3000:]
    rows = json.loads(r.stdout.splitlines()[-1])
    assert calls - 2 * (kind == "run") <= rows[0]["of"] <= calls and {row["how"] for row in rows} >= {"full", "kill"}, "the number of calls has changed: is the driver still at all of them?"  # an old filelock makes two folders less
    for row in rows:
        found, why = row["age"].get("result"), {k: v for k, v in row.items() if k != "said"}
        if kind == "table" and found not in ("old", "new"): assert "checksum" in found, why  # the table is new and whole, the process was killed before its checksum
        else: assert found in ("old", "new"), why
        assert row["killed"] == (row["how"] == "kill") and "crash" not in row, why
        if row["how"] != "kill":
            assert "No space left" in row.get("error", "") or "no checkpoint was written" in " ".join(row["said"]), f"silent: {why}"
            assert not row["left"], why
        if kind in ("run", "model"): assert row["same"] and not row["left_after"], why  # the same command again repairs everything


@posix
@pytest.mark.parametrize("limit", [0, 500, 20_000])
def test_a_disk_that_is_really_full(tmp_path, limit):
    "The system itself refuses to let any file grow further."
    NCVQ(**TINY).fit(*noise()).save(tmp_path / "model")
    before = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    code = f"""if 1:
        import json, resource, signal, sys, warnings, numpy as np
        from ncvq_nb import NCVQ
        X, y = np.random.default_rng(0).normal(size=(12, 24)).astype(np.float32), np.arange(12) % 2
        model = NCVQ(**{ {**TINY, "random_state": 5} })
        model.fit(X, y)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        said = []
        for work in (lambda: model.save({str(tmp_path / "model")!r}), lambda: model.fit(X, y, run_dir={str(tmp_path / "run")!r})):
            with warnings.catch_warnings(record=True) as w:
                warnings.simplefilter("always")
                try: work()
                except OSError as e: said.append(str(e))
            said += [str(x.message) for x in w]
        print(json.dumps(said))"""
    r = script("-c", code)
    assert r.returncode == 0, r.stderr[-2000:]
    assert "File too large" in r.stdout
    assert {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()} == before and not list(tmp_path.glob(".*"))


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    X, y = noise()
    model = NCVQ(**TINY).fit(X, y, run_dir=tmp_path / "run")
    if os.name == "posix" and os.geteuid() == 0:  # root may write anywhere, so the system's refusal is imitated
        def refuse(*a, **k): raise PermissionError(13, "Permission denied")
        monkeypatch.setattr(Path, "mkdir", refuse), monkeypatch.setattr(Path, "write_bytes", refuse)
    else: os.chmod(tmp_path, 0o500)
    try:
        with pytest.raises(PermissionError): model.save(tmp_path / "model")
        with pytest.raises(PermissionError): NCVQ(**TINY).fit(X, y, run_dir=tmp_path / "new")  # before any time is lost
        with pytest.raises(PermissionError): Report("r", [Row("FID", 1.0)]).save(tmp_path / "new" / "report")
    finally: os.chmod(tmp_path, 0o700)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def damage(path, rng):
    "Cut the file off somewhere, or turn one bit over."
    blob = bytearray(path.read_bytes())
    if rng.random() < 0.3: blob = blob[:rng.randrange(len(blob))]
    else: blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
    path.write_bytes(blob)


def test_damaged_checkpoints_are_passed_over(tmp_path):
    gen = torch.Generator().manual_seed(0)
    for step in (1, 2): save_checkpoint(tmp_path, step, {"a": torch.randn(2, 3, generator=gen), "b": torch.arange(4), "c": torch.tensor(1.0)}, dict(step=step, seconds=0.0, settings={}, history={}, best=None, note="x" * 50))
    newest, rng = tmp_path / "checkpoint-00000002.safetensors", random.Random(0)
    good = newest.read_bytes()
    for _ in range(400):
        damage(newest, rng)
        if newest.read_bytes() == good: continue
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            tensors, meta = load_checkpoint(tmp_path, {})
        if meta["step"] == 1: assert len(said) == 1 and "damaged" in str(said[0].message)
        else:  # a bit that carries nothing, such as a blank of the header
            newest_again = tmp_path / "again"
            newest_again.mkdir(exist_ok=True), (newest_again / newest.name).write_bytes(good)
            whole = load_checkpoint(newest_again, {})
            assert meta == whole[1] and all(torch.equal(tensors[k], whole[0][k]) for k in whole[0])
        newest.write_bytes(good)
    for p in tmp_path.glob("checkpoint-*"): p.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"): assert load_checkpoint(tmp_path, {}) is None


def test_damaged_reports_and_tables_are_refused(tmp_path):
    rng = random.Random(1)
    Report("r", [Row("FID", 1.25)]).save(tmp_path / "report")
    Results([dict(dataset="a", setting="s", seed=0, FID=1.25)]).save(tmp_path / "t.csv")
    for name, load in (("report.json", lambda: Report.load(tmp_path / "report")), ("t.csv", lambda: Results.load(tmp_path / "t.csv"))):
        path = tmp_path / name
        good, refused = path.read_bytes(), 0
        for _ in range(150):
            damage(path, rng)
            if path.read_bytes() == good: continue
            try: assert (lambda x: x[0].value if name == "report.json" else x[0]["FID"])(load()) == 1.25
            except ValueError as e: refused += str(path) in str(e) or "decode" in str(e)
            path.write_bytes(good)
        assert refused > 100
        load()


@posix
def test_temporary_files_of_killed_processes_are_cleared_away_and_those_of_living_ones_are_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getppid()): (tmp_path / f".a.{pid}.00000000.txt").write_text("half")
    (tmp_path / ".a.note.txt").write_text("the user's own")
    write_atomically(tmp_path / "a.txt", "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([".a.note.txt", f".a.{os.getppid()}.00000000.txt", "a.txt"])


# one folder, several processes

GRID = """if 1:
    import sys, numpy as np
    from ncvq_nb.data import Dataset
    from ncvq_nb.experiments import run_grid
    rng = np.random.default_rng(0)
    data = Dataset("noise", rng.normal(size=(12, 24)).astype("float32"), np.arange(12) % 2, rng.normal(size=(12, 24)).astype("float32"), np.arange(12) % 2)
    seeds = [int(s) for s in sys.argv[2].split(",")]
    r = run_grid([data], {"s": SETTINGS}, seeds, sys.argv[1], n_resamples=5, cas_total=20, fcn=dict(max_steps=3))
    print(len(r), r.failed)""".replace("SETTINGS", str({k: v for k, v in TINY.items() if k != "random_state"}))


@posix
def test_two_grids_in_one_folder_share_the_work_and_a_killed_one_is_made_good(tmp_path):
    start = lambda seeds: subprocess.Popen([sys.executable, "-c", GRID, tmp_path, seeds], env={**ENV, "NCVQ_CACHE": str(tmp_path / "cache")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    a, b, killed = start("0,1,2,3"), start("3,2,1,4"), start("2,0,5")
    while killed.poll() is None and not list(tmp_path.glob("noise/s/*/run/settings.json")): pass
    killed.kill(), killed.wait()
    (out_a, err_a), (out_b, err_b) = a.communicate(), b.communicate()
    assert a.returncode == b.returncode == 0, err_a + err_b
    assert len(Results.read(tmp_path)) >= 5 and not Results.read(tmp_path).failed
    assert {r["seed"] for r in Results.read(tmp_path)} >= {0, 1, 2, 3, 4}
    assert {r["dataset"] for r in Results.read(tmp_path)} == {"noise"}


def test_a_finished_cell_of_other_settings_data_or_measures_is_refused(tmp_path):
    "And nothing is trained before that is said."
    X, y = noise()
    data, quick = nv.Dataset("toy", X, y, X, y), dict(n_resamples=5, cas_total=12, fcn=dict(max_steps=3))
    first = nv.run_grid([data], {"s": TINY_CELL}, [0], tmp_path, **quick)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert list(nv.run_grid([data], {"s": TINY_CELL}, [0], tmp_path, **quick)) == list(first)
    for other, said in ((dict(settings={"s": {**TINY_CELL, "n_codes": 4}}), "n_codes was 8, now 4"), (dict(datasets=[nv.Dataset("toy", X * 2, y, X, y)]), "data was"), (dict(cas_total=13), "cas_total")):
        with pytest.raises(ValueError, match=said): nv.run_grid(**{**dict(datasets=[data], settings={"s": TINY_CELL}, seeds=[1, 0], folder=tmp_path), **quick, **other})
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files
    nv.run_grid([data], {"s": TINY_CELL}, [0, 1], tmp_path, **quick, verbose=False)  # more of the same


def test_words_a_grid_cannot_use_are_refused_before_training(tmp_path):
    X, y = noise()
    data = nv.Dataset("toy", X, y, X, y)
    with pytest.raises(TypeError, match="n_sample"): nv.run_grid([data], {"s": TINY_CELL}, [0], tmp_path / "g", n_sample=3)
    with pytest.raises(ValueError, match="'s' has a random_state"): nv.run_grid([data], {"s": TINY}, [0], tmp_path / "g")
    assert not (tmp_path / "g").exists()
    r = nv.run_grid([data], {"s": TINY_CELL}, [0], tmp_path / "h", random_state=1, n_resamples=5, cas_total=12, fcn=dict(max_steps=3))
    assert len(r) == 1 and not r.failed


def test_a_grid_without_a_single_result_says_why(tmp_path):
    X, y = noise()
    r = nv.run_grid(nv.Dataset("toy", X, y, X, y), {"s": dict(ncodes=3)}, [0], tmp_path / "a")  # one data set, not in a list
    assert "no results yet" in r.table() and "toy/s/0 failed: " in r.table() and "ncodes" in r.table()
    assert "test_fraction" in nv.run_grid([nv.Dataset("toy", X, y)], {"s": TINY_CELL}, [0], tmp_path / "b").table()
