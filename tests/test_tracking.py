"""The history on its way to trackers: TensorBoard and trackio are the real packages, read back from their files; what goes wrong in them is no matter to the run."""
import json, os, signal, sqlite3, subprocess, sys, warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ncvq_nb import NCVQ, cli, tracking
from ncvq_nb.tracking import RunLog, check_trackers
from ncvq_nb.training import NonFiniteError, train
from test_estimator import fingerprint, global_state, says, series

tensorboard = pytest.importorskip("tensorboard", reason="tensorboard is an extra: pip install 'ncvq_nb[log]'")
from accelerate.tracking import GeneralTracker, LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

DRIVER = Path(__file__).parent / "drivers" / "tracked.py"
TINY = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=(8, 12), batch_size=6, random_state=0)
STAGES = "tokenizer", "prior"


def fit(log_with=None, run_dir=None, **kw): return NCVQ(**{**TINY, **kw}).fit(*series(l=24), run_dir=run_dir, log_with=log_with)


def curves(folder):
    "What TensorBoard reads in a folder: {term: (steps, values)}, nothing thinned out."
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {k: ([e.step for e in found.Scalars(k)], [e.value for e in found.Scalars(k)]) for k in found.Tags()["scalars"]}


def expected(history):
    "The same curves, as the histories of both stages have them; TensorBoard keeps float32."
    after, out = 0, {}
    for stage in STAGES:
        h = history[stage]
        out |= {f"{stage}/{k}": ([after + s for s in h["step"]], np.float32(v).tolist()) for k, v in h.items() if k != "step"}
        after = h["step"][-1]
    return out


def quiet(curves): return {k: v for k, v in curves.items() if not k.endswith("/seconds")}  # the clock differs between runs


@pytest.fixture(autouse=True)
def numbers(monkeypatch):
    "TensorBoard reads its files in the order of their names, second by second, and within a second 100 comes before 99: here all numbers have as many digits."
    from tensorboard.summary.writer import event_file_writer as writer
    monkeypatch.setattr(writer, "_global_uid", type(writer._global_uid)(10**6))


class Own(GeneralTracker):
    "A tracker as a user would write it, which notes what is done with it."
    name, requires_logging_directory = "own", False
    def __init__(self, fails=lambda what, step: False):
        super().__init__()
        self.said, self.fails = [], fails
    @property
    def tracker(self): return self
    def do(self, what, *args, step=None):
        self.said.append((what, *args))
        if self.fails(what, step): raise OSError(28, "No space left on device")
    def start(self): self.do("start")
    def store_init_configuration(self, values): self.do("settings", values)
    def log(self, values, step=None, **kw): self.do("log", values, step, step=step)
    def finish(self): self.do("finish")
    def logged(self): return [s for s in self.said if s[0] == "log"]


# TensorBoard

def test_tensorboard_has_what_the_history_has(tmp_path):
    m = fit("tensorboard", tmp_path, validation_fraction=0.25)
    got = curves(tmp_path / "logs")
    assert got == expected(m.history_) and "prior/valid_loss" in got and "tokenizer/grad_norm" in got
    steps = [*got["tokenizer/loss"][0], *got["prior/loss"][0]]
    assert steps == sorted(set(steps)) and len(steps) == sum(len(h["step"]) for h in m.history_.values())  # one axis for both stages


def test_tensorboard_has_the_settings(tmp_path):
    import yaml
    m = fit("tensorboard", tmp_path, ssl=None, augment=lambda x, generator: x)
    (file,) = tmp_path.glob("logs/*/hparams.yml")
    found = yaml.safe_load(file.read_text())
    assert found["epochs"] == "[8, 12]" and found["n_codes"] == 8 and found["ssl"] is None and "lambda" in found["augment"] and found["seed"] == m.seed_ and found["length"] == 24
    assert set(found) > set(m.get_params()) - {"verbose", "device", "compile"}
    shown = {}
    for folder in {f.parent for f in tmp_path.glob("logs/*/events*")}:
        events = EventAccumulator(str(folder))
        events.Reload()
        shown |= events.PluginTagToContent("hparams")
    assert b"n_codes" in shown["_hparams_/session_start_info"]


