"""From the notebooks in nbs/ to what is read elsewhere: README.md, and the pages of the site.

    python docs/prep.py              # writes README.md and docs/images/ from nbs/index.ipynb
    sphinx-build -W docs docs/_build/html    # calls `site` below, through conf.py

A notebook is shown as it is read in JupyterLab, formula above code. Only what nbdev's marks
(`#| hide` and the like) say is taken out, and cells of imports and of private helpers are folded.
Nothing is executed, and neither nbdev nor Quarto is needed.
"""

import ast
import base64
import json
import posixpath
import re
import sys
from configparser import ConfigParser
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from shutil import rmtree
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^\s*#\s*\|\s*([\w-]+):?\s*(.*?)\s*$")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#|/)([^)\s#]+)([^)\s]*)\)")  # the relative ones
INLINE_PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')
STYLE = re.compile(r"<style.*?</style>\s*", re.S)
ANNEXES = {  # sub-folders of nbs/, each behind those that it imports
    "io": "Files and data sets",
    "engine": "What the training loop stands on",
    "drawing": "How figures are drawn",
    "estimator": "Parts of the estimator, and saved models",
    "evaluation": "Evaluation and reports",
    "grids": "Grids of runs",
    "terminal": "Commands",
    "interop": "Other libraries",
    "bench": "Benchmark",
}
TEXTS = {  # read as they are
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "ncvq_nb/datasets/README.md": "data-card.md",
}
NOTE = (
    "<!-- Written by docs/prep.py from nbs/index.ipynb: "
    "edit that notebook, then run `python docs/prep.py`. -->"
)


