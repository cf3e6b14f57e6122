"""The benchmark measures what it says: its steps are the library's, its textbook computes the same, and its figures are counted right."""
import copy, json, re, subprocess, sys
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from ncvq_nb import NCVQ, bench
from ncvq_nb import augment as aug
from ncvq_nb.generator import can_compile
from ncvq_nb.maskgit import MaskGIT, MaskGITLoss, fill
from ncvq_nb.metrics import FCNClassifier, _fcn, _seed
from ncvq_nb.ssl import barlow_twins_loss, vibcreg_loss, vicreg_loss
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from ncvq_nb.training import Order, cosine_lr, seed_of, seeded, train
from conftest import imitated

SMALL = dict(dim=8, n_res_blocks=1, n_codes=8, projector_dim=64, prior_dim=32, prior_depth=1, sampling_steps=3)
TINY = dict(batch=6, length=32, repeats=3, matmul=64, n_samples=4, compile=False, **SMALL)


def gen(seed=0): return torch.Generator().manual_seed(seed)
def randn(*shape, seed=0, dtype=torch.float32): return torch.randn(*shape, generator=gen(seed), dtype=dtype)
def series(n=12, l=64): return torch.from_numpy(bench.bench_series(n, l)[0])


def objective(ssl=None, x=None, warm=3, **kw):
    "An objective after some steps of training, so that no batch norm is at its beginning."
    with seeded(0): o = TokenizerLoss(Tokenizer(1, x.shape[-1], dim=8, n_res_blocks=2, n_codes=8), ssl=ssl, projector_dim=64, **kw).to(memory_format=torch.channels_last)
    o.start(x, gen())
    train(o, (x,), steps=warm, batch_size=len(x))
    return o.train()


# The step

def test_a_step_is_a_step_of_train():
    x, steps, lr = series(20), 5, 1e-3
    model = NCVQ.thesis(lr=lr)
    a = objective("barlow", x, augment="warp")
    b = copy.deepcopy(a)
    train(a, (x,), steps=steps, batch_size=8, lr=lr, weight_decay=model.weight_decay, seed=0)
    stepper, order, g = bench._stepper(bench.Case(model, None, None, x, "float32", 4), b.train()), Order(len(x), 8, 0), gen()
    for i in range(steps):
        stepper.rate(cosine_lr(i, steps, lr))
        g.manual_seed(seed_of(0, "step", i))
        stepper.step(i, [x[order.batch(i)]], g)
    for (k, v), w in zip(a.state_dict().items(), b.state_dict().values()): assert torch.equal(v, w), k


@pytest.mark.parametrize("work, ssl", [("stage1/naive", None), ("stage1/barlow", "barlow"), ("stage1/vibcreg", "vibcreg")])
def test_what_is_measured_has_the_sizes_of_the_thesis(work, ssl):
    X, y = bench.bench_series(4, 140)
    model = NCVQ.thesis(**bench.WORKS[work][1])
    o = bench._objective(bench.Case(model, X, y, torch.from_numpy(X), "float32", 4))
    c = o.tokenizer.config
    assert (c["n_fft"], c["dim"], c["n_res_blocks"], c["n_codes"], c["decay"]) == (8, 64, 4, 32, .9) and model.ssl == ssl
    assert o.tokenizer.encoder[1].weight.is_contiguous(memory_format=torch.channels_last)
    if ssl is not None: assert o.head.projector[0].weight.shape == (4096, 128) and o.augment is aug.AUGMENTATIONS["warp"]
    assert (model.prior_dim, model.prior_depth, model.prior_heads, model.sampling_steps, model.choice_temperature, model.guidance_scale, model.unconditional) == (256, 4, 2, 10, 4, 1, "null")


# The textbook computes the same

@pytest.mark.parametrize("l", [64, 65, 140])
def test_textbook_views(l):
    x, w = randn(9, 2, l), round(.4 * l)
    g = gen(3)
    a, s = torch.rand(9, 1, generator=g) * (l - w), .9 + 1.1 * torch.rand(9, 1, generator=g)
    gain = 1 + .2 * torch.randn(9, 1, 1, generator=g)
    want = aug.AUGMENTATIONS["warp"](x, gen(3))
    for i in range(9): assert_allclose(bench.warp_one(x[i].numpy(), float(a[i]), float(s[i]), float(gain[i])), want[i], atol=2e-4)
    g = gen(4)
    cuts, order = (torch.rand(9, 3, generator=g) * l).long().numpy(), torch.rand(9, 4, generator=g).argsort(-1).numpy()
    want = aug.AUGMENTATIONS["slice"](x, gen(4))
    for i in range(9): assert np.array_equal(bench.slice_one(x[i].numpy(), cuts[i], order[i]), want[i])


