"""The console commands, called in-process as a shell would call them."""
import csv, re
from pathlib import Path

import numpy as np
import pytest

from ncvq_nb import NCVQ, cli, read_dataset
from ncvq_nb.experiments import find_dataset

TINY = "--dim 8 --n_res_blocks 1 --n_codes 8 --projector_dim 16 --prior_dim 32 --prior_depth 1 --epochs 2 --random_state 0".split()


def series(n=12, c=1, l=24, seed=0):
    rng, t = np.random.default_rng(seed), np.linspace(0, 1, l)
    y = np.array(["sit", "walk"])[np.arange(n) % 2]
    return (np.sin(2 * np.pi * (2 + 2 * (np.arange(n) % 2))[:, None, None] * t + np.arange(c)[:, None]) + 0.1 * rng.normal(size=(n, c, l))).astype(np.float32), y


def write(path, X, y, sep=","):
    path.write_text("".join(sep.join([str(k), *map(str, x.ravel())]) + "\n" for x, k in zip(X, y)))
    return path


def call(command, *argv):
    "The exit code of a command: 0 where it comes back."
    try: command([str(a) for a in argv])
    except SystemExit as e: return e.code or 0
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Files of every kind, and a run trained on one of them."
    d = tmp_path_factory.mktemp("cli")
    X, y = series()
    np.savez(d / "toy.npz", X_train=X, y_train=y, X_test=series(seed=1)[0], y_test=y)
    write(d / "toy_TRAIN.tsv", X, y, "\t"), write(d / "toy_TEST.tsv", series(seed=1)[0], y, "\t"), write(d / "toy.csv", X, y)
    (d / "toy.ts").write_text("@problemName toy\n@univariate true\n@classLabel true sit walk\n@data\n" + "".join(",".join(map(str, x.ravel())) + f":{k}\n" for x, k in zip(X, y)))
    assert call(cli.train, d / "toy.npz", "--out", d / "run", "--quiet", *TINY) == 0
    return d


def one_line(capsys, *parts):
    "What was said is one line on stderr, without a traceback, with all `parts`."
    err = capsys.readouterr().err
    assert "Traceback" not in err and len(err.strip().splitlines()) == 1, err
    for p in parts: assert str(p) in err, err


ALL = dict(train=cli.train, sample=cli.sample, evaluate=cli.evaluate, demo=cli.demo, grid=cli.grid)


@pytest.mark.parametrize("name", ALL)
def test_help_teaches(name, capsys):
    assert call(ALL[name], "--help") == 0
    text = capsys.readouterr().out
    assert f"ncvq_{name}" in text and "examples:" in text and re.search(rf"^  ncvq_{name}", text, re.M)
    assert "None" not in re.sub(r"\[None\]|None: |or None|is None|None for|None,", "", text) and "%%" not in text
    if name in ("train", "demo", "grid"):
        for option in NCVQ().get_params():
            if (name, option) == ("grid", "random_state"): assert "--random_state" not in text  # --seeds are
            elif option != "verbose": assert f"--{option}" in text and (f"--{option.replace('_', '-')}" in text)
    wanted = dict(train=["--out", "--label", "--test_fraction", "--quiet"], sample=["-n", "--y", "--out", "--random_state", "--guidance_scale", "--sampling_steps", "--choice_temperature"],
                  evaluate=["--out", "--label", "--n_samples", "--random_state", "--quiet"], demo=["--out", "--quiet"], grid=["--out", "--methods", "--seeds", "--metrics", "--n_jobs", "--cluster"])[name]
    for option in wanted: assert option in text


def test_examples_in_the_help_can_be_parsed(capsys):
    "Every option of an example exists."
    for name, command in ALL.items():
        call(command, "--help")
        text = capsys.readouterr().out
        for line in re.findall(rf"^  ncvq_{name}(.*)$", text, re.M):
            for option in re.findall(r"(?<= )--?[a-z_-]+", line): assert re.search(rf"{option}\b", text.split("examples:")[0]), (name, option)


