"""What is installed, from where, and that it is all there: the list of dependencies, a clean import, and wheel and sdist outside of the checkout."""
import ast, os, re, subprocess, sys, tarfile, venv, zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from test_house import ROOT, call, copy, prep

NAMES = {"sklearn": "scikit-learn", "PIL": "pillow"}  # imported under another name than installed
SOURCES = sorted((ROOT / "ncvq_nb").glob("*.py"))


def required(key): return {re.match(r"[\w-]+", r)[0].lower().replace("_", "-") for r in prep.settings()[key].split()}


def imported(path):
    "Top-level names a module imports, and whether each import stands where it may fail (in a function or a `try`)."
    found = {}
    def walk(node, guarded):
        for child in ast.iter_child_nodes(node):
            names = [a.name for a in child.names] if isinstance(child, ast.Import) else [child.module] if isinstance(child, ast.ImportFrom) and not child.level else []
            for n in names: found[n.split(".")[0]] = found.get(n.split(".")[0], True) and guarded
            walk(child, guarded or isinstance(child, (ast.FunctionDef, ast.Try)))
    walk(ast.parse(path.read_text(encoding="utf-8")), False)
    return {NAMES.get(k, k).lower().replace("_", "-"): v for k, v in found.items() if k not in sys.stdlib_module_names and k != "ncvq_nb"}


def test_what_is_required_is_what_is_imported():
    hard, soft = ({n for p in SOURCES for n, guarded in imported(p).items() if guarded == g} for g in (False, True))
    assert hard == required("requirements"), "an import without a requirement, or a requirement that nothing imports"
    extras = set().union(*(required(k) for k in prep.settings() if k.endswith("_requirements") and k not in ("dev_requirements", "docs_requirements")))
    assert soft - hard <= {n.replace("_", "-") for n in extras}, "an optional import that no extra brings"


def test_every_requirement_has_a_lower_bound():
    cfg = prep.settings()
    assert all(">=" in r for r in cfg["requirements"].split())
    extras = {k.removesuffix("_requirements") for k in cfg if k.endswith("_requirements")}
    assert {"aeon", "dev", "docs", "hub", "log", "ucr"} <= extras
    assert f'requires-python = ">={cfg["min_python"]}"' in (ROOT / "pyproject.toml").read_text()


def test_importing_says_nothing(tmp_path):
    "Warnings are errors, every public name is there, and what only some need is not loaded."
    code = "import sys, ncvq_nb; [getattr(ncvq_nb, n) for n in ncvq_nb.__all__]; assert 'torch._dynamo' not in sys.modules, 'the compiler was loaded, which takes a second'"
    r = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


@pytest.mark.slow
def test_wheel_and_sdist_work_in_a_new_environment(tmp_path):
    "Built outside of the checkout and installed by pip into an environment of its own, which sees this one's other packages and not the project."
    work = copy(tmp_path, "settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE", "ncvq_nb")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", work, cwd=tmp_path)
    (sdist,), (wheel,) = (tmp_path / "dist").glob("*.tar.gz"), (tmp_path / "dist").glob("*.whl")
    inside = {n.split("/", 1)[1] for n in tarfile.open(sdist).getnames() if "/" in n}
    assert {"settings.ini", "setup.py", "README.md", "LICENSE", "ncvq_nb/py.typed", "ncvq_nb/datasets/names.txt"} <= inside
    meta = next(zipfile.ZipFile(wheel).read(n).decode() for n in zipfile.ZipFile(wheel).namelist() if n.endswith("METADATA"))
    assert {m.lower().replace("_", "-") for m in re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==).*$", meta, re.M)} == required("requirements")
    assert set(re.findall(r"^Provides-Extra: ([\w-]+)$", meta, re.M)) == {k.removesuffix("_requirements") for k in prep.settings() if k.endswith("_requirements")}

    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=tmp_path).strip())
    needed = {n for name in required("requirements") for n, d in packages_distributions().items() if name in {x.lower().replace("_", "-") for x in d}}
    others = sorted({str(Path(__import__(n).__file__).resolve().parents[1]) for n in needed if getattr(__import__(n), "__file__", None) and not n.startswith("_")} - {str(ROOT)})
    (site / "zz_others.pth").write_text("\n".join(others) + "\n")  # plain folders: no .pth of theirs is read, so an editable install does not come along
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    def run(*command):
        r = subprocess.run([str(c) for c in command], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert r.returncode == 0, r.stderr[-3000:]
        return r.stdout.strip()
    r = subprocess.run([python, "-c", "import ncvq_nb"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "No module named 'ncvq_nb'" in r.stderr, "the project is there before it is installed: this test would prove nothing"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", wheel)
    assert run(python, "-W", "error", "-c", "import importlib, pathlib, pkgutil, ncvq_nb\n"
               "for m in pkgutil.iter_modules(ncvq_nb.__path__): importlib.import_module('ncvq_nb.' + m.name)\n"
               f"assert pathlib.Path(ncvq_nb.__file__).resolve().is_relative_to({str(site.resolve())!r}), ncvq_nb.__file__\n"
               "assert (pathlib.Path(ncvq_nb.__file__).parent / 'py.typed').exists()\n"
               "data = ncvq_nb.load_ucr('ItalyPowerDemand')\n"
               "m = ncvq_nb.NCVQ(dim=8, n_res_blocks=0, prior_dim=8, prior_depth=1, prior_heads=1, epochs=0.1, random_state=0).fit(data.X_train, data.y_train)\n"
               "print(ncvq_nb.bundled(), m.sample(2).shape)") == "['ArrowHead', 'GunPoint', 'ItalyPowerDemand'] (2, 1, 24)"
    assert "usage: ncvq_train" in run(python.parent / "ncvq_train", "--help")


def test_the_forges_workflow_runs_the_readmes_commands():
    yaml = pytest.importorskip("yaml")
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    said = [l.strip() for l in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if l.startswith("    python3 -m venv")]
    steps = [s["run"].strip() for s in flow["jobs"]["test"]["steps"] if "run" in s]
    assert len(said) == 2 and all(any(line == s for s in steps) for line in said)
    assert flow["jobs"]["test"]["strategy"]["matrix"]["python"][0] == flow["jobs"]["oldest"]["steps"][1]["with"]["python-version"] == prep.settings()["min_python"]
