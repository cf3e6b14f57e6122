"""Run every test: the notebooks, then pytest. Any arguments go to pytest.

    .venv/bin/python tests/run.py
    .venv/bin/python tests/run.py -m 'not slow'
"""
import os, shutil, subprocess, sys
from pathlib import Path

ROOT, CORES = Path(__file__).resolve().parent.parent, os.cpu_count() or 1


def step(title, *command, threads):
    "Run one command of this environment; torch gets `threads` threads, for two full sets of threads on two cores slow one another down."
    print(f"== {title}", flush=True)
    program = shutil.which(command[0], path=Path(sys.executable).parent)
    if program is None: sys.exit(f"{command[0]} is not installed beside {sys.executable}: pip install -e '.[dev]' with that Python first")
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "MPLBACKEND": "Agg"}
    return subprocess.call([program, *command[1:]], cwd=ROOT, env=env)


codes = [
    step("notebooks", "nbdev_test", "--n_workers", str(min(CORES, 4)), threads=1),
    step("pytest", "pytest", "-n", str(min(CORES, 4)), "--dist", "worksteal", *sys.argv[1:], threads=1),
]
sys.exit(any(codes))
