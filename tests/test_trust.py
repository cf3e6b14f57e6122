"""What training promises: guards against values that are no numbers, warnings of collapse, equal seeds and equal results, evaluation that changes nothing, flat memory."""
import ctypes, hashlib, json, os, pickle, random, subprocess, sys, warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file

import ncvq_nb as nv
from ncvq_nb import NCVQ, training
from ncvq_nb.data import Dataset
from ncvq_nb.training import NonFiniteError, Stepper, train

HERE = Path(__file__).parent
DRIVERS, GOLDEN, ENV = HERE / "drivers", HERE / "golden" / "curves.json", {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
TINY = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=10, batch_size=6, random_state=0)


def noise(n=12, l=24): return np.random.default_rng(0).normal(size=(n, l)).astype(np.float32), np.arange(n) % 2


def weights(m): return {f"{part}.{k}": v for part in ("tokenizer_", "prior_") if hasattr(m, part) for k, v in getattr(m, part).state_dict().items()}
def fingerprint(m): return hashlib.sha256(b"".join(k.encode() + v.numpy().tobytes() for k, v in weights(m).items())).hexdigest()


# numbers that are none

def spoil(which, value=float("nan")):
    "An augmentation that makes the view of one series, recognised by its first value, useless."
    return lambda x, generator: torch.where(x[..., :1] == which, value, x)


@pytest.mark.parametrize("ssl", ["barlow", "vicreg", "vibcreg"])
@pytest.mark.parametrize("q", [0.0, 0.25])
def test_a_series_that_makes_the_loss_nan_is_named(tmp_path, ssl, q):
    X, y = noise()
    bad = int(nv.data.holdout(y, q, random_state=0)[0][4]) if q else 4  # a row of X that is trained on
    z = nv.data.Standardiser().fit(X).transform(X)[bad, 0, 0]
    with pytest.raises(NonFiniteError) as e: NCVQ(ssl, spoil(z), **{**TINY, "validation_fraction": q}).fit(X, y, run_dir=tmp_path / "run")
    assert e.value.series == [bad] and f"series {bad} alone gives no number" in str(e.value) and "augmented" in str(e.value) and "tokenizer" in str(e.value)
    kept = load_file(e.value.path)
    assert e.value.path == tmp_path / "run" / "tokenizer" / "failure.safetensors" and str(e.value.path) in str(e.value)
    assert all(v.isfinite().all() for k, v in kept.items() if k.startswith("objective.")), "the state before the step is no longer there"
    assert kept["rows"][~kept["loss_of_each"].isfinite()].tolist() == [bad]
    with safe_open(e.value.path, "pt") as f: meta = json.loads(f.metadata()["ncvq_nb"])
    assert meta["step"] == e.value.step and "augmented" in meta["wrong"]
    assert torch.equal(kept["batch.0"][kept["rows"].tolist().index(bad), 0, 0], torch.tensor(z))


def test_training_that_runs_away_is_stopped():
    X, y = noise()
    with pytest.raises(NonFiniteError, match="(?s)step.*before the optimiser moved.*Lower lr") as e: NCVQ(**{**TINY, "lr": 1e12, "epochs": 100}).fit(X, y)
    assert e.value.path is None and e.value.series


def test_the_error_goes_from_process_to_process():
    e = NonFiniteError("lost", step=3, series=[1, 2], terms={"loss": float("inf")}, path=Path("x"))
    again = pickle.loads(pickle.dumps(e))
    assert str(again) == "lost" and (again.step, again.series, again.terms, again.path) == (3, [1, 2], {"loss": float("inf")}, Path("x"))


class Slope(torch.nn.Module):
    "A finite loss whose gradient is none: the square root at 0."
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x, generator=None):
        if self.training: self.seen += 1
        return dict(loss=(self.w[0] * x).square().sum().sqrt() + self.w.sum())


def test_a_gradient_that_is_no_number_is_refused_and_running_averages_go_back(tmp_path):
    o = Slope()
    with pytest.raises(NonFiniteError, match="the gradient of w became no number"): train(o, (torch.zeros(4),), steps=3, batch_size=2)
    assert torch.equal(o.w, torch.ones(3)) and o.seen == 0
    x = torch.ones(4)
    train(o, (x,), steps=3, batch_size=2)
    assert o.seen == 3


class Counter(torch.nn.Module):
    "Counts its steps, and at the last of them loses its number."
    def __init__(self, last):
        super().__init__()
        self.w, self.last = torch.nn.Parameter(torch.ones(3)), last
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x, generator=None):
        if self.training: self.seen += 1
        return dict(loss=self.w.square().sum() + torch.where(self.seen > self.last, torch.inf, 0.0) * self.w[0])


