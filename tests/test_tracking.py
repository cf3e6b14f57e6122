"""The history on its way to trackers.

TensorBoard and trackio are the real packages, read back from their files; what goes wrong in them
does not matter to the run.
"""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from conftest import THOROUGH, by_night
from ncvq_nb.estimator.settings import EARLIER
from ncvq_nb import NCVQ, cli
from ncvq_nb.engine.failures import NonFiniteError
from ncvq_nb.engine.tracking import RunLog, check_trackers
from toys import DRIVERS, ENV, OPTIONS, fingerprint, global_state, posix, says, sines, tiny

pytest.importorskip("tensorboard", reason="tensorboard is an extra: pip install 'ncvq_nb[log]'")
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SETTINGS = dict(epochs=(8, 12), batch_size=6)  # 16 and 24 steps
STAGES = "tokenizer", "prior"


def fit(log_with=None, run_dir=None, *, checkpoint_every=None, **changes):
    model = tiny(**{**SETTINGS, **changes})
    where = dict(run_dir=run_dir, log_with=log_with, checkpoint_every=checkpoint_every)
    return model.fit(*sines(length=24), **where)


@pytest.fixture(scope="module")
def plain():
    "The model that nobody logged."
    return fit()


def curves(folder):
    "What TensorBoard reads in a folder: {term: (steps, values)}, nothing thinned out."
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    scalars = {k: found.Scalars(k) for k in found.Tags()["scalars"]}
    return {k: ([e.step for e in v], [e.value for e in v]) for k, v in scalars.items()}


def expected(history):
    "The same curves, as the histories of both stages have them: one axis of steps for both."
    after, out = 0, {}
    for stage in STAGES:
        steps = [after + s for s in history[stage]["step"]]
        terms = {k: v for k, v in history[stage].items() if k != "step"}
        out |= {f"{stage}/{k}": (steps, list(v)) for k, v in terms.items()}
        after = steps[-1]
    return out


def in_float32(curves):
    "As TensorBoard keeps them."
    return {k: (steps, np.float32(values).tolist()) for k, (steps, values) in curves.items()}


def quiet(curves):
    "Without the clock, which differs between runs."
    return {k: v for k, v in curves.items() if not k.endswith("/seconds")}


def has_history(run_dir, history, change=lambda curves: curves):
    got = curves(run_dir / "logs")
    return change(got) == change(in_float32(expected(history)))


@pytest.fixture(autouse=True)
def numbers(monkeypatch):
    """Let all event files have numbers of as many digits.

    TensorBoard reads its files in the order of their names, second by second, and within a second
    100 comes before 99.
    """
    from tensorboard.summary.writer import event_file_writer as writer

    monkeypatch.setattr(writer, "_global_uid", type(writer._global_uid)(10**6))


class Own(GeneralTracker):
    "A tracker as a user would write it, which notes what is done with it."

    name, requires_logging_directory = "own", False

    def __init__(self, fails=lambda what, step: False):
        super().__init__()
        self.said, self.fails = [], fails

    @property
    def tracker(self):
        return self

    def do(self, what, *args, step=None):
        self.said.append((what, *args))
        if self.fails(what, step):
            raise OSError(28, "No space left on device")

    def start(self):
        self.do("start")

    def store_init_configuration(self, values):
        self.do("settings", values)

    def log(self, values, step=None, **kw):
        self.do("log", values, step, step=step)

    def finish(self):
        self.do("finish")

    def logged(self):
        return [s for s in self.said if s[0] == "log"]


# TensorBoard


def test_tensorboard_has_what_the_history_has(tmp_path):
    m = fit("tensorboard", tmp_path, validation_fraction=0.25)
    got = curves(tmp_path / "logs")
    assert got == in_float32(expected(m.history_))
    assert got.keys() >= {"prior/valid_loss", "tokenizer/grad_norm"}
    steps = [*got["tokenizer/loss"][0], *got["prior/loss"][0]]  # one axis for both stages
    assert steps == sorted(set(steps))
    assert len(steps) == sum(len(h["step"]) for h in m.history_.values())


