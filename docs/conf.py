"""The site is made from the notebooks by docs/prep.py. Nothing is fetched, neither here nor by the reader's browser."""
import inspect, re, sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
import prep

prep.site()
cfg = prep.settings()

project, author, release, project_copyright = cfg["title"], cfg["author"], cfg["version"], cfg["copyright"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton", "mathml"]
exclude_patterns = ["_build", "images"]

nb_execution_mode = "off"  # the notebooks are executed by nbdev_test; the site shows what they stored
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


def fields_from_comments(app, what, name, obj, options, lines):
    "A parameter is documented in the comment beside it: make a table of those, with type and default."
    from fastcore.docments import docments
    if what not in ("function", "method", "class"): return
    try: described = {k: v for k, v in docments(obj, full=True).items() if isinstance(v.docment, str)}
    except Exception: return  # builtins and generated methods have no source to read
    def marked(text):
        parts = re.split(r"(`[^`]+`|\$[^$]+\$)", " ".join(text.split()))  # code and formulas apart from prose, which must not turn into markup
        return "\\ " + "".join(f"`{p}`" if p[:1] == "`" else f":math:`{p[1:-1]}`" if p[:1] == "$" else re.sub(r"([*|_\\])", r"\\\1", p) for p in parts)
    def code(value, none=""): return f"``{value}``" if value else none
    def kind(a): return "" if a in (inspect._empty, None, type(None)) else a if isinstance(a, str) else re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(a)).replace("NoneType", "None")
    def default(d): return "" if d is inspect._empty else getattr(d, "__name__", None) or repr(d)
    rows = [[f"**{k}**", code(kind(v.anno)), code(default(v.default), "required"), marked(v.docment)] for k, v in described.items() if k != "return"]
    if rows:
        lines += ["", ".. list-table::", "   :class: params", "   :header-rows: 1", ""]
        for row in [["Parameter", "Type", "Default", "Meaning"], *rows]: lines += [f"   {'-' if i else '* -'} {cell}".replace("   -", "     -", 1) for i, cell in enumerate(row)]
    if "return" in described:
        r = described["return"]
        lines += ["", f":returns: {' – '.join(filter(None, [code(kind(r.anno)), marked(r.docment)]))}"]


def ours(app, what, name, obj, skip, options):
    "Leave out what scikit-learn adds to an estimator by itself; keep methods whose comments say all there is to say."
    name = name.split(".")[-1]
    if re.fullmatch(r"set_\w+_request|get_metadata_routing", name): return True
    if inspect.isfunction(obj) and name[0] != "_" and obj.__module__.startswith(cfg["lib_path"]): return False


def setup(app):
    app.connect("autodoc-process-docstring", fields_from_comments)
    app.connect("autodoc-skip-member", ours)