def test_without_a_run_folder_it_goes_to_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = fit("tensorboard"), fit("tensorboard", random_state=1)
    found = [curves(d) for d in sorted((tmp_path / "runs").iterdir(), key=lambda d: d.stat().st_mtime_ns)]
    assert sorted(map(str, found)) == sorted(map(str, map(expected, (a.history_, b.history_))))  # two runs within a second, and none is lost


def test_stages_fitted_apart_are_one_run(tmp_path):
    X, y = series(l=24)
    m = NCVQ(**TINY).fit_tokenizer(X, y, run_dir=tmp_path, log_with="tensorboard")
    assert {k.split("/")[0] for k in curves(tmp_path / "logs")} == {"tokenizer"}
    m.fit_prior(X, y, run_dir=tmp_path, log_with=["tensorboard"])
    assert curves(tmp_path / "logs") == expected(m.history_) and len([*tmp_path.glob("logs/*/hparams.yml")]) == 1


@pytest.mark.parametrize("stage, step", [("tokenizer", 1), ("tokenizer", 9), ("tokenizer", 16), ("prior", 1), ("prior", 13)])
@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_run_that_was_cut_off_goes_on_in_the_same_curves(tmp_path, stage, step, checkpoints, monkeypatch):
    if not checkpoints:  # none was due yet
        import ncvq_nb.generator as generator
        monkeypatch.setattr(generator, "train", lambda *args, **kw: train(*args, checkpoint_every=1e9, **kw))
    def cut(at, row):
        if (at, row["step"]) == (stage, step): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(["tensorboard", cut], tmp_path)
    before = quiet(curves(tmp_path / "logs"))
    m = fit("tensorboard", tmp_path)
    after = quiet(curves(tmp_path / "logs"))
    assert after == quiet(expected(m.history_)) and fingerprint(m) == fingerprint(fit())
    for k, (steps, values) in before.items(): assert (after[k][0][:len(steps)], after[k][1][:len(steps)]) == (steps, values)
    fit("tensorboard", tmp_path)  # and once more, when there is nothing left to do
    assert quiet(curves(tmp_path / "logs")) == after and len([*tmp_path.glob("logs/*/hparams.yml")]) == 1


def test_a_tracker_that_comes_late_gets_the_whole_history(tmp_path):
    def cut(stage, row):
        if stage == "prior": raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(cut, tmp_path)
    own, rows = Own(), []
    m = fit(["tensorboard", own, lambda stage, row: rows.append((stage, row))], tmp_path)
    assert curves(tmp_path / "logs") == expected(m.history_)
    assert [s[2] for s in own.logged()] == [*m.history_["tokenizer"]["step"], *(m.history_["tokenizer"]["step"][-1] + s for s in m.history_["prior"]["step"])]
    assert [r["loss"] for s, r in rows if s == "tokenizer"] == m.history_["tokenizer"]["loss"]


def test_what_was_sent_may_be_damaged_or_of_other_settings(tmp_path):
    fit("tensorboard", tmp_path)
    sent = tmp_path / "logs" / "sent.json"
    for text in ("{", "[]", "null", "[" * 10**5, json.dumps({**json.loads(sent.read_text()), "name": "../../x"}), json.dumps({**json.loads(sent.read_text()), "trackers": {"tensorboard": {"step": "9"}}})):
        sent.write_text(text)
        with pytest.warns(UserWarning, match="sent.json is damaged"): m = fit("tensorboard", tmp_path)
        assert curves(tmp_path / "logs") == expected(m.history_)
    kept = json.loads(sent.read_text())
    sent.write_text(json.dumps({**kept, "settings": {**kept["settings"], "n_codes": 9}}))
    m = fit("tensorboard", tmp_path)
    assert curves(tmp_path / "logs") == expected(m.history_) and json.loads(sent.read_text())["name"] != kept["name"]


