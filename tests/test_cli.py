"""The console commands, called in-process as a shell would call them."""

import csv
import re
import shutil
from argparse import ArgumentParser
from configparser import ConfigParser
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import ncvq_nb
import ncvq_nb.evaluation.present as present_module
from ncvq_nb import NCVQ, Dataset, cli, experiments, read_dataset
from ncvq_nb.engine.interrupts import Interrupted
from ncvq_nb.estimator import stages
from ncvq_nb.evaluation.report import Report
from ncvq_nb.io.archive import find_dataset
from ncvq_nb.terminal import arguments
from ncvq_nb.terminal.encode import encode
from ncvq_nb.terminal.impute import impute
from toys import OPTIONS, SETTINGS, fingerprint, sines, tiny

NAMES = ("sit", "walk")
GRID_OPTIONS = [w for k, v in SETTINGS.items() for w in (f"--{k}", str(v))]
ALL = dict(train=cli.train, sample=cli.sample, evaluate=cli.evaluate, demo=cli.demo, grid=cli.grid)
ALL |= dict(encode=encode, impute=impute)
PICTURES = ("samples", "reconstructions", "training", "codebook", "tokens", "latents")


def series(seed=0, **kw):
    return sines(length=24, seed=seed, names=NAMES, **kw)


def write(path, X, y, sep=","):
    lines = (sep.join([str(k), *map(str, x.ravel())]) for x, k in zip(X, y))
    path.write_text("\n".join(lines) + "\n")
    return path


def call(command, *argv):
    "The exit code of a command: 0 where it comes back."
    try:
        command([str(a) for a in argv])
    except SystemExit as e:
        return e.code or 0
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Files of every kind, and a run trained on one of them."
    d = tmp_path_factory.mktemp("cli")
    (X, y), (X_test, _) = series(), series(seed=1)
    np.savez(d / "toy.npz", X_train=X, y_train=y, X_test=X_test, y_test=y)
    write(d / "toy_TRAIN.tsv", X, y, "\t")
    write(d / "toy_TEST.tsv", X_test, y, "\t")
    write(d / "toy.csv", X, y)
    head = "@problemName toy\n@univariate true\n@classLabel true sit walk\n@data\n"
    rows = (",".join(map(str, x.ravel())) + f":{k}\n" for x, k in zip(X, y))
    (d / "toy.ts").write_text(head + "".join(rows))
    assert call(cli.train, d / "toy.npz", "--out", d / "run", "--quiet", *OPTIONS) == 0
    return d


@pytest.fixture
def training(folder, tmp_path):
    "Train on a file with the tiny model and further options: the exit status."

    def train(file, *options, out=tmp_path / "r"):
        return call(cli.train, folder / file, "--out", out, "--quiet", *OPTIONS, *options)

    return train


def one_line(capsys, *parts):
    "What was said is one line on stderr, without a traceback, with all `parts`."
    err = capsys.readouterr().err
    assert "Traceback" not in err and len(err.strip().splitlines()) == 1, err
    for p in parts:
        assert str(p) in err, err


# Help


WANTED = dict(
    train="--out --label --test_fraction --log_with --quiet",
    sample="-n --y --out --random_state --guidance_scale --sampling_steps --choice_temperature "
    "--temperature --top_p --order --guidance_schedule --revisions --revise_share "
    "--observation_noise",
    evaluate="--out --label --n_samples --protocol --random_state --windows --quiet",
    demo="--out --quiet",
    encode="--out --label --test_fraction --features",
    impute="--out --label --by_label --n_samples --random_state",
    grid="--out --methods --seeds --metrics --n_jobs --together --cluster --quiet",
)


@pytest.mark.parametrize("name", ALL)
def test_help_teaches(name, capsys):
    "What a command is for, every option of it with hyphens too, and examples that can be parsed."
    assert call(ALL[name], "--help") == 0
    text = capsys.readouterr().out
    options, examples = text.split("examples:")
    assert f"ncvq_{name}" in options and re.search(rf"^  ncvq_{name}", examples, re.M)
    for option in WANTED[name].split():
        assert option in options and option.replace("_", "-") in options
    for line in re.findall(rf"^  ncvq_{name}(.*)$", examples, re.M):
        for option in re.findall(r"(?<= )--?[a-z_-]+", line):
            assert re.search(rf"{option}\b", options), option
    said = re.sub(r"\[None\]|None: |or None|is None|None for|None,|None leaves", "", text)
    assert "None" not in said and "%%" not in text