@pytest.mark.parametrize("defer", [False, True])
def test_the_state_before_a_refused_step_is_kept_also_where_it_is_noticed_later(tmp_path, monkeypatch, defer):
    "Deferred is what happens on a GPU."
    monkeypatch.setattr(training, "Stepper", partial(Stepper, defer=defer))
    with pytest.raises(NonFiniteError, match="loss became inf at step 17") as e: train(Counter(17), (torch.zeros(8),), steps=40, batch_size=2, log_every=10, folder=tmp_path)
    kept = load_file(e.value.path)
    assert e.value.step == 17 and kept["objective.seen"] == 17


def test_the_optimiser_stands_still_on_its_own_until_somebody_asks():
    "What happens on a GPU, where no step waits for the host; the fused optimiser of the CPU heeds the same flag."
    o = Slope()
    opt = torch.optim.AdamW(o.parameters(), lr=0.1, fused=True)
    stepper, gen = Stepper(o, opt, defer=True), torch.Generator()
    good, bad = [torch.ones(2)], [torch.zeros(2)]
    stepper.step(0, good, gen)
    assert stepper.refused() is None
    moved, steps = o.w.clone(), opt.state[o.w]["step"].clone()
    assert not torch.equal(moved, torch.ones(3))
    for i, batch in enumerate((bad, good, bad), start=1): stepper.step(i, batch, gen)
    assert torch.equal(o.w, moved) and opt.state[o.w]["step"] == steps and stepper.refused() == 1
    stepper.restore()
    assert o.seen == 1


def test_where_nothing_can_be_written_the_error_still_comes(tmp_path, monkeypatch):
    def full(*a): raise OSError(28, "No space left on device")
    monkeypatch.setattr(nv.training, "write_atomically", full)
    with pytest.raises(NonFiniteError, match="could not be kept: .*No space left") as e: train(Slope(), (torch.zeros(4),), steps=3, folder=tmp_path / "a")
    assert e.value.path is None


# collapse

def test_a_collapsed_codebook_is_told(monkeypatch):
    "All codes but one lie far away from everything, and none is revived."
    def far(self, z, generator=None): self.codebook.copy_(1e4 * (torch.arange(len(self.codebook)) > 0)[:, None].float().expand_as(self.codebook))
    monkeypatch.setattr(nv.vq.VectorQuantizer, "start", far)
    with pytest.warns(UserWarning, match=r"tokenizer: perplexity is 1 at step \d+: the codebook has collapsed.*revive_below"):
        m = NCVQ(None, **{**TINY, "epochs": 20, "revive_below": 0}).fit(*noise())
    assert m.history_["tokenizer"]["perplexity"][-1] == 1


def test_collapsed_projections_are_told():
    X, y = noise()
    with pytest.warns(UserWarning, match="spread is .*the projections have collapsed"): NCVQ("vicreg", lambda x, generator: x, **{**TINY, "epochs": 20}).fit(np.zeros((12, 24), np.float32))


def test_healthy_training_warns_of_nothing():
    X, y = noise()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m = NCVQ(**{**TINY, "epochs": 20}).fit(X, y)
    assert m.history_["tokenizer"]["perplexity"][-1] > 2 and m.history_["tokenizer"]["spread"][-1] > 0.01


# equal seeds