def test_textbook_views_draw_from_the_same_distributions():
    x, rng = torch.ones(2000, 1, 20), np.random.default_rng(0)
    for name in ("warp", "gauss"):  # the gain, and the noise: both show in a constant
        ours, theirs = aug.AUGMENTATIONS[name](x, gen()), bench.textbook_view(x, augment=name, rng=rng)
        assert theirs.shape == x.shape and theirs.dtype == x.dtype
        assert_allclose([theirs.mean(), theirs.std()], [ours.mean(), ours.std()], rtol=.05)
    ramp = torch.arange(20.).expand(4000, 1, 20)
    assert_allclose(bench.textbook_view(ramp, augment="slice", rng=rng).mean((0, 1)), aug.AUGMENTATIONS["slice"](ramp, gen()).mean((0, 1)), atol=.6)


@pytest.mark.parametrize("l", [33, 64, 140])
def test_textbook_tokenizer(l):
    x = series(10, l)
    tok = objective(None, x).tokenizer.eval()
    plain = bench.textbook_tokenizer(tok)
    assert all(p.is_contiguous() for p in plain.parameters())
    with torch.no_grad():
        s = tok.encode(x)
        assert torch.equal(plain.encode(x), s)
        assert_allclose(plain.decode(s), tok.decode(s), atol=2e-5)
        assert_allclose(plain(x), tok(x), atol=2e-5)


@pytest.mark.parametrize("b, d", [(6, 40), (40, 6)])
@pytest.mark.parametrize("ours, textbook", [(barlow_twins_loss, bench.textbook_barlow), (vicreg_loss, bench.textbook_vicreg), (vibcreg_loss, bench.textbook_vibcreg)])
def test_textbook_losses_and_gradients_in_float64(ours, textbook, b, d):
    z = randn(2, b, d, dtype=torch.float64).requires_grad_()
    assert_allclose(textbook(*z).item(), ours(*z).item(), rtol=1e-12)
    assert_allclose(torch.autograd.grad(textbook(*z), z)[0], torch.autograd.grad(ours(*z), z)[0], rtol=1e-8, atol=1e-12)


def compare(ours, plain, data, plain_data, rtol):
    "Terms, and gradients parameter by parameter, in units of the largest of each parameter."
    a, b = ours(*data, generator=gen(7)), plain(*plain_data, generator=gen(7))
    assert list(a) == list(b)
    for k in a: assert_allclose(b[k].item(), a[k].item(), rtol=rtol, err_msg=k)
    grads = [torch.autograd.grad(t["loss"], m.parameters()) for t, m in ((a, ours), (b, plain))]
    size = max(float(g.abs().max()) for g in grads[0])
    for (name, _), g, h in zip(ours.named_parameters(), *grads):
        assert_allclose(h, g, atol=rtol * max(float(g.abs().max()), 1e-3 * size), err_msg=name)


def test_textbook_step_of_the_naive_tokenizer():
    x = series()
    o = objective(None, x)
    plain = bench.TextbookLoss(o, None).train()
    compare(o, plain, (x,), (x,), 1e-3)
    for (k, v), w in zip(o.tokenizer.state_dict().items(), plain.tokenizer.state_dict().values()): assert_allclose(w, v, rtol=1e-4, atol=1e-5, err_msg=k)  # the codebook and the running statistics


@pytest.mark.parametrize("ssl", ["barlow", "vicreg", "vibcreg"])
def test_textbook_step_with_self_supervision(ssl):
    "With the statistics of the images' batch norms held still: ours takes them over both views, the textbook over each."
    x = series()
    view = aug.AUGMENTATIONS["warp"](x, gen(1))
    o = objective(ssl, x, augment="warp", warm=30)
    o.augment = lambda x, generator=None: view
    plain = bench.TextbookLoss(o, ssl, lambda x, generator=None: view).train()
    for m in [*o.modules(), *plain.modules()]:
        if isinstance(m, nn.BatchNorm2d): m.eval()
    compare(o, plain, (x,), (x,), 5e-3 if ssl == "vibcreg" else 1e-3)