def test_tensorboard_has_the_settings(tmp_path):
    import yaml

    m = fit("tensorboard", tmp_path, ssl=None, augment=lambda x, generator: x)
    (file,) = tmp_path.glob("logs/*/hparams.yml")
    found = yaml.safe_load(file.read_text())
    assert found["epochs"] == "[8, 12]" and found["n_codes"] == 8 and found["ssl"] is None
    assert "lambda" in found["augment"] and found["seed"] == m.seed_ and found["length"] == 24
    if_any = {*EARLIER, "warm_start"}  # noted where there are any
    assert set(found) > set(m.get_params()) - {"verbose", "device", "compile", *if_any}
    shown = {}
    for folder in {f.parent for f in tmp_path.glob("logs/*/events*")}:
        shown |= EventAccumulator(str(folder)).Reload().PluginTagToContent("hparams")
    assert b"n_codes" in shown["_hparams_/session_start_info"]


def test_without_a_run_folder_it_goes_to_runs(tmp_path, monkeypatch):
    "Two runs within a second, and none is lost."
    monkeypatch.chdir(tmp_path)
    models = fit("tensorboard"), fit("tensorboard", random_state=1)
    found = [curves(folder) for folder in (tmp_path / "runs").iterdir()]
    want = [in_float32(expected(m.history_)) for m in models]
    assert found in (want, want[::-1])


def test_stages_fitted_apart_are_one_run(tmp_path):
    (X, y), where = sines(length=24), dict(run_dir=tmp_path)
    m = tiny(**SETTINGS).fit_tokenizer(X, y, log_with="tensorboard", **where)
    assert {k.split("/")[0] for k in curves(tmp_path / "logs")} == {"tokenizer"}
    m.fit_prior(X, y, log_with=["tensorboard"], **where)
    assert has_history(tmp_path, m.history_)
    assert len([*tmp_path.glob("logs/*/hparams.yml")]) == 1


def cut_at(stage, step):
    def cut(at, row):
        if (at, row["step"]) == (stage, step):
            raise KeyboardInterrupt

    return cut


# the third says how often checkpoints are written: always, or never before the end
CUTS = [("tokenizer", 9, 0), ("prior", 1, 1e9), ("prior", 13, 0)]
if THOROUGH:
    places = ("tokenizer", 1), ("tokenizer", 9), ("tokenizer", 16), ("prior", 1), ("prior", 13)
    CUTS = [(*place, pause) for place in places for pause in (None, 1e9)]


@pytest.mark.parametrize("stage, step, pause", CUTS)
def test_a_run_that_was_cut_off_goes_on_in_the_same_curves(tmp_path, plain, stage, step, pause):
    with pytest.raises(KeyboardInterrupt):
        fit(["tensorboard", cut_at(stage, step)], tmp_path, checkpoint_every=pause)
    before = quiet(curves(tmp_path / "logs"))
    m = fit("tensorboard", tmp_path, checkpoint_every=pause)
    after = quiet(curves(tmp_path / "logs"))
    assert has_history(tmp_path, m.history_, quiet) and fingerprint(m) == fingerprint(plain)
    for k, (steps, values) in before.items():
        assert (after[k][0][: len(steps)], after[k][1][: len(steps)]) == (steps, values)
    fit("tensorboard", tmp_path)  # and once more, when there is nothing left to do
    assert quiet(curves(tmp_path / "logs")) == after
    assert len([*tmp_path.glob("logs/*/hparams.yml")]) == 1


