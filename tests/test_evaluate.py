"""`evaluate` says what the parts say, with what a model and its data allow, and changes nothing"""

import io
import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from ncvq_nb.data import Dataset
from ncvq_nb.evaluation.cas import cas
from ncvq_nb.evaluation.diversity import diversity
from ncvq_nb.evaluation.evaluate import evaluate
from ncvq_nb.evaluation.fcn import FCNClassifier, PUBLISHED
from ncvq_nb.evaluation.fid_floor import fid_floor
from ncvq_nb.evaluation.memorisation import memorisation
from ncvq_nb.evaluation.present import present
from ncvq_nb.evaluation.report import Report
from ncvq_nb.evaluation.roughness import roughness
from ncvq_nb.evaluation.session import trained_elsewhere
from ncvq_nb.evaluation.shares import class_weights
from ncvq_nb.metrics import fid, probe, reconstruction_error
from ncvq_nb.vq import codebook_usage
from toys import global_state, says, tiny, weights

QUICK = dict(max_steps=6, tol=0.0, batch_size=16, precision="float32")
ARGS = dict(fcn=QUICK, n_resamples=2, cas_total=60, n_cas=1, cache_dir=False, verbose=False)

TOKENIZER = ["reconstruction MSE", "reconstruction error", "STFT MSE"]
PROBES = [f"{k} {f}" for f in ("quantised", "continuous") for k in ("KNN", "SVM")]
CODES = ["codebook usage", "codebook perplexity"]
DIVERSITY = ["precision", "recall", "density", "coverage"]
SAMPLES = ["FID", "FID at train size", "IS", *DIVERSITY]
CLASSES = ["CAS", "agreement", *(f"{k} within class" for k in DIVERSITY)]
SERIES = ["memorisation", "near copies", "roughness", "high-frequency power"]


def rng(seed=0):
    return np.random.default_rng(seed)


def toy(n=24, m=30, channels=1, length=20, classes=(0, 1), seed=0):
    "Sines whose frequency is the class, at random phases, with noise."
    r, t = rng(seed), np.arange(length) / length

    def part(n):
        y = np.arange(n) % len(classes)
        phase = t + r.random((n, channels, 1))
        X = np.sin(2 * np.pi * (1 + y[:, None, None]) * phase)
        return X + 0.1 * r.normal(size=X.shape), np.array(classes)[y]

    return Dataset("toy", *part(n), *part(m))


class Model(nn.Module):
    "A stand-in with every method of the estimator, and a buffer that would move in train mode."

    n_codes = 8

    def __init__(self, data, noise=0.1):
        super().__init__()
        self.X, self.y, self.noise = data.X_train, data.y_train, noise
        self.classes_ = None if self.y is None else np.unique(self.y)
        self.norm = nn.BatchNorm1d(data.X_train.shape[1]).eval()
        self.asked = []

    @torch.no_grad()
    def reconstruct(self, X):
        return 0.9 * self.norm(torch.as_tensor(X)).numpy()

    def features(self, X, quantised=True):
        return np.round(X.mean(1), int(not quantised))

    def encode(self, X):
        return np.digitize(X[:, 0, ::4], [-1, -0.5, 0, 0.5])

    def sample(self, n, y=None, random_state=None):
        self.asked.append((n, y, random_state))
        r = rng(random_state)
        if y is None:
            rows = r.integers(0, len(self.X), n)
        else:
            rows = [r.choice(np.flatnonzero(self.y == c)) for c in np.broadcast_to(y, n)]
        return self.X[rows] + self.noise * r.normal(size=(n, *self.X.shape[1:]))


@pytest.fixture(autouse=True)
def global_generators_stay():
    before = global_state()
    yield
    assert global_state() == before


def names(report):
    return [r.metric for r in report]


def notes(report):
    "All but those about a classifier that six steps do not make a good judge."
    return " ".join(n for n in report.notes if not n.startswith("The classifier behind"))


# What a report holds


