"""What `fit` reads and refuses, how it parts series in two, and whose run a folder holds."""

import json
import re
import shutil
import warnings
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import REFUSED, fuzz, hostile_series, series, tried
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from safetensors import safe_open
from sklearn.exceptions import NotFittedError
from toys import TINY, fingerprint, fitted, noise, says, sines, tiny

from ncvq_nb import NCVQ
from ncvq_nb.data import check_labels, check_series
from ncvq_nb.engine.checkpoints import save_checkpoint
from ncvq_nb.estimator import stages
from ncvq_nb.estimator.prepared import prepare
from ncvq_nb.io.storage import json_digest
from ncvq_nb.maskgit import SCHEDULES

coarse = pytest.mark.filterwarnings("ignore:.*float32 is too coarse:UserWarning")


@pytest.fixture(scope="module")
def model():
    return fitted()


# What is read


def test_lists_frames_and_tensors_are_read(model):
    X, y = sines()
    flat = tiny().fit(X[:, 0].astype(np.float64).tolist(), y.tolist())
    assert fingerprint(flat) == fingerprint(model)
    assert np.array_equal(flat.encode(X[:, 0]), model.encode(X))
    assert np.array_equal(model.transform(X.astype(object)), model.transform(X))
    pd = pytest.importorskip("pandas")
    forms = [
        (pd.DataFrame(X[:, 0]), pd.Series(y)),
        (torch.from_numpy(X), torch.from_numpy(y)),
    ]
    for form in forms:
        assert fingerprint(tiny().fit(*form)) == fingerprint(model)


def test_one_record_holds_all_that_is_trained_on():
    X, y = sines(names=["sit", "walk"])
    m = tiny(validation_fraction=0.25)
    record = prepare(m, 64 * X, y)
    assert record.classes.tolist() == ["sit", "walk"] and record.class_prior.tolist() == [0.5, 0.5]
    assert record.x.shape == (9, 1, 33) and record.x_valid.shape == (3, 1, 33)
    back = m.scaler_.inverse_transform(record.x.numpy())
    assert_allclose(back, 64 * X[record.rows], atol=1e-4)
    assert record.classes[record.y].tolist() == y[record.rows].tolist()
    whole = prepare(tiny(), X, None)
    assert whole.rows is whole.x_valid is whole.classes is None and not whole.y.any()
    assert whole.digest == prepare(tiny(), X.astype(float), None).digest


def test_two_and_three_series_are_enough():
    for ssl in (None, "barlow", "vicreg", "vibcreg"):
        for n in (2, 3):
            assert tiny(ssl).fit(*sines(n=n)).sample(2, random_state=0).shape == (2, 1, 33)


def test_constant_and_repeated_series():
    repeated = np.repeat(sines(n=1)[0], 6, 0)
    for X in (np.ones((6, 32)), np.zeros((6, 1, 32)), repeated, np.full((6, 32), 1e6)):
        m = tiny("barlow").fit(X)
        assert_allclose(m.sample(2).mean(), X.mean(), atol=3 * X.std() + 1e-3 * abs(X.mean()))


# What is refused


@pytest.mark.parametrize(
    "make, parts",
    [
        (
            lambda X: np.where(np.arange(12)[:, None, None] == 3, np.nan, X),
            ["X has no observed sample in series 3", "NaN"],
        ),
        (lambda X: np.where(np.arange(33) == 3, np.inf, X), ["X", "inf"]),
        (lambda X: X[0, 0], ["X", "shape (33,)"]),
        (lambda X: X[None], ["X", "shape"]),
        (lambda X: X[:, :, :1], ["X", "length 1", "2"]),
        (lambda X: X[:, 0].tolist()[:3] + [[None] * 33], ["missing", "sample in series 3"]),
        (lambda X: X[:0], ["X", "empty"]),
        (lambda X: X[:1], ["X", "1 series", "2"]),
        (lambda X: X.astype(str), ["X", "dtype"]),
        (lambda X: None, ["X", "None"]),
        (lambda X: [x[:, : 2 + i].T for i, x in enumerate(X)], ["X", "x.T for x in X"]),
    ],
    ids=[
        "nan",
        "inf",
        "one series",
        "four axes",
        "too short",
        "None among numbers",
        "empty",
        "a single one",
        "text",
        "none",
        "ragged",
    ],
)
def test_bad_series(make, parts, model):
    bad = make(sines()[0])
    with says(*parts):
        tiny(n_fft=None).fit(bad)
    if np.shape(bad if isinstance(bad, np.ndarray) else 0) == (1, 1, 33):
        return  # one series is enough here
    for method in (model.encode, model.transform, model.reconstruct, model.features):
        with says("X"):
            method(bad)


