"""From the notebooks in nbs/ to what is read elsewhere: README.md, and the pages of the site.

    python docs/prep.py              # writes README.md and docs/images/ from nbs/index.ipynb
    sphinx-build -W docs docs/_build/html    # calls `site` below, through conf.py

A notebook is shown as it is read in JupyterLab, formula above code. Only what nbdev's marks (`#| hide` and the like) say is taken out, and
cells of imports and of private helpers are folded. Nothing is executed, and neither nbdev nor Quarto is needed.
"""
import ast, base64, posixpath, re, sys
from configparser import ConfigParser
from pathlib import Path
from shutil import rmtree
from urllib.parse import quote

import nbformat
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^\s*#\s*\|\s*([\w-]+):?\s*(.*?)\s*$")
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s#]+)([^)\s]*\))")  # the relative ones
INLINE_PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')
STYLE = re.compile(r"<style.*?</style>\s*", re.S)
GROUPS = {"Chapters": (0, 19), "Tutorials": (20, 28), "Results and promises": (29, 99)}  # the first two digits of a notebook's name say where it stands
TEXTS = {"CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "ncvq_nb/datasets/README.md": "data-card.md"}  # read as they are
NOTE = "<!-- Written by docs/prep.py from nbs/index.ipynb: edit that notebook, then run `python docs/prep.py`. -->"


def settings():
    ini = ConfigParser(delimiters=["="], interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return ini["DEFAULT"]


def split_marks(source):
    "nbdev's marks at the top of a cell, as a dict, and the code without them."
    lines = source.splitlines()
    marks = [m for m in map(MARK.match, lines) if m]
    return {m[1]: m[2] for m in marks}, "\n".join(l for l in lines if not MARK.match(l)).strip()


def shown(nb):
    "The cells a reader should see, each with its marks."
    for cell in nb.cells:
        marks, code = split_marks(cell.source) if cell.cell_type == "code" else ({}, cell.source.strip())
        if cell.cell_type == "raw" or not code or "hide" in marks or marks.get("include") == "false": continue
        cell.source = code
        yield cell, marks


# README.md

def rendered(output, picture):
    "One output as Markdown; `picture(png)` stores a figure and gives the name of its file."
    if output.output_type == "stream": return f"```text\n{output.text.rstrip()}\n```"
    if output.output_type == "error": raise ValueError(f"index.ipynb holds an error: {output.ename}: {output.evalue}")
    data = output.data
    if "image/png" in data: return f"![{data.get('text/plain', '').strip('<>') or 'figure'}]({picture(data['image/png'])})"
    if "text/markdown" in data: return data["text/markdown"].strip()
    if "text/html" in data: return INLINE_PNG.sub(lambda m: f'src="{picture(m[1])}"', STYLE.sub("", data["text/html"])).strip()
    return f"```text\n{data['text/plain'].rstrip()}\n```"


def badges():
    "The row of badges under the title; on the forge the first one shows what the workflow said last."
    ini, run = settings(), "../../actions/workflows/ci.yml"
    plain = lambda name, value: f"![{name}: {value}](https://img.shields.io/badge/{name}-{quote(value.replace('-', '--'))}-blue)"
    return f"[![CI]({run}/badge.svg)]({run}) {plain('Python', '≥ ' + ini['min_python'])} {plain('nbdev', '2.4')} {plain('licence', 'Apache-2.0')}"


def readme(nb_path=ROOT / "nbs" / "index.ipynb", images="docs/images"):
    "README.md as text, and the figures in it by file name. Links are turned from nbs/ to the top folder."
    figures = {}

    def picture(png):
        name = f"index-{len(figures) + 1}.png"
        figures[name] = base64.b64decode(png)
        return f"{images}/{name}"

    parts = [NOTE]
    for cell, marks in shown(nbformat.read(nb_path, 4)):
        if cell.cell_type == "markdown":
            parts.append(LINK.sub(lambda m: m[1] + posixpath.normpath(posixpath.join("nbs", m[2])) + m[3], cell.source))
            continue
        if marks.get("echo") != "false": parts.append(f"```python\n{cell.source}\n```")
        if marks.get("output") != "false": parts += [rendered(o, picture) for o in cell.outputs]
    return "\n\n".join([*parts[:2], badges(), *parts[2:]]) + "\n", figures


def write_readme():
    text, figures = readme()
    (ROOT / "README.md").write_text(text, encoding="utf-8")
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("index-*.png"):
        if old.name not in figures: old.unlink()
    for name, png in figures.items(): (folder / name).write_bytes(png)


# The site

def public(package):
    "The public names of each module, in the order of the notebooks: {module: [name, ...]}."
    found = {}
    for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
        module = next((s.split()[-1] for c in nbformat.read(path, 4).cells if (s := c.source.strip()).startswith("#| default_exp")), None)
        source = ROOT / package / f"{module}.py"
        if module is None or not source.exists(): continue
        names = [n.value for n in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"]
        if names: found[module] = ast.literal_eval(names[0])
    return found


def places():
    "Where the site has what lies in the repository: {path: page in docs/notebooks/}."
    return {"README.md": "index.ipynb", **TEXTS, **{f"nbs/{p.name}": p.name for p in (ROOT / "nbs").glob("*.ipynb")}}


def relinked(text, folder):
    "Relative links of a text from `folder` lead to the same thing on the site; links out of the site become plain text."
    where = places()
    def link(m):
        target = where.get(posixpath.normpath(posixpath.join(folder, m[2])))
        return f"[{m[1]}]({target}{m[3].lower()})" if target else m[1]  # JupyterLab's anchors keep capitals, the site's have none
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#|/)([^)\s#]+)([^)\s]*)\)", link, text)


def plain(text, limit=300):
    "The last paragraph of a Markdown cell without its markup: what a figure below it shows, for those who cannot see it."
    parts = [p for p in re.split(r"\n\s*\n|\n(?=#)", re.sub(r"```.*?```|\$\$.*?\$\$", "", text, flags=re.S)) if p.strip() and not p.lstrip().startswith(("#", "|", ">"))]
    words = re.sub(r"\[([^\]]+)\]\([^)]*\)|[`*$\\{}]", lambda m: m[1] or "", parts[-1] if parts else "")
    return re.sub(r"(.{%d}\S*).*" % limit, r"\1 …", " ".join(words.split()))


def page(nb, links, reference=""):
    "`nb` as the site shows it: names in backticks lead to the reference, links stay on the site, figures have words beside them."
    cells, section, said = [], "", ""
    for cell, marks in shown(nb):
        if cell.cell_type == "markdown":
            section, said = ([section] + re.findall(r"^#+ (.+)$", cell.source, re.M))[-1], plain(cell.source) or said
            text = relinked(cell.source, "nbs")
            # not in code blocks, not in links: only a name alone in backticks
            cells.append(new_markdown_cell(re.sub(r"(?<![`\[])`(\w+)`(?!`)", lambda m: f"{{py:obj}}`{m[1]} <{links[m[1]]}>`" if m[1] in links else m[0], text)))
            continue
        only_imports = all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(re.sub(r"^\s*[%!].*", "", cell.source, flags=re.M)).body)
        tags = {"remove-input": marks.get("echo") == "false", "remove-output": marks.get("output") == "false", "hide-input": only_imports or "exporti" in marks}
        cell.metadata["tags"] = [t for t, on in tags.items() if on]
        cell.metadata["mystnb"] = {"image": {"alt": marks.get("fig-alt") or f"Figure in “{section}”. {said}".strip()}}
        cells.append(cell)
    if reference: cells.append(new_markdown_cell(reference))
    for i, cell in enumerate(cells): cell["id"] = f"c{i:04d}"
    nb.cells = cells
    nb.metadata["language_info"] = {"name": "python", "file_extension": ".py"}  # nbdev_clean drops it, highlighting needs it
    return nb


def reference(package, module, names):
    "The end of a chapter: every public name of its module."
    return f"## Reference\n\n```{{eval-rst}}\n.. automodule:: {package}.{module}\n   :members: {', '.join(names)}\n```"


def index_of_names(package, modules):
    "One table per chapter: every public name, and what it is in one line."
    blocks = []
    for module, (stem, title, names) in modules.items():
        body = {getattr(n, "name", None): n for n in ast.parse((ROOT / package / f"{module}.py").read_text(encoding="utf-8")).body}
        rows = [(f"{{py:obj}}`{n} <{package}.{module}.{n}>`", (ast.get_docstring(body[n]) or "").split("\n")[0]) for n in names if n in body]
        if rows: blocks.append(f"## {module}\n\n[{title}]({stem}.ipynb)\n\n| name | what it is |\n|---|---|\n" + "\n".join(f"| {n} | {s.replace('|', chr(92) + '|')} |" for n, s in rows))
    return "# All names\n\nEvery public name in one line. A name leads to its parameters, at the end of the chapter that builds it.\n\n" + "\n\n".join(blocks) + "\n"


def contents(entries, caption):
    "A list with one sentence per page, and the same pages for the site's navigation."
    if not entries: return ""
    lines = [f"- [{title}](notebooks/{name}){' – ' + sentence if sentence else ''}" for name, title, sentence in entries]
    tree = [f"{title} <notebooks/{name.rsplit('.', 1)[0]}>" for name, title, _ in entries]
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", f":caption: {caption}", "", *tree, "```", ""])


def head(nb):
    "Title and sentence of a notebook, from its first cell."
    m = re.match(r"# (.+)\n+> (.+)", nb.cells[0].source)
    return (m[1].strip(), m[2].strip()) if m else (nb.cells[0].source.splitlines()[0].lstrip("# "), "")


def site():
    "Write docs/notebooks/, which is ignored by git: a page per notebook, texts from elsewhere, and the lists that index.md includes."
    package, pages = settings()["lib_path"], ROOT / "docs" / "notebooks"
    books = {p.stem: nbformat.read(p, 4) for p in sorted((ROOT / "nbs").glob("*.ipynb"))}
    heads = {stem: head(nb) for stem, nb in books.items()}
    exported = {s.split()[-1]: stem for stem, nb in books.items() for c in nb.cells if (s := c.source.strip().split("\n")[0]).startswith("#| default_exp")}
    modules = {m: (exported[m], heads[exported[m]][0], names) for m, names in public(package).items() if names}
    links = {n: f"{package}.{m}.{n}" for m, (*_, names) in modules.items() for n in names}
    rmtree(pages, ignore_errors=True)
    pages.mkdir()
    for stem, nb in books.items():
        ends = [reference(package, m, names) for m, (at, _, names) in modules.items() if at == stem]
        nbformat.write(page(nb, links, *ends), pages / f"{stem}.ipynb")
    for source, name in TEXTS.items(): (pages / name).write_text(relinked((ROOT / source).read_text(encoding="utf-8"), posixpath.dirname(source)), encoding="utf-8")
    (pages / "api.md").write_text(index_of_names(package, modules), encoding="utf-8")

    lists = {caption: [(f"{s}.ipynb", f"{s.split('_')[0]} {heads[s][0]}", heads[s][1]) for s in books if s[:2].isdigit() and low <= int(s[:2]) <= high] for caption, (low, high) in GROUPS.items()}
    lists["Look up"] = [("api.md", "All names", "every function and class in one line"), ("data-card.md", "Data card", "the data sets inside the package, and where they come from"),
                        ("CHANGELOG.md", "Changelog", ""), ("CONTRIBUTING.md", "Contributing", "")]
    more = [(f"../{p.name}", p.read_text(encoding="utf-8").split("\n")[0].lstrip("# "), "") for p in sorted((ROOT / "docs").glob("*.md")) if p.name != "index.md"]
    lists["Look up"] += more
    for caption, entries in lists.items(): (pages / f"_{caption.split()[0].lower()}.txt").write_text(contents(entries, caption) or "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1: sys.exit(__doc__)
    write_readme()
