"""Files are written wholly or not at all, names stay in a folder, digests stay what they were."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ncvq_nb.io import storage
from ncvq_nb.io.storage import (
    array_digest,
    cache_folder,
    content_digest,
    json_digest,
    safe_file_name,
    write_atomically,
    write_file,
)

posix = pytest.mark.skipif(os.name != "posix", reason="asks for processes as POSIX does")


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


@posix
def test_temporary_files_of_killed_processes_are_removed_and_those_of_living_ones_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getppid()):
        (tmp_path / f".a[1].{pid}.00000000.txt").write_text("half")
    (tmp_path / ".a[1].note.txt").write_text("the user's own")
    write_atomically(tmp_path / "a[1].txt", "whole")
    left = {".a[1].note.txt", f".a[1].{os.getppid()}.00000000.txt", "a[1].txt"}
    assert {p.name for p in tmp_path.iterdir()} == left


def test_write_file_makes_folders(tmp_path):
    write_file(tmp_path / "a" / "b" / "c.txt", "text")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


NAMES = ["../../x", "..", ".", "a/b", "a\\b", "a\0b", "a\nb", "CON", "nul.txt", "x" * 300, "<b>|`"]


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