@pytest.mark.parametrize(
    "make, kind, parts",
    [
        (
            lambda X: X * 1j,
            ValueError,
            ["X", "Complex data not supported", "complex64", "channels"],
        ),
        (
            lambda X: np.where(np.arange(33) == 2, {"a": 1}, X[:, 0].astype(object)),
            TypeError,
            ["X", "object", "dict", "{'a': 1}"],
        ),
        (
            lambda X: np.where(np.arange(33) == 2, "1", X[:, 0].astype(object)),
            TypeError,
            ["X", "object"],
        ),
        (lambda X: X[0, 0], ValueError, ["X has shape (33,)", "Reshape your data", "X[None]"]),
        (lambda X: X[:, 0, :0], ValueError, ["X has 0 feature(s)", "(16, 0)", "2", "empty"]),
        (lambda X: X[:, 0, :1], ValueError, ["X has 1 feature(s)", "minimum of 2", "n_fft"]),
        (lambda X: X[:1], ValueError, ["X has 1 series", "n_samples=1", "2"]),
    ],
    ids=["complex", "objects", "text among objects", "flat", "empty", "short", "a single one"],
)
def test_words_scikit_learn_looks_for(make, kind, parts):
    with says(*parts, kind=kind):
        tiny(n_fft=None).fit(make(sines(n=16)[0]))


def test_sparse_matrices_are_refused(model):
    sparse, X = pytest.importorskip("scipy.sparse"), sines()[0]
    for make in (sparse.csr_matrix, sparse.coo_array):
        for call in (tiny().fit, model.transform, model.encode):
            with says("X is sparse", "toarray", kind=TypeError):
                call(make(X[:, 0]))


@pytest.mark.parametrize(
    "y, parts",
    [
        (range(5), ["y", "5 labels", "12"]),
        ([None] * 12, ["y"]),
        ([0.5] * 12, ["y", "0.5"]),
        (np.zeros((12, 3)), ["y", "shape (12, 3)"]),
        (["a"] * 11 + [""], ["y[11]", "missing"]),
        ([np.nan] * 12, ["y", "missing"]),
    ],
    ids=["too few", "None", "halves", "a matrix", "an empty one", "NaN"],
)
def test_bad_labels(y, parts):
    with says(*parts):
        tiny().fit(sines()[0], y)


def test_series_of_another_shape(model):
    for X in (np.zeros((3, 1, 32)), np.zeros((3, 2, 33))):
        for method in (model.encode, model.transform, model.reconstruct):
            with says("X has", "trained on 1 of length 33"):
                method(X)
        with says("X has", "trained on"):
            model.fit_prior(X)
    expected = "X has 32 features, but NCVQ is expecting 33 features as input"
    with says(expected, "trained on 1 of length 33"):
        model.transform(np.zeros((3, 32)))
    with says("X has 2 channels of length 33, but the model was trained on 1"):
        model.transform(np.zeros((3, 2, 33)))


# A part that is held out


def test_validation_split(model):
    m = fitted(validation_fraction=0.25)
    assert "valid_loss" in m.history_["tokenizer"]
    assert np.isfinite(m.history_["prior"]["valid_loss"]).all()
    assert "valid_loss" not in model.history_["prior"]