def test_textbook_step_of_the_prior():
    x, y = series(), torch.arange(12) % 2
    tok = objective(None, x).tokenizer.eval()
    with seeded(1): o = MaskGITLoss(MaskGIT(tok.n_tokens, 8, 2, code_dim=8, dim=32, depth=2)).train()
    with torch.no_grad(): s = tok.encode(x)
    plain = bench.TextbookPriorLoss(copy.deepcopy(o), bench.textbook_tokenizer(tok)).train()
    assert not plain.tokenizer[0].training and len(list(plain.parameters())) == len(list(o.parameters()))
    compare(o, plain, (s, y), (x, y), 1e-4)


@pytest.mark.parametrize("two_passes", [True, False])
def test_textbook_sampling_follows_the_same_law(two_passes):
    with seeded(0): p = MaskGIT(2, 3, 2, code_dim=8, dim=16, depth=1).eval()
    with torch.no_grad():
        for q in p.parameters(): q.add_(.3 * randn(*q.shape, seed=q.numel()))  # far from uniform
    n = 20_000
    empty, y = torch.full((n, 2), 3), torch.full((n,), 1)
    count = lambda s: torch.bincount(3 * s[:, 0] + s[:, 1], minlength=9).double() / n
    kw = dict(steps=2, choice_temperature=1.0)
    a, b = count(fill(p, empty, y, gen(), **kw)), count(bench.textbook_fill(p, empty, y, gen(1), two_passes=two_passes, **kw))
    assert a.max() > .2
    assert_allclose(b, a, atol=.02)  # five standard errors


def test_textbook_sampling_passes_and_what_is_given():
    with seeded(0): p = MaskGIT(5, 3, 2, code_dim=8, dim=16, depth=1).eval()
    seen = []
    p.register_forward_hook(lambda m, args, out: seen.append(int((args[0] == 3).sum(1).max())))
    s = torch.tensor([[3, 3, 3, 3, 3], [3, 1, 3, 2, 3]])
    out = bench.textbook_fill(p, s, torch.tensor([0, 1]), gen(), steps=4, two_passes=True)
    assert len(seen) == 8 and out.max() < 3 and out[1, [1, 3]].tolist() == [1, 2] and int((s == 3).sum()) == 8
    assert seen[::2] == [5, 4, 3, 1]  # 5, then 5 cos(π t / 8) rounded down
    bench.textbook_fill(p, s, torch.tensor([2, 2]), gen(), steps=4, two_passes=False)
    assert len(seen) == 12


def test_textbook_features_and_classifier():
    x = series()
    tok = objective(None, x).tokenizer.eval()
    with torch.no_grad(): assert_allclose(bench.textbook_features(bench.textbook_tokenizer(tok), x, batch_size=5), tok.features(x), atol=1e-5)
    X, y = bench.bench_series(8, 32)
    fcn = FCNClassifier(max_steps=6, tol=0, batch_size=8, precision="float32", device="cpu").fit(X, y)  # one batch is all there is, in whatever order
    assert_allclose(bench.textbook_fcn(_fcn(1, 2, gen(_seed(0))), X, y, steps=6, batch_size=8), fcn.losses_, rtol=1e-3)


# What is counted and timed

def test_flops_by_hand():
    layer, x = nn.Linear(30, 20), randn(7, 30)
    assert bench.count_flops(lambda: layer(x)) == 2 * 7 * 30 * 20
    assert bench.count_flops(lambda: layer(x).sum().backward()) == 2 * 2 * 7 * 30 * 20
    x.requires_grad_()
    assert bench.count_flops(lambda: layer(x).sum().backward()) == 3 * 2 * 7 * 30 * 20
    conv = nn.Conv2d(3, 5, (3, 4), stride=(1, 2))
    assert bench.count_flops(lambda: conv(torch.zeros(2, 3, 8, 10))) == 2 * 2 * 5 * (6 * 4) * 3 * (3 * 4)
    q = randn(2, 3, 9, 16)
    assert bench.count_flops(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 3 * 9 * 9 * 16) * 2
    assert bench.count_flops(lambda: torch.mm(randn(4, 5).bfloat16(), randn(5, 6).bfloat16())) == 2 * 4 * 5 * 6


