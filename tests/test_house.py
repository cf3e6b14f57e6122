"""The house: what is made from the notebooks is up to date, and rooms keep the rules of the house.

Chapters stand on the street, annexes behind them. Every arrow goes one way, nothing private crosses
a door, no room is longer than 350 lines, and code is as wide as JupyterLab shows it.
"""

import ast
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
TESTS = ROOT / "tests"

sys.path.insert(0, str(ROOT / "docs"))
import prep

PAGES = prep.pages()
SOURCES = [p for p in sorted((ROOT / "ncvq_nb").rglob("*.py")) if p.name != "_modidx.py"]
METHODS = (
    "fit fit_tokenizer fit_prior encode decode reconstruct features transform sample sample_tokens "
    "impute save load save_pretrained from_pretrained thesis"
).split()


def call(*command, cwd, **env):
    r = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert r.returncode == 0, f"{' '.join(map(str, command))}\n{r.stdout[-3000:]}{r.stderr[-3000:]}"
    return r.stdout


def copy(folder, *names):
    "Those files and folders of the project in `folder`."
    folder.mkdir(parents=True, exist_ok=True)
    ignore = shutil.ignore_patterns(
        "__pycache__", ".ipynb_checkpoints", "runs", "_build", "notebooks", "_proc"
    )
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def tracked():
    "The files git knows, or nothing outside a checkout."
    r = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = r.stdout.split("\0") if r.returncode == 0 else []
    return [ROOT / n for n in names if n and (ROOT / n).is_file()]


def notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def cells_of(path, kind):
    return [source(c) for c in notebook(path)["cells"] if c["cell_type"] == kind]


def python(code):
    "A cell's syntax tree, its magic commands taken out."
    return ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", code, flags=re.M))


def every_tree():
    "(where, syntax tree, is it a cell?) of all code: modules, tests, tools and cells."
    files = [*SOURCES, *TESTS.rglob("*.py"), *(ROOT / "docs").glob("*.py"), ROOT / "setup.py"]
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield path.relative_to(ROOT).as_posix(), tree, False
    for name, path in PAGES.items():
        for cell in notebook(path)["cells"]:
            if cell["cell_type"] == "code":
                yield f"nbs/{name}.ipynb, cell {cell['id']}", python(source(cell)), True


# What is made from the notebooks


def test_package_is_exported(tmp_path):
    work = copy(tmp_path / "work", "settings.ini", "nbs", "ncvq_nb")
    call(BIN / "nbdev_export", cwd=work)
    made, here = (
        sorted(p.relative_to(top).as_posix() for p in (top / "ncvq_nb").rglob("*.py"))
        for top in (work, ROOT)
    )
    assert made == here
    exported = {f"ncvq_nb/{m.replace('.', '/')}.py" for m in prep.exports()}
    orphans = {p for p in here if p.rpartition("/")[2] not in ("__init__.py", "_modidx.py")}
    assert orphans == exported, f"no page makes these: {sorted(orphans - exported)}"
    _, differ, broken = filecmp.cmpfiles(work, ROOT, made, shallow=False)
    bad = differ + broken
    assert not bad, f"run nbdev_export: {bad} differ from the notebooks"


def test_notebooks_are_clean(tmp_path):
    work = copy(tmp_path / "work", "settings.ini", "nbs", "ncvq_nb")
    call(BIN / "nbdev_clean", cwd=work)
    unclean = [
        name
        for name, path in PAGES.items()
        if notebook(path) != notebook(work / "nbs" / f"{name}.ipynb")
    ]
    assert not unclean, f"run nbdev_clean: {unclean}"


