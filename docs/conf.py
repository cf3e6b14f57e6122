"""The site, made from the notebooks by docs/prep.py. Nothing is fetched, here or by a browser."""

import inspect
import re
import sys
import warnings
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
import prep

prep.site()
cfg = prep.settings()

project, author, release = cfg["title"], cfg["author"], cfg["version"]
project_copyright = cfg["copyright"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "mathml", "excerpts"]
exclude_patterns = ["_build", "images", "fonts"]

nb_execution_mode = "off"  # tests run the notebooks; the site shows what they stored
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables, which plain CommonMark has not
nb_code_prompt_show, nb_code_prompt_hide = "Imports and helpers", "Fold"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "literal"  # a single backtick in a docstring

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # they stand in the tables of parameters
autodoc_inherit_docstrings = False
maximum_signature_line_length = 80
html_copy_source = html_show_sourcelink = False


def code(value, none=""):
    return f"``{value}``" if value else none


def marked(text):
    "A comment as reStructuredText: code and formulas apart, so that prose cannot turn into markup."
    out = "\\ "
    for part in re.split(r"(`[^`]+`|\$[^$]+\$)", " ".join(text.split())):
        if part[:1] == "`":
            out += f"`{part}`"
        elif part[:1] == "$":
            out += f":math:`{part[1:-1]}`"
        else:
            out += re.sub(r"([*|_\\])", r"\\\1", part)
    return out


def kind(annotation):
    "A type as it is read: without the modules' names."
    if annotation in (inspect._empty, None, type(None)):
        return ""
    if isinstance(annotation, str):
        return annotation
    text = re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(annotation))
    return text.replace("NoneType", "None")


def default(value):
    return "" if value is inspect._empty else getattr(value, "__name__", None) or repr(value)


def fields_from_comments(app, what, name, obj, options, lines):
    "The comments beside parameters become a table, with types and defaults."
    from fastcore.docments import docments

    if what not in ("function", "method", "class", "exception"):
        return
    try:
        with warnings.catch_warnings():  # about docstrings of other libraries
            warnings.simplefilter("ignore")
            described = docments(obj, full=True)
    except Exception:
        return  # builtins and generated methods have no source to read
    described = {k: v for k, v in described.items() if isinstance(v.docment, str)}
    # where the docstring itself holds the sections (numpydoc), the table takes their place
    for i, line in enumerate(lines):
        if line.strip() in ("Parameters", "Returns") and set(lines[i + 1 : i + 2]) == {
            "-" * len(line.strip())
        }:
            del lines[i:]
            break
    head = ["Parameter", "Type", "Default", "Meaning"]
    rows = []
    for k, v in described.items():
        if k != "return":
            given = code(default(v.default), "required")
            rows.append([f"**{k}**", code(kind(v.anno)), given, marked(v.docment)])
    if rows:
        lines += ["", ".. list-table::", "   :class: params", "   :header-rows: 1", ""]
        for row in [head, *rows]:
            lines.append(f"   * - {row[0]}")
            lines += [f"     - {cell}" for cell in row[1:]]
    if "return" in described:
        r = described["return"]
        text = " – ".join(filter(None, [code(kind(r.anno)), marked(r.docment)]))
        lines += ["", f":returns: {text}"]


def ours(app, what, name, obj, skip, options):
    "Leave out what other libraries add; keep methods whose comments say all there is to say."
    if re.fullmatch(r"set_\w+_request|get_metadata_routing", name.split(".")[-1]):
        return True  # scikit-learn's, on every estimator
    if inspect.isfunction(obj):
        if not obj.__module__.startswith(cfg["lib_path"]):
            return True
        if name.split(".")[-1][0] != "_":
            return False


def parse_without_padding(parse):
    """The reference is reStructuredText in a cell, and MyST gives it as many empty lines as stand
    above it, 10,000 for every cell of the page: parsing those took half of the build."""

    def parsed(self, text, document):
        return parse(self, text.lstrip("\n"), document)

    return parsed


def setup(app):
    from myst_parser.mocking import MockRSTParser

    MockRSTParser.parse = parse_without_padding(MockRSTParser.parse)
    app.connect("autodoc-process-docstring", fields_from_comments)
    app.connect("autodoc-skip-member", ours)
