"""Files are written wholly or not at all, names stay in a folder, digests stay what they were."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from toys import says

from ncvq_nb.io import storage
from ncvq_nb.io.storage import (
    array_digest,
    cache_folder,
    content_digest,
    folder_lock,
    json_digest,
    read_bounded,
    safe_file_name,
    write_atomically,
    write_file,
)

posix = pytest.mark.skipif(os.name != "posix", reason="locks and permissions of POSIX")


def test_write_atomically(tmp_path):
    f = tmp_path / "a.txt"
    write_atomically(f, "one")
    write_atomically(f, b"two")
    write_atomically(f, lambda tmp: tmp.write_text(f"three{tmp.suffix}"))
    assert f.read_text() == "three.txt"

    def fails(tmp):
        tmp.write_text("fo")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(f, fails)
    assert f.read_text() == "three.txt" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_writer_has_left_is_removed_and_what_is_a_users_own_stays(tmp_path):
    dead, own = ".a[1].ncvq-0123456789abcdef.txt", {".a[1].note.txt", ".a[1].2025.final.txt"}
    for name in {dead, *own}:
        (tmp_path / name).write_text("half")
    with folder_lock(tmp_path, shared=True):  # somebody is writing there
        write_atomically(tmp_path / "a[1].txt", "whole")
        assert (tmp_path / dead).exists()
    write_atomically(tmp_path / "a[1].txt", "whole")
    assert {p.name for p in tmp_path.iterdir()} == own | {"a[1].txt"}


@posix
def test_a_lock_ends_with_its_process_however_it_ends(tmp_path):
    program = (
        "import sys, time; from ncvq_nb.io.storage import folder_lock\n"
        "with folder_lock(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(TimeoutError, match="in use by another writer"):
        with folder_lock(tmp_path, timeout=0):
            pass
    child.kill()
    child.communicate()
    with folder_lock(tmp_path, timeout=0) as held:
        assert held


@posix
def test_a_link_is_written_through_and_permissions_stay(tmp_path):
    file, link = tmp_path / "real.txt", tmp_path / "link.txt"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    write_atomically(link, "new")
    assert link.is_symlink() and file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(ValueError, match="where a file was to be written"):
            write_atomically(tmp_path / name, "x")


def test_errors_of_the_system_name_the_file(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device: '.*report.md'"):
            write_atomically(tmp_path / "report.md", "x")
    assert not list(tmp_path.iterdir())


def test_write_file_makes_folders(tmp_path):
    write_file(tmp_path / "a" / "b" / "c.txt", "text")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


NAMES = ["", "../../x", "..", ".", "a/b", "a\\b", "a\0b", "a\nb", "CON", "nul.txt", "<b>|`"]
NAMES.append("x" * 300)


@pytest.mark.parametrize("name", NAMES, ids=lambda n: repr(n)[:20])
def test_a_name_becomes_one_file_in_its_folder(tmp_path, name):
    safe = safe_file_name(name)
    (tmp_path / safe).mkdir()
    assert [p.name for p in tmp_path.iterdir()] == [safe] and safe != name
    assert len({safe_file_name(n) for n in NAMES}) == len(NAMES)


def test_harmless_names_stay():
    for name in ("GunPoint", "ü 漢", "-rf", "a.b"):
        assert safe_file_name(name) == name


# Digests are stored: in models, in reports, in names of files


def test_digests_stay_what_they_were():
    a = np.arange(6.0).reshape(2, 3)
    assert array_digest(a, None) == "0e152fbef83bc2b8"
    assert array_digest(np.array(["a", "b"]), np.float32([1, 2])) == "c000c19e4f0d208b"
    assert json_digest({"b": [1, None, 2.5], "a": "ü"}) == (
        "c934ae5605f3dae37d2ea00dc7ce10c30297c3bff92103019e2bd794d04cca73"
    )
    assert content_digest("ü", b"x", a) == (
        "c33b569965f9496534b7e562ad08bff9f30fabadaed675083599cf73b53b9935"
    )


def test_digests_see_what_they_promise_to_see():
    a = np.arange(6.0).reshape(2, 3)
    known = [array_digest(b) for b in (a, a.ravel(), a.astype("f4"), a + 1, None)]
    assert len(set(known)) == 5
    assert array_digest(np.asfortranarray(a)) == array_digest(a)
    assert content_digest("a", "bc") == content_digest(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert json_digest({"a": 1, "b": 2}) == json_digest({"b": 2, "a": 1}) != json_digest({"a": 1})


@pytest.mark.parametrize(
    "platform, variable, below",
    [
        ("linux", "XDG_CACHE_HOME", ".cache/ncvq_nb"),
        ("darwin", None, "Library/Caches/ncvq_nb"),
        ("win32", "LOCALAPPDATA", "AppData/Local/ncvq_nb"),
    ],
)
def test_cache_folder_of_each_platform(tmp_path, monkeypatch, platform, variable, below):
    monkeypatch.setattr(storage.sys, "platform", platform)
    for name in ("NCVQ_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path.home() / below
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
        assert cache_folder() == tmp_path / "ncvq_nb"
    monkeypatch.setenv("NCVQ_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_read_bounded_reads_files_only_and_no_more_than_is_said(tmp_path):
    f = tmp_path / "a.json"
    f.write_bytes(b"\x1a\r\n[]")
    assert read_bounded(f) == b"\x1a\r\n[]" == read_bounded(str(f), limit=5)
    with says("a.json is larger than 4 bytes"):
        read_bounded(f, limit=4)
    with says(str(tmp_path), "a folder"):
        read_bounded(tmp_path)
    with pytest.raises(FileNotFoundError, match="b.json"):
        read_bounded(tmp_path / "b.json")


@posix
def test_read_bounded_never_waits(tmp_path, monkeypatch):
    "Pipes and devices are refused, also behind a link, or when one took the place of a file."
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    for path in (fifo, link, "/dev/zero"):
        with says(str(path), "not a file"):
            read_bounded(path)
    f = tmp_path / "a"
    f.write_text("")
    with monkeypatch.context() as m:
        m.setattr(Path, "stat", lambda self: os.stat(f))
        with says("fifo", "not a file"):
            read_bounded(fifo)
    if Path("/proc/self/status").exists():  # said to be empty, and is not
        with says("larger than 9 bytes"):
            read_bounded("/proc/self/status", limit=9)