@pytest.mark.parametrize("name", PAGES)
def test_notebook_is_a_page(name):
    path = PAGES[name]
    size = path.stat().st_size
    assert size < 250_000, f"{size:,} bytes with its outputs, 250,000 are allowed"
    cells = notebook(path)["cells"]
    assert re.match(r"# .+\n+> .+", source(cells[0])), (
        "the first cell is a title and a sentence: '# Title', then '> What it is about'"
    )
    outputs = [o for c in cells if c["cell_type"] == "code" for o in c["outputs"]]
    assert outputs, "a page stores its outputs, so that it can be read without being run"
    assert not [o for o in outputs if o["output_type"] == "error"]
    widget = "application/vnd.jupyter.widget-view+json"
    assert not [o for o in outputs if widget in o.get("data", {})], "a progress bar was stored"


def test_readme_is_made_from_the_index():
    text, figures = prep.readme()
    assert (ROOT / "README.md").read_text(encoding="utf-8") == text, (
        "run python docs/prep.py: README.md differs from nbs/index.ipynb"
    )
    stored = {p.name: p.read_bytes() for p in (ROOT / "docs" / "images").glob("index-*.png")}
    assert stored == figures, "run python docs/prep.py: figures differ from nbs/index.ipynb"


def test_readme_says_at_once_what_it_is():
    "Five lines of code, a figure and the reasons come first, then the two commands."
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    picture = re.search(r"!\[([^\]]+)\]\(docs/images/", text)
    code = re.search(r"```python\n(.*?)```", text, re.S)
    commands = [m.start() for m in re.finditer(r"^    python3 -m venv", text, re.M)]
    assert code.start() < picture.start() < text.index("- **") < commands[0] < commands[1]
    assert len(picture[1].split()) > 8, "the figure says what it shows"
    assert len(code[1].strip().splitlines()) <= 7
    assert text[: text.index("- **")].count("\n") < 40, "why one would choose it comes too late"


def links(text):
    "What a Markdown text links to on this disk, outside of its code."
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    inline = re.findall(r"\]\((?![a-z]+:|#)([^)\s]+)\)", text)
    return inline + re.findall(r'(?:src|href)="(?!data:|https?:|#)([^"]+)"', text)


def anchors(path):
    "The headings of a page, as JupyterLab and forges name them."
    texts = cells_of(path, "markdown") if path.suffix == ".ipynb" else [path.read_text("utf-8")]
    titles = re.findall(r"^#+ (.+?)\s*$", "\n".join(texts), re.M)
    plain = [re.sub(r"[`*$]|\]\([^)]*\)|\[", "", t) for t in titles]
    return {t.replace(" ", "-") for t in plain} | {t.lower().replace(" ", "-") for t in plain}


