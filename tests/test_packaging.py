"""What is installed, and that it is all there: dependencies, a clean import, wheel and sdist."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import metadata, packages_distributions, requires
from pathlib import Path

import pytest
from test_house import ROOT, SOURCES, call, copy, prep

NAMES = {"sklearn": "scikit-learn", "PIL": "pillow"}  # imported under another name than installed
CLEAN = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def normal(name):
    return name.lower().replace("_", "-")


def required(key):
    return {normal(re.match(r"[\w-]+", r)[0]) for r in prep.settings()[key].split()}


def imported(path):
    "Top-level names a module imports, and whether each stands where it may fail (function, try)."
    found = {}

    def walk(node, guarded):
        for child in ast.iter_child_nodes(node):
            names = []
            if isinstance(child, ast.Import):
                names = [a.name for a in child.names]
            elif isinstance(child, ast.ImportFrom) and not child.level:
                names = [child.module]
            for n in names:
                top = n.split(".")[0]
                found[top] = found.get(top, True) and guarded
            walk(child, guarded or isinstance(child, (ast.FunctionDef, ast.Try)))

    walk(ast.parse(path.read_text(encoding="utf-8")), False)
    ours = {*sys.stdlib_module_names, "ncvq_nb", "tomllib"}  # from Python 3.11 on
    return {normal(NAMES.get(k, k)): v for k, v in found.items() if k not in ours}


# Requirements


def test_what_is_required_is_what_is_imported():
    hard, soft = (
        {n for p in SOURCES for n, guarded in imported(p).items() if guarded == g}
        for g in (False, True)
    )
    assert hard == required("requirements"), (
        "an import without a requirement, or a requirement that nothing imports"
    )
    tools = ("dev_requirements", "docs_requirements")
    keys = [k for k in prep.settings() if k.endswith("_requirements") and k not in tools]
    extras = set().union(*map(required, keys))
    assert soft - hard <= extras, "an optional import that no extra brings"


def test_every_requirement_has_a_lower_bound():
    cfg = prep.settings()
    assert all(">=" in r for r in cfg["requirements"].split())
    extras = {k.removesuffix("_requirements") for k in cfg if k.endswith("_requirements")}
    assert {"aeon", "dev", "docs", "hub", "log", "ucr"} <= extras
    assert f'requires-python = ">={cfg["min_python"]}"' in (ROOT / "pyproject.toml").read_text()


def test_settings_are_read_by_pip():
    version = prep.settings()["version"]
    assert metadata("ncvq_nb")["Version"] == version == __import__("ncvq_nb").__version__
    for extra in ("dev", "docs", "ucr"):
        assert any(f'extra == "{extra}"' in r for r in requires("ncvq_nb"))


def test_importing_says_nothing(tmp_path):
    "Warnings are errors, every public name is there, and what only some need is not loaded."
    code = (
        "import sys, ncvq_nb\n"
        "for name in ncvq_nb.__all__: getattr(ncvq_nb, name)\n"
        "assert 'torch._dynamo' not in sys.modules, 'the compiler takes a second to load'\n"
    )
    env = {**CLEAN, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    r = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


# Wheel and sdist, built once


def build(folder):
    "An sdist of a copy of the project, and a wheel from that sdist."
    files = "settings.ini setup.py pyproject.toml MANIFEST.in README.md CHANGELOG.md LICENSE"
    work = copy(folder / "work", *files.split(), "ncvq_nb")
    options = ["--no-isolation", "--outdir", folder / "dist"]
    call(sys.executable, "-m", "build", *options, work, cwd=folder)


@pytest.fixture(scope="session")
def dist(shared):
    return shared("dist", build) / "dist"


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_they_should(dist):
    (sdist,), (path,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    names = {n.split("/", 1)[1] for n in tarfile.open(sdist).getnames() if "/" in n}
    assert {"settings.ini", "setup.py", "README.md", "LICENSE"} <= names
    assert {"ncvq_nb/py.typed", "ncvq_nb/datasets/names.txt"} <= names

    wheel = zipfile.ZipFile(path)
    inside = set(wheel.namelist())
    files = [p for p in (ROOT / "ncvq_nb").rglob("*") if p.is_file()]
    wanted = {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}
    assert wanted <= inside, f"not in the wheel: {sorted(wanted - inside)}"
    assert "ncvq_nb/py.typed" in inside and "ncvq_nb/io/storage.py" in inside
    assert "ncvq_nb/datasets/LICENSE-aeon.txt" in inside
    assert any(f.endswith("licenses/LICENSE") for f in inside)
    assert not [f for f in inside if f.startswith(("nbs", "tests", "docs"))]

    meta = next(wheel.read(n).decode() for n in inside if n.endswith("METADATA"))
    plain = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==).*$", meta, re.M)
    assert {normal(m) for m in plain} == required("requirements")
    extras = {
        k.removesuffix("_requirements") for k in prep.settings() if k.endswith("_requirements")
    }
    assert set(re.findall(r"^Provides-Extra: ([\w-]+)$", meta, re.M)) == extras

    scripts = next(wheel.read(n).decode() for n in inside if n.endswith("entry_points.txt"))
    for name, module in re.findall(r"^(ncvq_\w+) ?= ?([\w.]+):", scripts, re.M):
        assert module.replace(".", "/") + ".py" in inside, f"{name} leads nowhere"


def folders_of_requirements():
    "Where the packages lie that the library needs: plain folders, so no .pth of theirs is read."
    where = packages_distributions()
    found = set()
    for name in required("requirements"):
        for n, distributions in where.items():
            if name in map(normal, distributions) and not n.startswith("_"):
                if file := getattr(__import__(n), "__file__", None):
                    found.add(str(Path(file).resolve().parents[1]))
    return sorted(found - {str(ROOT)})


TRY = """
import importlib, pathlib, pkgutil, sys, ncvq_nb
for m in pkgutil.walk_packages(ncvq_nb.__path__, "ncvq_nb."):
    importlib.import_module(m.name)