def test_two_runs_do_not_log_in_one_folder(tmp_path):
    with RunLog("tensorboard", tmp_path).opened({}):
        files = sorted(tmp_path.rglob("*"))
        with says("in use by another process", kind=RuntimeError): fit("tensorboard", tmp_path)
        assert not set(tmp_path.rglob("events*")) - set(files)
    fit("tensorboard", tmp_path)


# trackio, in processes of its own

def tracked(tmp_path, at, *names, run="run"):
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    for k in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_PROJECT", "HF_TOKEN"): env.pop(k, None)
    r = subprocess.run([sys.executable, DRIVER, tmp_path / run, str(at), *names], env=env, cwd=tmp_path, capture_output=True, text=True)
    if at: return r.returncode
    assert r.returncode == 0, r.stderr[-3000:]
    return json.loads(r.stdout[r.stdout.index('{"digest'):].splitlines()[0])


def stored(tmp_path):
    "What lies in trackio's database: the names of runs, {(term, step): values}, the settings."
    with sqlite3.connect(tmp_path / "trackio" / "ncvq_nb.db") as db:
        rows = [(name, step, json.loads(m)) for name, step, m in db.execute("select run_name, step, metrics from metrics order by id")]
        configs = [json.loads(c) for c, in db.execute("select config from configs")]
    points = {}
    for _, step, terms in rows:
        for k, v in terms.items(): points.setdefault((k, step), []).append(v)
    return {name for name, *_ in rows}, points, configs


def points(history): return {(k, s): v for k, (steps, values) in expected64(history).items() for s, v in zip(steps, values)}


def expected64(history):
    first = history["tokenizer"]["step"][-1]
    return {f"{stage}/{k}": ([s + (first if stage == "prior" else 0) for s in history[stage]["step"]], v) for stage in STAGES for k, v in history[stage].items() if k != "step"}


def test_trackio_has_what_the_history_has(tmp_path):
    pytest.importorskip("trackio")
    done, plain = tracked(tmp_path, 0, "trackio", "tensorboard"), tracked(tmp_path, 0, run="plain")
    assert done["digest"] == plain["digest"] and done["kept"] and not done["network"]
    names, found, (config,) = stored(tmp_path)
    assert len(names) == 1 and min(names).startswith("run-")
    assert {k: v for k, (v,) in found.items()} == points(done["history"])
    assert config["epochs"] == "[8, 12]" and config["n_codes"] == 8 and config["ssl"] == "barlow" and config["series"] == 12
    assert curves(tmp_path / "run" / "logs") == expected(done["history"])


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_run_that_was_killed_goes_on_in_the_same_places(tmp_path):
    pytest.importorskip("trackio")
    for at in (5, 17): assert tracked(tmp_path, at, "trackio", "tensorboard") == -signal.SIGKILL
    done = tracked(tmp_path, 0, "trackio", "tensorboard")
    assert quiet(curves(tmp_path / "run" / "logs")) == quiet(expected(done["history"]))  # each step once
    names, found, (config,) = stored(tmp_path)
    assert len(names) == 1 and config["n_codes"] == 8
    want = points(done["history"])
    assert set(found) == set(want)  # none was lost, although trackio sends in the background; some came twice, with the same values
    assert all(set(v) == {want[k]} for k, v in found.items() if not k[0].endswith("/seconds"))


# functions, and trackers of one's own

def test_a_function_is_called_with_every_line():
    rows = []
    m = fit(lambda stage, row: rows.append((stage, row)))
    for stage in STAGES:
        got, h = [r for s, r in rows if s == stage], m.history_[stage]
        assert {k: [r[k] for r in got] for k in h} == dict(h)
    assert [s for s, _ in rows] == sorted((s for s, _ in rows), key=STAGES.index)


