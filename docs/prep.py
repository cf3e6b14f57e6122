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

import nbformat
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^\s*#\s*\|\s*([\w-]+):?\s*(.*?)\s*$")
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s#]+)([^)\s]*\))")  # the relative ones
INLINE_PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')
STYLE = re.compile(r"<style.*?</style>\s*", re.S)
ELSEWHERE = {"../ncvq_nb/datasets/README.md": "../data-card.md"}  # on the site
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
    return "\n\n".join(parts) + "\n", figures


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


def page(nb, name, links, exists):
    "`nb` as the site shows it: `name`s in backticks lead to the reference, links out of the site become plain text."
    cells = []
    for cell, marks in shown(nb):
        if cell.cell_type == "markdown":
            text = LINK.sub(lambda m: m[1] + ELSEWHERE.get(m[2], m[2]) + m[3], cell.source)
            text = re.sub(r"\[([^\]]+)\]\((?![a-z]+:|#)([^)\s#]+)[^)\s]*\)", lambda m: m[0] if exists(m[2]) else m[1], text)
            # not in code blocks, not in links: only a name alone in backticks
            cells.append(new_markdown_cell(re.sub(r"(?<![`\[])`(\w+)`(?!`)", lambda m: f"{{py:obj}}`{m[1]} <{links[m[1]]}>`" if m[1] in links else m[0], text)))
            continue
        only_imports = all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(re.sub(r"^\s*[%!].*", "", cell.source, flags=re.M)).body)
        tags = {"remove-input": marks.get("echo") == "false", "remove-output": marks.get("output") == "false", "hide-input": only_imports or "exporti" in marks}
        cell.metadata["tags"] = [t for t, on in tags.items() if on]
        cells.append(cell)
    for i, cell in enumerate(cells): cell["id"] = f"c{i:04d}"
    nb.cells = cells
    nb.metadata["language_info"] = {"name": "python", "file_extension": ".py"}  # nbdev_clean drops it, highlighting needs it
    return nb


def reference(package, modules):
    "The page that documents every public name, module by module."
    blocks = [f"## {m}\n\n```{{eval-rst}}\n.. automodule:: {package}.{m}\n   :members: {', '.join(names)}\n```" for m, names in modules.items() if names]
    return "# Reference\n\nEvery public name, room by room. The pages of the rooms say why.\n\n" + "\n\n".join(blocks) + "\n"


def site():
    "Write docs/notebooks/, which is ignored by git."
    cfg, docs = settings(), ROOT / "docs"
    pages, modules = docs / "notebooks", public(cfg["lib_path"])
    links = {n: f"{cfg['lib_path']}.{m}.{n}" for m, names in modules.items() for n in names}
    sources = sorted((ROOT / "nbs").glob("*.ipynb"))
    exists = lambda target: (ROOT / "nbs" / target).is_file() and target.endswith(".ipynb") or (docs / target.removeprefix("../")).is_file() and target.startswith("../")
    rmtree(pages, ignore_errors=True)
    pages.mkdir()
    for path in sources: nbformat.write(page(nbformat.read(path, 4), path.stem, links, exists), pages / path.name)
    (pages / "api.md").write_text(reference(cfg["lib_path"], modules), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1: sys.exit(__doc__)
    write_readme()
