"""The house itself: what is made from the notebooks is up to date, the package installs, nothing stray is tracked."""
import filecmp, json, os, re, shutil, subprocess, sys, zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))

sys.path.insert(0, str(ROOT / "docs"))
import prep


def call(*command, cwd, **env):
    r = subprocess.run([str(c) for c in command], cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert r.returncode == 0, f"{' '.join(map(str, command))}\n{r.stdout[-3000:]}{r.stderr[-3000:]}"
    return r.stdout


def copy(tmp_path, *names):
    "Those files and folders of the project in a folder of their own."
    work = tmp_path / "work"
    work.mkdir()
    for name in names:
        source = ROOT / name
        if source.is_dir(): shutil.copytree(source, work / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        else: shutil.copy(source, work / name)
    return work


def tracked():
    "The files git knows, or nothing outside a checkout."
    r = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    return [ROOT / f for f in r.stdout.split("\0") if f and (ROOT / f).is_file()] if r.returncode == 0 else []


# What is made from the notebooks

def test_package_is_exported(tmp_path):
    work = copy(tmp_path, "settings.ini", "nbs", "ncvq_nb")
    call(BIN / "nbdev_export", cwd=work)
    made = sorted(p.name for p in (work / "ncvq_nb").glob("*.py"))
    assert made == sorted(p.name for p in (ROOT / "ncvq_nb").glob("*.py"))
    _, differ, broken = filecmp.cmpfiles(work / "ncvq_nb", ROOT / "ncvq_nb", made, shallow=False)
    assert not differ and not broken, f"run nbdev_export: {differ + broken} differ from the notebooks"


def test_notebooks_are_clean(tmp_path):
    work = copy(tmp_path, "settings.ini", "nbs", "ncvq_nb")
    call(BIN / "nbdev_clean", cwd=work)
    unclean = [p.name for p in NOTEBOOKS if json.loads(p.read_text(encoding="utf-8")) != json.loads((work / "nbs" / p.name).read_text(encoding="utf-8"))]
    assert not unclean, f"run nbdev_clean: {unclean}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_a_page(path):
    assert path.stat().st_size < 250_000, f"{path.name} has {path.stat().st_size:,} bytes with its outputs, 250,000 are allowed"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert re.match(r"# .+\n+> .+", "".join(cells[0]["source"])), "the first cell is a title and a sentence: '# Title', then '> What it is about'"
    outputs = [o for c in cells if c["cell_type"] == "code" for o in c["outputs"]]
    assert outputs, "a page stores its outputs, so that it can be read without being run"
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not [o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})], "a progress bar was stored"


def test_rooms_know_only_earlier_rooms():
    order = {m: i for i, m in enumerate(prep.public("ncvq_nb"))}
    for module, i in order.items():
        for name in re.findall(r"^\s*from \.(\w+) import", (ROOT / "ncvq_nb" / f"{module}.py").read_text(encoding="utf-8"), re.M):
            assert order[name] < i, f"{module} imports from {name}, a later room"


def test_readme_is_made_from_the_index():
    text, figures = prep.readme()
    assert (ROOT / "README.md").read_text(encoding="utf-8") == text, "run python docs/prep.py: README.md differs from nbs/index.ipynb"
    stored = {p.name: p.read_bytes() for p in (ROOT / "docs" / "images").glob("index-*.png")}
    assert stored == figures, "run python docs/prep.py: the figures of README.md differ from nbs/index.ipynb"


def test_readme_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", text) + re.findall(r'src="(?!data:|https?:)([^"]+)"', text)
    assert targets and not [t for t in targets if not t.startswith("../../actions/") and not (ROOT / t).exists()]  # those are pages of the forge


def test_ci_runs_the_readme_command():
    lines = [l.strip() for l in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if re.search(r"venv.*tests/run\.py", l)]
    assert lines and all(".venv/bin/" in l and "-e '.[dev]'" in l for l in lines)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# What is installed

@pytest.mark.slow
def test_wheel_installs_and_every_module_imports(tmp_path):
    work = copy(tmp_path, "settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE", "ncvq_nb")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", work, cwd=tmp_path)  # sdist, then the wheel from it
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "ncvq_nb").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert wanted <= inside, f"not in the wheel: {sorted(wanted - inside)}"
    assert {"ncvq_nb/py.typed", "ncvq_nb/datasets/GunPoint.npz", "ncvq_nb/datasets/LICENSE-aeon.txt"} <= inside
    assert any(f.endswith("licenses/LICENSE") for f in inside) and not [f for f in inside if f.startswith(("nbs", "tests", "docs"))]

    site = tmp_path / "site"
    call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", site, wheel, cwd=tmp_path)
    code = ("import importlib, pathlib, pkgutil, sys, ncvq_nb\n"
            "for m in pkgutil.iter_modules(ncvq_nb.__path__): importlib.import_module('ncvq_nb.' + m.name)\n"
            "assert all(pathlib.Path(m.__file__).is_relative_to(sys.argv[1]) for k, m in sys.modules.items() if k.split('.')[0] == 'ncvq_nb')\n"
            "from ncvq_nb.data import load_ucr\n"
            "print(len(load_ucr('GunPoint').X_train))")
    assert call(sys.executable, "-c", code, site, cwd=tmp_path, PYTHONPATH=str(site)).strip() == "50"
    scripts = (next(site.glob("*.dist-info")) / "entry_points.txt").read_text()
    for name, module in re.findall(r"^(ncvq_\w+) ?= ?([\w.]+):", scripts, re.M): assert (site / (module.replace(".", "/") + ".py")).exists(), f"{name} leads nowhere"


def test_settings_are_read_by_pip():
    from importlib.metadata import metadata, requires
    assert metadata("ncvq_nb")["Version"] == prep.settings()["version"] == __import__("ncvq_nb").__version__
    for extra in ("dev", "docs", "ucr"): assert any(f'extra == "{extra}"' in r for r in requires("ncvq_nb"))


# What is tracked

def test_nothing_stray_is_tracked():
    files = tracked()
    if not files: pytest.skip("not a git checkout")
    home = re.compile(rb"/(?:work|tmp|root|home|opt|farm|Users)/[A-Za-z]")
    mine = Path(__file__).resolve()
    found = [f"{f.relative_to(ROOT)}: {m[0].decode()}…" for f in files if f.suffix not in (".npz", ".png") and f != mine and (m := home.search(f.read_bytes()))]
    assert not found, f"paths of one machine: {found}"
    stray = [str(f.relative_to(ROOT)) for f in files if re.search(r"(^|/)(runs?|_proc|__pycache__|\.ipynb_checkpoints)/|\.(pt|pth|ckpt|pkl|safetensors)$", str(f.relative_to(ROOT)))]
    assert not stray, f"artefacts of runs: {stray}"
    assert not [f for f in files if f.stat().st_size > 500_000]
