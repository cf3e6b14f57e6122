"""Folders change in one step, keep what is not ours, and places are checked before work."""

import os
import shutil
import subprocess
import sys
import threading

import pytest

from ncvq_nb import NCVQ
from ncvq_nb.io.folders import NEW, newest, place_for_file, place_for_folder, write_folder
from conftest import by_night
from toys import fingerprint, fitted, says

posix = pytest.mark.skipif(os.name != "posix", reason="links, permissions and mounts of POSIX")


@pytest.fixture(scope="module")
def models():
    return [fitted(random_state=seed) for seed in (0, 1)]


def contents(folder):
    return {p.name: p.read_text() for p in folder.iterdir()}


def test_a_state_replaces_the_one_before_and_nothing_else(tmp_path):
    write_folder(tmp_path / "m", {"a": "1", "b": b"1"})
    (tmp_path / "m" / "mine").write_text("precious")
    write_folder(tmp_path / "m", {"a": "2", "c": "2"}, obsolete=["b", "c"])
    assert contents(tmp_path / "m") == {"a": "2", "c": "2", "mine": "precious"}


def killed_after(moves, folder):
    "The folder as a process leaves it that is killed after so many moves."
    write_folder(folder, {"a": "old", "b": "old"})
    (folder / NEW).mkdir()
    for i, name in enumerate("ab"):
        (folder / (name if i < moves else f"{NEW}/{name}")).write_text("new")


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_between_two_moves_the_new_state_is_read_and_finished(tmp_path, moves, monkeypatch):
    killed_after(moves, tmp_path)
    assert [newest(tmp_path, name).read_text() for name in "ab"] == ["new", "new"]

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(type(tmp_path), "write_bytes", full)
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
            write_folder(tmp_path, {"a": "newer"})
    assert contents(tmp_path) == {"a": "new", "b": "new"}, "nothing is lost to a full disk"
    write_folder(tmp_path, {"a": "newer"}, obsolete=["b"])
    assert contents(tmp_path) == {"a": "newer"}


def test_a_move_that_fails_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    calls, replace = [], os.replace

    def held_by_a_scanner(*args):
        calls.append(args)
        if len(calls) == 1:
            raise PermissionError(13, "in use")
        replace(*args)

    monkeypatch.setattr(os, "replace", held_by_a_scanner)
    write_folder(tmp_path, {"a": "1", "b": "1"})
    assert contents(tmp_path) == {"a": "1", "b": "1"} and len(calls) == 3


@posix
def test_without_locks_nothing_of_a_writer_that_may_be_alive_is_removed(tmp_path, monkeypatch):
    def without_locks(*args):
        raise OSError(37, "No locks available")

    write_folder(tmp_path, {"a": "1"})
    part = tmp_path / ".part.ncvq-0123456789abcdef"
    part.mkdir()
    with monkeypatch.context() as m:
        m.setattr("fcntl.flock", without_locks)
        write_folder(tmp_path, {"a": "2"})
    assert part.exists() and (tmp_path / "a").read_text() == "2"
    write_folder(tmp_path, {"a": "3"})
    assert contents(tmp_path) == {"a": "3"}


# Models


def test_threads_that_save_to_one_path_leave_one_of_the_models(models, tmp_path):
    def work(model):
        for _ in range(8):
            model.save(tmp_path / "m")

    threads = [threading.Thread(target=work, args=(m,)) for m in models]
    for t in threads:
        t.start()
    known = [fingerprint(m) for m in models]
    while any(t.is_alive() for t in threads):
        if (tmp_path / "m" / "config.json").exists():
            assert fingerprint(NCVQ.load(tmp_path / "m")) in known, "a mixture of both was read"
    for t in threads:
        t.join()
    assert fingerprint(NCVQ.load(tmp_path / "m")) in known
    assert len(list((tmp_path / "m").iterdir())) == 5