@pytest.mark.parametrize("name", ["train", "demo", "grid"])
def test_settings_of_the_model_are_options(name, capsys):
    call(ALL[name], "--help")
    text = capsys.readouterr().out
    for option in NCVQ().get_params():
        aside = ("verbose", "warm_start")  # --quiet is; a command begins with a new model
        if option in aside or (name, option) == ("grid", "random_state"):  # --seeds are
            assert f"--{option}" not in text
        else:
            assert f"--{option}" in text and f"--{option.replace('_', '-')}" in text


@pytest.mark.parametrize("name", ALL)
def test_every_command_tells_its_version_and_is_installed(name, capsys):
    assert call(ALL[name], "--version") == 0
    assert capsys.readouterr().out == f"ncvq_{name}, of ncvq_nb {ncvq_nb.__version__}\n"
    ini = ConfigParser(delimiters=["="], interpolation=None)
    ini.read(Path(__file__).resolve().parents[1] / "settings.ini", encoding="utf-8")
    place = f"ncvq_{name}={ALL[name].__module__}:{name}"
    assert place in ini["DEFAULT"]["console_scripts"].split()


@pytest.mark.parametrize("name", ALL)
def test_unknown_options_are_refused(name, capsys):
    assert call(ALL[name], "--no_such_option", "1") == 2
    assert "Traceback" not in capsys.readouterr().err


# Train


def test_train_leaves_a_run_and_a_model(folder):
    run = folder / "run"
    parts = {f"{k}.safetensors" for k in ("tokenizer", "prior", "noise")}
    files = {"README.md", "config.json", *parts}
    assert {p.name for p in (run / "model").iterdir()} == files
    files = {"settings.json", "training.png", "tokenizer", "prior", "model"}
    assert {p.name for p in run.iterdir()} == files
    m = NCVQ.load(run / "model")
    assert m.classes_.tolist() == ["sit", "walk"] and m.epochs == 3
    assert fingerprint(m) == fingerprint(tiny().fit(*series()))  # the command is the library


def test_the_same_command_again_changes_nothing(folder, training, capsys):
    model = folder / "run" / "model"
    files = [model / f"{k}.safetensors" for k in ("tokenizer", "prior")]
    before = [f.read_bytes() for f in files]
    assert training("toy.npz", out=folder / "run") == 0
    assert [f.read_bytes() for f in files] == before
    assert str(model) in capsys.readouterr().out


def test_a_run_that_was_cut_off_is_continued(folder, training, tmp_path, monkeypatch):
    def stop(*args, **kw):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(NCVQ, "save", stop)  # after both stages
        assert training("toy.npz") == 130
    assert not (tmp_path / "r" / "model").exists()
    assert training("toy.npz") == 0
    models = [NCVQ.load(d / "model") for d in (folder / "run", tmp_path / "r")]
    assert fingerprint(models[0]) == fingerprint(models[1])


def test_an_interrupted_run_says_how_far_it_came(training, tmp_path, capsys, monkeypatch):
    def stop(*args, **kw):
        raise Interrupted("prior", 4, 10, {}, tmp_path / "r" / "prior")

    monkeypatch.setattr(stages, "train", stop)
    assert training("toy.npz") == 130
    one_line(capsys, "ncvq_train: prior was interrupted at step 4 of 10", tmp_path / "r" / "prior")


def test_the_tokenizer_alone_from_training_to_report(folder, training, tmp_path, quick, capsys):
    assert training("toy.npz", "--epochs", "2,0") == 0
    out = capsys.readouterr().out
    assert "tokenizer: loss" in out and "prior" not in out
    new = ["-n", 1, "--out", tmp_path / "new.npz"]
    assert call(cli.sample, tmp_path / "r", *new) == 2
    more = "the same ncvq_train with --epochs 2,100 gives it one"
    one_line(capsys, "ncvq_sample", "epochs=(2, 0) trains the tokenizer alone", more)
    demo = ["--out", tmp_path / "demo", "--quiet", *OPTIONS, "--epochs", "2,0"]
    assert call(cli.demo, folder / "toy.npz", *demo) == 0
    assert "Nothing about generated series" in (tmp_path / "demo" / "report.md").read_text()
    drawn = {p.stem for p in (tmp_path / "demo").glob("*.png")}
    assert drawn == set(PICTURES) - {"samples", "latents"}


def test_more_epochs_make_a_run_longer(folder, training, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "r")
    assert training("toy.npz", "--epochs", 4) == 0
    model = NCVQ.load(tmp_path / "r" / "model")
    assert [h["step"][-1] for h in model.history_.values()] == [4, 4]


