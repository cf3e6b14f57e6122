"""The same on every device there is: what is trained, written and read on one is used on the other. Without a GPU, only the processor is tried."""
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ncvq_nb import NCVQ, generator
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from ncvq_nb.training import Order, Stepper, _adamw, cosine_lr, cuda_graph, train

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, gpu])]
TINY = dict(dim=16, n_res_blocks=1, n_codes=16, projector_dim=64, prior_dim=32, prior_depth=1, batch_size=16, epochs=20, random_state=0)


def walks(n=24, l=64): return np.random.default_rng(0).normal(size=(n, 2, l)).cumsum(-1).astype(np.float32), np.arange(n) % 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ssl, augment", [(None, None), ("barlow", "warp"), ("vicreg", "slice"), ("vibcreg", "gauss")])
def test_everything_a_model_does(tmp_path, device, ssl, augment):
    X, y = walks()
    m = NCVQ(ssl, augment, device=device, **TINY).fit(X, y, run_dir=tmp_path / "run")
    assert {p.device.type for module in (m.tokenizer_, m.prior_) for p in module.parameters()} == {device}
    for h in m.history_.values(): assert np.isfinite(h["loss"]).all() and h["loss"][-1] < h["loss"][0]
    s, Z, X_new = m.encode(X), m.transform(X), m.sample(5, y=1, random_state=0)
    gap = np.where(np.arange(64) // 8 == 3, np.nan, X)
    filled = m.impute(gap, random_state=0)
    assert all(isinstance(a, np.ndarray) and np.isfinite(a).all() for a in (s, Z, X_new, filled)) and (filled[~np.isnan(gap)] == X[~np.isnan(gap)]).all()
    m.save(tmp_path / "model")
    other = NCVQ.load(tmp_path / "model", device="cpu")
    assert (other.encode(X) == s).mean() > .99
    assert_allclose(other.decode(s), m.decode(s), atol=1e-3 * X.std()), assert_allclose(other.transform(X), Z, rtol=.01, atol=.01 * Z.std())
    again = NCVQ(ssl, augment, device=device, **TINY).fit(X, y, run_dir=tmp_path / "run")  # from its last checkpoints
    assert (again.encode(X) == s).all() and (again.sample(5, y=1, random_state=0) == X_new).all()


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_goes_on_where_it_was_cut_off(tmp_path, device, monkeypatch):
    X, y = walks()
    class Cut(Exception): pass
    step, often = Stepper.step, lambda *a, **kw: train(*a, **{**kw, "checkpoint_every": 0, "log_every": 4})
    monkeypatch.setattr(generator, "train", often)
    fit = lambda folder: NCVQ("barlow", "warp", device=device, **TINY).fit_tokenizer(X, run_dir=folder)
    whole = fit(tmp_path / "whole")
    def cut(self, i, *args):
        if i == 13: raise Cut
        return step(self, i, *args)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Stepper, "step", cut)
        fit(tmp_path / "cut")
    assert_allclose(fit(tmp_path / "cut").history_["tokenizer"]["loss"], whole.history_["tokenizer"]["loss"], rtol=0 if device == "cpu" else 1e-3)  # sums on a GPU come in any order


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision, rtol", [("float32", 2e-3), ("bfloat16", .1)])
def test_first_losses_are_those_of_the_processor(device, precision, rtol):
    x = torch.from_numpy(walks()[0])
    def losses(device, precision):
        torch.manual_seed(0)
        o = TokenizerLoss(Tokenizer(2, 64, dim=16, n_res_blocks=1, n_codes=16), ssl="vibcreg", projector_dim=64)  # views are the series: other devices draw other numbers
        o.start(x, torch.Generator().manual_seed(0))
        o.tokenizer.vq.revive_below = 0
        o.to(device, memory_format=torch.channels_last).train()
        s = Stepper(o, _adamw(o, 1e-3, 1e-5), precision)
        return [float(s.step(i, [x.to(device)], torch.Generator(device))[0]["loss"]) for i in range(10)]
    assert_allclose(losses(device, precision), losses("cpu", "float32"), rtol=rtol)


@pytest.mark.cuda
@gpu
@pytest.mark.parametrize("capture", [None, cuda_graph])
@pytest.mark.parametrize("ssl, augment", [(None, None), ("barlow", "warp"), ("vicreg", "slice"), ("vibcreg", "gauss")])
def test_no_step_waits_for_the_host(ssl, augment, capture):
    x = torch.from_numpy(walks()[0]).cuda()
    o = TokenizerLoss(Tokenizer(2, 64, dim=16, n_res_blocks=1, n_codes=16), ssl=ssl, augment=augment, projector_dim=64).cuda().train()
    s, gen, order = Stepper(o, _adamw(o, 1e-3, 1e-5, captured=capture is not None), capture=capture), torch.Generator("cuda"), Order(24, 16, 0, "cuda")
    def step(i):
        s.rate(cosine_lr(i, 20, 1e-3)), gen.manual_seed(i)
        return s.step(i, [x[order.batch(i)]], gen)
    for i in range(6): step(i)
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for i in range(6, 12): terms, norm = step(i)
    finally: torch.cuda.set_sync_debug_mode("default")
    assert s.refused() is None and torch.isfinite(norm) and all(map(torch.isfinite, terms.values()))


@pytest.mark.cuda
@gpu
def test_captured_training_is_training(tmp_path):
    "`compile=True` on a GPU: both stages as CUDA graphs, the prior translated as well; and a run that is continued."
    X, y = walks()
    m, plain = (NCVQ("barlow", "warp", device="cuda", compile=c, **TINY).fit(X, y, run_dir=tmp_path / str(c)) for c in (True, False))
    for stage in ("tokenizer", "prior"): assert_allclose(m.history_[stage]["loss"][:5], plain.history_[stage]["loss"][:5], rtol=.02)
    assert m.sample(5, y=1, guidance_scale=2.0, random_state=0).shape == (5, 2, 64)
    assert np.array_equal(NCVQ("barlow", "warp", device="cuda", compile=True, **TINY).fit(X, y, run_dir=tmp_path / "True").encode(X), m.encode(X))