def test_what_a_function_does_to_a_line_stays_there():
    own = Own()
    m = fit([lambda stage, row: row.clear(), own])
    assert [v["prior/loss"] for _, v, _ in own.logged() if "prior/loss" in v] == m.history_["prior"]["loss"] and m.history_["prior"]["loss"] == fit().history_["prior"]["loss"]


def test_a_tracker_of_ones_own_is_started_fed_and_finished():
    own = Own()
    m = fit(own)
    assert [s[0] for s in own.said[:2]] == ["start", "settings"] and own.said[-1] == ("finish",) and {s[0] for s in own.said[2:-1]} == {"log"}
    assert own.said[1][1]["seed"] == m.seed_ and own.logged()[0][1]["tokenizer/loss"] == m.history_["tokenizer"]["loss"][0]
    assert all(type(v) in (float, int, str, bool, type(None)) for _, values in own.said[1:2] for v in values.values()) and all(type(v) is float for _, values, _ in own.logged() for v in values.values())


def test_a_registered_tracker_has_a_name(monkeypatch):
    made = []
    class Registered(Own):
        name = "registered"
        def __init__(self, project, **kw): super().__init__(), made.append((self, project))
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "registered", Registered)
    monkeypatch.setenv("REGISTERED_PROJECT", "mine")
    fit("registered")
    ((own, project),) = made
    assert project == "mine" and own.said[-1] == ("finish",)
    with says("'registered'", "'x'"): fit("x")


# what must not matter

def test_a_run_with_and_without_ends_in_the_same_bytes(tmp_path):
    before = global_state()
    with warnings.catch_warnings(record=True): a = fit(["tensorboard", lambda stage, row: torch.rand(9), lambda stage, row: 1 / 0], tmp_path / "a", prior_dropout=0.1)
    assert global_state() == before
    b, c = fit(run_dir=tmp_path / "b", prior_dropout=0.1), fit(prior_dropout=0.1)
    for m, name in ((a, "a"), (b, "b"), (c, "c")): m.save(tmp_path / name / "model")
    for stage in STAGES: assert len({(tmp_path / name / "model" / f"{stage}.safetensors").read_bytes() for name in "abc"}) == 1
    assert np.array_equal(a.sample(4, random_state=0), c.sample(4, random_state=0))


@pytest.mark.parametrize("fails, tries", [(lambda what, step: what == "log", 3), (lambda what, step: what == "log" and step > 7, 10), (lambda what, step: what == "log" and step % 3, None), (lambda what, step: what == "finish", None)],
                         ids=["always", "from some step on", "now and then", "at the end"])
def test_a_tracker_that_fails_does_not_stop_the_run(fails, tries):
    own, other = Own(fails), Own()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        m = fit([own, other])
    (one,) = [str(w.message) for w in said if "own" in str(w.message)]
    assert "No space left" in one and "training goes on" in one
    lines = sum(len(h["step"]) for h in m.history_.values())
    assert len(own.logged()) == (tries or lines) and len(other.logged()) == lines and fingerprint(m) == fingerprint(fit())
    assert own.said[-1] == other.said[-1] == ("finish",)


@pytest.mark.skipif(os.name != "posix", reason="needs limits of POSIX")
def test_a_full_disk_under_tensorboard(tmp_path):
    "The system itself refuses to let its file grow further, in the middle of the prior."
    code = f"""if 1:
        import json, resource, signal, warnings
        import numpy as np
        from ncvq_nb import NCVQ
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        def full(stage, row):
            if (stage, row["step"]) == ("prior", 3): resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        X, y = np.random.default_rng(0).normal(size=(12, 24)).astype(np.float32), np.arange(12) % 2
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            m = NCVQ(**{TINY}).fit(X, y, log_with=["tensorboard", full])
        print(json.dumps([len(m.history_["prior"]["step"]), [str(w.message) for w in said if "tensorboard" in str(w.message)]]))"""
    r = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-3000:]
    lines, (said,) = json.loads(r.stdout.splitlines()[-1])
    assert lines == 24 and "training goes on" in said
    (folder,) = (tmp_path / "runs").iterdir()
    assert curves(folder)["prior/loss"][0][:2] == [17, 18]  # what was written before can be read