@pytest.mark.parametrize("ssl", [None, "barlow", "vicreg", "vibcreg"])
@pytest.mark.parametrize(
    "fraction, batch",
    [(0.05, 128), (0.42, 4)],
    ids=["one series held out", "one series in the last batch"],
)
def test_small_validation_splits_work(ssl, fraction, batch):
    settings = dict(validation_fraction=fraction, batch_size=batch)
    m = tiny(ssl, **settings).fit_tokenizer(sines()[0])
    assert np.isfinite(m.history_["tokenizer"]["valid_loss"]).all()


def test_a_validation_split_that_cannot_be_is_named():
    X, _ = sines()
    with says("validation_fraction=0.3", "set it to 0"):
        tiny(validation_fraction=0.3).fit(X, np.arange(len(X)))
    with says("validation_fraction 0.5", "leaves 1 of 2"):
        tiny("barlow", validation_fraction=0.5).fit(X[:2])


@pytest.mark.parametrize("labelled", [False, True])
def test_no_group_is_on_both_sides_of_the_validation_split(labelled):
    X, y = sines(n=16)
    subject = np.repeat([f"p{i}" for i in range(8)], 2)
    for seed in range(5):
        m = tiny(validation_fraction=0.25, random_state=seed)
        record = prepare(m, X, y if labelled else None, groups=subject)
        kept = record.rows.numpy()
        held = np.setdiff1d(np.arange(16), kept)
        assert len(held) == 4 and not set(subject[kept]) & set(subject[held])
        assert len(record.x_valid) == 4
    with says("validation_fraction=0.25", "a group to train on"):
        tiny(validation_fraction=0.25).fit(X, y, groups=y)
    with says("groups has 3 labels for 16 series"):
        tiny(validation_fraction=0.25).fit(X, y, groups=subject[:3])


def test_groups_belong_to_a_run(tmp_path):
    (X, y), m = sines(n=16), tiny(epochs=1, validation_fraction=0.25)
    one, other = np.arange(16) // 2, np.arange(16) // 4
    m.fit(X, y, groups=one, run_dir=tmp_path)
    assert np.isfinite(m.history_["prior"]["valid_loss"]).all()
    with says("groups was"):
        m.fit(X, y, groups=other, run_dir=tmp_path)
    with says("groups"):
        m.fit(X, y, run_dir=tmp_path)


# What is allowed, and looks like a mistake


def heard(X, **settings):
    "What is said of series that are prepared for training, without training on them."
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        prepare(tiny(**settings), X, None)
    assert all(issubclass(w.category, UserWarning) for w in seen)
    return [str(w.message) for w in seen]


def test_channels_on_the_last_axis_are_seen():
    X = noise(12, 9, 128)[0]
    (said,) = heard(X)
    assert "128 channels of length 9" in said and "X.transpose(0, 2, 1)" in said
    assert not heard(X.transpose(0, 2, 1))
    with says("12 channels of length 3", "X.transpose(0, 2, 1)", "n_fft=2"):
        prepare(tiny(n_fft=None), X[:, :12, :3], None)
    assert len(heard(X[:, :12, :3], n_fft=2)) == 1
    with pytest.warns(UserWarning, match="transpose") as seen:
        tiny(epochs=1).fit(X[:, :10])
    assert seen[0].filename == __file__  # the caller's line


@pytest.mark.parametrize("marks", [[-9999] * 2, [1e30], [-9999, 9999], [-999, -99999, -999]])
def test_marks_for_missing_values_are_seen(marks):
    X, _ = sines(channels=2)
    assert not heard(X)
    X[range(len(marks)), 1, 5] = marks
    (said,) = heard(X)
    assert "in channel 1" in said and "far from all other values (-1." in said
    assert all(f"{m:g} ({marks.count(m)} times)" in said for m in marks)