@pytest.mark.parametrize("name", ALL)
def test_unknown_options_are_refused(name, capsys):
    assert call(ALL[name], "--no_such_option", "1") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_train_leaves_a_run_and_a_model(folder):
    run = folder / "run"
    assert {p.name for p in (run / "model").iterdir()} == {"README.md", "config.json", "tokenizer.safetensors", "prior.safetensors"}
    assert {"settings.json", "training.png", "tokenizer", "prior", "model"} == {p.name for p in run.iterdir()}
    m = NCVQ.load(run / "model")
    X, y = series()
    assert m.classes_.tolist() == ["sit", "walk"] and m.epochs == 2 and m.reconstruct(X).shape == X.shape
    by_hand = NCVQ(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=32, prior_depth=1, epochs=2, random_state=0).fit(X, y)
    assert np.array_equal(m.sample(3, random_state=0), by_hand.sample(3, random_state=0))  # the command is the library


def test_the_same_command_again_changes_nothing(folder, capsys):
    files = [folder / "run" / "model" / f"{k}.safetensors" for k in ("tokenizer", "prior")]
    before = [f.read_bytes() for f in files]
    assert call(cli.train, folder / "toy.npz", "--out", folder / "run", "--quiet", *TINY) == 0
    assert [f.read_bytes() for f in files] == before and str(folder / "run" / "model") in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["TokenizerLoss", "MaskGITLoss"])
def test_a_run_that_was_cut_off_is_continued(folder, tmp_path, stage, monkeypatch):
    import ncvq_nb.generator as generator
    with monkeypatch.context() as m:
        def stop(*args, **kw): raise KeyboardInterrupt
        m.setattr(getattr(generator, stage), "forward", stop)
        assert call(cli.train, folder / "toy.npz", "--out", tmp_path, "--quiet", *TINY) == 130
    assert not (tmp_path / "model").exists()
    assert call(cli.train, folder / "toy.npz", "--out", tmp_path, "--quiet", *TINY) == 0
    for k in ("tokenizer", "prior"): assert (tmp_path / "model" / f"{k}.safetensors").read_bytes() == (folder / "run" / "model" / f"{k}.safetensors").read_bytes()


@pytest.mark.parametrize("file", ["toy.csv", "toy_TRAIN.tsv", "toy.ts"])
def test_every_kind_of_file_gives_the_same_model(folder, tmp_path, file):
    assert call(cli.train, folder / file, "--out", tmp_path, "--quiet", *TINY) == 0
    m, want = NCVQ.load(tmp_path / "model"), NCVQ.load(folder / "run" / "model")
    assert m.classes_.tolist() == ["sit", "walk"] and np.array_equal(m.sample_tokens(4, random_state=0), want.sample_tokens(4, random_state=0))


def test_labels_can_be_left_out(folder, tmp_path):
    X, _ = series()
    write(tmp_path / "x.csv", X[..., 1:], X[:, 0, 0])
    assert call(cli.train, tmp_path / "x.csv", "--label", "none", "--out", tmp_path / "run", "--quiet", *TINY) == 0
    m = NCVQ.load(tmp_path / "run" / "model")
    assert m.classes_ is None and m.n_features_in_ == 24
    assert call(cli.sample, tmp_path / "run", "-n", 2, "--out", tmp_path / "new.csv") == 0


def test_words_numbers_and_pairs_as_values(folder, tmp_path):
    assert call(cli.train, folder / "toy.npz", "--out", tmp_path, "--quiet", *TINY, "--epochs", "1,2", "--ssl", "none", "--augment", "None", "--finetune-codebook", "false", "--lr", "1e-3") == 0
    m = NCVQ.load(tmp_path / "model")
    assert (m.epochs, m.ssl, m.augment, m.finetune_codebook, m.lr) == ((1, 2), None, None, False, 1e-3)


# sample

