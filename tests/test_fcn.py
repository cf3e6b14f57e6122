"""The classifier through which FID, IS and CAS look at series, and the folder it is kept in"""

import json
import math
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load, save
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.nn import functional as F

from conftest import imitated
from forging import by_torch
from fuzzing import REFUSED, fuzz, labels, series, tried
from hypothesis import strategies as st
from ncvq_nb.evaluation.fcn import FCNClassifier, PUBLISHED, fcn_file, fcn_for
from ncvq_nb.evaluation.fcn import fcn_network, most_steps
from ncvq_nb.evaluation.fcn_training import equal_batches, train_fcn
from ncvq_nb.io.storage import content_digest
from ncvq_nb.io.archive import load_ucr
from ncvq_nb.evaluation.diversity import diversity
from ncvq_nb.metrics import fid
from test_stepper import tape
from toys import as_dataset, global_state, posix, sines

QUICK = dict(max_steps=6, precision="float32")


def rng(seed=0):
    return np.random.default_rng(seed)


def toy(channels=1, names=None):
    train, test = sines(24, 20, channels, 0, names), sines(30, 20, channels, 1, names)
    return as_dataset(train, test)


@pytest.fixture(scope="module")
def data():
    return toy()


@pytest.fixture(scope="module")
def fcn(data):
    "Trained for six steps; not to be changed."
    return FCNClassifier(**QUICK).fit(data.X_train, data.y_train)


@pytest.fixture(autouse=True)
def global_generators_stay(fcn):
    before = global_state()
    yield
    assert global_state() == before


# The network


def test_the_network_is_that_of_wang_et_al():
    "Written out with torch's functions; `same` is the padding of Keras, in which their code is."
    d = toy(channels=2)
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    conv = [x for x in fcn.network_ if isinstance(x, nn.Conv1d)]
    norm = [x for x in fcn.network_ if isinstance(x, nn.BatchNorm1d)]
    assert [tuple(x.weight.shape) for x in conv] == [(128, 2, 8), (256, 128, 5), (128, 256, 3)]
    mean, std = (f(d.X_train, (0, 2), keepdims=True) for f in (np.mean, np.std))
    h = torch.tensor((d.X_test - mean) / std)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for a, b in zip(conv, norm):
            h = F.conv1d(h, a.weight, padding="same")
            h = F.relu(F.batch_norm(h, b.running_mean, b.running_var, b.weight, b.bias))
        P = F.linear(h.mean(-1), fcn.network_[-1].weight, fcn.network_[-1].bias).softmax(1)
    assert_allclose(fcn.features(d.X_test), h.mean(-1), atol=1e-4)
    assert_allclose(fcn.predict_proba(d.X_test), P, atol=1e-4)


def test_weights_start_as_torch_starts_them():
    net = fcn_network(1, 3, torch.Generator().manual_seed(0))
    for layer in net:
        if isinstance(layer, (nn.Conv1d, nn.Linear)):
            bound = layer.weight[0].numel() ** -0.5  # kaiming_uniform_(a=√5)
            assert 0.95 * bound < layer.weight.abs().max() <= bound
            assert abs(layer.weight.std() / (bound / 3**0.5) - 1) < 0.1


# Training


def test_it_learns_and_keeps_the_labels_type():
    d = toy(names=("slow", "fast"))
    fcn = FCNClassifier(max_steps=40, batch_size=16).fit(d.X_train, d.y_train)
    assert fcn.score(d.X_test, d.y_test) > 0.9
    assert set(fcn.predict(d.X_test)) == {"slow", "fast"}
    assert_allclose(fcn.predict_proba(d.X_test).sum(1), 1)


def test_equal_seeds_make_equal_networks_other_seeds_others(data, fcn):
    a = fcn.features(data.X_test)
    b, c = (
        FCNClassifier(random_state=s, **QUICK).fit(data.X_train, data.y_train) for s in (0, 2)
    )
    assert_array_equal(a, b.features(data.X_test))
    assert np.abs(a - c.features(data.X_test)).max() > 1e-3