def test_a_tracker_that_comes_late_gets_the_whole_history(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(cut_at("prior", 1), tmp_path)
    own, rows = Own(), []
    m = fit(["tensorboard", own, lambda stage, row: rows.append((stage, row))], tmp_path)
    assert has_history(tmp_path, m.history_)
    want = expected(m.history_)
    assert [s[2] for s in own.logged()] == want["tokenizer/loss"][0] + want["prior/loss"][0]
    assert [r["loss"] for s, r in rows if s == "tokenizer"] == m.history_["tokenizer"]["loss"]


def test_what_was_sent_may_be_damaged_or_of_other_settings(tmp_path):
    fit("tensorboard", tmp_path)
    sent = tmp_path / "logs" / "sent.json"
    kept = json.loads(sent.read_text())
    no_name = json.dumps({**kept, "name": "../../x"})
    no_step = json.dumps({**kept, "trackers": {"tensorboard": {"step": "9"}}})
    for text in ("{", "[]", "null", "[" * 10**5, no_name, no_step):
        sent.write_text(text)
        with pytest.warns(UserWarning, match="sent.json is damaged"):
            m = fit("tensorboard", tmp_path)
        assert has_history(tmp_path, m.history_)
    kept = json.loads(sent.read_text())
    sent.write_text(json.dumps({**kept, "settings": {**kept["settings"], "n_codes": 9}}))
    m = fit("tensorboard", tmp_path)
    assert has_history(tmp_path, m.history_)
    assert json.loads(sent.read_text())["name"] != kept["name"]


def test_a_note_of_before_is_understood(tmp_path):
    "`logs/sent.json` as earlier versions wrote it: the run goes on, and nothing is sent twice."
    with RunLog("tensorboard", tmp_path).opened(dict(lr=0.1)) as log:
        log.lines("s")(dict(step=1, loss=2.0))
    note = tmp_path / "logs" / "sent.json"
    name = f"{tmp_path.name}-0123abcd"
    written = dict(name=name, settings=dict(lr=0.1), trackers=dict(tensorboard=dict(step=1)))
    assert json.loads(note.read_text()).keys() == written.keys()
    note.write_text(json.dumps(written, indent=1))
    with RunLog("tensorboard", tmp_path).opened(dict(lr=0.1)) as log:
        for step, loss in ((1, 2.0), (2, 1.0)):
            log.lines("s")(dict(step=step, loss=loss))
    assert curves(tmp_path / "logs")["s/loss"] == ([1, 2], [2.0, 1.0])
    written["trackers"]["tensorboard"]["step"] = 2
    assert json.loads(note.read_text()) == written


def test_two_runs_do_not_log_in_one_folder(tmp_path):
    with RunLog("tensorboard", tmp_path).opened({}):
        files = set(tmp_path.rglob("*"))
        with says("in use by another process", kind=RuntimeError):
            fit("tensorboard", tmp_path)
        assert not set(tmp_path.rglob("events*")) - files
    fit("tensorboard", tmp_path)


# trackio, in processes of its own


def tracked(tmp_path, at, *names):
    env = {k: v for k, v in ENV.items() if not k.startswith(("TRACKIO_", "HF_"))}
    env |= dict(TRACKIO_DIR=str(tmp_path / "trackio"), HF_HOME=str(tmp_path / "hf"))
    env |= dict(HF_HUB_OFFLINE="1")
    command = [sys.executable, DRIVERS / "tracked.py", tmp_path / "run", str(at), *names]
    r = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    if at:
        return r.returncode
    assert r.returncode == 0, r.stderr[-3000:]
    return json.loads(r.stdout[r.stdout.index('{"same') :].splitlines()[0])


def stored(tmp_path):
    "What lies in trackio's database: the names of runs, {(term, step): values}, the settings."
    with sqlite3.connect(tmp_path / "trackio" / "ncvq_nb.db") as db:
        rows = [*db.execute("select run_name, step, metrics from metrics order by id")]
        configs = [json.loads(c) for (c,) in db.execute("select config from configs")]
    points = {}
    for _, step, terms in rows:
        for k, v in json.loads(terms).items():
            points.setdefault((k, step), []).append(v)
    return {name for name, *_ in rows}, points, configs


def points(history):
    terms = expected(history).items()
    return {(k, s): v for k, (steps, values) in terms for s, v in zip(steps, values)}


def test_trackio_has_what_the_history_has(tmp_path):
    pytest.importorskip("trackio")
    done = tracked(tmp_path, 0, "trackio", "tensorboard")
    assert done["same"] and done["kept"] and not done["network"] and not done["imported"]
    names, found, (config,) = stored(tmp_path)
    assert len(names) == 1 and min(names).startswith("run-")
    assert {k: v for k, (v,) in found.items()} == points(done["history"])
    assert config["epochs"] == "[8, 12]" and config["n_codes"] == 8
    assert config["ssl"] == NCVQ().ssl and config["series"] == 12
    assert has_history(tmp_path / "run", done["history"])


@posix
@by_night("runs are killed, and trackers are fed, in tests by day")
def test_a_run_that_was_killed_goes_on_in_the_same_places(tmp_path):
    "None is lost, although trackio sends in the background; some come twice, with the same values."
    pytest.importorskip("trackio")
    for at in (5, 17):
        assert tracked(tmp_path, at, "trackio", "tensorboard") == -signal.SIGKILL
    done = tracked(tmp_path, 0, "trackio", "tensorboard")
    assert has_history(tmp_path / "run", done["history"], quiet)  # each step once
    names, found, (config,) = stored(tmp_path)
    assert len(names) == 1 and config["n_codes"] == 8
    want = points(done["history"])
    assert set(found) == set(want)
    assert all(set(v) == {want[k]} for k, v in found.items() if not k[0].endswith("/seconds"))


# Functions, and trackers of one's own


def test_a_function_is_called_with_every_line():
    rows = []
    m = fit(lambda stage, row: rows.append((stage, row)))
    for stage in STAGES:
        got, h = [r for s, r in rows if s == stage], m.history_[stage]
        assert {k: [r[k] for r in got] for k in h} == dict(h)
    assert [s for s, _ in rows] == sorted((s for s, _ in rows), key=STAGES.index)


def test_what_a_function_does_to_a_line_stays_there(plain):
    own = Own()
    m = fit([lambda stage, row: row.clear(), own])
    losses = m.history_["prior"]["loss"]
    assert [v["prior/loss"] for _, v, _ in own.logged() if "prior/loss" in v] == losses
    assert losses == plain.history_["prior"]["loss"]


def test_a_tracker_of_ones_own_is_started_fed_and_finished():
    own = Own()
    m = fit(own)
    what = [s[0] for s in own.said]
    assert what == ["start", "settings", *["log"] * len(own.logged()), "finish"]
    settings, (_, first, _) = own.said[1][1], own.logged()[0]
    assert settings["seed"] == m.seed_
    assert first["tokenizer/loss"] == m.history_["tokenizer"]["loss"][0]
    assert {type(v) for v in settings.values()} <= {float, int, str, bool, type(None)}
    assert {type(v) for _, values, _ in own.logged() for v in values.values()} == {float}


def test_a_registered_tracker_has_a_name(monkeypatch):
    made = []

    class Registered(Own):
        name = "registered"

        def __init__(self, project, **kw):
            super().__init__()
            made.append((self, project))

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "registered", Registered)
    monkeypatch.setenv("REGISTERED_PROJECT", "mine")
    fit("registered")
    ((own, project),) = made
    assert project == "mine" and own.said[-1] == ("finish",)
    with says("'registered'", "'x'"):
        fit("x")