def test_a_report_has_every_metric_beside_a_reference_value(tmp_path):
    d = toy()
    model = Model(d)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = evaluate(model, d, **ARGS | dict(n_resamples=10, n_cas=2))
    assert names(report) == TOKENIZER + PROBES + CODES + SAMPLES + CLASSES + SERIES
    assert all(r.references and r.better and math.isfinite(r.value) for r in report)
    for r in report:
        if math.isfinite(r.low) and r.metric not in ("IS", "recall", "coverage"):
            assert r.low <= r.value <= r.high
        assert ", " not in r.metric  # which parts a metric from its reference in a table
    kinds = {k for r in report for k in (v.kind for v in r.references)}
    assert kinds == {"floor", "ceiling", "constant", "raw series", "tokenizer", "train"}
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    asked = [(n, None if y is None else len(y)) for n, y, _ in model.asked]
    assert asked == 10 * [(30, None)] + 2 * [(60, 60)]  # ten sets, and two training sets of CAS
    assert notes(report) == "" and report.settings["n_test"] == 30
    assert report.settings["classifier"]["steps"] == 6 and report.settings["protocol"] == "matched"
    assert repr(Report.load(report.save(tmp_path / "r"))) == repr(report)


def test_without_cas_all_other_figures_are_what_they_were():
    d = toy()
    models = Model(d), Model(d)
    whole, without = (evaluate(m, d, **ARGS | dict(n_cas=n)) for m, n in zip(models, (1, 0)))
    assert "CAS" in whole and len(models[0].asked) == len(models[1].asked), "as many samples"
    assert names(without) == [n for n in names(whole) if n != "CAS"]
    assert list(without) == [r for r in whole if r.metric != "CAS"]
    assert notes(without) == "No CAS: n_cas is 0." and without.settings["n_cas"] == 0


def test_a_report_says_what_the_parts_say():
    d, settings = toy(), dict(max_steps=25, precision="float32")
    model = Model(d, noise=2.0)
    report = evaluate(model, d, **ARGS | dict(fcn=settings))
    fcn = FCNClassifier(**settings).fit(d.X_train, d.y_train)
    X_hat = model.reconstruct(d.X_test)
    found = {r.metric: r.value for r in report}
    assert found["reconstruction error"] == reconstruction_error(d.X_test, X_hat)["relative"]
    Z, Z_test = (model.features(X, False) for X in (d.X_train, d.X_test))
    accuracy = probe(Z, d.y_train, Z_test, d.y_test)
    assert found["KNN continuous"] == pytest.approx(accuracy["knn"])
    assert found["SVM continuous"] == pytest.approx(accuracy["svm"])
    s = model.encode(np.concatenate([d.X_train, d.X_test]))
    assert found["codebook perplexity"] == codebook_usage(s, 8)[1]

    assert len({s for _, _, s in model.asked}) == len(model.asked)  # other series every time
    asked, (total, y, t) = model.asked[:10], model.asked[10]
    series = [model.sample(n, random_state=s).astype(np.float32) for n, _, s in asked]
    sets = [fcn.features(X) for X in series]
    E_train, E_test, E_hat = (fcn.features(X) for X in (d.X_train, d.X_test, X_hat))
    row = report["FID"]
    assert row.value == pytest.approx(np.mean([fid(E, E_test) for E in sets]))
    expected = dict(train=fid(E_train, E_test), tokenizer=fid(E_hat, E_test))
    assert {r.kind: r.value for r in row.references[1:]} == pytest.approx(expected)
    assert row.floor == pytest.approx(fid_floor(E_test, 30), rel=0.5)
    assert report["FID at train size"].floor == pytest.approx(expected["train"])
    assert found["density"] == pytest.approx(diversity(E_test, sets[0])["density"])
    X_y = model.sample(total, y, random_state=t)
    score = cas(X_y, y, d.X_test, d.y_test, **settings)
    assert found["CAS"] == pytest.approx(score) and score < report["CAS"].ceiling
    assert report["CAS"].ceiling == pytest.approx(fcn.score(d.X_test, d.y_test))
    copies = memorisation(series[0], d.X_train, d.X_test)
    assert found["near copies"] == pytest.approx(copies["copies"])
    assert found["memorisation"] == pytest.approx(copies["share"], abs=0.1)
    assert found["agreement"] == pytest.approx((fcn.predict(X_y) == y).mean())
    assert found["roughness"] == pytest.approx(roughness(series[0], d.X_test)["roughness"])