def test_samples_as_npz_and_csv(folder, tmp_path):
    m = NCVQ.load(folder / "run" / "model")
    want = m.sample(y=["sit"] * 3 + ["walk"] * 3, random_state=5)
    args = ["-n", 3, "--y", "sit", "walk", "--random_state", 5]
    assert call(cli.sample, folder / "run", *args, "--out", tmp_path / "a" / "new.npz") == 0
    with np.load(tmp_path / "a" / "new.npz", allow_pickle=False) as f:
        assert np.array_equal(f["X"], want) and f["y"].tolist() == ["sit"] * 3 + ["walk"] * 3
    assert call(cli.sample, folder / "run" / "model", *args, "--out", tmp_path / "new.csv") == 0
    back = read_dataset(tmp_path / "new.csv")
    assert np.array_equal(back.X_train, want) and back.y_train.tolist() == ["sit"] * 3 + ["walk"] * 3  # to the bit
    assert call(cli.sample, folder / "run", "-n", 4, "--out", tmp_path / "free.npz", "--random_state", 1, "--guidance_scale", 2, "--sampling_steps", 3, "--choice_temperature", 0) == 0
    with np.load(tmp_path / "free.npz") as f: assert f["X"].shape == (4, 1, 24) and "y" not in f
    assert call(cli.sample, folder / "run", "--out", tmp_path / "free.csv") == 0
    assert len((tmp_path / "free.csv").read_text().splitlines()) == 10


def test_labels_with_commas_and_quotes_survive_in_a_csv(tmp_path):
    X, _ = series(n=4)
    y = np.array(["up, then down", 'a "kick"'] * 2)
    NCVQ(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=32, prior_depth=1, epochs=1, random_state=0).fit(X, y).save(tmp_path / "m")
    assert call(cli.sample, tmp_path / "m", "-n", 1, "--y", *sorted(set(y)), "--out", tmp_path / "new.csv") == 0
    rows = list(csv.reader(open(tmp_path / "new.csv", newline="")))
    assert [r[0] for r in rows] == sorted(set(y)) and {len(r) for r in rows} == {25}


def test_labels_that_look_like_options(tmp_path):
    X, _ = series(n=4)
    NCVQ(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=32, prior_depth=1, epochs=1, random_state=0).fit(X, [-1, 1, -1, 1]).save(tmp_path / "m")
    assert call(cli.sample, tmp_path / "m", "-n", 2, "--y", "-1", "1", "--out", tmp_path / "new.npz") == 0
    with np.load(tmp_path / "new.npz") as f: assert f["y"].tolist() == [-1, -1, 1, 1]


# what goes wrong

@pytest.mark.parametrize("args, parts", [
    (["-n", 0, "--out", "x.npz"], ["-n", "0"]), (["-n", 2, "--out", "x.pkl"], [".npz", ".csv", "x.pkl"]), (["-n", 2, "--y", "lie", "--out", "x.npz"], ["lie", "sit, walk"]),
    (["-n", 2, "--sampling_steps", 0, "--out", "x.npz"], ["sampling_steps"]), (["-n", 2, "--random_state", -1, "--out", "x.npz"], ["random_state"])], ids=str)