# What must not matter


def test_a_run_with_and_without_trackers_ends_in_the_same_bytes(tmp_path):
    before, dropout, drawn = global_state(), dict(prior_dropout=0.1), []
    functions = (lambda stage, row: drawn.append(torch.rand(9))), (lambda stage, row: 1 / 0)
    with pytest.warns(UserWarning, match="training goes on"):
        a = fit(["tensorboard", *functions], tmp_path / "a", **dropout)
    after = global_state()
    torch.set_rng_state(torch.from_numpy(np.frombuffer(before[-1], np.uint8).copy()))
    assert global_state() == before
    # a tracker draws what its caller would have drawn, and nobody else draws anything
    assert drawn and all(torch.equal(torch.rand(9), d) for d in drawn)
    assert global_state() == after
    b, c = fit(run_dir=tmp_path / "b", **dropout), fit(**dropout)
    for m, name in ((a, "a"), (b, "b"), (c, "c")):
        m.save(tmp_path / name / "model")
    for stage in STAGES:
        files = [tmp_path / name / "model" / f"{stage}.safetensors" for name in "abc"]
        assert len({file.read_bytes() for file in files}) == 1
    assert np.array_equal(a.sample(4, random_state=0), c.sample(4, random_state=0))


@pytest.mark.parametrize(
    "fails, tries",
    [
        (lambda what, step: what == "log", 3),
        (lambda what, step: what == "log" and step > 7, 10),
        (lambda what, step: what == "log" and step % 3, None),
        (lambda what, step: what == "finish", None),
    ],
    ids=["always", "from some step on", "now and then", "at the end"],
)
def test_a_tracker_that_fails_does_not_stop_the_run(plain, fails, tries):
    own, other = Own(fails), Own()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        m = fit([own, other])
    (one,) = [str(w.message) for w in said if "own" in str(w.message)]
    assert "No space left" in one and "training goes on" in one
    lines = sum(len(h["step"]) for h in m.history_.values())
    assert len(own.logged()) == (tries or lines) and len(other.logged()) == lines
    assert fingerprint(m) == fingerprint(plain)
    assert own.said[-1] == other.said[-1] == ("finish",)