def test_more_epochs_bring_a_longer_warmup(training, tmp_path, capsys):
    for epochs in (40, 80):
        assert training("toy.npz", "--epochs", epochs, "--warmup", 0.1) == 0
    model = NCVQ.load(tmp_path / "r" / "model")
    assert [h["step"][-1] for h in model.history_.values()] == [80, 80]
    assert training("toy.npz", "--epochs", 90, "--warmup", 0.2) == 2
    one_line(capsys, "warmup was 0.1, now 0.2")
    assert training("toy.npz", "--epochs", 80, "--warmup", 0.1) == 0  # nothing was spoilt


@pytest.mark.parametrize("file", ["toy.csv", "toy_TRAIN.tsv", "toy.ts"])
def test_every_kind_of_file_gives_the_same_data(folder, file):
    found, want = find_dataset(folder / file), find_dataset(folder / "toy.npz")
    assert np.array_equal(found.X_train, want.X_train)
    assert found.y_train.tolist() == want.y_train.tolist()


def test_a_table_and_words_numbers_and_pairs_as_values(training, tmp_path):
    options = "--epochs 1,2 --ssl none --augment None --finetune-codebook false --lr 1e-3"
    assert training("toy.csv", *options.split()) == 0
    m = NCVQ.load(tmp_path / "r" / "model")
    found = (m.epochs, m.ssl, m.augment, m.finetune_codebook, m.lr)
    assert found == ((1, 2), None, None, False, 1e-3)
    by_hand = tiny(None, None, epochs=(1, 2), finetune_codebook=False, lr=1e-3).fit(*series())
    assert fingerprint(m) == fingerprint(by_hand)


def test_a_former_name_of_a_setting(training, capsys):
    assert training("toy.npz", "--revive_below", "-1") == 2
    one_line(capsys, "dead_code_threshold", "-1")


def test_labels_can_be_left_out(training, tmp_path):
    X, _ = series()
    write(tmp_path / "x.csv", X[..., 1:], X[:, 0, 0])
    assert training(tmp_path / "x.csv", "--label", "none") == 0
    m = NCVQ.load(tmp_path / "r" / "model")
    assert m.classes_ is None and m.n_features_in_ == 24