def test_healthy_extremes_are_no_marks():
    r = np.random.default_rng(0)
    steps = (r.random((20, 30)) < 0.1) * 5.0
    quiet, loud = r.normal(size=(50, 100)), r.uniform(5, 60, (50, 100))
    spikes = np.where(r.random((50, 100)) < 0.01, loud, quiet)
    for X in (steps, spikes, r.lognormal(0, 2, (50, 100)), r.poisson(0.1, (50, 100))):
        assert not heard(X)
    assert not heard(np.ones((5, 30)))


# The window of the STFT


@pytest.mark.parametrize("length, window", [(2, 2), (3, 2), (5, 4), (8, 4), (33, 4)])
def test_the_default_window_is_as_long_as_short_series_allow(length, window):
    m = tiny(n_fft=None, epochs=1, sampling_steps=1)
    m.data_ = dict(channels=1, length=length)
    with torch.random.fork_rng():
        assert stages.new_tokenizer(m).config["n_fft"] == window
    assert m.n_fft is None  # the parameter stays as it was given


def test_the_window_that_was_used_is_what_is_noted(tmp_path):
    X, y = sines()
    m = tiny(epochs=1, n_fft=None).fit(X, y, run_dir=tmp_path / "run")
    same = tiny(epochs=1, n_fft=4).fit(X, y, run_dir=tmp_path / "run")  # one run for both
    assert fingerprint(same) == fingerprint(m) == fingerprint(tiny(epochs=1, n_fft=4).fit(X, y))
    m.save(tmp_path / "m")
    noted = json.loads((tmp_path / "m" / "config.json").read_text())
    assert noted["settings"]["n_fft"] == noted["modules"]["tokenizer"]["n_fft"] == 4
    assert NCVQ.load(tmp_path / "m").n_fft == 4 and m.n_fft is None
    short = tiny(epochs=1, n_fft=None, sampling_steps=1).fit(X[..., :5], y)
    assert short.sample(2).shape == (2, 1, 5) and short.tokenizer_.config["n_fft"] == 4


# Channels that never change


def test_a_constant_channel_comes_back_constant(tmp_path):
    X, y = sines(channels=3)
    X[:, 1], X[:, 2] = 0.1, 1e6
    m = tiny(epochs=1, sampling_steps=1).fit(X, y)
    m.save(tmp_path / "m")
    for model in (m, NCVQ.load(tmp_path / "m")):
        for new in (model.sample(5, random_state=0), model.reconstruct(X)):
            assert (new[:, 1] == np.float32(0.1)).all() and (new[:, 2] == 1e6).all()
            assert new[:, 0].std() > 0
    assert json.loads((tmp_path / "m" / "config.json").read_text())["scaler"]["constant"] == [
        False,
        True,
        True,
    ]


# What is left of a model when fitting ends too soon


def stopped(*args, **kw):
    raise KeyboardInterrupt


def test_an_interrupted_refit_leaves_no_mixture(monkeypatch):
    "Either the model of before, or none; not the old networks with the new scaler."
    X, y = sines()
    m = fitted()
    want = m.reconstruct(X)
    monkeypatch.setattr(stages, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        m.fit(100 * X, y)
    try:
        got = m.reconstruct(X)
    except NotFittedError:
        return
    assert_allclose(got, want, atol=1e-5)


def test_a_refused_refit_leaves_the_model_as_it_was():
    X, y = sines()
    m = fitted()
    state, want = fingerprint(m), m.reconstruct(X)
    with says("y has 3 labels"):
        m.fit(100 * X, y[:3])
    assert fingerprint(m) == state and np.array_equal(m.reconstruct(X), want)


# Whose run it is


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny(epochs=1).fit(*sines(n=4, length=16), run_dir=folder)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        dict(n_codes=9),
        dict(epochs=0.5),
        dict(ssl=None),
        dict(random_state=1),
        dict(prior_dim=64),
        dict(lr=2e-3),
        dict(augment="slice"),
    ],
    ids=str,
)
def test_a_run_with_other_settings_is_refused(run, change):
    name, value = next(iter(change.items()))
    with says(str(run), name, repr(value), "take another folder"):
        tiny(**{"epochs": 1, **change}).fit(*sines(n=4, length=16), run_dir=run)