@posix
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_under_tensorboard(tmp_path, monkeypatch):
    "The system itself refuses to let its file grow further, in the middle of the prior."
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(stage, row):
        if (stage, row["step"]) == ("prior", 3):
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))

    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            m = fit(["tensorboard", full])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (one,) = [str(w.message) for w in said if "tensorboard" in str(w.message)]
    assert len(m.history_["prior"]["step"]) == 24 and "training goes on" in one
    (folder,) = (tmp_path / "runs").iterdir()
    assert curves(folder)["prior/loss"][0][:2] == [17, 18]  # what was written before can be read


def test_what_fails_when_a_tracker_is_opened_is_an_error_before_any_step(tmp_path):
    for what in ("start", "settings"):
        own, bad = Own(), Own(lambda now, step: now == what)
        with pytest.raises(OSError, match="No space left"):
            fit([own, bad], tmp_path)
        assert own.said[-1] == ("finish",) and not own.logged()
        assert not [*tmp_path.glob("*/checkpoint-*")]
        assert (bad.said[-1] == ("finish",)) == (what == "settings")  # what was opened is closed


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, NonFiniteError])
@pytest.mark.filterwarnings("ignore")
def test_trackers_are_closed_however_the_run_ends(end, tmp_path):
    own, lr = Own(), dict(lr=(1e-3, 1e38)) if end is NonFiniteError else {}

    def last(stage, row):
        if stage == "prior" and end is not NonFiniteError:
            raise end

    with pytest.raises(end):
        fit([own, "tensorboard", last], tmp_path, **lr)
    assert own.said[-1] == ("finish",) and own.said.count(("finish",)) == 1
    assert "prior/loss" in own.logged()[-1][1] or end is NonFiniteError
    assert len(curves(tmp_path / "logs")["tokenizer/loss"][0]) == 16


def test_what_is_not_finite_is_left_out(tmp_path):
    own = Own()
    with RunLog([own, "tensorboard"], tmp_path).opened({}) as log:
        for i, v in enumerate([1.0, float("nan"), float("inf"), -float("inf"), 2.0]):
            log.lines("s")(dict(step=i + 1, loss=v, lr=0.1))
    first, *gaps, last = [values for _, values, _ in own.logged()]
    assert (first, last) == ({"s/loss": 1, "s/lr": 0.1}, {"s/loss": 2, "s/lr": 0.1})
    assert gaps == 3 * [{"s/lr": 0.1}]
    assert curves(tmp_path / "logs")["s/loss"] == ([1, 5], [1, 2])


# What is asked for

