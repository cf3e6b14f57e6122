"""Run every test: the notebooks, then pytest. Any arguments go to pytest.

    .venv/bin/python tests/run.py
    .venv/bin/python tests/run.py -m 'not slow'
"""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from pages import ROOT, run_pages

WORKERS = min(os.cpu_count() or 1, 4)
# one thread each, for two full sets of threads on two cores slow one another down
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", MPLBACKEND="Agg")


def jobs():
    "Pages by worker: tutorials one after the other, since they share the models that they train."
    folder = ROOT / "nbs"
    found = [p for p in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    tutorials = [p for p in found if p.parent.name == "tutorials"]
    return [tutorials, *([p] for p in found if p not in tutorials)]


def notebooks():
    print(f"== notebooks, {WORKERS} at a time", flush=True)
    began, results = time.time(), []
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        for paths, done in [(paths, pool.submit(run_pages, paths)) for paths in jobs()]:
            try:
                results += done.result()
            except BrokenProcessPool:  # a page has ended its process, and those behind it
                results += [(path, False, 0.0) for path in paths]
    slowest = sorted(results, key=lambda r: -r[2])[:10]
    print("slowest:", ", ".join(f"{p.stem} {seconds:.0f} s" for p, _, seconds in slowest))
    failed = [p.relative_to(ROOT).as_posix() for p, ok, _ in results if not ok]
    print(f"{len(results) - len(failed)} notebooks ran in {time.time() - began:.0f} s", flush=True)
    if failed:
        print("failed:", *failed, sep="\n    ", flush=True)
    return bool(failed)


def pytest(arguments):
    print("== pytest", flush=True)
    program = shutil.which("pytest", path=Path(sys.executable).parent)
    command = [program, "-n", str(WORKERS), "--dist", "worksteal", "--durations=40"]
    return subprocess.call([*command, "--durations-min=2", *arguments], cwd=ROOT)


if __name__ == "__main__":
    for name in ("nbdev_test", "pytest"):
        if shutil.which(name, path=Path(sys.executable).parent) is None:
            sys.exit(f"{name} is not installed beside {sys.executable}: pip install -e '.[dev]'")
    codes = [notebooks(), pytest(sys.argv[1:])]
    sys.exit(any(codes))