home = pathlib.Path(ncvq_nb.__file__).resolve().parent
assert home.is_relative_to(sys.argv[1]), home
ours = [m for k, m in sys.modules.items() if k.split(".")[0] == "ncvq_nb" and m.__file__]
assert len(ours) > 40 and all(pathlib.Path(m.__file__).is_relative_to(home) for m in ours)
assert (home / "py.typed").exists()
data = ncvq_nb.load_ucr("ItalyPowerDemand")
model = ncvq_nb.NCVQ(dim=8, n_res_blocks=0, prior_dim=8, prior_depth=1, epochs=0.1, random_state=0)
model.fit(data.X_train, data.y_train)
print(ncvq_nb.bundled(), model.sample(2).shape)
"""


@pytest.mark.slow
def test_the_wheel_works_in_a_new_environment(dist, tmp_path):
    "Installed by pip into an environment that sees this one's other packages, not the project."
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(call(python, "-c", ask, cwd=tmp_path).strip())
    (site / "zz_others.pth").write_text("\n".join(folders_of_requirements()) + "\n")

    def run(*command):
        words = [str(c) for c in command]
        return subprocess.run(words, cwd=tmp_path, env=CLEAN, capture_output=True, text=True)

    before = run(python, "-c", "import ncvq_nb")
    assert "No module named 'ncvq_nb'" in before.stderr, (
        "the project is there before it is installed: this test would prove nothing"
    )
    (wheel,) = dist.glob("*.whl")
    options = "-q --no-deps --no-index --no-build-isolation --disable-pip-version-check".split()
    r = run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel)
    assert r.returncode == 0, r.stderr[-3000:]
    r = run(python, "-W", "error", "-c", TRY, site.resolve())
    assert r.stdout.strip() == "['ArrowHead', 'GunPoint', 'ItalyPowerDemand'] (2, 1, 24)", (
        r.stderr[-3000:]
    )
    assert "usage: ncvq_train" in run(python.parent / "ncvq_train", "--help").stdout


# The forge


def test_the_forges_workflow_runs_the_readmes_commands():
    yaml = pytest.importorskip("yaml")
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    said = [line.strip() for line in readme if line.startswith("    python3 -m venv")]
    test, oldest = flow["jobs"]["test"], flow["jobs"]["oldest"]
    steps = [s["run"].strip() for s in test["steps"] if "run" in s]
    assert len(said) == 2 and all(line in steps for line in said)
    first = test["strategy"]["matrix"]["python"][0]
    assert first == oldest["steps"][1]["with"]["python-version"] == prep.settings()["min_python"]
    runs = [s.get("run", "") for job in flow["jobs"].values() for s in job["steps"]]
    files = set(re.findall(r"tests/\w+\.py", " ".join(runs)))
    missing = [f for f in files if not (ROOT / f).exists()]
    assert len(files) > 4 and not missing, missing