def test_links_between_pages_lead_somewhere():
    texts = [ROOT / n for n in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    found, count = [], 0
    for path in [*texts, *(ROOT / "ncvq_nb" / "datasets").glob("*.md"), *PAGES.values()]:
        is_page = path.suffix == ".ipynb"
        text = "\n\n".join(cells_of(path, "markdown")) if is_page else path.read_text("utf-8")
        for link in links(text):
            if link.startswith("../../actions/"):  # pages of the forge
                continue
            file, _, anchor = link.partition("#")
            target, count = (path.parent / file).resolve(), count + 1
            if not target.exists():
                found.append(f"{path.relative_to(ROOT)}: {link}, no such file")
            elif anchor and target.suffix in (".md", ".ipynb") and anchor not in anchors(target):
                found.append(f"{path.relative_to(ROOT)}: {link}, no such heading")
        for name in re.findall(r"`(tests/[\w/]+\.(?:py|json))`", text):
            if not (ROOT / name).exists():
                found.append(f"{path.relative_to(ROOT)}: {name}, no such file")
    assert count > 20 and not found, "\n".join(found)


def test_ci_runs_the_readme_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    lines = [line.strip() for line in readme if re.search(r"venv.*tests/run\.py", line)]
    assert lines and all(".venv/bin/" in line and "-e '.[dev]'" in line for line in lines)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# Rooms and doors


def test_no_room_is_longer_than_350_lines():
    lengths = {p: p.read_bytes().count(b"\n") for p in SOURCES}
    long = {p.relative_to(ROOT).as_posix(): n for p, n in lengths.items() if n > 350}
    assert not long, f"rooms of more than 350 lines: {long}"


def test_every_arrow_goes_one_way():
    order = prep.modules()  # raises where there is a circle, and names it
    assert set(order) == set(prep.exports())
    place = {m: i for i, m in enumerate(order)}
    for module in order:
        known = {m for m, _ in prep.imports(module)}
        assert all(place[m] < place[module] for m in known if m), module


def test_no_module_takes_names_from_the_top_of_the_package():
    "`from ncvq_nb import NCVQ` in a room would import everything, itself included."
    found = [(m, n) for m in prep.exports() for k, n in prep.imports(m) if k == ""]
    assert not [(m, n) for m, n in found if n != "__version__"], found


def test_chapters_know_only_earlier_chapters_and_annexes():
    exported = prep.exports()
    number = {m: name for m, name in exported.items() if "/" not in name}
    assert len(number) == 14
    wrong = [
        f"{module} imports {other}, a later chapter"
        for module, page in number.items()
        for other, _ in prep.imports(module)
        if other in number and number[other] >= page
    ]
    assert not wrong, wrong


def test_annexes_know_only_annexes_before_them():
    place, exported = {a: i for i, a in enumerate(prep.ANNEXES)}, prep.exports()
    folders = {name.split("/")[0] for name in exported.values() if "/" in name}
    assert folders == set(place), "docs/prep.py names the annexes and their order"
    wrong = [
        f"{module} imports {other}"
        for module, name in exported.items()
        for other, _ in prep.imports(module)
        if "/" in name and "/" in exported.get(other, "")
        if place[exported[other].split("/")[0]] > place[name.split("/")[0]]
    ]
    assert not wrong, wrong


def private(tree):
    "Private names that code takes from the package: imported, or through a module's name."
    aliases = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a for a in node.names if a.name.split(".")[0] == "ncvq_nb"]
            aliases |= {a.asname or "ncvq_nb" for a in names}
        elif isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").split(".")[0] == "ncvq_nb"
        ):
            for a in node.names:
                if a.name[0] == "_" and not a.name.startswith("__"):
                    yield a.name
                inner = f"{node.module}.{a.name}".removeprefix("ncvq_nb.")
                if prep.source_of(inner).exists():
                    aliases.add(a.asname or a.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in aliases:
                yield node.attr


def test_nothing_private_crosses_a_door():
    found = {}
    for path in SOURCES:
        if names := [*private(ast.parse(path.read_text(encoding="utf-8")))]:
            found[path.relative_to(ROOT).as_posix()] = names
    for name, path in PAGES.items():
        code = "\n".join(re.sub(r"^\s*[%!].*", "", c, flags=re.M) for c in cells_of(path, "code"))
        if names := [*private(ast.parse(code))]:
            found[f"nbs/{name}.ipynb"] = names
    assert not found, found


def test_a_private_name_would_be_seen():
    code = "import ncvq_nb as nv\nfrom ncvq_nb.vq import _a\nnv.data._b(1)\nfrom ncvq_nb import vq"
    assert sorted(private(ast.parse(code + "\nvq._c\nself._d\n"))) == ["_a", "_b", "_c"]


def test_each_test_file_is_named_after_its_module():
    names = {m.rpartition(".")[2] for m in prep.exports()} | {"house", "packaging", "site", "lab"}
    found = {p.stem.removeprefix("test_") for p in TESTS.glob("test_*.py")}
    assert found <= names, f"no module is called so: {sorted(found - names)}"


# Code as JupyterLab shows it


def test_lines_and_statements():
    "Width, one statement a line, no lambda with a name: the rules in pyproject.toml."
    ruff = shutil.which("ruff", path=BIN) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed: pip install -e '.[dev]'")
    what = ["nbs", "ncvq_nb", "tests", "docs", "setup.py"]
    r = subprocess.run(
        [ruff, "check", "--no-cache", "--output-format", "concise", *what],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert r.returncode == 0, f"run ruff check:\n{r.stdout[-4000:]}{r.stderr[-1000:]}"


def test_no_statements_are_joined_and_calls_name_their_arguments():
    joined, crowded = [], []
    for where, tree, is_cell in every_tree():
        last = tree.body[-1] if is_cell and tree.body else None
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Tuple) and node != last:
                joined.append(f"{where}, line {node.lineno}: {ast.unparse(node)[:60]}")
            if isinstance(node, ast.Call) and len(node.args) > 8:
                crowded.append(f"{where}, line {node.lineno}: {len(node.args)} arguments in a row")
    assert not joined, "two statements in one, joined by a comma:\n" + "\n".join(joined)
    assert not crowded, "more than eight arguments without a name:\n" + "\n".join(crowded)


def test_exported_cells_are_short():
    long = []
    for name, path in PAGES.items():
        for cell in notebook(path)["cells"]:
            code = source(cell)
            if cell["cell_type"] == "code" and re.match(r"#\|\s*export", code):
                holds_class = any(isinstance(n, ast.ClassDef) for n in python(code).body)
                n = len(prep.split_marks(code)[1].splitlines())
                if n > 40 and not holds_class:
                    long.append(f"nbs/{name}.ipynb, cell {cell['id']}: {n} lines")
    assert not long, "exported cells of more than 40 lines without a class:\n" + "\n".join(long)


# The estimator, as an editor sees it


def test_methods_of_the_estimator_stand_in_its_class():
    tree = prep.tree_of("generator")
    (cls,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "NCVQ"]
    inside = {n.name: n for n in cls.body if isinstance(n, ast.FunctionDef)}
    assert set(METHODS) <= set(inside), set(METHODS) - set(inside)
    mute = [m for m in METHODS if not ast.get_docstring(inside[m])]
    assert not mute, f"without a docstring: {mute}"


@pytest.mark.parametrize("line", ["from ncvq_nb.generator import NCVQ", "from ncvq_nb import NCVQ"])
def test_a_completer_finds_the_methods_without_running_anything(line):
    jedi = pytest.importorskip("jedi")
    code = f"{line}\nmodel = NCVQ()\nmodel."
    script = jedi.Script(code, project=jedi.Project(ROOT, added_sys_path=[str(ROOT)]))
    found = {c.name: c for c in script.complete(3, len("model."))}
    assert set(METHODS) <= set(found), sorted(set(METHODS) - set(found))
    mute = [m for m in METHODS if not found[m].docstring(raw=True).strip()]
    assert not mute, f"no docstring for {mute}"


# What is tracked


def test_nothing_stray_is_tracked():
    files = tracked()
    if not files:
        pytest.skip("not a git checkout")
    home = re.compile(rb"/(?:work|tmp|root|home|opt|farm|Users)/[A-Za-z]")
    mine = Path(__file__).resolve()
    found = [
        f"{f.relative_to(ROOT)}: {m[0].decode()}…"
        for f in files
        if f.suffix not in (".npz", ".png") and f != mine and (m := home.search(f.read_bytes()))
    ]
    assert not found, f"paths of one machine: {found}"
    folders = r"(^|/)(runs?|_proc|__pycache__|\.ipynb_checkpoints)/"
    run = re.compile(folders + r"|\.(pt|pth|ckpt|pkl|safetensors)$")
    stray = [n for f in files if run.search(n := f.relative_to(ROOT).as_posix())]
    assert not stray, f"artefacts of runs: {stray}"
    assert not [f for f in files if f.stat().st_size > 500_000]


def test_the_page_on_promises_counts_them():
    page = (ROOT / "nbs" / "results" / "29_promises.ipynb").read_text(encoding="utf-8")
    numbers = [int(n) for n in re.findall(r'"## (\d+)\. ', page)]
    words = "One Two Three Four Five Six Seven Eight Nine Ten Eleven Twelve Thirteen".split()
    assert numbers == list(range(1, len(numbers) + 1))
    assert f"> {words[len(numbers) - 1]} promises" in page