def curves(threads=1):
    r = subprocess.run([sys.executable, DRIVERS / "curves.py", str(threads)], env={**ENV, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-2000:]
    return json.loads(r.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def one_thread(tmp_path_factory, request):
    "Computed once, also where several processes test."
    shared = tmp_path_factory.getbasetemp().parent if hasattr(request.config, "workerinput") else tmp_path_factory.getbasetemp()
    with FileLock(shared / "curves.lock"):
        if not (kept := shared / "curves.json").exists(): kept.write_text(json.dumps(curves()))
        return json.loads(kept.read_text())


def test_two_processes_give_the_same_numbers(one_thread): assert curves() == one_thread


def near(a, b, first, later):
    "Losses that start alike and stay of a kind: rounding decides a token here and there, and grows."
    a, b = np.array(a), np.array(b)
    assert abs(a[0] / b[0] - 1) < first, (a[0], b[0])
    for part in np.split(np.arange(50), 5): assert abs(a[part].mean() / b[part].mean() - 1) < later, (part[0], a[part].mean(), b[part].mean())


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread")
def test_the_number_of_threads_changes_rounding_alone(one_thread):
    two_threads = curves(2)
    for name in ("naive", "barlow", "vicreg", "vibcreg", "prior"): near(two_threads[name], one_thread[name], *TOLERANCE[name == "prior"])


TOLERANCE = (1e-5, 0.15), (0.03, 0.15)  # of the first loss, and of means of ten; the prior learns the tokens of a tokenizer that has gone its way


@pytest.mark.parametrize("name", ["naive", "barlow", "vicreg", "vibcreg", "prior"])
def test_golden_curves(one_thread, name):
    "Fifty steps of every method, as they were when they were last looked at: NCVQ_GOLDEN=write makes them anew."
    if os.environ.get("NCVQ_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps({k: [round(v, 6) for v in one_thread[k]] for k in ("naive", "barlow", "vicreg", "vibcreg", "prior")}, indent=0))
    near(one_thread[name], json.loads(GOLDEN.read_text())[name], *TOLERANCE[name == "prior"])


def test_everything_twice_in_one_process_and_the_callers_generators_stay():
    X, y = noise()
    data, kw = Dataset("noise", X, y, *noise()), dict(n_resamples=5, cas_total=20, fcn=dict(max_steps=3), cache_dir=False, verbose=False, random_state=0)
    state = lambda: (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes())
    before, out = state(), []
    for _ in range(2):
        m = NCVQ(**TINY).fit(X, y)
        out.append((fingerprint(m), m.sample(3, random_state=1).tobytes(), json.dumps(nv.evaluate(m, data, **kw).to_dict())))
        np.random.rand(3), torch.rand(3), random.random()
        assert state() != before
        np.random.set_state(np.random.RandomState(5).get_state()), torch.manual_seed(5), random.seed(5)
        before = state()
        nv.evaluate(NCVQ(**TINY).fit(X, y), data, **kw)
        assert state() == before
    assert out[0] == out[1]


# memory

@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_freed_memory_stays_while_a_loop_runs_and_goes_afterwards():
    program = """
import resource, sys, psutil, torch
from contextlib import nullcontext
from ncvq_nb.training import kept_memory
faults, resident = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt, lambda: psutil.Process().memory_info().rss / 2**20
def loop(n):
    for _ in range(n): torch.empty(2**24).fill_(1)  # 64 MB
with kept_memory() if sys.argv[1] == "kept" else nullcontext():
    loop(5)
    before = faults()
    loop(5)
    print(faults() - before, resident(), end=" ")
print(resident())
"""
    env = {k: v for k, v in ENV.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    run = lambda how, **more: [float(v) for v in subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True, env={**env, **more}).stdout.split()]
    (kept, inside, after), (given, *_), (left, *_) = run("kept"), run("given back"), run("kept", MALLOC_ARENA_MAX="1")
    pages = 2**26 / os.sysconf("SC_PAGE_SIZE")  # of one block
    assert kept < 3 * pages and min(given, left) > 4 * pages and inside - after > 60


# evaluation

def test_nothing_that_looks_at_a_model_changes_it(tmp_path):
    X, y = noise()
    m, data = NCVQ(**TINY).fit(X, y), Dataset("noise", X, y, *noise())
    m.save(tmp_path / "m")
    before, modes = fingerprint(m), [p.training for p in m.tokenizer_.modules()]
    looks = dict(encode=lambda: m.encode(9 * X), decode=lambda: m.decode(m.encode(X)), reconstruct=lambda: m.reconstruct(X), transform=lambda: m.transform(X), continuous=lambda: m.features(X, quantised=False),
                 sample=lambda: m.sample(3), of_class=lambda: m.sample(3, 1, guidance_scale=2.0), evaluate=lambda: nv.evaluate(m, data, n_resamples=5, cas_total=20, fcn=dict(max_steps=3), cache_dir=False, verbose=False),
                 present=lambda: nv.present(m, data, tmp_path / "p", n_resamples=5, cas_total=20, fcn=dict(max_steps=3)), probe=lambda: nv.metrics.probe(m.transform(X), y, m.transform(X), y), save=lambda: m.save(tmp_path / "m"), load=lambda: NCVQ.load(tmp_path / "m"))
    for name, look in looks.items():
        look()
        assert fingerprint(m) == before, name
        assert [p.training for p in m.tokenizer_.modules()] == modes and not any(modes), name


# long runs

@pytest.mark.parametrize("times", [int(os.environ.get("NCVQ_SOAK", 60))])
def test_memory_stays_flat(times):
    pytest.importorskip("psutil", reason="psutil measures memory")
    r = subprocess.run([sys.executable, DRIVERS / "soak.py", str(times)], env=ENV, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-2000:]
    mb, files = np.array(json.loads(r.stdout.splitlines()[-1])).T
    half = len(mb) // 2
    growth = (mb[half:].mean() - mb[1:half].mean()) / (half * 10)  # MB per fit, the first ones fill caches
    assert growth < 0.1, f"{growth:.3f} MB a fit: {mb.round(1).tolist()}"
    assert files[-1] <= files[0] + 2, f"open files: {files.tolist()}"