def test_equal_seeds_make_equal_reports_and_all_look_through_one_classifier(tmp_path):
    d = toy()
    a, b = (evaluate(Model(d), d, random_state=s, **ARGS) for s in (1, 2))
    assert float(a["FID"]) != float(b["FID"]) and a["FID"].floor == b["FID"].floor
    cached = evaluate(Model(d), d, random_state=1, **ARGS | dict(cache_dir=tmp_path))
    assert a.to_dict() == cached.to_dict() and len(list(tmp_path.iterdir())) == 1
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    given = evaluate(Model(d), d, random_state=1, **ARGS | dict(fcn=fcn))
    assert a.to_dict() == given.to_dict()


# With classes, with other numbers, with another interval


def test_conditional_samples_have_the_classes_of_the_test_set():
    d = toy(classes=("a", "b", "c"), n=30)
    model = Model(d)
    report = evaluate(model, d, conditional=True, n_samples=np.int64(12), **ARGS)
    n, asked, _ = model.asked[0]
    assert n == len(asked) == 12 and "FID at train size" not in report
    assert json.dumps(report.to_dict()) and report.settings["n_samples"] == 12
    for label, k in zip(*np.unique(d.y_test, return_counts=True)):
        assert abs((asked == label).sum() - 12 * k / len(d.y_test)) < 1


def test_fid_and_floor_have_equal_class_shares():
    "Weighted by hand; with the shares as they are, FID says how often the classes occur."
    d, far = toy(n=24, m=60), 3.0 * np.ones((1, 20))
    rows = np.r_[0:60:2, 1:13:2]  # of class 0 all, of class 1 a fifth
    test = d.X_test[rows], d.y_test[rows]
    shifted = [X + far * y[:, None, None] for X, y in ((d.X_train, d.y_train), test)]
    d = Dataset("toy", shifted[0], d.y_train, shifted[1], test[1])
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    how = ARGS | dict(fcn=fcn)
    E, E_test = fcn.features(d.X_train), fcn.features(d.X_test)
    w = np.where(d.y_test == 0, 0.5 / 30, 0.5 / 6)
    report, published, asked = (
        evaluate(Model(d), d, **how, **change)
        for change in ({}, dict(protocol="published"), dict(conditional=True))
    )
    trained = [
        next(v for v in r["FID"].references if v.kind == "train")
        for r in (report, published, asked)
    ]
    assert trained[0].value == pytest.approx(fid(E, E_test, weights_B=w))
    assert trained[1].value == pytest.approx(fid(E, E_test))
    assert float(report["FID"]) < 0.5 * float(published["FID"])
    w = class_weights(d.y_train, d.y_test)
    assert trained[2].value == pytest.approx(fid(E, E_test, weights_A=w))
    said = [v.what.split(", ")[-1] for v in trained]
    assert said == [f"class shares {how}" for how in ("of train", "as they are", "of test")]


def test_the_published_protocol_has_one_set_and_the_published_classifier(monkeypatch):
    d, asked = toy(), []

    def fit(data, *, cache_dir, **settings):
        asked.append(settings)
        return FCNClassifier(**QUICK).fit(data.X_train, data.y_train)

    monkeypatch.setattr(sys.modules[evaluate.__module__], "fcn_for", fit)
    how = {k: v for k, v in ARGS.items() if k not in ("fcn", "n_cas")}
    model = Model(d)
    evaluate(model, d, protocol="published", **how)
    assert asked == [PUBLISHED] and [n for n, _, _ in model.asked] == [30, 60]
    for change in (dict(n_samples=20), dict(conditional=True)):
        with says(f"{[*change][0]} is", "protocol='published' does not allow"):
            evaluate(model, d, protocol="published", **ARGS | change)


def test_a_classifier_that_is_no_good_judge_is_noted():
    d = toy()
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    fcn.tol, fcn.losses_ = 0.02, [0.5] * 30
    report = evaluate(Model(d), d, **ARGS | dict(fcn=fcn))
    assert any("stopped after 30 steps at a training loss of 0.5" in n for n in report.notes)
    with torch.no_grad():
        fcn.network_[-1].weight.zero_()  # knows one class only
    report = evaluate(Model(d), d, **ARGS | dict(fcn=fcn))
    assert any("is weak: its accuracy on real test is 0.500, that of" in n for n in report.notes)