def test_flops_of_a_step_by_hand():
    "The head of Barlow Twins adds: the networks on a second view, two projections and three b×b products, forward and backward."
    flops = lambda ssl, **kw: bench.count_flops(bench._build(work=ssl, batch=6, length=32, device="cpu", precision="float32", n_samples=4, **{**SMALL, **kw}).ours)
    b, d, p, L = 6, 8, 64, 3
    both = lambda p: flops("stage1/barlow", projector_dim=p)
    layer = lambda i, o: 3 * 2 * b * i * o  # forward, and backward to weights and input
    projection = lambda p: 2 * (layer(2 * d, p) + 2 * layer(p, p))
    gram = lambda p: 2 * 2 * b * b * p + 2 * 2 * 2 * b * b * p  # two products Z Zᵀ, and each backward to both of its factors
    assert both(64) - both(32) == projection(64) - projection(32) + gram(64) - gram(32)


def test_interleave_takes_turns_and_keeps_to_its_budget(monkeypatch):
    now, log = [0.0], []
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])
    def f(name, seconds):
        def run(): log.append(name); now[0] += seconds
        return run
    t = bench.interleave([f("a", 1.0), f("b", 2.0)], repeats=4, seconds=1e9)
    assert_allclose(t, [[1000] * 4, [2000] * 4])
    assert "".join(log) == "aabb" + "abba" * 2
    assert bench.interleave([f("a", 1.0)], repeats=10, seconds=5.5).shape == (1, 6)
    assert bench.interleave([f("a", 1.0)], repeats=10, seconds=.1).shape == (1, 3)
    assert bench.interleave([f("a", 1.0)], repeats=2, seconds=.1).shape == (1, 2)
    log.clear()
    assert_allclose(bench.interleave([f("a", .008)], repeats=2, seconds=9), [[8, 8]])
    assert len(log) == 2 + 2 * 3  # at least 20 ms a turn


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("work", bench.WORKS)
def test_every_work_can_be_measured(work, precision):
    if precision == "bfloat16" and work not in bench.MIXED: pytest.skip("float32 only")
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    r = bench.measure(work, precision=precision, parts=True, **TINY)
    assert torch.equal(torch.random.get_rng_state(), state[0]) and np.array_equal(np.random.get_state()[1], state[1])
    assert (r["work"], r["batch"], r["length"], r["device"], r["precision"]) == (work, 6, 32, "cpu", precision)
    assert r["median_ms"] > 0 and r["textbook_median_ms"] > 0 and r["ratio"] > 0 and r["repeats"] == 3 and r["spread_ms"][0] <= r["median_ms"] <= r["spread_ms"][1]
    assert (r["flops"] > 0) == (not work.startswith("augment")) and r["series"] == (4 if work.startswith("sample") else 6)
    if r["flops"]: assert_allclose(r["matmul_fraction"], r["flops"] / r["median_ms"] / r["matmul_gflops_per_s"] / 1e6, rtol=.1, atol=1e-4)  # figures are rounded
    assert ("parts" in r) == work.startswith("stage")
    if "parts" in r: assert bench.plot_parts(r).axes and min(r["parts"].values()) >= 0 and "optimiser" in r["parts"] and ("projector" in r["parts"]) == (work in ("stage1/barlow", "stage1/vibcreg"))


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="there is no C++ compiler")
def test_the_compiled_prior_is_measured_and_its_arithmetic_counted():
    kw = {**TINY, "compile": True}
    stage2, plain = bench.measure("stage2", **kw), bench.measure("stage2", textbook=False, **TINY)
    assert stage2["compiled"] and not plain["compiled"] and stage2["flops"] == plain["flops"] > 0
    built = bench._build("stage2", 6, 32, "cpu", "float32", 4, compile=True, **SMALL)
    calls = []
    for side, f in (("ours", built.ours), ("textbook", built.textbook)):
        with torch.profiler.profile() as seen: f()
        calls.append(any("CompiledFunction" in e.key for e in seen.key_averages()))
    assert calls == [True, False]


def test_parts_and_the_rest_make_the_whole(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])
    def f(seconds):
        def run(): now[0] += seconds
        return run
    work = bench.Work(f(1.0), f(3.0), 1, {"a": (f(.25), f(.5)), "b": (None, f(.75))}, "rest")
    found = bench._part_times(work, ("ours", "textbook"), dict(ours="", textbook="textbook_"), 3, 1e9, "cpu")
    assert found == {"parts": {"rest": 750, "a": 250}, "textbook_parts": {"rest": 1750, "a": 500, "b": 750}}


def test_ours_alone():
    r = bench.measure("encode", textbook=False, **TINY)
    assert r["median_ms"] > 0 and not [k for k in r if k.startswith("textbook")] and "ratio" not in r
    assert "encode" in repr(bench.Measurements([r]))