@pytest.mark.parametrize("n, batch", [(2, 64), (5, 4), (7, 1), (65, 64), (9, 3)])
def test_batches_are_equal_and_cover_an_epoch(n, batch):
    g, k = torch.Generator().manual_seed(0), math.ceil(n / batch)
    epochs = equal_batches(n, batch, g)
    for _ in range(3):
        rows = [next(epochs) for _ in range(k)]
        assert {len(r) for r in rows} == {n // k} and len(torch.cat(rows).unique()) == n // k * k
    fcn = FCNClassifier(batch_size=batch, epochs=2, **QUICK)
    fcn.fit(rng().normal(size=(n, 12)), np.arange(n) % 2)
    assert len(fcn.losses_) == min(6, 2 * k)
    assert np.isfinite(fcn.features(rng().normal(size=(1, 12)))).all()


def test_the_learning_rate_follows_a_cosine_and_runs_out_early(monkeypatch, data):
    rates = []

    class Spy(torch.optim.AdamW):
        def step(self):
            rates.append(self.param_groups[0]["lr"])
            super().step()

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    FCNClassifier(max_steps=12, precision="float32").fit(data.X_train, data.y_train)
    cosine = [1e-3 * (1 + math.cos(math.pi * i / 12)) / 2 for i in range(12)]
    assert_allclose(rates, cosine, rtol=1e-9)
    rates.clear()
    early = dict(max_steps=400, tol=10.0, cool_down=7, precision="float32")
    FCNClassifier(**early).fit(data.X_train, data.y_train)
    assert len(rates) in (27, 28) and rates[-1] < 1e-4
    assert all(a >= b for a, b in zip(rates, rates[1:]))


def test_captured_steps_are_the_same_steps(data):
    "What a GPU repeats as one graph: batches, the falling rate, the end by the loss."

    def losses(capture):
        net = fcn_network(1, 2, torch.Generator().manual_seed(0))
        how = dict(n_steps=60, autocast=torch.autocast("cpu", enabled=False), capture=capture)
        settings = FCNClassifier(batch_size=16, tol=0.3, cool_down=10)
        x, y = torch.from_numpy(data.X_train), torch.from_numpy(data.y_train)
        order = torch.Generator().manual_seed(0)
        return train_fcn(net, x, y, settings, generator=order, **how), net

    (plain, one), (again, two) = losses(None), losses(tape)
    assert 20 < len(plain) < 60 and len(set(again)) == len(again)
    assert_allclose(again, plain, rtol=1e-3)
    for a, b in zip(one.state_dict().values(), two.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-4)


def test_the_loss_ends_training_and_the_cap_grows_with_series_and_classes(data):
    assert [most_steps(*n) for n in ((25, 6), (600, 60), (9000, 7))] == [645, 2300, 9640]
    whole = FCNClassifier(batch_size=16, precision="float32").fit(data.X_train, data.y_train)
    assert whole.is_converged and whole.final_loss < 0.02 and len(whole.losses_) < 300
    short = FCNClassifier(**QUICK).fit(data.X_train, data.y_train)
    assert not short.is_converged and short.final_loss == pytest.approx(np.mean(short.losses_))
    assert short.set_params(tol=0).is_converged  # nothing but its steps ends it
    epochs = dict(epochs=2, batch_size=8, tol=0.0, precision="float32")
    for limit, n in ((None, 6), ("auto", 6), (4, 4)):
        fcn = FCNClassifier(max_steps=limit, **epochs).fit(data.X_train, data.y_train)
        assert len(fcn.losses_) == n
    assert PUBLISHED["max_steps"] is None and PUBLISHED["epochs"] == 1000


def test_it_evaluates_in_eval_mode(data, fcn):
    before = {k: v.clone() for k, v in fcn.network_.state_dict().items()}
    alone = np.concatenate([fcn.features(x[None]) for x in data.X_test])
    assert_allclose(alone, fcn.features(data.X_test), atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in fcn.network_.state_dict().items())


def test_probabilities_are_those_of_the_features(data, fcn):
    E = fcn.features(data.X_test)
    assert_array_equal(fcn.probabilities(E), fcn.predict_proba(data.X_test))


def test_units_do_not_matter():
    d = toy(channels=2)
    scale, shift = np.array([[[100.0], [0.01]]]), np.array([[[5.0], [-3.0]]])
    a = FCNClassifier(**QUICK).fit(d.X_train, d.y_train).features(d.X_test)
    b = FCNClassifier(**QUICK).fit(d.X_train * scale + shift, d.y_train)
    assert_allclose(a, b.features(d.X_test * scale + shift), atol=2e-2, rtol=2e-2)


def test_it_is_an_estimator():
    fcn = FCNClassifier(lr=0.5, random_state=3)
    assert clone(fcn).get_params() == fcn.get_params() and fcn.set_params(epochs=2).epochs == 2


@pytest.mark.parametrize(
    "settings, y, message",
    [
        ({}, np.zeros(6), "one class only"),
        ({}, None, "y is None"),
        ({}, np.zeros(5), "5 labels for 6"),
        (dict(batch_size=0), [0, 1] * 3, "batch_size must be .* found 0"),
        (dict(precision="half"), [0, 1] * 3, "precision must be one of 'auto', .* found 'half'"),
    ],
)
def test_it_refuses(settings, y, message):
    with pytest.raises(ValueError, match=message):
        FCNClassifier(**settings).fit(np.ones((6, 1, 9)), y)


ODD_SETTINGS = dict(
    epochs=(0, True, 1.5, np.float64(3), None, "auto"),
    max_steps=(0, "all", 2.5, False),
    tol=(-1, math.nan, math.inf, "x", None),
    cool_down=(0, 1.5, True),
    batch_size=(0, 2.5, True, math.inf),
    lr=(0, -1, math.nan, "fast", True),
    weight_decay=(-1e-5, math.nan, None),
    precision=("f16", "half", None, 32),
    device=("nowhere", "meta", 0, True, 1.5, ["cpu"]),
    random_state=(-1, True, 1.5, "x", np.random.RandomState(0)),
    verbose=("yes", 1, None),
)


@pytest.mark.parametrize("name", FCNClassifier().get_params())
def test_every_setting_has_a_rule(name):
    X = np.ones((6, 1, 9))
    for odd in ODD_SETTINGS[name]:
        for refuse in (FCNClassifier.check_settings, lambda fcn: fcn.fit(X, [0, 1] * 3)):
            with pytest.raises(ValueError, match=f"^{name} must be .*, found "):
                refuse(FCNClassifier(**{name: odd}))


def test_settings_of_any_machine_pass():
    for fine in (
        dict(epochs=np.int64(3), batch_size=np.int32(4), tol=0, lr=np.float32(1e-3)),
        dict(device="cuda:7", precision="bfloat16", verbose=np.bool_(True)),  # of another machine
        dict(device=torch.device("cpu"), max_steps=None, random_state=np.int64(2)),
        dict(random_state=None, weight_decay=0, max_steps=np.int64(1)),
        PUBLISHED,
    ):
        FCNClassifier(**fine).check_settings()
    (one, two), settings = (np.random.default_rng(0) for _ in range(2)), FCNClassifier()
    settings.set_params(random_state=one).check_settings()
    assert one.random() == two.random(), "a check draws nothing"


def cut_off(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["refused", "failed", "cut off"])
def test_a_fit_that_fails_leaves_the_classifier_as_it_was(how, data, monkeypatch):
    kept, other = FCNClassifier(**QUICK).fit(data.X_train, data.y_train), toy(2, ("a", "b"))
    found, before = kept.predict_proba(data.X_test), dict(vars(kept))
    fresh, error = FCNClassifier(**QUICK), ValueError
    if how == "refused":
        kept.set_params(lr=-1)
        fresh.set_params(lr=-1)
    else:
        error = KeyboardInterrupt if how == "cut off" else RuntimeError
        fail = cut_off if how == "cut off" else lambda *a, **k: torch.ones(2) @ torch.ones(3)
        monkeypatch.setattr("ncvq_nb.evaluation.fcn_training.progress_bar", fail)
    for fcn in (kept, fresh):
        with pytest.raises(error):
            fcn.fit(other.X_train, other.y_train)
    assert vars(kept.set_params(lr=before["lr"])) == before
    assert_array_equal(kept.predict_proba(data.X_test), found)
    with pytest.raises(NotFittedError):
        fresh.predict(data.X_test)


def test_it_refuses_before_it_is_fitted_and_series_with_other_channels(data, fcn):
    for method in ("features", "predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(FCNClassifier(), method)(data.X_test)
    with pytest.raises(ValueError, match="channels"):
        fcn.predict(np.ones((2, 2, 20)))


@imitated
def test_it_trains_in_bfloat16(data):
    settings = dict(max_steps=40, batch_size=16, precision="bfloat16")
    fcn = FCNClassifier(**settings).fit(data.X_train, data.y_train)
    assert fcn.features(data.X_test).dtype == np.float32
    assert fcn.score(data.X_test, data.y_test) > 0.9


def test_real_series_pass_as_real():
    "Half of a real test set against the other half, with the classifier of the train set."
    d = load_ucr("ItalyPowerDemand")
    fcn = FCNClassifier(max_steps=60, batch_size=16).fit(d.X_train, d.y_train)
    assert fcn.score(d.X_test, d.y_test) > 0.9
    E = fcn.features(d.X_test[rng().permutation(1029)])
    half, other = E[:500], E[500:]
    assert fid(half, other) < 0.2 * fid(half, other * 1.5)
    assert diversity(half, other)["precision"] > 0.9


# The cache


def files(folder):
    "What lies there: name → the file's number, which is another when it was written again."
    return {p.name: p.stat().st_ino for p in folder.iterdir()}


def test_threads_wait_for_whoever_trains_it(tmp_path, monkeypatch):
    d, trained, fit = toy(), [], FCNClassifier.fit

    def slowly(self, X, y):
        trained.append(True)
        time.sleep(0.1)
        return fit(self, X, y)

    monkeypatch.setattr(FCNClassifier, "fit", slowly)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(fcn_for, d, cache_dir=tmp_path, **QUICK) for _ in range(3)]
        found = [run.result().predict(d.X_test) for run in runs]
    assert len(trained) == 1
    assert_array_equal(found[0], found[1])
    assert_array_equal(found[0], found[2])


def test_the_cached_classifier_is_the_one_that_was_trained(tmp_path):
    d = toy(names=("a", "b"))
    first = fcn_for(d, cache_dir=tmp_path, **QUICK)
    before = files(tmp_path)
    again = fcn_for(d, cache_dir=tmp_path, **QUICK)
    assert files(tmp_path) == before and [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]
    assert_array_equal(first.predict_proba(d.X_test), again.predict_proba(d.X_test))
    assert_array_equal(first.predict(d.X_test), again.predict(d.X_test))
    assert again.get_params() == first.get_params() and again.losses_ == first.losses_
    assert not again.network_.training


@pytest.mark.parametrize("change", ["series", "labels", "settings", "refresh", "test part"])
def test_it_is_trained_again_when_something_differs_that_matters(tmp_path, change):
    d, settings = toy(), dict(QUICK)
    fcn_for(d, cache_dir=tmp_path, **settings)
    before = files(tmp_path)
    if change == "series":
        d.X_train[0, 0, 0] += 1e-3
    elif change == "labels":
        d.y_train = d.y_train[::-1]
    elif change == "settings":
        settings["lr"] = 1e-4
    elif change == "refresh":
        settings["refresh"] = True
    else:
        d.X_test, d.y_test, settings["verbose"] = d.X_test[:2], d.y_test[:2], True
    fcn_for(d, cache_dir=tmp_path, **settings)
    after = files(tmp_path)
    assert len(after) == (1 if change in ("refresh", "test part") else 2)
    assert (after == before) == (change == "test part")


def test_the_names_of_cached_files_stay(tmp_path):
    "They hold a digest of settings, series and labels; with another, what is there goes unread."
    X, fcn = np.arange(24, dtype=np.float32).reshape(4, 1, 6), FCNClassifier(**QUICK)
    path = fcn_file(fcn, X, np.array([0, 1, 0, 1]), "a set/1", tmp_path)
    assert path.name == "fcn-a_set_1-d7dd1ff35457af52.safetensors"
    path = fcn_file(fcn, X, np.array(["a", "b", "a", "b"]), "x", tmp_path)
    assert path.name == "fcn-x-7f627f999b8547ba.safetensors"


def test_numbers_of_numpy_are_the_same_settings(tmp_path, data):
    fcn_for(data, cache_dir=tmp_path, epochs=5, lr=1e-4, **QUICK)
    before = files(tmp_path)
    numbers = dict(max_steps=np.int64(6), epochs=np.int32(5), lr=np.float64(1e-4))
    numbers |= dict(random_state=np.int64(0), precision=np.str_("float32"), tol=np.float32(0.5))
    tol = numbers.pop("tol")
    fcn_for(data, cache_dir=tmp_path, **numbers)
    assert files(tmp_path) == before
    for same in (tol, float(tol)):
        fcn_for(data, cache_dir=tmp_path, tol=same, **numbers)
    assert len(files(tmp_path)) == 2


def flip_bit(b):
    return b[:-9] + bytes([b[-9] ^ 1]) + b[-8:]


def change_settings(b):
    return b.replace(b'\\"mean\\": [', b'\\"mean\\": [1', 1)


def halve(b):
    return b[: len(b) // 2]


def forged(change):
    "The file with another header, whose checksum is right."

    def make(b):
        n = int.from_bytes(b[:8], "little")
        header, tensors = json.loads(b[8 : 8 + n]), load(b)
        config = change(json.loads(header["__metadata__"]["config"]))
        parts = [tensors[k].numpy() for k in sorted(tensors)]
        return save(tensors, {"config": config, "sha256": content_digest(config, *parts)})

    return make


def with_classes(*classes):
    return forged(lambda config: json.dumps({**config, "classes": classes}))


many_labels = with_classes(*range(10**5))
long_labels = with_classes(*["x" * 2**20] + ["y"] * 127)
long_header = forged(lambda config: json.dumps(config) + " " * 2**22)


@pytest.mark.parametrize(
    "damage, said",
    [
        (halve, ""),
        (lambda b: b"", ""),
        (lambda b: b"\xff" * 100, "header is larger"),
        (flip_bit, "checksum"),
        (change_settings, ""),
        (many_labels, "labels are too many or too long"),
        (long_labels, "labels are too many or too long"),
        (long_header, "header is larger"),
    ],
)
def test_a_damaged_file_is_replaced(tmp_path, damage, said, data, fcn):
    fcn_for(data, cache_dir=tmp_path, **QUICK)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert damage(content) != content
    path.write_bytes(damage(content))
    with pytest.warns(UserWarning, match=f"damaged .*{said}"):
        again = fcn_for(data, cache_dir=tmp_path, **QUICK)
    assert_array_equal(again.features(data.X_test), fcn.features(data.X_test))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fcn_for(data, cache_dir=tmp_path, **QUICK)


@posix
def test_a_pipe_in_the_cache_is_left_alone(tmp_path, data):
    fcn_for(data, cache_dir=tmp_path, **QUICK)
    (path,) = tmp_path.iterdir()
    path.unlink()
    os.mkfifo(path)
    with pytest.warns(UserWarning) as said:
        fcn_for(data, cache_dir=tmp_path, **QUICK)
    read, kept = (str(w.message) for w in said)
    assert "is a pipe" in read and "cannot be kept" in kept and "is a pipe" in kept
    assert path.is_fifo()


def test_the_folder_is_that_of_the_variable_or_none(tmp_path, monkeypatch, data):
    monkeypatch.setenv("NCVQ_CACHE", str(tmp_path / "a"))
    fcn_for(data, **QUICK)
    fcn_for(data, cache_dir=False, lr=1e-4, **QUICK)
    fcn_for(data, **{**QUICK, "random_state": np.random.default_rng(0)})
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_it_goes_on_where_it_cannot_write(tmp_path, data):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be kept"):
        fcn = fcn_for(data, cache_dir=tmp_path / "file" / "x", **QUICK)
    assert fcn.features(data.X_test).shape == (30, 128)


def test_it_needs_labels():
    with pytest.raises(ValueError, match="toy has no labels"):
        fcn_for(SimpleNamespace(name="toy", X_train=np.ones((3, 1, 9)), y_train=None))


def test_a_pickle_in_the_cache_is_replaced(tmp_path, data):
    ask = dict(cache_dir=tmp_path / "cache", max_steps=1, precision="float32")
    fcn_for(data, **ask)
    (path,) = ask["cache_dir"].iterdir()
    by_torch(path, tmp_path / "pwned")
    with pytest.warns(UserWarning, match="damaged"):
        fcn_for(data, **ask)
    assert not (tmp_path / "pwned").exists() and path.stat().st_size > 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fcn_for(data, **ask)


ODD = ["../../x", "{elsewhere}/x", "..", ".", "a/b", "a\\b", "a\0b", "a\nb", "CON", "x" * 300]
ODD += ["ü 漢", "$(touch pwned)", "-rf", "<b>|`"]


@pytest.mark.parametrize("name", ODD, ids=lambda n: repr(n)[:20])
def test_the_cache_stays_in_its_folder_whatever_a_set_is_called(tmp_path, name):
    (home := tmp_path / "a" / "cache").mkdir(parents=True)
    name = name.replace("{elsewhere}", str(tmp_path / "elsewhere"))
    small = as_dataset(sines(6, 20), name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fcn_for(small, cache_dir=home, max_steps=1, precision="float32")
    assert [p.parent for p in tmp_path.rglob("*") if p.is_file()] == [home]


@pytest.mark.filterwarnings("ignore:.*float32 is too coarse:UserWarning")
@fuzz(
    32,
    pair=series(sizes=((2, 5), (1, 2), (1, 12)), scales=st.integers(-40, 37)),
    batch=st.integers(0, 3),
    y=labels(st.integers(2, 5)),
    plain=st.booleans(),
    far=st.sampled_from([1, 1e20]),
)
def test_classifiers_are_fitted_or_refused(pair, batch, y, plain, far):
    X, want = pair
    given = [i % 2 for i in range(len(want))] if plain else y[1]
    f = FCNClassifier(max_steps=1, batch_size=batch, precision="float32", device="cpu")
    if tried(lambda: f.fit(X, given), "X", "y", "batch_size") is REFUSED:
        return
    P = f.predict_proba(X)
    assert P.shape == (len(want), len(f.classes_)) and np.allclose(P.sum(1), 1)
    assert set(f.predict(X)) <= set(f.classes_)
    tried(lambda: f.predict(want * far), "X")