NO_TRACKERS = ["tensorbord", "", "all", ["tensorboard", "x"], 3, True, [None], {"tensorboard": 1}]


@pytest.mark.parametrize("log_with", [*NO_TRACKERS, Own, b"wandb"], ids=str)
def test_what_is_no_tracker_is_refused_before_anything_happens(tmp_path, plain, log_with):
    X, y = sines(length=24)
    before = fingerprint(plain)
    for f in (plain.fit, plain.fit_tokenizer, plain.fit_prior):
        with says("log_with", "found", "'mlflow'", "'tensorboard'", "'trackio'", "'wandb'"):
            f(X, y, run_dir=tmp_path / "run", log_with=log_with)
    assert fingerprint(plain) == before and not (tmp_path / "run").exists()


def test_nothing_twice():
    twice = ["tensorboard", print, "tensorboard", print]
    assert check_trackers(twice) == ["tensorboard", print]
    assert check_trackers(None) == check_trackers(()) == []


@pytest.mark.parametrize(
    "missing, name, parts",
    [
        ("accelerate.tracking", "tensorboard", ["accelerate", "ncvq_nb[log]"]),
        ("tensorboard", "tensorboard", ["pip install tensorboard"]),
        ("trackio", "trackio", ["pip install trackio"]),
        ("wandb", "wandb", ["pip install wandb"]),
        ("mlflow", "mlflow", ["pip install mlflow"]),
    ],
)
def test_what_is_not_installed_is_said(tmp_path, monkeypatch, missing, name, parts):
    monkeypatch.setitem(sys.modules, missing, None)
    with says("log_with", repr(name), *parts, kind=ImportError):
        fit(name, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_function_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate.tracking", None)
    rows = []
    fit(lambda stage, row: rows.append(row))
    assert rows


def test_an_accelerate_that_is_too_old_is_said(monkeypatch):
    import accelerate

    monkeypatch.setattr(accelerate, "__version__", "1.13.2")  # whose trackio gets no steps
    with says("accelerate 1.14", "1.13.2", "ncvq_nb[log]", kind=ImportError):
        check_trackers("trackio")


def test_it_is_no_parameter_of_the_model():
    rows = []
    m = fit(lambda stage, row: rows.append(stage))
    assert "log_with" not in m.get_params() and not [k for k in vars(m) if "log" in k]
    assert clone(m).get_params() == m.get_params()
    rows.clear()
    pipeline = make_pipeline(FunctionTransformer(), tiny())
    pipeline.fit(*sines(length=24), ncvq__log_with=lambda stage, row: rows.append(stage))
    assert set(rows) == set(STAGES)


def test_every_run_folder_has_the_history_as_csv(tmp_path):
    m = fit(run_dir=tmp_path, checkpoint_every=1e9)  # none is due before the end
    for stage in STAGES:
        with open(tmp_path / stage / "history.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        assert {k: [float(r[k]) for r in rows] for k in rows[0]} == dict(m.history_[stage])
    m.history_["prior"].save(tmp_path / "prior.csv")
    saved, kept = tmp_path / "prior.csv", tmp_path / "prior" / "history.csv"
    assert saved.read_bytes() == kept.read_bytes()


# The command


def test_the_command_takes_names(tmp_path, capsys):
    X, y = sines(length=24)
    np.savez(tmp_path / "toy.npz", X=X, y=y)
    args = [str(tmp_path / "toy.npz"), "--quiet", *OPTIONS]
    for i, option in enumerate(("--log_with", "--log-with")):
        cli.train([*args, "--out", str(tmp_path / str(i)), option, "tensorboard"])
        assert has_history(tmp_path / str(i), NCVQ.load(tmp_path / str(i) / "model").history_)
    capsys.readouterr()
    with pytest.raises(SystemExit) as e:
        cli.train([*args, "--out", str(tmp_path / "x"), "--log_with", "tensorboard", "x"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert e.value.code == 2 and "'x'" in line and "'trackio'" in line
    assert not (tmp_path / "x").exists()