def test_a_run_on_other_data_is_refused(run):
    X, y = sines(n=4, length=16)
    for X2, y2 in ((X + 1, y), (X[:3], y[:3]), (X, 1 - y), (X, None)):
        with says(str(run), "data"):
            tiny(epochs=1).fit(X2, y2, run_dir=run)


def test_a_run_with_another_callable_is_refused(tmp_path):
    def quiet(x, generator=None):
        return x + 0.1

    def loud(x, generator=None):
        return x + 0.2

    tiny("barlow", quiet).fit_tokenizer(*sines(), run_dir=tmp_path)
    with says("augment was", "quiet", "loud"):
        tiny("barlow", loud).fit_tokenizer(*sines(), run_dir=tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_damaged_settings_of_a_run_are_named(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with says("settings.json", "damaged", "take another folder"):
        tiny(epochs=1).fit(*sines(n=4, length=16), run_dir=tmp_path)


def test_changed_settings_of_a_run_are_noticed(run, tmp_path):
    text = (run / "settings.json").read_text()
    assert '"dim": 8' in text
    (tmp_path / "settings.json").write_text(text.replace('"dim": 8', '"dim": 9'))
    with says("settings.json", "checksum"):
        tiny(epochs=1, dim=9).fit(*sines(n=4, length=16), run_dir=tmp_path)


def test_a_run_whose_folder_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises((ValueError, OSError)):
        tiny().fit(*sines(), run_dir=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


def as_before(run):
    "The settings of a run under the old name of dead_code_threshold, with their checksum."
    path = run / "settings.json"
    noted = json.loads(path.read_text(encoding="utf-8"))
    del noted["sha256"]
    noted["revive_below"] = noted.pop("dead_code_threshold")
    text = json.dumps({**noted, "sha256": json_digest(noted)})
    path.write_text(text, encoding="utf-8")


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    X, y = sines()
    whole = tiny().fit(X, y, run_dir=tmp_path)
    as_before(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("checkpoint-*")}
    assert fingerprint(tiny().fit(X, y, run_dir=tmp_path)) == fingerprint(whole)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("checkpoint-*")}
    with says("dead_code_threshold was 0.02, now 0.5"):
        tiny(dead_code_threshold=0.5).fit(X, y, run_dir=tmp_path)


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory):
    "A run of an earlier version that was cut off in stage 1 and goes on: the whole one, and that."
    (X, y), folder = sines(), tmp_path_factory.mktemp("cut off")
    whole = tiny().fit(X, y, run_dir=folder, checkpoint_every=0)
    shutil.rmtree(folder / "prior")
    first, last = sorted((folder / "tokenizer").glob("checkpoint-*"))
    last.unlink()
    with safe_open(first, "pt") as f:
        meta, t = json.loads(f.metadata()["ncvq_nb"]), {k: f.get_tensor(k) for k in f.keys()}
    history = meta["history"]
    history["spread"] = history.pop("projection_std")
    save_checkpoint(first.parent, meta["step"], t, meta)
    as_before(folder)
    return whole, tiny().fit(X, y, run_dir=folder)


def test_a_run_of_an_earlier_version_that_was_cut_off_goes_on(cut_off):
    whole, again = cut_off
    assert fingerprint(again) == fingerprint(whole)


def test_columns_of_a_run_of_an_earlier_version_have_their_names_of_today(cut_off):
    whole, again = cut_off
    columns = set(whole.history_["tokenizer"])
    assert "projection_std" in columns and set(again.history_["tokenizer"]) == columns
    for k in columns - {"seconds"}:
        assert again.history_["tokenizer"][k] == whole.history_["tokenizer"][k]


# Any series, labels and settings


def test_there_are_five_thousand_cases_and_more():
    "All that `fuzz` makes in all test files, where NCVQ_THOROUGH is set."
    code = "\n".join(p.read_text("utf-8") for p in Path(__file__).parent.glob("test_*.py"))
    cases = [int(n) for n in re.findall(r"^@fuzz\(\s*(\d+)", code, re.M)]
    assert sum(cases) >= 5000 and len(cases) == len(re.findall(r"^@fuzz\(", code, re.M))


@pytest.fixture(scope="module")
def two_channels():
    return tiny(device="cpu").fit(*sines(channels=2))


NEAR = series(sizes=((1, 4), (2, 2), (33, 33)), scales=st.integers(-44, 38))
FAR = series(sizes=((1, 3), (1, 3), (32, 34)), scales=st.integers(-300, 300), dtypes=("f8",))


@coarse
@fuzz(300, X=st.one_of(hostile_series(), NEAR.map(itemgetter(0)), FAR.map(itemgetter(0))))
def test_series_are_encoded_or_refused(two_channels, X):
    m = two_channels
    s = tried(lambda: m.encode(X), "X")
    if s is REFUSED:
        for f in (m.transform, m.reconstruct, m.features):
            assert tried(lambda: f(X), "X") is REFUSED
        return
    n = len(s)
    assert s.dtype == np.int64 and s.shape == (n, m.tokenizer_.n_tokens)
    assert 0 <= s.min() and s.max() < 8
    X_hat = tried(lambda: m.decode(s), "-")
    assert X_hat.shape == (n, 2, 33) and X_hat.dtype == np.float32 and np.isfinite(X_hat).all()
    assert m.encode(X_hat).shape == s.shape
    if np.abs(m.scaler_.transform(X)).max() < 100:
        assert_allclose(m.reconstruct(X), X_hat, atol=1e-4)
    for Z in (m.transform(X), m.features(X, quantised=False)):
        assert Z.shape == (n, 16) and Z.dtype == np.float32 and np.isfinite(Z).all()


def test_series_far_away_are_seen_through_their_tokens(two_channels):
    "What the network makes of them is large, the codes are not: nothing of the former may remain."
    m, X = two_channels, 1e8 * noise(3, 33, 2)[0]
    s = m.encode(X)
    assert_allclose(m.reconstruct(X), m.decode(s), atol=1e-4)
    codes = m.tokenizer_.codebook[torch.from_numpy(s)]
    assert_allclose(m.transform(X), torch.cat([codes.mean(1), codes.amax(1)], 1), atol=1e-4)


CHOICES = dict(
    ssl=[None, "barlow", "vicreg", "vibcreg"],
    augment=[None, "warp", "slice", "gauss"],
    n_fft=[4, 8, None, 16, np.int64(8), 6],
    dim=[1, 8, np.int32(8)],
    n_res_blocks=[0, 1],
    n_codes=[1, 2, 8],
    decay=[0, 0.9, np.float32(0.5)],
    dead_code_threshold=[0, 0.02, 2.0],
    orthogonality=[0, 1],
    projector_dim=[1, 16],
    prior_dim=[1, 16, np.int64(16)],
    prior_depth=[0, 1],
    prior_heads=[1, 2],
    prior_dropout=[0, 0.5],
    mask_schedule=list(SCHEDULES),
    p_unconditional=[0, 0.2, 1],
    finetune_codebook=[True, False],
    epochs=[0.1, 1, (1, 2), [2, 1]],
    batch_size=[1, 2, 3, 64, (2, 64)],
    lr=[1e-3, (1e-2, 1e-4)],
    validation_fraction=[0, 0, 0.2, 0.5, 0.9],
    unconditional=["ancestral", "null"],
    precision=["float32"] * 4 + ["bfloat16"],
    random_state=[0, None, 2**40],
)
FITTABLE = st.one_of(
    series(sizes=((2, 6), (1, 2), (4, 60)), scales=st.one_of(st.just(0), st.integers(-44, 37))).map(
        lambda p: p[0]
    ),
    series(sizes=((1, 4), (1, 2), (4, 50)), scales=st.integers(-300, 300), dtypes=("f8",)).map(
        lambda p: p[0]
    ),
    hostile_series(),
    st.integers(60, 5000).map(lambda l: np.sin(np.arange(3 * l)).reshape(3, l)),
)
LABELLINGS = st.one_of(
    st.none(),
    st.integers(0, 3).map(lambda k: lambda n: [i % (k + 1) for i in range(n)]),
    st.sampled_from(
        [
            lambda n: list("abcdefgh"[:n]),
            lambda n: ["one"] * n,
            lambda n: np.arange(n) - 2.0,
            lambda n: np.arange(n) % 2 == 0,
            lambda n: [0] * (n - 1) + [7],
            lambda n: [None] * n,
            lambda n: [0.5] * n,
            lambda n: [2**60, -(2**60), 3, 3, 3, 3][:n],
            lambda n: range(n - 1),
            lambda n: [b"x"] * n,
        ]
    ),
)
SETTINGS = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in CHOICES.items()})