def test_class_samples_cost_the_textbook_twice_the_passes():
    null, one = (bench.measure(w, **{**TINY, "repeats": 1}) for w in ("sample", "sample/class"))
    assert null["flops"] == one["flops"] and 1.5 < one["textbook_flops"] / null["textbook_flops"] < 2


@pytest.mark.slow
def test_peak_memory_is_of_the_new_process_alone():
    ballast = np.ones((900, 1024, 1024), np.uint8)  # 0.9 GB here must not show there
    small = bench.peak_memory("stage1/naive", batch=6, length=32, **SMALL)
    large = bench.peak_memory("stage1/naive", "textbook", calls=1, batch=128, length=256, **{**SMALL, "dim": 64})
    assert 50 < small < 850 and large > small + 30 and ballast.any()
    with pytest.raises(RuntimeError, match="stage1/vibcreg could not be run"): bench.peak_memory("stage1/vibcreg", batch=6, length=32, **{**SMALL, "projector_dim": 65})


# The command

def call(*argv):
    try: bench.main([str(a) for a in argv])
    except SystemExit as e: return e.code or 0
    return 0


FAST = "--batch 4 --length 32 --repeats 2 --matmul 64 --samples 4 --device cpu --no-memory --no-compile".split()


def test_json_has_one_object_per_measurement(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert call("--work", "stage1/naive", "encode", "augment/slice", "sample", *FAST, "--precision", "both", "--json", out) == 0
    rows = json.loads(out.read_text())
    assert [(r["work"], r["precision"]) for r in rows] == [("stage1/naive", "float32"), ("stage1/naive", "bfloat16"), ("encode", "float32"), ("augment/slice", "float32"), ("sample", "float32"), ("sample", "bfloat16")]
    for r in rows:
        assert {"work", "batch", "length", "device", "median_ms", "flops", "spread_ms", "precision", "textbook_median_ms", "ratio", "matmul_fraction", "threads", "machine"} <= set(r)
        assert (r["batch"], r["length"], r["device"]) == (4, 32, "cpu") and r["median_ms"] > 0 and isinstance(r["flops"], int)
        assert {"cpu", "cores", "threads", "torch", "malloc", "amx", "avx512_bf16"} <= set(r["machine"])
    again = bench.Measurements.load(out)
    assert again == rows and "stage1/naive" in again._repr_markdown_() and len(repr(again).splitlines()) == 7
    text = capsys.readouterr().out
    assert torch.__version__ in text and "of matmul" in text and str(out) in text and re.search(r"^stage1/naive .*bfloat16", text, re.M)


def test_a_file_is_there_after_every_measurement(tmp_path, monkeypatch):
    out, real, n = tmp_path / "bench.json", bench.measure, []
    def third_fails(work, **kw):
        n.append(work)
        if len(n) == 3: raise KeyboardInterrupt
        return real(work, **kw)
    monkeypatch.setattr(bench, "measure", third_fails)
    assert call("--work", "encode", "decode", "augment/warp", *FAST, "--json", out) == 130
    assert [r["work"] for r in json.loads(out.read_text())] == ["encode", "decode"]


def test_the_environment_is_reported(monkeypatch, capsys):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "8589934592")
    assert call("--work", "augment/gauss", *FAST) == 0
    assert "MALLOC_TRIM_THRESHOLD_=8589934592" in capsys.readouterr().out


def test_quick_is_a_choice_of_works_and_limits(monkeypatch, capsys):
    asked = []
    def fake(works, **kw):
        asked.append((works, kw))
        return bench.Measurements()
    monkeypatch.setattr(bench, "benchmark", fake)
    assert call("--quick") == call() == call("--quick", "--length", 64, "--repeats", 7, "--precision", "bfloat16", "--memory") == 0
    (works, quick), (everything, full), (_, own) = asked
    assert everything is None and full["lengths"] == (140, 500, 1024) and full["memory"] and full["repeats"] == 10 and full["precision"] is full["compile"] is full["devices"] is None
    assert quick["lengths"] == (140,) and not quick["memory"] and quick["precision"] is None and quick["compile"] is False and quick["batch"] == 128 and {"stage1/naive", "stage1/barlow", "stage1/vibcreg", "stage2", "sample", "augment/warp", "encode", "decode"} <= set(works)
    monkeypatch.setattr(bench, "benchmark", lambda works, *, each, **kw: [rows.append(r) or each(rows) or r for r in steps] and rows)
    steps, rows = [dict(bench.measure("encode", textbook=False, **TINY), work=w, length=140, median_ms=100.0) for w in bench.STEPS], bench.Measurements()
    assert call("--quick") == 0 and f"the thesis' grid on cpu at this speed, one run after another: {bench.thesis_hours(rows)['stage 1']:,.3g} hours of stage 1, " in capsys.readouterr().out
    assert own["lengths"] == (64,) and own["repeats"] == 7 and own["precision"] == "bfloat16" and own["memory"]


