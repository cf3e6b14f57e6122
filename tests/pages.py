"""Running notebooks one after the other in this process.

A module of its own: what a page does takes the place of `__main__`, where a pool of processes would
no longer find the function.
"""

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run_pages(paths):
    "(page, did it run, seconds) for each of them; cells flagged slow or cuda are left out."
    from nbdev.test import test_nb

    ini = ConfigParser(delimiters=["="], interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    skip = ini["DEFAULT"]["tst_flags"].split()
    return [(path, *test_nb(path, skip_flags=skip, basepath=ROOT)) for path in paths]
