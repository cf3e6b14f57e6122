"""Grids: what a cell is, processes that share or lose one, and clusters of workers.

For Slurm's commands there are stand-ins, for the scripts are run as they stand on the page.
"""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock
from joblib import parallel_config
from sklearn.preprocessing import StandardScaler

import ncvq_nb as nv
from ncvq_nb import NCVQ, Report, Results, cli, run_grid
from ncvq_nb.engine.checkpoints import load_checkpoint
from ncvq_nb.engine.runtime import seeded
from ncvq_nb.experiments import on_cluster, run_cell
from ncvq_nb.grids.cells import Cell, cell_identity
from conftest import by_night
from toys import DRIVERS, ENV, ONE_THREAD, SETTINGS, as_dataset, noise, posix, says, weights

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
QUICK = dict(n_resamples=5, cas_total=20, fcn=dict(max_steps=3))
TINY = {**SETTINGS, "prior_dropout": 0.1, "sampling_steps": 4, "epochs": (40, 5), "batch_size": 6}
GRID = {
    "naive": dict(ssl=None, **TINY),
    "vibcreg-warp": dict(ssl="vibcreg", augment="warp", **TINY),
}
OPTIONS = [w for k, v in TINY.items() for w in (f"--{k}", str(v).strip("()").replace(" ", ""))]
CELLS = [(s, i) for s in GRID for i in (0, 1)]
DATA = as_dataset(noise(), noise(seed=1), name="noise")
SCALER = StandardScaler()  # a folder of a model holds no such thing
BROKEN = dict(n_fft=4096)  # longer than any series here
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory):
    "One thread here, as in the workers, and a cache of our own."
    cache, n = tmp_path_factory.mktemp("cache"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as m:
        for k, v in dict(NCVQ_CACHE=str(cache), **ONE_THREAD).items():
            m.setenv(k, v)
        yield
    torch.set_num_threads(n)


@pytest.fixture(scope="module")
def one(shared):
    "The grid in one process, cell after cell."

    def make(folder):
        results = run_grid([DATA], GRID, [0, 1], folder, **QUICK)
        assert [(r["setting"], r["seed"]) for r in results] == CELLS and not results.failed

    return shared("grid", make)


def npz(path):
    np.savez(path, **{k: getattr(DATA, k) for k in ("X_train", "y_train", "X_test", "y_test")})


def assert_same(one, other):
    "All reports are there with the same metrics, and the models have the same weights."
    assert list(Results.read(other)) == list(Results.read(one)) and not Results.read(other).failed
    for cell in one.glob("noise/*/*"):
        for file in ("tokenizer.safetensors", "prior.safetensors"):
            there = other / cell.relative_to(one)
            assert (cell / "model" / file).read_bytes() == (there / "model" / file).read_bytes()


# What a cell is


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    "A grid with one cell: call it with what shall differ."
    folder = tmp_path_factory.mktemp("done")
    common = dict(datasets=[DATA], settings={"s": SETTINGS}, seeds=[0], folder=folder, **QUICK)

    def grid(**changes):
        return run_grid(**{**common, **changes})

    grid()
    grid.cell = folder / "noise" / "s" / "0"
    return grid


def files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_cell_that_is_done_is_left_alone(done):
    before, first = files(done.cell), done()
    assert list(first) == list(done(verbose=False)) and len(first) == 1
    assert files(done.cell) == before
    report = Report.load(done.cell / "report.json")
    assert report.settings["tokenizer_seconds"] > 0 and report.settings["prior_seconds"] > 0
    assert report.settings["version"] == nv.__version__ and report.settings["device"] == DEVICE
    assert report.settings["cell_seconds"] > report.settings["prior_seconds"]
    cell = Cell(DATA, SETTINGS, 0, done.cell, QUICK)
    assert cell.is_done() and report.settings["cell"] == cell_identity(cell, DATA)
    assert replace(cell, evaluation={**QUICK, "verbose": True}) != cell
    quiet = replace(cell, evaluation={**QUICK, "verbose": False, "cache_dir": "x"})
    assert cell_identity(quiet, DATA) == cell_identity(cell, DATA)


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(settings={"s": {**SETTINGS, "n_codes": 4}}), "n_codes was 8, now 4"),
        (dict(datasets=[replace(DATA, X_train=DATA.X_train * 2)]), "data was"),
        (dict(cas_total=13), "'cas_total': 20"),
    ],
    ids=["settings", "data", "evaluation"],
)
def test_a_finished_cell_of_another_kind_is_refused_before_anything_is_trained(done, change, said):
    before = files(done.cell.parents[2])
    with says("holds the report of another model", said):
        done(**{"seeds": [1, 0], **change})
    assert files(done.cell.parents[2]) == before