def test_columns_are_named_to_the_command(training, tmp_path, capsys, monkeypatch):
    X, y = series()
    head = ["meter", *(f"t{i}" for i in range(24)), "note", "kind"]
    rows = [[1000 + i, *x[0].tolist(), "text", k] for i, (x, k) in enumerate(zip(X, y))]
    with open(tmp_path / "m.csv", "w", newline="") as f:
        csv.writer(f).writerows([head, *rows])
    assert training(tmp_path / "m.csv", "--label", "kind") == 2
    one_line(capsys, "'meter'", "--id")
    named = ["--id", "meter", "--drop", "note", "--label", "kind"]
    assert training(tmp_path / "m.csv", *named) == 0
    said = capsys.readouterr().out
    assert "labels: column kind" in said and "samples: t0 … t23 (24)" in said
    m = NCVQ.load(tmp_path / "r" / "model")
    assert m.n_features_in_ == 24 and m.classes_.tolist() == sorted(set(y.tolist()))
    heard = []
    with monkeypatch.context() as patch:
        patch.setattr(NCVQ, "fit", lambda self, X, y, groups, **kw: heard.append(groups) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            training(tmp_path / "m.csv", "--groups", "meter", "--drop", "note", "--label", "kind")
    assert heard[0].tolist() == [1000 + i for i in range(12)]
    assert call(cli.sample, tmp_path / "r", "-n", 2, "--out", tmp_path / "new.csv") == 0


def test_the_history_goes_where_it_is_asked_to_go(training, monkeypatch, capsys):
    asked, fit = [], NCVQ.fit

    def noted(self, *args, log_with, **kw):
        asked.append(log_with)
        return fit(self, *args, **kw)

    with monkeypatch.context() as m:
        m.setattr(NCVQ, "fit", noted)
        for option in ("--log_with", "--log-with"):
            assert training("toy.npz", option, "tensorboard", "trackio") == 0
    assert asked == [["tensorboard", "trackio"]] * 2
    capsys.readouterr()
    assert training("toy.npz", "--log_with", "tensorboard", "x") == 2
    one_line(capsys, "'x'", "'trackio'")


# Sample


def test_samples_as_npz_and_csv(folder, tmp_path):
    run, labels = folder / "run", ["sit"] * 3 + ["walk"] * 3
    want = NCVQ.load(run / "model").sample(y=labels, random_state=5)
    args = ["-n", 3, "--y", "sit", "walk", "--random_state", 5]
    assert call(cli.sample, run, *args, "--out", tmp_path / "a" / "new.npz") == 0
    with np.load(tmp_path / "a" / "new.npz", allow_pickle=False) as f:
        assert np.array_equal(f["X"], want) and f["y"].tolist() == labels
    assert call(cli.sample, run / "model", *args, "--out", tmp_path / "new.csv") == 0
    back = read_dataset(tmp_path / "new.csv")
    assert np.array_equal(back.X_train, want)  # to the bit
    assert back.y_train.tolist() == labels


def test_samples_of_all_kinds(folder, tmp_path):
    run, out = folder / "run", tmp_path / "new.npz"
    own = dict(random_state=1, guidance_scale=2.0, sampling_steps=3, choice_temperature=0.0)
    own |= dict(order="halton", top_p=0.9, temperature=0.8, revisions=1, revise_share=0.5)
    own |= dict(guidance_schedule="linear")
    options = [w for k, v in own.items() for w in (f"--{k.replace('_', '-')}", v)]
    assert call(cli.sample, run, "-n", 4, "--out", out, *options) == 0
    with np.load(out) as f:
        assert list(f) == ["X"]
        assert np.array_equal(f["X"], NCVQ.load(run / "model").sample(4, **own))
    assert call(cli.sample, run, "--out", tmp_path / "new.csv") == 0
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 11


@pytest.mark.parametrize(
    "labels", [["up, then down", 'a "kick"'], [-1, 1]], ids=["commas and quotes", "like options"]
)
def test_labels_of_every_kind_survive(tmp_path, labels):
    X, _ = series(n=4)
    tiny(epochs=1).fit(X, np.array(labels * 2)).save(tmp_path / "m")
    args = ["-n", 2, "--y", *labels]
    assert call(cli.sample, tmp_path / "m", *args, "--out", tmp_path / "new.csv") == 0
    assert call(cli.sample, tmp_path / "m", *args, "--out", tmp_path / "new.npz") == 0
    with open(tmp_path / "new.csv", newline="") as f:
        head, *rows = csv.reader(f)
    want = np.repeat(labels, 2).tolist()
    assert head == ["label", *(f"t{i}" for i in range(24))]
    assert [r[0] for r in rows] == list(map(str, want)) and {len(r) for r in rows} == {25}
    with np.load(tmp_path / "new.npz") as f:
        assert f["y"].tolist() == want


# What goes wrong


@pytest.mark.parametrize(
    "args, parts",
    [
        (["-n", 0, "--out", "x.npz"], ["-n", "0"]),
        (["-n", 2, "--out", "x.pkl"], [".npz", ".csv", "x.pkl"]),
        (["-n", 2, "--y", "lie", "--out", "x.npz"], ["lie", "sit, walk"]),
        (["-n", 2, "--sampling_steps", 0, "--out", "x.npz"], ["sampling_steps"]),
        (["-n", 2, "--random_state", -1, "--out", "x.npz"], ["random_state"]),
    ],
    ids=str,
)
def test_mistakes_in_sampling(folder, tmp_path, monkeypatch, capsys, args, parts):
    monkeypatch.chdir(tmp_path)
    assert call(cli.sample, folder / "run", *args) == 2
    one_line(capsys, "ncvq_sample", *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line, parts",
    [
        ("nothing.csv", ["nothing.csv"]),
        ("toy.npz --ssl x", ["ssl", "'x'"]),
        ("toy.npz --augment x", ["augment"]),
        ("toy.npz --epochs 0", ["epochs"]),
        ("toy.npz --n_fft 64", ["X", "64"]),
        ("toy.npz --device x", ["device"]),
        ("toy.npz --random_state x", ["random_state"]),
        ("toy.npz --dim 0", ["dim"]),
        ("toy.npz --prior_heads 0", ["prior_heads"]),
        ("toy.npz --n_codes many", ["n_codes"]),
        ("toy.csv --label colour", ["colour"]),
    ],
)
def test_mistakes_in_training(training, capsys, line, parts):
    assert training(*line.split()) == 2
    one_line(capsys, "ncvq_train", *parts)


@pytest.mark.parametrize(
    "data, parts",
    [
        (["NoSuchSet"], ["NoSuchSet"]),
        (["GunPoint", "--label", "last"], ["--label 'last' is for tables"]),
    ],
    ids=str,
)
def test_mistakes_with_names_of_sets(tmp_path, capsys, data, parts):
    assert call(cli.train, *data, "--out", tmp_path / "r", *OPTIONS) == 2
    one_line(capsys, "ncvq_train", *parts)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said_in_one_line(training, capsys):
    assert training("toy.npz", "--device", "cuda") == 2
    one_line(capsys, "ncvq_train", "device")


def test_a_run_of_other_settings_is_refused(folder, training, capsys):
    assert training("toy.npz", "--n_codes", 9, out=folder / "run") == 2
    one_line(capsys, "n_codes was 8, now 9", "other settings")


@pytest.mark.parametrize(
    "file, content",
    [
        ("prior.safetensors", b"x"),
        ("config.json", b"{"),
        ("prior.safetensors", None),
        ("config.json", None),
    ],
    ids=["weights", "config", "no weights", "no config"],
)
@pytest.mark.parametrize("name", ["sample", "evaluate"])
def test_damaged_models_are_said_in_one_line(folder, tmp_path, capsys, file, content, name):
    shutil.copytree(folder / "run" / "model", tmp_path / "m")
    (tmp_path / "m" / file).unlink()
    if content is not None:
        (tmp_path / "m" / file).write_bytes(content)
    rest = ["--out", tmp_path / "new.npz"] if name == "sample" else [folder / "toy.npz", "--quiet"]
    assert call(ALL[name], tmp_path / "m", *rest) == 2
    one_line(capsys, f"ncvq_{name}", tmp_path / "m")


def damaged_files(folder):
    X, y = series()
    X[3, 0, 5] = np.inf
    np.savez(folder / "inf.npz", X=X, y=y)
    write(folder / "short.csv", X[..., :1], y)
    (folder / "empty.csv").write_text("")
    (folder / "noise.npz").write_bytes(b"noise")
    np.savez(folder / "pickle.npz", X=np.array([None, {}], object))
    return sorted(folder.iterdir())


def test_bad_files_are_said_in_one_line(training, tmp_path, capsys):
    files = damaged_files(tmp_path)
    assert len(files) == 5
    for file in files:
        assert training(file) == 2
        one_line(capsys, "ncvq_train")


def test_messages_speak_the_commands_language(training, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("0.5,0.25,1.5\n0.25,0.5,2.5\n")
    assert training(tmp_path / "a.csv") == 2
    one_line(capsys, "--label none")
    assert training(write(tmp_path / "b.csv", *series()), "--label", "None") == 2
    one_line(capsys, "'sit'")  # read as a sample now
    toy = write(tmp_path / "c.csv", *series())
    for share in ("30", "-0.1", "nan"):
        assert training(toy, "--test_fraction", share) == 2
        one_line(capsys, f"--test_fraction is {share}: allowed is a share from 0 to 1")
    assert training(tmp_path) == 2
    one_line(capsys, "is a folder", "with NCVQ_DATA set to that folder")
    X, y = series()
    file = write(tmp_path / "d.csv", X, np.where(y == "sit", "NA", y))
    assert training(file, "--label", "first") == 2
    one_line(capsys, "the label is missing ('NA')", "--missing with no mark behind it")
    parser = ArgumentParser()
    arguments.add_data(parser)
    data = arguments.read_data(parser.parse_args([str(file), "--label", "first", "--missing"]))
    assert data.classes.tolist() == ["NA", "walk"]
    file = write(tmp_path / "e.csv", X[:2], y[:2])
    assert training(file, "--label", "first", "--test_fraction", "0.5") == 2
    one_line(capsys, "one series only", "--label none parts them without any")


def test_the_folder_of_a_model_is_told_from_data(folder, tmp_path, capsys):
    toy, out = folder / "toy.csv", ["--out", tmp_path / "new.npz"]
    for command in (cli.evaluate, encode, impute):
        assert call(command, toy, folder / "run", *([] if command is cli.evaluate else out)) == 2
        one_line(capsys, f"{toy} is a file", "first comes the folder of a run")
    shutil.copytree(folder / "run", tmp_path / "r", ignore=shutil.ignore_patterns("model"))
    assert call(cli.sample, tmp_path / "r", *out) == 2
    one_line(capsys, "a run that has not ended", f"ncvq_train as before, with --out {tmp_path}")
    shutil.copytree(tmp_path / "r", tmp_path / "d" / "run")
    assert call(cli.evaluate, tmp_path / "d", toy) == 2
    one_line(capsys, "a run that has not ended", f"ncvq_demo as before, with --out {tmp_path}")


def files_below(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_commands_write_over_nothing_that_they_were_not_told_to(folder, tmp_path, capsys):
    run, mine = shutil.copytree(folder / "run", tmp_path / "run"), tmp_path / "my data"
    mine.mkdir()
    for name in ("toy.npz", "toy.csv", "toy_TRAIN.tsv"):
        shutil.copy(folder / name, mine)
    shutil.copy(folder / "toy.csv", mine / "toy_TEST.csv")
    shutil.copy(folder / "toy.csv", mine / "toy_TRAIN.csv")
    (tmp_path / "link.csv").symlink_to(mine / "toy.csv")
    for name in ("report.md", "results.csv", "results_tidy.csv", "training.png", "samples.png"):
        (tmp_path / name[:-4]).mkdir()
        (tmp_path / name[:-4] / name).write_text("mine")
    table, arrays, train = mine / "toy.csv", mine / "toy.npz", mine / "toy_TRAIN.csv"
    again, read = ["--overwrite"], "which is read"
    before = files_below(tmp_path)
    for command, words, said in (
        (encode, [run, table, "--out", table, *again], read),
        (encode, [run, table, "--out", tmp_path / "link.csv", *again], read),
        (encode, [run, table, "--out", mine / ".." / mine.name / "toy.csv", *again], read),
        (encode, [run, tmp_path / "link.csv", "--out", table, *again], read),
        (encode, [run, train, "--out", mine / "toy_TEST.csv", *again], read),
        (impute, [run, table, "--out", table, *again], read),
        (impute, [run, arrays, "--out", arrays, *again], read),
        (encode, [run, table, "--out", arrays], "is there already"),
        (impute, [run, table, "--out", arrays], "is there already"),
        (cli.sample, [run, "--out", table], "is there already"),
        (cli.sample, [run, "--out", run / "model" / "x.csv", *again], "a place outside"),
        (encode, [run / "model", table, "--out", run / "model" / "x.npz"], "a place outside"),
        (cli.evaluate, [run, arrays, "--out", tmp_path / "repor"], "has a report.md that"),
        (cli.evaluate, [run, arrays, "--out", tmp_path / "samples"], "has a samples.png that"),
        (cli.grid, [arrays, "--out", tmp_path / "results"], "has a results.csv that"),
        (cli.grid, [arrays, "--out", tmp_path / "results_tidy"], "has a results_tidy.csv that"),
        (cli.train, [arrays, "--out", tmp_path / "training"], "has a training.png that"),
    ):
        assert call(command, *words) == 2, words
        one_line(capsys, said)
    assert files_below(tmp_path) == before
    assert call(cli.sample, run, "-n", 1, "--out", arrays, "--overwrite") == 0
    assert np.load(arrays)["X"].shape == (1, 1, 24)


def test_a_folder_does_not_hide_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("GunPoint").mkdir()
    Path("mine").mkdir()
    assert len(find_dataset("GunPoint").X_train) == 50
    assert find_dataset("GunPoint").y_train is not None
    assert find_dataset("GunPoint", label=None).y_train is None
    with pytest.raises(IsADirectoryError):
        find_dataset("mine")


# Evaluate


@pytest.fixture
def quick(monkeypatch, tmp_path):
    "The classifier takes minutes to train; here it is trained for a few steps only."
    settings = dict(fcn=dict(max_steps=3), cas_total=8, n_cas=1, n_resamples=5)
    settings["cache_dir"] = tmp_path / "cache"
    short = partial(cli.evaluate_model, **settings)
    monkeypatch.setattr(cli, "evaluate_model", short)
    few = dict(discriminative_steps=1, predictive_steps=1, context_steps=1, n_runs=1)
    scores = partial(cli.model_window_scores, **few)
    monkeypatch.setattr(cli, "model_window_scores", scores)
    monkeypatch.setattr(experiments, "evaluate", short)
    monkeypatch.setattr(present_module, "evaluate", short)


def test_test_series_are_needed(folder, capsys):
    assert call(cli.evaluate, folder / "run", folder / "toy.csv", "--quiet") == 2
    one_line(capsys, "ncvq_evaluate", "--test_fraction")
    assert call(cli.demo, folder / "toy.csv", "--quiet") == 2  # before any training
    one_line(capsys, "ncvq_demo", "--test_fraction")


def test_evaluate_writes_a_report_and_pictures(folder, tmp_path, quick, capsys):
    args = ["--out", tmp_path / "e", "--quiet", "--n_samples", 8, "--n_cas", 0, "--windows"]
    assert call(cli.evaluate, folder / "run", folder / "toy.npz", *args) == 0
    names = {p.name for p in (tmp_path / "e").iterdir()}
    assert names == {f"{k}.png" for k in PICTURES} | {"report.json", "report.md"}
    out = capsys.readouterr().out
    assert "reconstruction error" in out and "FID" in out and str(tmp_path / "e") in out
    report = Report.load(tmp_path / "e" / "report")
    assert report["context-FID"].value > 0 and report["FID"].value > 0 and "CAS" not in report
    assert report.settings["windows"]["n_real"] == len(read_dataset(folder / "toy.npz").X_train)
    args += ["--protocol", "published"]  # which has a number of samples of its own
    assert call(cli.evaluate, folder / "run", folder / "toy.npz", *args) == 2
    one_line(capsys, "ncvq_evaluate", "n_samples is 8", "published")


def test_a_table_is_split_the_same_way_every_time(
    folder, training, tmp_path, quick, capsys, monkeypatch
):
    monkeypatch.setattr(cli, "figures", lambda *args, **kw: {})  # drawn in the test before
    share = ["--test_fraction", "0.5"]
    assert training("toy.csv", *share) == 0
    assert "6 train + 6 test" in capsys.readouterr().out
    table = [folder / "toy.csv", *share, "--quiet"]
    assert call(cli.evaluate, tmp_path / "r", *table) == 0
    assert "trained on other" not in capsys.readouterr().out
    assert call(cli.evaluate, folder / "run", *table, "--out", tmp_path / "e") == 0
    assert "trained on other" in capsys.readouterr().out  # on all twelve


def test_demo_leaves_everything(folder, tmp_path, quick, capsys):
    out = tmp_path / "demo"
    assert call(cli.demo, folder / "toy.npz", "--out", out, "--quiet", *OPTIONS) == 0
    names = {p.name for p in out.iterdir()}
    assert names == {f"{k}.png" for k in PICTURES} | {"model", "run", "report.json", "report.md"}
    assert "ncvq_sample" in capsys.readouterr().out
    assert call(cli.sample, out, "-n", 1, "--out", tmp_path / "new.npz") == 0
    card, report = (
        p.read_text(encoding="utf-8") for p in (out / "model" / "README.md", out / "report.md")
    )
    assert "| FID |" in card and "| name | toy |" in card
    assert {l for l in report.splitlines() if l.startswith("|")} <= set(card.splitlines())


def test_a_demonstration_goes_on_and_writes_over_nothing_of_anybody_else(
    folder, tmp_path, monkeypatch, capsys
):
    args = [folder / "toy.npz", "--quiet", *OPTIONS, "--out"]

    def late(*args, **kw):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(cli, "present", late)
        assert call(cli.demo, *args, tmp_path / "demo") == 2
    trained = {p: p.read_bytes() for p in (tmp_path / "demo").glob("run/*/checkpoint-*")}
    monkeypatch.setattr(cli, "present", lambda *args, **kw: "presented")
    assert trained and call(cli.demo, *args, tmp_path / "demo") == 0, "nothing is trained again"
    assert trained == {p: p.read_bytes() for p in trained}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.md").write_text("precious")
    capsys.readouterr()
    for out, said in (("mine", "report.md is in it"), ("mine/report.md", "is a file")):
        assert call(cli.demo, *args, tmp_path / out) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "mine" / "report.md").read_text() == "precious"


def test_targets_are_checked_before_any_work(folder, tmp_path, monkeypatch, capsys):
    def work(*args, **kw):
        raise AssertionError("work was begun")

    for name in ("find_dataset", "NCVQ"):
        monkeypatch.setattr(arguments, name, work)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other" / "model").mkdir(parents=True)
    (tmp_path / "other" / "model" / "notes.txt").write_text("mine")
    toy, file = folder / "toy.npz", tmp_path / "file"
    for command, words, said in (
        (cli.train, [toy, "--out", file], "is a file"),
        (cli.train, [toy, "--out", file / "deeper"], "which is a file"),
        (cli.train, [toy, "--out", tmp_path / "other"], "notes.txt is in it"),
        (cli.evaluate, [folder / "run", toy, "--out", file], "is a file"),
        (cli.grid, [toy, "--out", file], "is a file"),
        (cli.sample, [folder / "run", "--out", file / "new.npz"], "which is a file"),
    ):
        assert call(command, *words) == 2
        assert said in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["../up", "{elsewhere}/x", "..", "a/b", ""])
def test_the_demonstration_writes_beside_it_whatever_the_set_is_called(tmp_path, monkeypatch, name):
    (home := tmp_path / "a" / "home").mkdir(parents=True)
    monkeypatch.chdir(home)
    data = Dataset(name.format(elsewhere=tmp_path / "elsewhere"), *series(), *series(seed=1))
    seen = []

    def stop(model, data, out, **kw):
        seen.append(out)
        raise ValueError("far enough")

    monkeypatch.setattr(NCVQ, "fit", lambda self, *args, **kw: self)
    monkeypatch.setattr(arguments, "find_dataset", lambda *args, **kw: data)
    monkeypatch.setattr(cli, "present", stop)
    assert call(cli.demo, "x", "--quiet") == 2
    assert seen[0].resolve().parent == home and seen[0].name.endswith("_demo")


# Grids


DECLARED = """
datasets = [{{ path = "{}" }}, "GunPoint"]
seeds = [0]
axes.method = {{ naive = {{ ssl = "none" }}, barlow = {{ ssl = "barlow" }} }}
axes.augment = {{ where = {{ method = ["barlow"] }}, slice = {{ augment = "slice" }} }}
axes.prior = {{ codebook = {{ finetune_codebook = true, name = "" }} }}
"""


def test_grid_fills_a_folder_and_goes_on_where_it_stopped(folder, tmp_path, quick, capsys):
    methods = ["--methods", "naive", "barlow-slice"]
    args = [folder / "toy.npz", "--out", tmp_path, "--seeds", 0, *methods, *GRID_OPTIONS]
    assert call(cli.grid, *args) == 0
    reports = sorted(tmp_path.glob("toy/*/0/report.json"))
    assert [p.parts[-3] for p in reports] == ["barlow-slice", "naive"]
    assert (tmp_path / "results.csv").exists()
    times = [p.stat().st_mtime_ns for p in reports]
    for p in reports:
        assert "| FID |" in (p.parent / "model" / "README.md").read_text(encoding="utf-8")
    table, lines = capsys.readouterr()
    assert "barlow-slice" in table and "naive" in table and "2 runs" in table
    assert "grid: 2 cells\n" in lines and "; 2 of 2 done, in " in lines.splitlines()[-1]
    rows = list(csv.DictReader((tmp_path / "results_tidy.csv").open()))
    slices = [r for r in rows if r["setting"] == "barlow-slice" and r["metric"] == "FID"]
    assert [r["reference"] for r in slices][:2] == ["", "floor"]
    (digest,) = {r["data"] for r in rows}
    known = dict(dataset="toy", method="barlow", augment="slice", prior="", seed="0", data=digest)
    assert known.items() <= slices[0].items() and len(digest) == 16
    assert slices[0]["version"] == ncvq_nb.__version__ and float(slices[0]["seconds"]) > 0
    assert call(cli.grid, *args, "--quiet") == 0 and capsys.readouterr() == (table, "")
    declared = tmp_path / "grid.toml"
    declared.write_text(DECLARED.format(folder / "toy.npz"))  # the same runs
    again = ["--out", tmp_path, "--quiet", *GRID_OPTIONS]
    for words, said in (
        ([declared, "tow", *again], "tow is no data set of"),
        ([declared, *again, "--methods", "naive"], "--methods is for data sets on the command"),
        ([declared, *again, "--label", "last"], "--label is for data sets on the command line"),
        ([declared, *again, "--ssl", "vicreg"], "axes.method sets ssl"),
    ):
        assert call(cli.grid, *words) == 2
        one_line(capsys, said)
    assert call(cli.grid, declared, "toy", *again) == 0 and capsys.readouterr() == (table, "")
    rows = list(csv.DictReader((tmp_path / "results_tidy.csv").open()))
    assert {r["prior"] for r in rows} == {"codebook"}
    assert [p.stat().st_mtime_ns for p in reports] == times
    assert call(cli.grid, *args, "--ssl", "vicreg") == 2
    one_line(capsys, "--methods naive sets ssl: leave --ssl out, or the method")
    (tmp_path / "toy" / "naive" / "7").mkdir()  # of another command, whose cell had failed
    (tmp_path / "toy" / "naive" / "7" / "error.txt").write_text("ValueError: no")
    assert call(cli.grid, *args, "--quiet") == 0
    assert "toy/naive/7 failed: ValueError: no" in capsys.readouterr().out
    assert call(cli.grid, *args, "--metrics", "FID", "FID, best") == 2
    said = capsys.readouterr()
    assert "naive" in said.out and "'FID, best' is no metric" in said.err


def test_a_grid_whose_cells_fail_does_not_look_like_success(folder, tmp_path, capsys):
    args = ["--out", tmp_path / "g", "--seeds", 0, *GRID_OPTIONS, "--n_fft", 4096]
    assert call(cli.grid, folder / "toy.npz", *args) == 2
    assert "1 of 1 cells failed" in capsys.readouterr().err
    assert call(cli.grid, folder / "toy.npz", *args, "--metrics", "FID") == 2
    said = capsys.readouterr()
    assert "1 of 1 cells failed" in said.err and "toy/default/0 failed: " in said.out
    assert call(cli.grid, folder / "toy.npz", *args[:-2], "--random_state", "0") == 2
    capsys.readouterr()
    for *more, said in (("--metrics", "FDI", "'FDI' is no metric"), ("--ssl", "x", "ssl must be")):
        assert call(cli.grid, folder / "toy.npz", *args[:-2], *more) == 2
        found = capsys.readouterr()
        assert said in found.err and not found.out