def test_what_fails_when_a_tracker_is_opened_is_an_error_before_any_step(tmp_path):
    for what in ("start", "settings"):
        own, bad = Own(), Own(lambda now, step: now == what)
        with pytest.raises(OSError, match="No space left"): fit([own, bad], tmp_path)
        assert own.said[-1] == ("finish",) and not own.logged() and not [*tmp_path.glob("*/checkpoint-*")]
        assert (bad.said[-1] == ("finish",)) == (what == "settings")  # what was opened is closed


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, NonFiniteError])
def test_trackers_are_closed_however_the_run_ends(end, tmp_path):
    own = Own()
    def last(stage, row):
        if stage == "prior" and end is not NonFiniteError: raise end
    with pytest.raises(end):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit([own, "tensorboard", last], tmp_path, **(dict(lr=(1e-3, 1e38)) if end is NonFiniteError else {}))
    assert own.said[-1] == ("finish",) and own.logged()[-1][1].keys() >= {"prior/loss"} or end is NonFiniteError
    assert own.said.count(("finish",)) == 1 and len(curves(tmp_path / "logs")["tokenizer/loss"][0]) == 16


def test_what_is_not_finite_is_left_out(tmp_path):
    own = Own()
    with RunLog([own, "tensorboard"], tmp_path).opened({}) as log:
        for i, v in enumerate([1.0, float("nan"), float("inf"), -float("inf"), 2.0]): log.lines("s")(dict(step=i + 1, loss=v, lr=0.1))
    assert [s[1] for s in own.logged()] == [{"s/loss": 1.0, "s/lr": 0.1}, *3 * [{"s/lr": 0.1}], {"s/loss": 2.0, "s/lr": 0.1}]
    assert curves(tmp_path / "logs")["s/loss"] == ([1, 5], [1, 2])


def test_of_several_processes_the_first_logs(tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")} | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    r = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", DRIVER, tmp_path / "run", "0", "tensorboard"], env=env, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-3000:]
    one, two = (json.loads(line) for line in r.stdout.splitlines() if line.startswith('{"digest'))
    assert len([*tmp_path.glob("run/logs/events*")]) == 1
    assert curves(tmp_path / "run" / "logs") in (expected(one["history"]), expected(two["history"]))  # the clocks differ


# what is asked for

@pytest.mark.parametrize("log_with", ["tensorbord", "", "all", ["tensorboard", "x"], 3, True, [None], {"tensorboard": 1}, Own, b"wandb"], ids=str)
def test_what_cannot_be_logged_with_is_said_before_anything_happens(tmp_path, log_with):
    m = fit()
    before = fingerprint(m)
    X, y = series(l=24)
    for f in (m.fit, m.fit_tokenizer, m.fit_prior):
        with says("log_with", "found", "'mlflow'", "'tensorboard'", "'trackio'", "'wandb'"): f(X, y, run_dir=tmp_path / "run", log_with=log_with)
    assert fingerprint(m) == before and not (tmp_path / "run").exists()


def test_nothing_twice(): assert check_trackers(["tensorboard", print, "tensorboard", print]) == ["tensorboard", print] and check_trackers(None) == check_trackers(()) == []


@pytest.mark.parametrize("missing, name, parts", [("accelerate.tracking", "tensorboard", ["accelerate", "ncvq_nb[log]"]), ("tensorboard", "tensorboard", ["pip install tensorboard"]), ("trackio", "trackio", ["pip install trackio"]),
                                                  ("wandb", "wandb", ["pip install wandb"]), ("mlflow", "mlflow", ["pip install mlflow"])])