def settings():
    ini = ConfigParser(delimiters=["="], interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return ini["DEFAULT"]


# Pages and modules


def pages():
    "The notebooks, by their place in nbs/ without the suffix: '09_generator', 'io/tables', …"
    nbs = ROOT / "nbs"
    found = [p for p in nbs.rglob("*.ipynb") if not {".ipynb_checkpoints", "runs"} & {*p.parts}]
    return {p.relative_to(nbs).with_suffix("").as_posix(): p for p in sorted(found)}


def joined(value):
    "Notebooks store long texts line by line."
    return "".join(value) if isinstance(value, list) else value


def read(path):
    "A notebook, with every text in one piece; nbformat would take seconds to be imported."
    nb = json.loads(path.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        cell["source"] = joined(cell["source"])
        for output in cell.get("outputs", ()):
            for data in (output, output.get("data", {})):
                data.update({k: joined(v) for k, v in data.items() if k != "traceback"})
    return nb


@lru_cache
def cells_of(path):
    return read(path)["cells"]


def exports():
    "Which page makes which module: {'io.tables': 'io/tables', …}, in the order of the pages."
    found = {}
    for name, path in pages().items():
        for cell in cells_of(path):
            if m := re.match(r"#\|\s*default_exp\s+(\S+)", cell["source"]):
                found[m[1]] = name
    return found


def source_of(module, package="ncvq_nb"):
    return ROOT / package / (module.replace(".", "/") + ".py")


@lru_cache
def tree_of(module, package="ncvq_nb"):
    return ast.parse(source_of(module, package).read_text(encoding="utf-8"))


def imports(module, package="ncvq_nb"):
    "(module, name) for every name that a module of the package imports from another of them."
    here, found = f"{package}.{module}".split("."), []
    for node in ast.walk(tree_of(module, package)):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = here[: -node.level] if node.level else []
        target = ".".join([*base, *([node.module] if node.module else [])])
        if target.split(".")[0] != package:
            continue
        for alias in node.names:
            inner = f"{target}.{alias.name}".removeprefix(f"{package}.")
            if source_of(inner, package).exists():  # `from . import vq`
                found.append((inner, None))
            else:
                found.append((target.removeprefix(package).lstrip("."), alias.name))
    return found


def modules():
    "All modules, each behind those that it imports: chapters and annexes as one order."
    names = [m for m in exports() if source_of(m).exists()]
    sorter = TopologicalSorter({m: [k for k, _ in imports(m) if k in names] for m in names})
    sorter.prepare()
    order = []
    while sorter.is_active():
        level = sorted(sorter.get_ready())
        sorter.done(*level)
        order += level
    return order


def public(module):
    "The public names of a module, in the order of its page."
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def split_marks(source):
    "nbdev's marks at the top of a cell, as a dict, and the code without them."
    lines = source.splitlines()
    marks = [m for m in map(MARK.match, lines) if m]
    code = "\n".join(line for line in lines if not MARK.match(line)).strip()
    return {m[1]: m[2] for m in marks}, code


def shown(nb):
    "The cells a reader should see, each with its marks."
    for cell in nb["cells"]:
        is_code, code = cell["cell_type"] == "code", cell["source"].strip()
        marks, code = split_marks(code) if is_code else ({}, code)
        hidden = "hide" in marks or marks.get("include") == "false"
        if cell["cell_type"] != "raw" and code and not hidden:
            cell["source"] = code
            yield cell, marks


def plain(text, limit=300):
    "The last paragraph of a Markdown cell without its markup: what a figure below it shows."
    text = re.sub(r"```.*?```|\$\$.*?\$\$", "", text, flags=re.S)
    parts = re.split(r"\n\s*\n|\n(?=#)", text)
    parts = [p for p in parts if p.strip() and not p.lstrip().startswith(("#", "|", ">"))]
    last = parts[-1] if parts else ""
    words = re.sub(r"\[([^\]]+)\]\([^)]*\)|[`*$\\{}]", lambda m: m[1] or "", last)
    return re.sub(r"(.{%d}\S*).*" % limit, r"\1 …", " ".join(words.split()))


def alternative(marks, section, said):
    "What a figure says to those who cannot see it: its `fig-alt`, or the paragraph above it."
    return marks.get("fig-alt") or f"Figure in “{section}”. {said}".strip()


# README.md


def rendered(output, picture, alt):
    "One output as Markdown; `picture(png)` stores a figure and gives the name of its file."
    if output["output_type"] == "stream":
        return f"```text\n{output['text'].rstrip()}\n```"
    if output["output_type"] == "error":
        raise ValueError(f"index.ipynb holds an error: {output['ename']}: {output['evalue']}")
    data = output["data"]
    if "image/png" in data:
        return f"![{alt}]({picture(data['image/png'])})"
    if "text/markdown" in data:
        return data["text/markdown"].strip()
    if "text/html" in data:
        html = STYLE.sub("", data["text/html"])
        return INLINE_PNG.sub(lambda m: f'src="{picture(m[1])}"', html).strip()
    return f"```text\n{data['text/plain'].rstrip()}\n```"


def badges():
    "The row under the title; on the forge the first one shows what the workflow said last."
    ini, run = settings(), "../../actions/workflows/ci.yml"

    def badge(name, value):
        url = f"https://img.shields.io/badge/{name}-{quote(value.replace('-', '--'))}-blue"
        return f"![{name}: {value}]({url})"

    facts = dict(Python="≥ " + ini["min_python"], nbdev="2.4", licence="Apache-2.0")
    row = [badge(name, value) for name, value in facts.items()]
    return " ".join([f"[![CI]({run}/badge.svg)]({run})", *row])


def readme(nb_path=ROOT / "nbs" / "index.ipynb", images="docs/images"):
    "README.md as text, and its figures by file name. Links are turned from nbs/ to the top folder."
    figures, parts, section, said = {}, [NOTE], "", ""

    def picture(png):
        name = f"index-{len(figures) + 1}.png"
        figures[name] = base64.b64decode(png)
        return f"{images}/{name}"

    def from_top(m):
        return f"[{m[1]}]({posixpath.normpath(posixpath.join('nbs', m[2]))}{m[3]})"

    for cell, marks in shown(read(nb_path)):
        text = cell["source"]
        if cell["cell_type"] == "markdown":
            section = ([section] + re.findall(r"^#+ (.+)$", text, re.M))[-1]
            said = plain(text) or said
            parts.append(LINK.sub(from_top, text))
            continue
        if marks.get("echo") != "false":
            parts.append(f"```python\n{text}\n```")
        if marks.get("output") != "false":
            alt = alternative(marks, section, said)
            parts += [rendered(o, picture, alt) for o in cell["outputs"]]
    return "\n\n".join([*parts[:2], badges(), *parts[2:]]) + "\n", figures


def write_readme():
    text, figures = readme()
    (ROOT / "README.md").write_text(text, encoding="utf-8")
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("index-*.png"):
        if old.name not in figures:
            old.unlink()
    for name, png in figures.items():
        (folder / name).write_bytes(png)


# The site


def places():
    "Where the site has what lies in the repository: {path: file in docs/notebooks/}."
    notebooks = {f"nbs/{name}.ipynb": f"{name}.ipynb" for name in pages()}
    return {"README.md": "index.ipynb", **TEXTS, **notebooks}


def relinked(text, source):
    "Relative links of a text stay on the site; links that lead out of it become plain text."
    where, folder = places(), posixpath.dirname(source)
    here = posixpath.dirname(where[source])

    def link(m):
        target = where.get(posixpath.normpath(posixpath.join(folder, m[2])))
        if target is None:
            return m[1]
        anchor = m[3].lower()  # JupyterLab's anchors keep capitals, the site's have none
        return f"[{m[1]}]({posixpath.relpath(target, here or '.')}{anchor})"

    return LINK.sub(link, text)


def markdown(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def only_imports(source):
    code = re.sub(r"^\s*[%!].*", "", source, flags=re.M)
    return all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(code).body)


def page(nb, name, links, reference=""):
    "A notebook for the site: names lead to the reference, links stay, figures have words."
    cells, section, said = [], "", ""

    def to_reference(m):
        return f"{{py:obj}}`{m[1]} <{links[m[1]]}>`" if m[1] in links else m[0]

    for cell, marks in shown(nb):
        text = cell["source"]
        if cell["cell_type"] == "markdown":
            section = ([section] + re.findall(r"^#+ (.+)$", text, re.M))[-1]
            said = plain(text) or said
            text = relinked(text, f"nbs/{name}.ipynb")
            # not in code blocks, not in links: only a name alone in backticks
            cells.append(markdown(re.sub(r"(?<![`\[])`(\w+)`(?!`)", to_reference, text)))
            continue
        tags = {
            "remove-input": marks.get("echo") == "false",
            "remove-output": marks.get("output") == "false",
            "hide-input": only_imports(text) or "exporti" in marks,
        }
        cell["metadata"]["tags"] = [t for t, on in tags.items() if on]
        cell["metadata"]["mystnb"] = {"image": {"alt": alternative(marks, section, said)}}
        cells.append(cell)
    if reference:
        cells.append(markdown(reference))
    for i, cell in enumerate(cells):
        cell["id"] = f"c{i:04d}"
    # nbdev_clean drops it, highlighting needs it
    language = {"name": "python", "file_extension": ".py"}
    return {**nb, "cells": cells, "metadata": {**nb["metadata"], "language_info": language}}


def reference(package, module, names):
    "The end of a page: every public name of its module."
    directive = f".. automodule:: {package}.{module}\n   :members: {', '.join(names)}"
    return f"## Reference\n\n```{{eval-rst}}\n{directive}\n```"


def index_of_names(package, heads, exported):
    "One table per module: every public name, and what it is in one line."
    blocks = [
        "# All names\n\nEvery public name in one line. A name leads to its parameters, "
        "at the end of the page that builds it."
    ]
    for module, name in exported.items():
        body = {getattr(n, "name", None): n for n in tree_of(module).body}
        rows = []
        for n in public(module):
            if n in body:
                first = (ast.get_docstring(body[n]) or "").split("\n")[0].replace("|", r"\|")
                rows.append(f"| {{py:obj}}`{n} <{package}.{module}.{n}>` | {first} |")
        if rows:
            top = f"## {module}\n\n[{heads[name][0]}]({name}.ipynb)\n\n| name | what it is |"
            blocks.append("\n".join([top, "|---|---|", *rows]))
    return "\n\n".join(blocks) + "\n"


def contents(entries, caption):
    "A list with one sentence per page, and the same pages for the site's navigation."
    if not entries:
        return ""
    lines, tree = [], []
    for name, title, sentence in entries:
        lines.append(f"- [{title}](notebooks/{name}){' – ' + sentence if sentence else ''}")
        tree.append(f"{title} <notebooks/{name.rsplit('.', 1)[0]}>")
    tree = ["```{toctree}", ":hidden:", f":caption: {caption}", "", *tree, "```", ""]
    return "\n".join([*lines, "", *tree])


def head(path):
    "Title and sentence of a notebook, from its first cell."
    first = cells_of(path)[0]["source"]
    m = re.match(r"# (.+)\n+> (.+)", first)
    return (m[1].strip(), m[2].strip()) if m else (first.splitlines()[0].lstrip("# "), "")


def groups(heads):
    "The navigation: {file of the list: (caption, entries)}; a new page is listed by itself."

    def numbered(name):
        number = name.rpartition("/")[2].split("_")[0]
        return f"{name}.ipynb", f"{number} {heads[name][0]}", heads[name][1]

    found = {}
    for key, caption, folder in [
        ("chapters", "Chapters", ""),
        ("tutorials", "Tutorials", "tutorials"),
        ("results", "Results and promises", "results"),
    ]:
        inside = [n for n in heads if posixpath.dirname(n) == folder and n != "index"]
        found[key] = caption, [numbered(n) for n in inside]
    exported, annexes = exports(), dict.fromkeys(ANNEXES, ())
    for module in modules():
        name = exported[module]
        if "/" in name:
            annex = name.split("/")[0]
            entry = (f"{name}.ipynb", *heads[name])
            annexes[annex] = (*annexes.get(annex, ()), entry)
    for annex, entries in annexes.items():
        found[f"annex_{annex}"] = f"Annex: {annex}", list(entries)
    more = [
        (f"../{p.name}", p.read_text(encoding="utf-8").split("\n")[0].lstrip("# "), "")
        for p in sorted((ROOT / "docs").glob("*.md"))
        if p.name != "index.md"
    ]
    found["look"] = "Look up", [
        ("api.md", "All names", "every function and class in one line"),
        ("data-card.md", "Data card", "the data sets inside the package, and where they come from"),
        ("CHANGELOG.md", "Changelog", ""),
        ("CONTRIBUTING.md", "Contributing", ""),
        *more,
    ]
    return found


def annex_list(lists):
    "The annexes one below the other, each with a heading."
    parts = []
    for key, (caption, entries) in lists.items():
        if key.startswith("annex_") and entries:
            annex = key.removeprefix("annex_")
            title = ANNEXES.get(annex, "")
            parts.append(f"### `{annex}`: {title}\n\n{contents(entries, caption)}")
    return "\n".join(parts)


def site():
    "Write docs/notebooks/, which git ignores: a page per notebook, texts, and the lists of pages."
    package, folder = settings()["lib_path"], ROOT / "docs" / "notebooks"
    cells_of.cache_clear()
    tree_of.cache_clear()
    heads = {name: head(path) for name, path in pages().items()}
    exported = exports()
    order = modules()
    links = {}
    for module in order:  # what lies below wins: `train` is that of the loop, not the command
        for n in public(module):
            links.setdefault(n, f"{package}.{module}.{n}")
    module_of = {name: module for module, name in exported.items()}
    rmtree(folder, ignore_errors=True)
    for name, path in pages().items():
        module = module_of.get(name)
        names = public(module) if module else []
        own = {n: f"{package}.{module}.{n}" for n in names}
        end = reference(package, module, names) if names else ""
        target = folder / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        made = page(read(path), name, {**links, **own}, end)
        target.write_text(json.dumps(made), encoding="utf-8")
    for source, name in TEXTS.items():
        text = relinked((ROOT / source).read_text(encoding="utf-8"), source)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "api.md").write_text(index_of_names(package, heads, exported), encoding="utf-8")
    lists = groups(heads)
    for key, (caption, entries) in lists.items():
        text = contents(entries, caption) or "\n"
        (folder / f"_{key}.txt").write_text(text, encoding="utf-8")
    (folder / "_annexes.txt").write_text(annex_list(lists), encoding="utf-8")
    first = next(c["source"] for c in cells_of(pages()["index"]) if c["cell_type"] == "code")
    (folder / "_first.txt").write_text(f"```python\n{first}\n```\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    write_readme()