def test_mistakes_in_sampling(folder, tmp_path, monkeypatch, capsys, args, parts):
    monkeypatch.chdir(tmp_path)
    assert call(cli.sample, folder / "run", *args) == 2
    one_line(capsys, "ncvq_sample", *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("args, parts", [
    (["nothing.csv"], ["nothing.csv"]), (["NoSuchSet"], ["NoSuchSet"]), (["toy.npz", "--ssl", "x"], ["ssl", "'x'"]), (["toy.npz", "--augment", "x"], ["augment"]), (["toy.npz", "--epochs", "0"], ["epochs"]),
    (["toy.npz", "--n_fft", "64"], ["X", "64"]), (["toy.npz", "--device", "x"], ["device"]), (["toy.npz", "--random_state", "x"], ["random_state"]), (["toy.npz", "--dim", "0"], ["dim"]),
    (["toy.npz", "--prior_heads", "0"], ["prior_heads"]), (["toy.npz", "--n_codes", "many"], ["n_codes"]), (["toy.csv", "--label", "colour"], ["colour"])], ids=str)
def test_mistakes_in_training(folder, tmp_path, monkeypatch, capsys, args, parts):
    monkeypatch.chdir(folder)
    assert call(cli.train, args[0], "--out", tmp_path / "r", "--quiet", *TINY, *args[1:]) == 2
    one_line(capsys, "ncvq_train", *parts)


def test_a_missing_gpu_is_said_in_one_line(folder, tmp_path, capsys):
    import torch
    if torch.cuda.is_available(): pytest.skip("there is a GPU")
    assert call(cli.train, folder / "toy.npz", "--out", tmp_path, "--quiet", *TINY, "--device", "cuda") == 2
    one_line(capsys, "ncvq_train", "device")


def test_a_run_of_other_settings_is_refused(folder, capsys):
    assert call(cli.train, folder / "toy.npz", "--out", folder / "run", "--quiet", *TINY, "--n_codes", 9) == 2
    one_line(capsys, "n_codes was 8, now 9", "other settings")


@pytest.mark.parametrize("damage", [lambda d: (d / "prior.safetensors").write_bytes(b"x"), lambda d: (d / "config.json").write_text("{"), lambda d: (d / "prior.safetensors").unlink(),
                                    lambda d: (d / "config.json").unlink()], ids=["weights", "config", "no weights", "no config"])
@pytest.mark.parametrize("name", ["sample", "evaluate"])
def test_damaged_models_are_said_in_one_line(folder, tmp_path, capsys, damage, name):
    import shutil
    shutil.copytree(folder / "run" / "model", tmp_path / "m")
    damage(tmp_path / "m")
    rest = ["--out", tmp_path / "new.npz"] if name == "sample" else [folder / "toy.npz", "--quiet"]
    assert call(ALL[name], tmp_path / "m", *rest) == 2
    one_line(capsys, f"ncvq_{name}", tmp_path / "m")


def test_bad_files_are_said_in_one_line(tmp_path, capsys):
    X, y = series()
    X[3, 0, 5] = np.nan
    for name, make in {"nan.npz": lambda p: np.savez(p, X=X, y=y), "short.csv": lambda p: write(p, series(l=5)[0], y), "empty.csv": lambda p: p.write_text(""), "noise.npz": lambda p: p.write_bytes(b"noise"),
                       "pickle.npz": lambda p: np.savez(p, X=np.array([None, {}], object))}.items():
        make(tmp_path / name)
        assert call(cli.train, tmp_path / name, "--out", tmp_path / "r", "--quiet", *TINY) == 2
        one_line(capsys, "ncvq_train")


# judging

def test_evaluate_needs_test_series(folder, capsys):
    assert call(cli.evaluate, folder / "run", folder / "toy.csv", "--quiet") == 2
    one_line(capsys, "ncvq_evaluate", "--test_fraction")
    assert call(cli.demo, folder / "toy.csv", "--quiet") == 2  # before any training
    one_line(capsys, "ncvq_demo", "--test_fraction")


def test_a_table_without_a_test_part_is_parted_the_same_way_every_time(folder, tmp_path, fast, capsys):
    share = ["--test_fraction", "0.5"]
    assert call(cli.train, folder / "toy.csv", *share, "--out", tmp_path / "run", "--quiet", *TINY) == 0
    assert "6 train + 6 test" in capsys.readouterr().out
    assert call(cli.evaluate, tmp_path / "run", folder / "toy.csv", *share, "--quiet") == 0
    assert "trained on other" not in capsys.readouterr().out
    assert call(cli.evaluate, folder / "run", folder / "toy.csv", *share, "--quiet", "--out", tmp_path / "judged") == 0
    assert "trained on other" in capsys.readouterr().out  # on all twelve


def test_a_folder_does_not_hide_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("GunPoint").mkdir(), Path("mine").mkdir()
    assert len(find_dataset("GunPoint").X_train) == 50
    with pytest.raises(IsADirectoryError): find_dataset("mine")


@pytest.fixture
def fast(monkeypatch, tmp_path):
    "The classifier that judges takes minutes; here it is trained for a few steps only."
    import ncvq_nb.experiments as experiments
    from functools import partial
    settings = dict(max_steps=5)
    monkeypatch.setattr(cli, "judge", partial(cli.judge, fcn=settings, cas_total=8, n_resamples=5, cache_dir=tmp_path / "cache"))
    monkeypatch.setattr(experiments, "evaluate", partial(experiments.evaluate, fcn=settings, cas_total=8, n_resamples=5, cache_dir=tmp_path / "cache"))


def test_evaluate_writes_a_report_and_pictures(folder, tmp_path, fast, capsys):
    assert call(cli.evaluate, folder / "run", folder / "toy.npz", "--out", tmp_path / "judged", "--quiet", "--n_samples", 8) == 0
    names = {p.name for p in (tmp_path / "judged").iterdir()}
    assert {"report.json", "report.md", "samples.png", "reconstructions.png"} <= names
    out = capsys.readouterr().out
    assert "reconstruction error" in out and "FID" in out and str(tmp_path / "judged") in out


def test_demo_leaves_everything(folder, tmp_path, fast, capsys):
    assert call(cli.demo, folder / "toy.npz", "--out", tmp_path / "demo", "--quiet", *TINY) == 0
    assert {"model", "report.json", "report.md", "samples.png", "reconstructions.png", "training.png"} <= {p.name for p in (tmp_path / "demo").iterdir()}
    assert call(cli.sample, tmp_path / "demo", "-n", 1, "--out", tmp_path / "new.npz") == 0
    card, report = (tmp_path / "demo" / "model" / "README.md").read_text(encoding="utf-8"), (tmp_path / "demo" / "report.md").read_text(encoding="utf-8")
    assert "| FID |" in card and "| name | toy |" in card and {l for l in report.splitlines() if l.startswith("|")} <= set(card.splitlines())
    assert "ncvq_sample" in capsys.readouterr().out


def test_grid_fills_a_folder_and_goes_on_where_it_stopped(folder, tmp_path, fast, capsys):
    args = [folder / "toy.npz", "--out", tmp_path / "g", "--seeds", 0, 1, "--methods", "naive", "barlow-slice", *[a for a in TINY if a not in ("--random_state", "0")]]
    assert call(cli.grid, *args) == 0
    reports = sorted((tmp_path / "g").glob("*/*/*/report.json"))
    assert len(reports) == 4 and (tmp_path / "g" / "results.csv").exists()
    times = [p.stat().st_mtime_ns for p in reports]
    for p in reports: assert "| FID |" in (p.parent / "model" / "README.md").read_text(encoding="utf-8")
    table = capsys.readouterr().out
    assert "barlow-slice" in table and "naive" in table
    assert call(cli.grid, *args) == 0 and [p.stat().st_mtime_ns for p in reports] == times and capsys.readouterr().out == table


def test_a_grid_whose_cells_fail_does_not_look_like_success(folder, tmp_path, capsys):
    assert call(cli.grid, folder / "toy.npz", "--out", tmp_path / "g", "--seeds", 0, *TINY, "--ssl", "x") != 0
    assert "Traceback" not in capsys.readouterr().err


def test_labels_of_an_archives_set(tmp_path, capsys):
    assert find_dataset("GunPoint", label=None).y_train is None and find_dataset("GunPoint").y_train is not None
    assert call(cli.train, "GunPoint", "--label", "last", "--out", tmp_path / "r", *TINY) == 2
    one_line(capsys, "ncvq_train", "label='last' is for tables")


def test_messages_speak_the_commands_language(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("0.5,0.25,1.5\n0.25,0.5,2.5\n")
    assert call(cli.train, tmp_path / "a.csv", "--out", tmp_path / "r", *TINY) == 2
    one_line(capsys, "--label none")
    assert call(cli.train, write(tmp_path / "b.csv", *series()), "--label", "None", "--out", tmp_path / "r", "--quiet", *TINY) == 2
    one_line(capsys, "'sit'")  # read as a sample now
