"""Grids on clusters: workers that are killed, cells in threads, and the recipes for Slurm, with stand-ins for its commands."""
import json, os, re, signal, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from joblib import parallel_config

import ncvq_nb as nv
from ncvq_nb import NCVQ, Results, cli, run_grid
from ncvq_nb.data import Dataset
from ncvq_nb.training import load_checkpoint, seeded

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
posix = pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
ONE_THREAD = dict(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

TINY = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, prior_dropout=0.1, sampling_steps=4, epochs=(50, 10), batch_size=6)
SETTINGS = {"naive": dict(ssl=None, **TINY), "vibcreg-warp": dict(ssl="vibcreg", augment="warp", **TINY)}
JUDGED = dict(n_resamples=5, cas_total=20, fcn=dict(max_steps=3))
OPTIONS = [w for k, v in TINY.items() for w in (f"--{k}", str(v).strip("()").replace(" ", ""))]
CELLS = [(s, i) for s in SETTINGS for i in (0, 1)]


def noise():
    r = np.random.default_rng(0)
    return Dataset("noise", *(a for _ in range(2) for a in (r.normal(size=(12, 24)).astype(np.float32), np.arange(12) % 2)))


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory):
    "One thread here, as in the workers, and a cache of our own."
    cache, n = tmp_path_factory.mktemp("cache"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as m:
        for k, v in dict(NCVQ_CACHE=str(cache), **ONE_THREAD).items(): m.setenv(k, v)
        yield
    torch.set_num_threads(n)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    "The grid in one process, cell after cell."
    folder = tmp_path_factory.mktemp("one")
    results = run_grid([noise()], SETTINGS, [0, 1], folder, **JUDGED)
    assert [(r["setting"], r["seed"]) for r in results] == CELLS and not results.failed
    return folder


def assert_same(one, other):
    "All reports are there with the same figures, and the models have the same weights."
    assert list(Results.read(other)) == list(Results.read(one)) and not Results.read(other).failed
    for cell in one.glob("noise/*/*"):
        for stage in ("tokenizer", "prior"):
            a, b = (d / "model" / f"{stage}.safetensors" for d in (cell, other / cell.relative_to(one)))
            assert a.read_bytes() == b.read_bytes(), a


@pytest.fixture
def not_here(monkeypatch):
    "A cell that is computed in this process fails."
    def fit(*args, **kw): raise AssertionError("a cell was computed here, not by a worker")
    monkeypatch.setattr(NCVQ, "fit", fit)


def kill_one(folder, pids):
    "Kill one of the processes in the middle of a cell; its pid, the folder of the stage, and the seconds that its newest checkpoint remembers."
    while len(list(folder.glob("*/*/*/report.json"))) < len(CELLS):
        for pid, lock in [(pid, Path(f.path)) for pid in pids for f in psutil.Process(pid).open_files() if Path(f.path).name == ".lock"]:
            if list(lock.parent.glob("checkpoint-*")):  # a stage's lock, held while it is trained
                os.kill(pid, signal.SIGKILL)
                return pid, lock.parent, load_checkpoint(lock.parent, {})[1]["history"]["seconds"]
        time.sleep(.01)
    raise AssertionError("every cell had ended before a worker could be killed")


def assert_went_on(stage, seconds):
    "The cell's history begins with that of the worker that was killed: these seconds are a clock's, and never come twice."
    found = NCVQ.load(stage.parents[1] / "model").history_[stage.name]["seconds"]
    assert len(found) > len(seconds) > 0 and found[:len(seconds)] == seconds


@posix
@pytest.mark.slow
def test_a_grid_outlives_a_worker_that_is_killed_and_replaced(one, tmp_path, not_here):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as cluster, distributed.Client(cluster) as client:
        pids = set(client.run(os.getpid).values())
        assert len(pids) == 2 and os.getpid() not in pids
        with ThreadPoolExecutor(1) as pool, parallel_config(backend="dask"):
            killed = pool.submit(kill_one, tmp_path, pids)
            run_grid([noise()], SETTINGS, [0, 1], tmp_path, **JUDGED)
        pid, stage, seconds = killed.result()
        client.wait_for_workers(2, timeout=60)
        assert pid not in client.run(os.getpid).values()
    assert_same(one, tmp_path)
    assert_went_on(stage, seconds)


@posix
@pytest.mark.slow
def test_the_command_outlives_a_worker_that_is_lost_for_good(one, tmp_path, not_here, monkeypatch, capsys):
    "A scheduler and two workers as on machines of their own; nobody restarts a worker."
    pytest.importorskip("distributed")
    data, file, out = noise(), tmp_path / "scheduler.json", tmp_path / "grid"
    np.savez(tmp_path / "noise.npz", X_train=data.X_train, y_train=data.y_train, X_test=data.X_test, y_test=data.y_test)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    start = lambda *words: subprocess.Popen([BIN / "dask", *words, "--scheduler-file", file, "--no-dashboard"], cwd=elsewhere, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    processes = [start("scheduler", "--port", "0", "--host", "127.0.0.1"), *(start("worker", "--nthreads", "1", "--no-nanny") for _ in range(2))]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "run_grid", partial(run_grid, **JUDGED))
    try:
        while not file.exists(): time.sleep(.05)
        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(kill_one, out, [p.pid for p in processes[1:]])
            command = ["noise.npz", "--out", "grid", "--methods", *SETTINGS, "--seeds", "0", "1", "--cluster", "scheduler.json", *OPTIONS]
            cli.grid(command)
        pid, stage, seconds = killed.result()
        assert [p.poll() for p in processes[1:]].count(None) == 1 and [p.pid for p in processes[1:] if p.poll() == -signal.SIGKILL] == [pid]
        assert_same(one, out)
        (out / "noise" / "naive" / "1" / "report.json").unlink()
        cli.grid(command)  # one worker with one thread is left, and is still the one that works
    finally:
        for p in processes: p.kill()
        for p in processes: p.wait()
    assert_same(one, out)
    assert_went_on(stage, seconds)
    assert not list(elsewhere.rglob("report.json")) and "4 runs" in capsys.readouterr().out


def test_the_command_says_what_is_wrong_with_a_cluster(tmp_path, monkeypatch, capsys):
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    (tmp_path / "bad.json").write_text("{}")
    def said(address):
        with pytest.raises(SystemExit) as e: cli.grid(["GunPoint", "--out", str(tmp_path / "g"), "--cluster", str(address)])
        err = capsys.readouterr().err
        assert e.value.code == 2 and len(err.splitlines()) == 1
        return err
    def killed(*args, **kw): raise distributed.KilledWorker("a cell", SimpleNamespace(address="tcp://10.0.0.7:1"), 3)
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster, monkeypatch.context() as m:
        m.setattr(cli, "run_grid", killed)
        with pytest.raises(SystemExit): cli.grid(["GunPoint", "--out", str(tmp_path / "g"), "--cluster", cluster.scheduler_address])
        assert capsys.readouterr().err.splitlines() == ["waiting for workers", "ncvq_grid: a cell lost 4 workers; the same command goes on from here, and a scheduler with a higher distributed.scheduler.allowed-failures puts up with more"]
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        for address in ("nonsense", "tcp://127.0.0.1:1", tmp_path / "bad.json", tmp_path / "nothing.json"): assert f"--cluster {address} leads to no dask scheduler" in said(address)
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    assert "pip install 'ncvq_nb[dask]'" in said("tcp://127.0.0.1:1")
    with pytest.raises(SystemExit): cli.grid(["GunPoint", "--out", str(tmp_path / "g"), "--cluster", "tcp://127.0.0.1:1", "--n_jobs", "2"])
    assert "not allowed with" in capsys.readouterr().err and not (tmp_path / "g").exists()


FATAL = """if 1:
    import functools, os, signal, sys, numpy as np, torch._dynamo  # which the optimiser imports; once is enough
    from pathlib import Path
    from ncvq_nb import generator, run_grid
    from ncvq_nb.data import Dataset
    generator.train = functools.partial(generator.train, checkpoint_every=0, log_every=1)
    noise, calls = np.random.default_rng(0).normal(size=(12, 24)).astype("float32"), 0
    data = Dataset("noise", noise, np.arange(12) % 2, noise, np.arange(12) % 2)
    def fatal(x, generator):
        global calls
        calls += 1
        if calls == last: os.kill(os.getpid(), signal.SIGKILL)
        return x
    def start(folder, limit):
        "What becomes of a process that is killed when it augments for the limit-th time."
        global last
        last = limit  # not in the view itself, which would be another one then
        if not (pid := os.fork()):
            results = run_grid([data], {"fatal": dict(TINY, ssl="vibcreg", augment=fatal)}, [0], folder, **JUDGED)
            os._exit(len(results.failed))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    one, two = Path(sys.argv[1], "one"), Path(sys.argv[1], "two")
    at_once = [start(one, 2) for _ in range(5)]
    (error,) = one.glob("*/*/*/error.txt")
    print("; ".join(map(str, at_once)), error.read_text().splitlines()[-1], sep="\\n")
    (error.parent / "begun.txt").unlink()
    print(start(one, 2), start(one, 10**6), list(one.glob("*/*/*/*.txt")))
    later = []
    while later[-1:] != [0] and len(later) < 20: later.append(start(two, 22))
    print(*later)""".replace("TINY", str(TINY)).replace("JUDGED", str(JUDGED))


@posix
@pytest.mark.slow
def test_a_cell_that_kills_whoever_comes_is_given_up_and_one_that_gets_on_is_not(tmp_path):
    r = subprocess.run([sys.executable, "-c", FATAL, tmp_path], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-2000:]
    at_once, error, again, later = r.stdout.splitlines()
    assert at_once == "-9; -9; -9; 1; 1" and "3 processes in a row were killed at this cell" in error and "begun.txt" in error
    assert again == "-9 0 []"  # tried again, and then with enough of everything
    assert later.split()[:-1] == ["-9"] * (len(later.split()) - 1) and len(later.split()) > 4 and later.endswith(" 0")  # killed more often than that, but further on every time


# threads of one process

def test_threads_take_turns_at_the_global_generator():
    def draw(seed):
        with seeded(seed):
            first = torch.rand(3)
            time.sleep(.001)  # another thread's chance
            with seeded(seed + 100): inner = torch.rand(3)  # within a thread there is no waiting
            return torch.cat([first, inner, torch.rand(3)]).tolist()
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool: together = list(pool.map(draw, range(40)))
    assert together == [draw(i) for i in range(40)] and torch.equal(torch.get_rng_state(), before)


def test_a_grid_in_threads_ends_in_the_same_bytes(one, tmp_path, monkeypatch):
    threads, fit = {}, NCVQ.fit
    def noted(self, *args, **kw):
        threads[self.ssl, self.random_state] = threading.get_ident()
        return fit(self, *args, **kw)
    monkeypatch.setattr(NCVQ, "fit", noted)
    with parallel_config(backend="threading", n_jobs=4): run_grid([noise()], SETTINGS, [0, 1], tmp_path, **JUDGED)  # n_jobs is that of the context
    assert len(threads) == 4 and len(set(threads.values())) > 1
    assert_same(one, tmp_path)


# Slurm

def recipe(language, mark):
    "A block of code of page 12."
    text = "\n".join("".join(c["source"]) for c in json.loads((ROOT / "nbs" / "12_experiments.ipynb").read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "markdown")
    (block,) = [b for b in re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M) if mark in b]
    return block


def replaced(text, old, new):
    assert text.count(old) == 1, (old, text)
    return text.replace(old, new)


def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


COMMAND = """#!{python}
import functools, os, sys, time
from pathlib import Path
from ncvq_nb import NCVQ, cli, run_grid
log, fit = Path({log!r}), NCVQ.fit
def noted(self, *args, run_dir, **kw):
    with log.open("a") as f: f.write(f"{{os.environ['SLURM_ARRAY_TASK_ID']}} {{Path(run_dir).parent.name}}\\n")
    return fit(self, *args, run_dir=run_dir, **kw)
NCVQ.fit = noted
cli.run_grid = functools.partial(run_grid, **{judged})
log.with_name(f"ready{{os.environ['SLURM_ARRAY_TASK_ID']}}").touch()
while len(list(log.parent.glob("ready*"))) < 2: time.sleep(.01)
cli.grid()
"""


@posix
@pytest.mark.slow
def test_an_array_of_equal_jobs_shares_a_grid(tmp_path):
    "The script as it stands on page 12, but for data and sizes, in two processes that begin at the same moment."
    data, log = noise(), tmp_path / "log"
    np.savez(tmp_path / "noise.npz", X_train=data.X_train, y_train=data.y_train, X_test=data.X_test, y_test=data.y_test)
    program(tmp_path / "bin" / "ncvq_grid", COMMAND.format(python=sys.executable, log=str(log), judged=JUDGED))
    script = replaced(recipe("bash", "#SBATCH"), "GunPoint ArrowHead", "noise.npz " + " ".join(OPTIONS))
    (tmp_path / "grid.sh").write_text(replaced(script, "--seeds 0 1 2 3", "--seeds 0 1"))
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "1"}
    jobs = [subprocess.Popen(["bash", "grid.sh"], cwd=tmp_path, env={**env, "SLURM_ARRAY_TASK_ID": str(i)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for i in (1, 2)]
    (out_1, err_1), (out_2, err_2) = [p.communicate() for p in jobs]
    assert jobs[0].returncode == jobs[1].returncode == 0, err_1 + err_2
    done = [line.split() for line in log.read_text().splitlines()]
    assert len(done) == 4 and {job for job, _ in done} == {"1", "2"}, done  # each cell trained once, and some by either job
    assert out_1 == out_2 and "4 runs" in out_1  # both wait for the end


@posix
@pytest.mark.slow
def test_workers_submitted_by_dask_jobqueue(one, tmp_path, not_here, monkeypatch):
    "The script as it stands on page 12, but for data and sizes, and for sbatch and scancel, which start and end processes here."
    dask, jobqueue = pytest.importorskip("dask"), pytest.importorskip("dask_jobqueue")
    program(tmp_path / "bin" / "sbatch", f"""#!/usr/bin/env bash
for script; do :; done
job={tmp_path}/job$$
cp "$script" $job
setsid bash $job >$job.log 2>&1 </dev/null &
echo "Submitted batch job $!"
""")
    program(tmp_path / "bin" / "scancel", """#!/usr/bin/env bash\nkill -- "-$1"\n""")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nv, "run_grid", partial(run_grid, **JUDGED))
    script = recipe("python", "SLURMCluster(")
    script = re.sub(r"^datasets, settings, seeds = .*$", "datasets, settings, seeds = DATA, SETTINGS, range(2)", script, flags=re.M)
    script = replaced(replaced(replaced(script, "export OMP_NUM_THREADS=2", "export OMP_NUM_THREADS=1"), "minimum_jobs=8, maximum_jobs=8", "minimum_jobs=2, maximum_jobs=2"), 'memory="8GB"', 'memory="2GB"')
    names = dict(DATA=[noise()], SETTINGS=SETTINGS)
    with dask.config.set({"jobqueue.slurm.scheduler-options": {"dashboard_address": None}}): exec(script, names)
    jobs = [p.read_text() for p in tmp_path.glob("job*[0-9]")]
    assert len(jobs) >= 2
    for line in ("#SBATCH --cpus-per-task=2", "#SBATCH -t 04:00:00", "#SBATCH --mem=2G", "export OMP_NUM_THREADS=1"): assert line in jobs[0]
    assert "--nthreads 1 " in jobs[0]
    assert_same(one, tmp_path / "runs" / "grid")