@coarse
@fuzz(250, X=FITTABLE, y=LABELLINGS, chosen=SETTINGS)
def test_models_are_fitted_or_refused(X, y, chosen):
    n = len(X) if hasattr(X, "__len__") else 0
    m = NCVQ(**{**TINY, "epochs": 1, "device": "cpu", **chosen})
    if tried(lambda: m.fit(X, None if y is None else y(n)), "X", "y", *CHOICES) is REFUSED:
        with pytest.raises(NotFittedError):
            m.sample(1)
        return
    A = check_series(X, missing=True)
    assert all(np.isfinite(v).all() for h in m.history_.values() for v in h.values())
    assert m.encode(X).shape == (n, m.tokenizer_.n_tokens)
    assert m.transform(X).shape == (n, 2 * m.dim)
    X_hat = tried(lambda: m.reconstruct(X), "range of float32")
    if X_hat is not REFUSED:
        assert X_hat.shape == A.shape and X_hat.dtype == np.float32
        assert np.isfinite(X_hat[~np.isnan(A)]).all()
    label = None
    if y is not None:
        assert m.classes_.tolist() == sorted(set(check_labels(y(n), n).tolist()))
        assert abs(m.class_prior_.sum() - 1) < 1e-9
        label = m.classes_[-1]
    ask = dict(random_state=0, sampling_steps=2)
    new = tried(lambda: m.sample(2, label, **ask), "range of float32")
    if new is not REFUSED:
        assert new.shape == (2, *A.shape[1:]) and new.dtype == np.float32
        assert "lengths" in m.data_ or np.isfinite(new).all()
        assert not np.isinf(new).any() and np.isfinite(new[..., 0]).all()