def test_what_is_not_installed_is_said(tmp_path, monkeypatch, missing, name, parts):
    monkeypatch.setitem(sys.modules, missing, None)
    with says("log_with", repr(name), *parts, kind=ImportError): fit(name, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setitem(sys.modules, "accelerate.tracking", None)
    fit(lambda stage, row: None)  # which needs nothing


def test_an_accelerate_that_is_too_old_is_said(monkeypatch):
    import accelerate
    monkeypatch.setattr(accelerate, "__version__", "1.13.2")  # whose trackio gets no steps
    with says("accelerate 1.14", "1.13.2", "ncvq_nb[log]", kind=ImportError): check_trackers("trackio")


def test_importing_the_package_does_not_import_trackers():
    r = subprocess.run([sys.executable, "-c", "import sys, ncvq_nb; print({'accelerate', 'tensorboard', 'trackio', 'wandb', 'mlflow'} & set(sys.modules))"], capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout.strip() == "set()", r.stdout + r.stderr


def test_it_is_no_parameter_of_the_model():
    m = fit(lambda stage, row: None)
    assert "log_with" not in m.get_params() and not [k for k in vars(m) if "log" in k] and clone(m).get_params() == m.get_params()
    rows = []
    make_pipeline(FunctionTransformer(), NCVQ(**TINY)).fit(*series(l=24), ncvq__log_with=lambda stage, row: rows.append(stage))
    assert set(rows) == set(STAGES)


# history and callback

def test_history_is_a_csv_in_every_run_folder(tmp_path, monkeypatch):
    import csv, ncvq_nb.generator as generator
    monkeypatch.setattr(generator, "train", lambda *args, **kw: train(*args, checkpoint_every=1e9, **kw))  # none is due before the end
    m = fit(run_dir=tmp_path)
    for stage in STAGES:
        with open(tmp_path / stage / "history.csv", newline="") as f: rows = list(csv.DictReader(f))
        assert {k: [float(r[k]) for r in rows] for k in rows[0]} == dict(m.history_[stage])
    m.history_["prior"].save(tmp_path / "prior.csv")
    assert (tmp_path / "prior.csv").read_bytes() == (tmp_path / "prior" / "history.csv").read_bytes()


def test_a_callback_of_train_may_stop_it():
    from ncvq_nb.training import History
    class Line(torch.nn.Linear):
        def forward(self, x, generator=None): return dict(loss=super().forward(x).square().mean())
    rows = []
    def stop(row):
        rows.append(row)
        if row["step"] == 3: raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError): train(Line(2, 1), (torch.randn(8, 2),), steps=9, callback=stop)
    history = train(Line(2, 1), (torch.randn(8, 2),), steps=9, callback=rows.append)
    assert len(rows) == 12 and all(set(r) == set(History(history)) for r in rows)


# the command

def test_the_command_takes_names(tmp_path, capsys):
    X, y = series(l=24)
    np.savez(tmp_path / "toy.npz", X=X, y=y)
    args = [str(tmp_path / "toy.npz"), "--quiet", *"--dim 8 --n_res_blocks 1 --n_codes 8 --projector_dim 16 --prior_dim 16 --prior_depth 1 --epochs 2 --random_state 0".split()]
    for i, option in enumerate(("--log_with", "--log-with")):
        cli.train([*args, "--out", str(tmp_path / str(i)), option, "tensorboard"])
        assert curves(tmp_path / str(i) / "logs") == expected(NCVQ.load(tmp_path / str(i) / "model").history_)
    capsys.readouterr()
    with pytest.raises(SystemExit) as e: cli.train([*args, "--out", str(tmp_path / "x"), "--log_with", "tensorboard", "x"])
    err = capsys.readouterr().err
    assert e.value.code == 2 and len(err.strip().splitlines()) == 1 and "'x'" in err and "'trackio'" in err and not (tmp_path / "x").exists()