def test_leftovers_of_killed_processes_of_the_same_number_do_no_harm(models, tmp_path):
    path = tmp_path / "m"
    models[0].save(path)
    for name in (f".m.new.{os.getpid()}", f".m.old.{os.getpid()}", ".m.old.20250101"):
        shutil.copytree(path, tmp_path / name)  # as earlier versions left them; or a user's own
    (path / ".part.ncvq-0123456789abcdef").mkdir()
    models[1].save(path)
    assert fingerprint(NCVQ.load(path)) == fingerprint(models[1])
    assert len(list(path.iterdir())) == 5 and len(list(tmp_path.iterdir())) == 4
    shutil.rmtree(path)
    with pytest.warns(UserWarning, match=r"\.m\.new\..* is read instead"):
        assert fingerprint(NCVQ.load(path)) == fingerprint(models[0])


@posix
def test_links_permissions_and_files_of_other_programs_stay(models, tmp_path):
    path, link = tmp_path / "real", tmp_path / "link"
    models[0].save(path)
    os.chmod(path, 0o700)
    os.chmod(path / "config.json", 0o600)
    (path / ".gitattributes").write_text("*.safetensors filter=lfs")
    (path / ".ipynb_checkpoints").mkdir()
    link.symlink_to(path)
    models[1].save(link)
    assert fingerprint(NCVQ.load(link)) == fingerprint(models[1])
    modes = [p.stat().st_mode & 0o777 for p in (path, path / "config.json")]
    assert link.is_symlink() and modes == [0o700, 0o600]
    assert {".gitattributes", ".ipynb_checkpoints"} < {p.name for p in path.iterdir()}
    assert {p.name for p in tmp_path.iterdir()} == {"real", "link"}
    (path / "notes.txt").write_text("mine")
    with says("notes.txt is in it"):
        models[1].save(path)


@posix
@by_night("what is saved to is a place like others, but for the name space")
def test_a_mount_point_is_saved_to(models, tmp_path):
    "As a volume of a container is; in a name space of its own, where that is allowed."
    models[0].save(tmp_path / "plain")
    program = (
        "import sys; from ncvq_nb import NCVQ; m = NCVQ.load(sys.argv[1])\n"
        "for _ in range(2): m.save(sys.argv[2])\n"
        "NCVQ.load(sys.argv[2]); print('saved')"
    )
    (tmp_path / "volume").mkdir()
    inside = 'mount -t tmpfs none "$2" && "$0" -c "$3" "$1" "$2"'
    call = ["unshare", "-rm", "sh", "-c", inside, sys.executable, tmp_path / "plain"]
    try:
        found = subprocess.run(
            [*call, tmp_path / "volume", program], capture_output=True, text=True, timeout=120
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if any(s in found.stderr for s in ("unshare", "mount:", "Operation not permitted")):
        pytest.skip(f"no mounts here: {found.stderr.strip()[:80]}")
    assert found.stdout == "saved\n", found.stderr


def test_a_pointer_of_git_lfs_is_called_what_it_is(models, tmp_path):
    models[0].save(tmp_path / "m")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / "m" / "tokenizer.safetensors").write_text(pointer)
    with says("pointer of Git LFS", "git lfs pull"):
        NCVQ.load(tmp_path / "m")


def test_home_is_expanded(models, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    models[0].save("~/m")
    assert (tmp_path / "m" / "config.json").exists()
    NCVQ.load("~/m")
    NCVQ.from_pretrained("~/m")


# Places


@posix
def test_places_are_checked_before_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    with says("--out", "is a file"):
        place_for_folder(tmp_path / "file", "--out")
    with says("leads through", "which is a file"):
        place_for_folder(tmp_path / "file" / "a" / "b")
    with says("is a folder"):
        place_for_file(tmp_path)
    for wrong in (None, 3, ["a"], b"a"):
        found = f"as text or as a pathlib.Path, found {type(wrong).__name__}"
        with says("run_dir must be the path of a folder", found, kind=TypeError):
            place_for_folder(wrong, "run_dir")
        with says("--json must be the path of a file", found, kind=TypeError):
            place_for_file(wrong, "--json")
        with says("folder must be the path of a folder", found, kind=TypeError):
            write_folder(wrong, {})
    if os.geteuid():
        os.chmod(tmp_path, 0o500)
        with pytest.raises(PermissionError, match="no right to write there"):
            place_for_file(tmp_path / "a" / "new")