def test_healthy_series_raise_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny().fit(*noise())


@pytest.mark.parametrize("more", [dict(log_every=0), dict(log_every="x"), dict(log_every=2.5)])
def test_how_often_a_run_is_heard_of_is_checked_before_training(more):
    with says("log_every must be None or a whole number of at least 1", repr(more["log_every"])):
        tiny().fit(noise()[0], **more)
    for pause in (-1, float("nan"), "x"):
        with says("checkpoint_every must be None or a number from 0", repr(pause)):
            tiny().fit(noise()[0], checkpoint_every=pause)


def test_what_is_too_short_or_one_group_is_named():
    for X in (np.zeros((4, 1, 48)), np.zeros((4, 48))):
        with says("a minimum of 128 is required", "n_fft=128"):
            tiny(n_fft=128).fit(X)
    with says("groups names one group only", "fit without groups"):
        tiny(validation_fraction=0.3).fit(noise()[0], groups=["p1"] * len(noise()[0]))


def test_a_folder_of_a_run_is_told_from_a_model(tmp_path):
    run = tmp_path / "run"
    model = tiny().fit(noise()[0], run_dir=run)
    with says("the folder of a run", "save writes a model", kind=FileNotFoundError):
        NCVQ.load(run)
    model.save(run / "model")
    with says("whose model is", str(run / "model"), kind=FileNotFoundError):
        NCVQ.load(run)