@pytest.mark.parametrize("argv, said", [
    (["--work", "stage3"], ["work", "'stage3'", "stage1/naive"]), (["--batch", 1], ["batch", "at least 2", "1"]), (["--length", 4], ["length", "at least 8", "4"]),
    (["--device", "abacus"], ["device", "abacus"]), (["--precision", "float16"], ["precision", "'both'", "float16"]), (["--repeats", 0], ["repeats", "0"]),
    (["--seconds", -1], ["seconds", "-1"]), (["--samples", 0], ["n_samples", "0"]), (["--matmul", 0], ["matmul", "0"]), (["--json", "nowhere/there/x.json"], ["--json", "nowhere"]),
])
def test_what_a_user_does_wrong_is_said_in_one_line_before_anything_is_measured(argv, said, capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda *a, **kw: pytest.fail("measured all the same"))
    assert call(*argv) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and len(err.strip().splitlines()) == 1 and err.startswith("ncvq_bench: ")
    for s in said: assert s in err


def test_help_teaches(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    for work in bench.WORKS: assert re.search(rf"^  {work} +\w", text, re.M)
    options = text.split("examples:")[0]
    for line in re.findall(r"^  ncvq_bench(.*)$", text, re.M):
        for option in re.findall(r"(?<= )--?[a-z_-]+", line): assert re.search(rf"{option.replace('--no-', '--')}\b", options), option
    assert "OMP_NUM_THREADS" in text and "MALLOC_" in text and "quiet machine" in text and "%%" not in text
    assert call("--no_such_option") == 2


def test_the_command_is_installed_under_its_name():
    from configparser import ConfigParser
    from pathlib import Path
    ini = ConfigParser(delimiters=["="], interpolation=None)
    ini.read(Path(__file__).resolve().parents[1] / "settings.ini", encoding="utf-8")
    assert "ncvq_bench=ncvq_nb.bench:main" in ini["DEFAULT"]["console_scripts"].split()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    for work in ("stage1/barlow", "stage2", "sample/class", "fcn"):
        r = bench.measure(work, device="cuda", memory=work == "stage2", **TINY)
        assert r["device"] == "cuda" and r["median_ms"] > 0 and "gpu" in r["machine"]
        if work == "stage2": assert r["peak_memory_mb"] >= 0


# the same training, and sizes that grow

@pytest.mark.parametrize("work, precision", [*((w, "float32") for w in bench.STEPS), *(pytest.param(w, "bfloat16", marks=imitated if w != "stage1/naive" else ()) for w in bench.STEPS)])
def test_two_hundred_steps_go_the_same_way(work, precision):
    X, y = bench.bench_series(24, 48)
    c = bench.loss_curves(work, X, y, precision=precision, **{**SMALL, "n_codes": 16})
    assert len(c["ours"]) == len(c["textbook"]) == 200 and c["ours"][-1] < .9 * c["ours"][0]
    assert bench.apart(c) < dict(naive=.04, barlow=.08, vibcreg=.08, stage2=.005)[work.split("/")[-1]], bench.apart(c)
    assert bench.plot_curves({work: c}).axes


def test_growth_and_its_picture():
    seen, small = [], {k: v for k, v in TINY.items() if k not in ("batch", "n_codes", "n_samples")}
    rows = bench.growth(("stage1/naive", "stage2"), values=dict(batch=(4, 8), n_codes=(8, 16)), n_series=(20,), long=4, each=lambda found: seen.append(len(found)), memory=False, **small)
    assert [(r.get("work", "fit"), r["grows"], r[r["grows"]]) for r in rows] == [(w, k, v) for w in ("stage1/naive", "stage2") for k, vs in (("batch", (4, 8)), ("n_codes", (8, 16))) for v in vs] + [("fit", "n_series", 20), ("fit", "n_series", 4)]
    assert seen == list(range(1, 11)) and rows[-1]["length"] == 4096 and rows[-1]["peak_memory_mb"] > 100 and "textbook_median_ms" not in rows[0]
    for r in rows: r.setdefault("peak_memory_mb", 1)
    assert len(bench.plot_growth(rows).axes) == 6