def test_an_interval_of_cas_covers_its_classifiers():
    d = toy()
    report = evaluate(Model(d, noise=2.0), d, **ARGS | dict(n_cas=3))
    one = [evaluate(Model(d, noise=2.0), d, random_state=s, **ARGS)["CAS"] for s in (0, 1)]
    row = report["CAS"]
    assert row.low < row.value < row.high and row.high - row.low > 0.05
    assert one[0].value != one[1].value


# With gaps


def test_generated_series_have_the_gaps_of_their_class():
    "Copies of train are seen as such, though a model returns them complete."
    d, t = toy(length=21), np.arange(21)
    gaps = np.stack([t % 3 > 0, t % 3 < 2])[:, None]  # (2, 1, 21), of either class
    parts = (d.X_train, d.y_train), (d.X_test, d.y_test)
    G, G_test = (np.where(gaps[y], np.nan, X) for X, y in parts)
    data, found = Dataset("gaps", G, d.y_train, G_test, d.y_test), []
    for X in (d.X_train, G):  # complete, and with gaps of their own, which they keep
        model = Model(Dataset("copies", X, d.y_train), noise=0.0)
        only = SimpleNamespace(sample=model.sample)
        found.append(evaluate(only, data, conditional=True, **ARGS))
    assert found[0]["near copies"].value == 1 and found[0].to_dict() == found[1].to_dict()
    assert "those of a train series, of its class" in notes(found[0])


# What cannot be done


def test_without_labels_there_is_no_classifier():
    d = toy()
    d = Dataset("toy", d.X_train, None, d.X_test)
    report = evaluate(Model(d), d, **ARGS)
    assert names(report) == TOKENIZER + CODES + SERIES and "no labels" in notes(report)
    one = toy(classes=(3,))
    report = evaluate(Model(one), one, **ARGS)
    assert names(report) == TOKENIZER + CODES + SERIES and "one class only (3)" in notes(report)
    for data in (d, one):
        with says("conditional=True needs data with labels"):
            evaluate(Model(data), data, conditional=True, **ARGS)


def test_a_model_that_was_fitted_without_labels_has_no_cas():
    d = toy()
    model = Model(d)
    model.classes_ = None
    report = evaluate(model, d, n_samples=200, **ARGS)
    assert names(report) == TOKENIZER + PROBES + CODES + SAMPLES + SERIES
    assert "does not know the classes" in notes(report)


def test_classes_that_are_missing_are_named():
    d = toy(classes=(0, 1, 2))
    few = dict(n_samples=200, **ARGS)
    test = d.X_test[d.y_test < 2], d.y_test[d.y_test < 2]
    train = d.X_train[d.y_train < 2], d.y_train[d.y_train < 2]
    lost = Dataset("toy", d.X_train, d.y_train, *test)
    knows_two = Model(d)
    knows_two.classes_ = np.array([0, 1])
    report = evaluate(knows_two, lost, **few)
    assert "no series of class 2" in notes(report)
    assert "does not know class 2" in notes(report) and set(knows_two.asked[-1][1]) == {0, 1}
    new = Dataset("toy", *train, d.X_test, d.y_test)
    report = evaluate(Model(new), new, conditional=True, **few)
    assert "does not have (2) count as wrong" in notes(report)
    assert report["CAS"].ceiling <= 2 / 3 + 1e-9


def test_notes_name_some_of_many_classes():
    d, many = toy(n=60, m=3, length=9), np.array([f"{'x' * 200}{i}" for i in range(60)])
    d = Dataset("many", d.X_train[:60], many, d.X_test[:2], many[:2])
    model = SimpleNamespace(encode=Model(d).encode)
    report = evaluate(model, d, **ARGS | dict(fcn=dict(max_steps=1)))
    assert "(58 in all)" in notes(report) and len(notes(report)) < 1500


