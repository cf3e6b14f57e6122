"""Run every test: the notebooks and, beside them, pytest. Any arguments go to pytest.

    .venv/bin/python tests/run.py
    .venv/bin/python tests/run.py -m 'not slow'
"""
import os, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT, WORKERS = Path(__file__).resolve().parent.parent, str(min(os.cpu_count() or 1, 4))
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}  # full sets of threads would slow one another down


def start(*command, **kw):
    "One command of this environment."
    program = shutil.which(command[0], path=Path(sys.executable).parent)
    if program is None: sys.exit(f"{command[0]} is not installed beside {sys.executable}: pip install -e '.[dev]' with that Python first")
    return subprocess.Popen([program, *command[1:]], cwd=ROOT, env=ENV, **kw)


with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
    notebooks = start("nbdev_test", "--n_workers", WORKERS, stdout=said, stderr=subprocess.STDOUT)
    try:
        print("== pytest, and the notebooks beside it", flush=True)
        failed = start("pytest", "-n", WORKERS, "--dist", "worksteal", *sys.argv[1:]).wait()
        notebooks.wait()
    finally: notebooks.kill()
    said.seek(0)
    print(f"== notebooks\n{said.read()}", flush=True)
sys.exit(bool(failed or notebooks.returncode))