def rewritten(folder, change):
    "The report of a cell, with its note of what it is of changed."
    report = Report.load(folder / "report.json")
    change(report.settings)
    report.save(folder / "report")


def test_a_cell_from_before_a_parameter_was_renamed_is_still_done(done):
    def as_before(settings):
        settings["cell"]["revive_below"] = settings["cell"].pop("dead_code_threshold")

    good = (done.cell / "report.json").read_bytes()
    rewritten(done.cell, as_before)
    before = files(done.cell)
    assert len(done()) == 1 and files(done.cell) == before
    with says("dead_code_threshold was 0.02, now 0.5"):
        done(settings={"s": {**SETTINGS, "dead_code_threshold": 0.5}})
    rewritten(done.cell, lambda settings: settings.pop("cell"))  # older still: not known
    before = files(done.cell)
    assert len(done(settings={"s": {**SETTINGS, "n_codes": 4}})) == 1
    assert files(done.cell) == before
    (done.cell / "report.json").write_bytes(good)


def test_a_damaged_report_is_made_anew(done):
    path = done.cell / "report.json"
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    with pytest.warns(UserWarning, match="computed again"):
        assert len(done()) == 1
    found, want = json.loads(path.read_bytes()), json.loads(good)
    assert found["rows"] == want["rows"] and found["settings"]["cell"] == want["settings"]["cell"]


# Names and words


def test_words_a_grid_cannot_use_are_refused_before_training(tmp_path):
    folder = tmp_path / "g"
    with says("n_sample", kind=TypeError):
        run_grid([DATA], {"s": SETTINGS}, [0], folder, n_sample=3)
    with says("'s' has a random_state"):
        run_grid([DATA], {"s": {**SETTINGS, "random_state": 0}}, [0], folder)
    with says("two cells of the grid have the same name"):
        run_grid([DATA, DATA], {"s": SETTINGS}, [0], folder)
    for asked, said in (
        (dict(confidence=95), "confidence must be a number between 0 and 1, found 95"),
        (dict(n_samples=1), "n_samples must be None or a whole number of at least 2"),
        (dict(cas_total="x"), "cas_total must be a whole number"),
        (dict(fcn=dict(typo=1)), "fcn has 'typo', which is no setting"),
        (dict(fcn=dict(epochs=0)), "fcn: epochs must be a whole number of at least 1, found 0"),
    ):
        with says(said):
            run_grid([DATA], {"s": SETTINGS}, [0], folder, **asked)
    for seeds, said in (
        ([None], "array of whole numbers of at least 0, found None"),
        ([True], "found True"),
        ([0, -1], "found -1"),
        (3, "seeds must be an array"),
        ([], "seeds must be an array"),
        ([0, 1, 0], "seeds has 0 twice"),
    ):
        with says(said):
            run_grid([DATA], {"s": SETTINGS}, seeds, folder)
    with says("settings 's' has 'ncodes'; allowed are", "n_codes"):
        run_grid([DATA], {"s": dict(ncodes=3)}, [0], folder)
    for how, said in (
        (dict(random_state=np.random.default_rng(0)), "random_state must be a whole number of"),
        (dict(checkpoint_every=-1), "checkpoint_every must be None or a number from 0"),
    ):
        with says(said):
            run_grid([DATA], {"s": SETTINGS}, [0], folder, **how)
    for transformer, said in (("cube", "settings 's': transformer must"), (SCALER, "be saved")):
        with says(said):
            run_grid([DATA], {"s": dict(transformer=transformer)}, [0], folder)
    with says("settings 's': clip=(0.2, 0.8) leaves no whole number"):
        run_grid([DATA], {"s": dict(clip=(0.2, 0.8), integers=True)}, [0], folder)
    for datasets, found in (([], "none"), (SCALER, "StandardScaler"), ([DATA, 3], "int")):
        with says("datasets must be names, paths", f"found {found}", kind=TypeError):
            run_grid(datasets, {"s": SETTINGS}, [0], folder)
    with says("folder must be the path of a folder", "found NoneType", kind=TypeError):
        run_grid([DATA], {"s": SETTINGS}, [0], None)
    for settings in ([SETTINGS], {"s": NCVQ()}):
        with says("settings must be a dict, name → dict of parameters", kind=TypeError):
            run_grid([DATA], settings, [0], folder)
    for params, said in (
        (dict(ssl="vibcrag"), "settings 'b': ssl must be one of None, 'barlow'"),
        (dict(ssl="barlow", batch_size=1), "settings 'b': batch_size must be at least 2"),
    ):
        with says(said):
            run_grid([DATA], {"s": SETTINGS, "b": SETTINGS | params}, [0], folder)
    with says("settings is empty: a grid needs one"):
        run_grid([DATA], {}, [0], folder)
    for n_jobs in (1.5, 0, True):
        with says("n_jobs must be None or a whole number, -1 for all cores", f"found {n_jobs}"):
            run_grid([DATA], {"s": SETTINGS}, [0], folder, n_jobs=n_jobs)
    with says("a setting has no name"):
        run_grid([DATA], {"": SETTINGS}, [0], folder)
    with says("a data set of the grid has an empty name"):
        run_grid([replace(DATA, name="")], {"s": SETTINGS}, [0], folder)
    assert not folder.exists()
    folder.write_text("mine")
    with says("folder", "is a file"):
        run_grid([DATA], {"s": SETTINGS}, [0], folder)