def test_several_channels_and_hardly_any_series():
    d = toy(n=4, m=3, channels=3, length=9)
    report = evaluate(Model(d), d, **ARGS)
    assert set(names(report)) >= {*TOKENIZER, *PROBES, "FID", "IS", "CAS", *SERIES}


def test_it_does_what_the_model_can():
    d = toy()
    report = evaluate(SimpleNamespace(sample=Model(d).sample), d, n_samples=200, **ARGS)
    assert names(report) == SAMPLES + CLASSES + SERIES and notes(report).count("No ") == 3
    report = evaluate(SimpleNamespace(encode=Model(d).encode), d, **ARGS)
    assert len(report) == 0 and "how many codes there are" in notes(report)
    assert "no method sample" in notes(report)

    for nothing in (d.X_train, "model", object):  # series, the name of a folder, a class
        with pytest.raises(TypeError, match="an object with some of the methods 'sample', "):
            evaluate(nothing, d, **ARGS)

    class Half(Model):
        def sample(self, *a, **k):
            raise NotFittedError("there is no prior yet")

    report = evaluate(Half(d), d, **ARGS)
    assert names(report) == TOKENIZER + PROBES + CODES
    assert notes(report) == "Nothing about generated series: there is no prior yet"


def test_series_shorter_than_the_window():
    flat = np.arange(4.0)[:, None, None]
    report = evaluate(
        SimpleNamespace(reconstruct=lambda X: X), Dataset("m", flat, None, flat), verbose=False
    )
    assert names(report) == TOKENIZER[:2]


def test_progress_is_shown_on_request(monkeypatch):
    terminal, d = io.StringIO(), toy()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    evaluate(Model(d), d, n_samples=200, **ARGS | dict(verbose=True))
    assert "CAS" in terminal.getvalue()
    before = terminal.getvalue()
    evaluate(Model(d), d, n_samples=200, **ARGS)
    assert terminal.getvalue() == before