def test_a_grid_without_a_single_result_says_why(tmp_path):
    r = run_grid(DATA, {"s": BROKEN}, [0], tmp_path / "a")  # one set, not in a list
    text = r.table()
    assert "no results yet" in text and "noise/s/0 failed: " in text and "n_fft" in text
    r = run_grid(replace(DATA, X_test=None, y_test=None), {"s": SETTINGS}, [0], tmp_path / "b")
    assert "test_fraction" in r.table() and "data.hold_out(0.3)" in r.table()


def test_a_cell_knows_who_is_held_out(tmp_path):
    "Groups decide what a model with validation_fraction learns from, and nothing else."
    n, rest = len(DATA.X_train), dict(folder=tmp_path, evaluation={})
    groups = [None, *(dict(groups_train=np.arange(n) // k) for k in (2, 3))]
    data = [replace(DATA, **g, groups_test=1000 + np.arange(n)) if g else DATA for g in groups]
    for share, n_cells in ((0.5, 3), (0.0, 1)):
        cell = Cell(DATA, {**SETTINGS, "validation_fraction": share}, 0, **rest)
        assert len({cell_identity(cell, d)["data"] for d in data}) == n_cells


def test_files_and_names_are_data_sets(tmp_path, monkeypatch):
    npz(tmp_path / "mine.npz")
    monkeypatch.chdir(tmp_path)
    r = run_grid("mine.npz", {"s": BROKEN}, [0], "g")
    assert list(r.failed) == ["mine/s/0"] and "n_fft" in r.failed["mine/s/0"]
    r = run_grid(["GunPoint", Path("mine.npz")], {"s": BROKEN}, [0, 1], "h")
    assert sorted(r.failed) == [f"{d}/s/{i}" for d in ("GunPoint", "mine") for i in (0, 1)]
    r = run_grid(["NoSuchSet"], {"s": BROKEN}, [0], "i")
    assert "NoSuchSet" in r.failed["NoSuchSet/s/0"]


ODD = ["../../x", "{elsewhere}/x", "..", ".", "a/b", "a\\b", "a\0b", "a\nb", "CON", "x" * 300]
ODD += ["ü 漢", "$(touch pwned)", "-rf", "<b>|`"]


@pytest.mark.parametrize("name", ODD, ids=lambda n: repr(n)[:20])
def test_a_grid_stays_in_its_folder_whatever_things_are_called(tmp_path, name):
    name = name.replace("{elsewhere}", str(tmp_path / "elsewhere"))
    (home := tmp_path / "a" / "b" / "grid").mkdir(parents=True)
    results = run_grid([replace(DATA, name=name)], {"tiny": BROKEN}, [0], home)
    run_grid([DATA], {name: BROKEN}, [0], home)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(home)]
    assert len(results.failed) == 1
    assert len(list(home.glob("*/tiny/0/error.txt"))) == 1
    assert len(list(home.glob("noise/*/0/error.txt"))) == 1


# Processes that are killed


def test_a_cell_that_another_process_is_at_is_left_to_it(tmp_path):
    cell = Cell(DATA, BROKEN, 0, tmp_path / "cell", QUICK)
    cell.folder.mkdir()
    with ThreadPoolExecutor(1) as pool, FileLock(cell.folder / ".lock"):
        assert not pool.submit(run_cell, cell).result()
        assert [p.name for p in cell.folder.iterdir()] == [".lock"]
        waiting = pool.submit(run_cell, cell, wait=True)
        time.sleep(0.1)
        assert not waiting.done()
    assert waiting.result() and (cell.folder / "error.txt").exists()


@pytest.fixture(scope="module")
def killed(shared):
    "What became of grids whose processes were killed."

    def make(folder):
        command = [sys.executable, DRIVERS / "grids.py", folder]
        env = {**ENV, "NCVQ_CACHE": str(folder / "cache")}
        r = subprocess.run(command, capture_output=True, text=True, env=env)
        assert r.returncode == 0, r.stderr[-2000:]

    return json.loads((shared("killed", make) / "found.json").read_text())


@posix
def test_a_cell_that_kills_whoever_comes_is_given_up_and_one_that_gets_on_is_not(killed):
    found = killed["fatal"]
    assert found["at_once"] == [-9, -9, -9, 1, 1]
    assert "3 processes in a row were killed at this cell" in found["message"]
    assert "begun.txt" in found["message"]
    assert found["again"] == [-9, 0] and not found["left"]  # tried again, and then it could end
    *kills, last = found["later"]  # killed more often than that, but further on every time
    assert set(kills) == {-9} and len(kills) > 3 and last == 0


@posix
def test_two_grids_in_one_folder_share_it_and_make_good_for_one_that_was_killed(killed):
    found = killed["shared"]
    assert found["status"] == [-9, 0, 0]
    n = len(found["seconds"])  # a clock's, which never come twice
    assert 0 < n < len(found["found"]) and found["found"][:n] == found["seconds"]


# Threads of one process


def test_threads_take_turns_at_the_global_generator():
    def numbers(seed):
        with seeded(seed):
            first = torch.rand(3)
            time.sleep(0.001)  # another thread's chance
            with seeded(seed + 100):
                inner = torch.rand(3)  # within a thread there is no waiting
            return torch.cat([first, inner, torch.rand(3)]).tolist()

    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(numbers, range(40)))
    assert together == [numbers(i) for i in range(40)]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def foreground():
    "As in a terminal; a process that was started in the background ignores Ctrl-C."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(folder, n):
    "Ctrl-C as soon as so many cells have a checkpoint."
    while len({p.parents[2] for p in folder.glob("*/*/*/run/*/checkpoint-*")}) < n:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def in_run_threads():
    return [t for t in threading.enumerate() if t.name.startswith("run_")]


@posix
def test_a_grid_in_threads_outlives_ctrl_c_and_ends_in_the_same_bytes(
    one, tmp_path, monkeypatch, foreground, capsys
):
    "Another cell, which cannot work, takes none of them along; joblib's threads do the rest."
    threads, fit, settings = {}, NCVQ.fit, {"broken": BROKEN, **GRID}

    def noted(self, *args, **kw):
        threads[self.ssl, self.random_state] = threading.current_thread().name
        return fit(self, *args, **kw)

    monkeypatch.setattr(NCVQ, "fit", noted)
    how = dict(together=3, verbose=True, **QUICK)
    with ThreadPoolExecutor(1) as pool:
        pressed = pool.submit(press, tmp_path, 2)
        with says("2 runs stopped between two steps", "goes on", kind=KeyboardInterrupt):
            run_grid([DATA], settings, [0], tmp_path, checkpoint_every=0, **how)
        pressed.result()
    assert not Results.read(tmp_path) and not in_run_threads()
    assert not list(tmp_path.rglob("begun.txt"))  # nobody was killed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    results = run_grid([DATA], settings, [0], tmp_path, **how)
    assert list(results.failed) == ["noise/broken/0"] and len(results) == 2
    assert len({name for name in threads.values() if name.startswith("run_")}) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "grid: 3 cells" and re.search(r" 2 of 3 done, 1 failed, in \d+ s$", said[-1])
    (tmp_path / "noise" / "broken" / "0" / "error.txt").unlink()
    with parallel_config(backend="threading", n_jobs=4):
        run_grid([DATA], GRID, [0, 1], tmp_path, **QUICK)  # n_jobs is that of the context
    assert len({threads[ssl, 1] for ssl in (None, "vibcreg")}) == 2
    assert_same(one, tmp_path)


def test_what_cannot_be_together_is_refused(tmp_path):
    for how, said in (
        (dict(together=0), "together must be None or a whole number of at least 1, found 0"),
        (dict(together=2, n_jobs=2), "together=2 is for threads of this process: leave n_jobs=2"),
    ):
        with says(said):
            run_grid([DATA], GRID, [0], tmp_path / "g", **how)
    assert not (tmp_path / "g").exists()
    r = run_grid([DATA], {"s": dict(device="nowhere")}, [0], tmp_path, together=2)
    assert "device must be" in r.failed["noise/s/0"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_runs_together_on_a_gpu_end_in_the_weights_of_single_runs(tmp_path):
    settings = {k: v | dict(compile=True, device="cuda") for k, v in GRID.items()}
    alone = run_grid([DATA], settings, [0, 1], tmp_path / "alone", **QUICK)
    beside = run_grid([DATA], settings, [0, 1], tmp_path / "beside", together=4, **QUICK)
    assert not alone.failed and not beside.failed
    for cell in (tmp_path / "alone").glob("noise/*/*"):
        places = (cell, tmp_path / "beside" / cell.relative_to(tmp_path / "alone"))
        a, b = (weights(NCVQ.load(place / "model")) for place in places)
        for k in a:
            torch.testing.assert_close(a[k], b[k], rtol=1e-3, atol=1e-4)


# Dask


@pytest.fixture
def not_here(monkeypatch):
    "A cell that is computed in this process fails."

    def fit(*args, **kw):
        raise AssertionError("a cell was computed here, not by a worker")

    monkeypatch.setattr(NCVQ, "fit", fit)


def kill_one(folder, pids):
    "Kill a process in the middle of a cell: its pid, the stage, the seconds of its checkpoint."
    while len(list(folder.glob("*/*/*/report.json"))) < len(CELLS):
        for pid in pids:
            for lock in map(Path, (f.path for f in psutil.Process(pid).open_files())):
                # a stage's lock, held while it is trained
                if lock.name == ".lock" and list(lock.parent.glob("checkpoint-*")):
                    os.kill(pid, signal.SIGKILL)
                    _, meta = load_checkpoint(lock.parent, {})
                    return pid, lock.parent, meta["history"]["seconds"]
        time.sleep(0.01)
    raise AssertionError("every cell had ended before a worker could be killed")


def assert_went_on(stage, seconds):
    "The cell's history begins with that of the worker that was killed."
    found = NCVQ.load(stage.parents[1] / "model").history_[stage.name]["seconds"]
    assert len(found) > len(seconds) > 0 and found[: len(seconds)] == seconds


@posix
@pytest.mark.slow
@by_night("one kill of a worker is enough")
def test_a_grid_outlives_a_worker_that_is_killed_and_replaced(one, tmp_path, not_here):
    distributed = pytest.importorskip("distributed")
    quiet = dict(dashboard_address=None, silence_logs=50)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = set(client.run(os.getpid).values())
        assert len(pids) == 2 and os.getpid() not in pids
        with ThreadPoolExecutor(1) as pool, on_cluster(cluster.scheduler_address):
            victim = pool.submit(kill_one, tmp_path, pids)
            run_grid([DATA], GRID, [0, 1], tmp_path, **QUICK)
        pid, stage, seconds = victim.result()
        client.wait_for_workers(2, timeout=60)
        assert pid not in client.run(os.getpid).values()
    assert_same(one, tmp_path)
    assert_went_on(stage, seconds)


@pytest.fixture
def cluster(tmp_path):
    "A scheduler's file and two workers as on machines of their own; nobody restarts a worker."
    pytest.importorskip("distributed")
    file, elsewhere = tmp_path / "scheduler.json", tmp_path / "elsewhere"
    elsewhere.mkdir()

    def start(*words):
        command = [BIN / "dask", *words, "--scheduler-file", file, "--no-dashboard"]
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return subprocess.Popen(command, cwd=elsewhere, **quiet)

    scheduler = start("scheduler", "--port", "0", "--host", "127.0.0.1")
    workers = [start("worker", "--nthreads", "1", "--no-nanny") for _ in range(2)]
    try:
        while not file.exists():
            time.sleep(0.05)
        yield file, workers
    finally:
        for p in (scheduler, *workers):
            p.kill()
        for p in (scheduler, *workers):
            p.wait()
    assert not list(elsewhere.rglob("report.json"))


@posix
@pytest.mark.slow
def test_the_command_outlives_a_worker_that_is_lost_for_good(
    one, cluster, tmp_path, not_here, monkeypatch, capsys
):
    file, workers = cluster
    npz(tmp_path / "noise.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "run_grid", functools.partial(run_grid, **QUICK))
    out, where = tmp_path / "grid", ["--out", "grid", "--cluster", file.name]
    command = ["noise.npz", "--methods", *GRID, "--seeds", "0", "1", *where, *OPTIONS]
    with ThreadPoolExecutor(1) as pool:
        victim = pool.submit(kill_one, out, [p.pid for p in workers])
        cli.grid(command)
    pid, stage, seconds = victim.result()
    assert sorted(p.poll() or 0 for p in workers) == [-signal.SIGKILL, 0]
    assert [p.pid for p in workers if p.poll()] == [pid]
    assert_same(one, out)
    (out / "noise" / "naive" / "1" / "report.json").unlink()
    cli.grid(command)  # one worker with one thread is left, and is still the one that works
    assert_same(one, out)
    assert_went_on(stage, seconds)
    assert "4 runs" in capsys.readouterr().out


@pytest.fixture
def command(tmp_path, capsys):
    "What `ncvq_grid` says on the error stream when it fails."

    def failed(*options):
        with pytest.raises(SystemExit) as e:
            cli.grid(["GunPoint", "--out", str(tmp_path / "g"), *map(str, options)])
        assert e.value.code == 2
        return capsys.readouterr().err

    return failed


def test_the_command_says_that_a_cell_lost_its_workers(command, monkeypatch):
    distributed = pytest.importorskip("distributed")

    def lost(*args, **kw):
        raise distributed.KilledWorker("a cell", SimpleNamespace(address="tcp://10.0.0.7:1"), 3)

    monkeypatch.setattr(cli, "run_grid", lost)
    empty = dict(n_workers=0, processes=False, dashboard_address=None)
    with distributed.LocalCluster(**empty) as cluster:
        first, second = command("--cluster", cluster.scheduler_address).splitlines()
    assert first == "waiting for workers"
    assert second.startswith("ncvq_grid: a cell lost 4 workers; the same command goes on from here")
    assert "distributed.scheduler.allowed-failures" in second


def test_the_command_says_what_is_wrong_with_a_cluster(command, tmp_path, monkeypatch):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    (tmp_path / "bad.json").write_text("{}")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        files = (tmp_path / "bad.json", tmp_path / "nothing.json")
        for address in ("nonsense", "tcp://127.0.0.1:1", *files):
            said = command("--cluster", address)
            assert f"{address} leads to no dask scheduler" in said and len(said.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    assert "pip install 'ncvq_nb[dask]'" in command("--cluster", "tcp://127.0.0.1:1")
    assert "not allowed with" in command("--cluster", "tcp://127.0.0.1:1", "--n_jobs", "2")
    assert not (tmp_path / "g").exists()


# Slurm


def recipe(language, mark):
    "A block of code of the page."
    page = json.loads((ROOT / "nbs" / "12_experiments.ipynb").read_text(encoding="utf-8"))
    text = "\n".join("".join(c["source"]) for c in page["cells"] if c["cell_type"] == "markdown")
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)
    (block,) = [b for b in blocks if mark in b]
    return block


def replaced(text, **changes):
    "Each old text, which stands there once, by its new one: `changes` are names and pairs."
    for old, new in changes.values():
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    return text


def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


COMMAND = """#!{python}
import functools, os, time
from pathlib import Path
from ncvq_nb import NCVQ, cli, run_grid

log, job, fit = Path({log!r}), os.environ["SLURM_ARRAY_TASK_ID"], NCVQ.fit


def noted(self, *args, run_dir, **kw):
    with log.open("a") as f:
        f.write(f"{{job}} {{Path(run_dir).parent.name}}\\n")
    return fit(self, *args, run_dir=run_dir, **kw)


NCVQ.fit = noted
cli.run_grid = functools.partial(run_grid, **{quick})
log.with_name(f"ready{{job}}").touch()
while len(list(log.parent.glob("ready*"))) < 2:
    time.sleep(0.01)
cli.grid()
"""


@posix
@pytest.mark.slow
@by_night("processes share grids in the tests of kills")
def test_an_array_of_equal_jobs_shares_a_grid(tmp_path):
    "The page's script, but for data and sizes, in two processes that begin at the same moment."
    log, bin = tmp_path / "log", tmp_path / "bin"
    npz(tmp_path / "noise.npz")
    text = COMMAND.format(python=sys.executable, log=str(log), quick=QUICK)
    program(bin / "ncvq_grid", text)
    script = replaced(
        recipe("bash", "#SBATCH"),
        data=("GunPoint ArrowHead", " ".join(["noise.npz", *OPTIONS])),
        seeds=("--seeds 0 1 2 3", "--seeds 0 1"),
    )
    (tmp_path / "grid.sh").write_text(script)
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{bin}:{os.environ['PATH']}"}
    env["SLURM_CPUS_PER_TASK"] = "1"
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    jobs = [
        subprocess.Popen(
            ["bash", "grid.sh"], cwd=tmp_path, env={**env, "SLURM_ARRAY_TASK_ID": i}, **pipes
        )
        for i in ("1", "2")
    ]
    (out_1, err_1), (out_2, err_2) = [p.communicate() for p in jobs]
    assert jobs[0].returncode == jobs[1].returncode == 0, err_1 + err_2
    done = [line.split() for line in log.read_text().splitlines()]
    # each cell trained once, and some by either job
    assert len(done) == 4 and {job for job, _ in done} == {"1", "2"}, done
    assert out_1 == out_2 and "4 runs" in out_1  # both wait for the end


SBATCH = """#!/usr/bin/env bash
for script; do :; done
job={folder}/job$$
cp "$script" $job
setsid bash $job >$job.log 2>&1 </dev/null &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/usr/bin/env bash
kill -- "-$1"
"""


@posix
@pytest.mark.slow
@by_night("dask's own workers are tested by day")
def test_workers_submitted_by_dask_jobqueue(one, tmp_path, not_here, monkeypatch):
    "The page's script, but for data, sizes, and sbatch and scancel, which start processes here."
    dask = pytest.importorskip("dask")
    pytest.importorskip("dask_jobqueue")
    program(tmp_path / "bin" / "sbatch", SBATCH.format(folder=tmp_path))
    program(tmp_path / "bin" / "scancel", SCANCEL)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nv, "run_grid", functools.partial(run_grid, **QUICK))
    script = replaced(
        re.sub(r"^settings = .*$", "settings = GRID", recipe("python", "SLURM"), flags=re.M),
        data=('["GunPoint", "ArrowHead"], range(4)', "DATA, [0, 1]"),
        threads=("export OMP_NUM_THREADS=2", "export OMP_NUM_THREADS=1"),
        jobs=("minimum_jobs=8, maximum_jobs=8", "minimum_jobs=2, maximum_jobs=2"),
        memory=('memory="8GB"', 'memory="2GB"'),
    )
    with dask.config.set({"jobqueue.slurm.scheduler-options": {"dashboard_address": None}}):
        exec(script, dict(DATA=[DATA], GRID=GRID))
    jobs = [p.read_text() for p in tmp_path.glob("job*[0-9]")]
    assert len(jobs) >= 2 and "--nthreads 1 " in jobs[0]
    for line in ("#SBATCH --cpus-per-task=2", "#SBATCH -t 04:00:00", "#SBATCH --mem=2G"):
        assert line in jobs[0]
    assert "export OMP_NUM_THREADS=1" in jobs[0]
    assert_same(one, tmp_path / "runs" / "grid")