# What is refused, before any work is done


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(sample=lambda self, n, **k: np.ones((n, 1, 7))), "the data ask for"),
        (dict(sample=lambda self, n, **k: np.full((n, 1, 20), np.nan)), "the model's sample has"),
        (dict(reconstruct=lambda self, X: X[:3]), "one reconstruction per series"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(change, message):
    d = toy()
    with pytest.raises(ValueError, match=message):
        evaluate(type("Odd", (Model,), change)(d), d, **ARGS)


def test_data_that_cannot_be_evaluated_on_are_refused(tmp_path):
    d = toy()
    model, part = Model(d), (d.X_train, d.y_train)
    model.classes_ = np.array([0, 1])
    text = Dataset("m", d.X_train, d.y_train.astype(str), d.X_test, d.y_test.astype(str))
    for data, settings, message in (
        (Dataset("toy", *part), {}, "data.hold_out(0.3)"),
        (Dataset("toy", *part), {}, "data has no X_test"),
        (part, {}, "data must be a Dataset, found tuple: Dataset(name, X, y, X_test, y_test)"),
        (d, dict(n_samples=1), "n_samples must be None or a whole number of at least 2, found 1"),
        (d, dict(n_samples=3.5), "found 3.5"),
        (d, dict(random_state="x"), "random_state"),
        (d, dict(fcn=dict(lr=-1)), "fcn: lr must be a number greater than 0, found -1"),
        (d, dict(fcn=dict(precision="f16")), "fcn: precision must be one of"),
        (text, {}, "trained on labels of dtype int64, y_train has dtype <U"),
        (Dataset("m", *part, d.X_test[:1], d.y_test[:1]), {}, "1 test series"),
        (d, dict(n_resample=3), "n_resample"),
    ):
        with says(message):
            evaluate(model, data, **ARGS | settings)
        if "n_samples" not in settings and "random_state" not in settings:
            settings = {k: v for k, v in {**ARGS, **settings}.items() if k != "verbose"}
            with says(message):
                present(model, data, tmp_path / "p", **settings)
    assert not (tmp_path / "p").exists() and model.asked == []
    with says("folder must be the path of a folder", "found int"):
        present(model, d, 3)


def test_classes_that_a_model_lacks_are_refused_at_once():
    d = toy()
    for known, said in ((None, "trained without"), ([0], "class 1 of the test set")):
        model, touched = Model(d), []
        model.classes_, model.reconstruct = known, touched.append
        with says("conditional=True", said):
            evaluate(model, d, conditional=True, **ARGS)
        assert model.asked == touched == []


def other_channels(d):
    return dict(X_train=d.X_train.repeat(2, 1), X_test=d.X_test.repeat(2, 1))


@pytest.mark.parametrize(
    "change, error, parts",
    [
        (
            lambda d: dict(y_train=d.y_train + 5, y_test=d.y_test + 5),
            ValueError,
            ("fcn was fitted on the classes 0, 1, y_train has 5, 6",),
        ),
        (
            lambda d: dict(y_train=d.y_train.astype(str), y_test=d.y_test.astype(str)),
            TypeError,
            ("fcn was fitted on labels of dtype int64", "y_train has dtype <U"),
        ),
        (other_channels, ValueError, ("fcn was fitted on series with 1 channels", "X_train has 2")),
    ],
    ids=["classes", "kind of labels", "channels"],
)
def test_a_fitted_classifier_of_other_data_is_refused(change, error, parts):
    d = toy()
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    parts_of = dict(X_train=d.X_train, y_train=d.y_train, X_test=d.X_test, y_test=d.y_test)
    other = Dataset("toy", **parts_of | change(d))
    model, touched = Model(other), []
    model.reconstruct = touched.append
    with pytest.raises(error) as e:
        evaluate(model, other, **ARGS | dict(fcn=fcn))
    assert all(p in str(e.value) for p in parts)
    assert model.asked == touched == []


def test_a_fitted_classifier_may_know_more_classes_and_is_not_needed_without_labels():
    d = toy(classes=(0, 1, 2))
    fcn = FCNClassifier(**QUICK).fit(d.X_train, d.y_train)
    two = toy(n=12, m=8)
    assert "CAS" in evaluate(Model(two), two, **ARGS | dict(fcn=fcn))
    bare = Dataset("toy", two.X_train.repeat(2, 1), None, two.X_test.repeat(2, 1))
    assert "FID" not in evaluate(Model(bare), bare, **ARGS | dict(fcn=fcn))


# The estimator


def test_the_estimator_is_evaluated_and_not_changed():
    d = toy(length=32)
    model = tiny(epochs=1).fit(d.X_train, d.y_train)
    before = {k: v.clone() for k, v in weights(model).items()}
    n_codes = model.n_codes
    report = evaluate(model.set_params(n_codes=2 * n_codes), d, **ARGS)
    assert names(report) == TOKENIZER + PROBES + CODES + SAMPLES + CLASSES + SERIES
    assert report.name == "NCVQ on toy" and notes(report) == ""
    assert report["codebook perplexity"].ceiling == n_codes  # of the codes that are there
    assert all(torch.equal(v, before[k]) for k, v in weights(model).items())


def test_series_of_six_samples():
    d = toy(length=6)
    model = tiny(epochs=1, n_fft=4).fit(d.X_train, d.y_train)
    report = evaluate(model, d, n_samples=200, **ARGS)
    assert report["STFT MSE"].value > 0 and "FID" in report


def test_a_report_says_where_a_model_was_trained_on_something_else():
    d = toy()
    X, y = d.X_train, d.y_train
    for model, elsewhere in (
        (tiny(epochs=1).fit(X, y), False),
        (tiny(epochs=1).fit_tokenizer(X).fit_prior(X, y), False),
        (tiny(epochs=1).fit(X), False),
        (tiny(epochs=1).fit(X[:10], y[:10]), True),
        (tiny(epochs=1).fit(X, 1 - y), True),
        (tiny(epochs=1).fit(X, y).fit_prior(X, 1 - y), True),
        (SimpleNamespace(data_=None), False),
        (SimpleNamespace(), False),
    ):
        assert trained_elsewhere(model, d, X) == elsewhere
    other = SimpleNamespace(data_={"digest": "another"}, encode=Model(d).encode)
    report = evaluate(other, d, **ARGS)
    assert report.notes[0].startswith("The model was trained on other series or labels")
