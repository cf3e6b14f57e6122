"""The site is made from the notebooks by docs/prep.py. Nothing is fetched, neither here nor by the reader's browser."""
import re, sys
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
nb_code_prompt_show, nb_code_prompt_hide = "Imports and helpers", "Fold"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False


def fields_from_comments(app, what, name, obj, options, lines):
    "A parameter is documented in the comment beside it: hand those on as the fields that Sphinx knows."
    from fastcore.docments import docments
    if what not in ("function", "method", "class"): return
    try: described = {k: v.docment for k, v in docments(obj, full=True).items() if isinstance(v.docment, str)}
    except Exception: return  # builtins and generated methods have no source to read
    def marked(text):
        parts = re.split(r"(`[^`]+`|\$[^$]+\$)", " ".join(text.split()))  # code and formulas apart from prose, which must not turn into markup
        return "".join(f"`{p}`" if p[:1] == "`" else f":math:`{p[1:-1]}`" if p[:1] == "$" else re.sub(r"([*|_\\])", r"\\\1", p) for p in parts)
    lines += ["", *(f":returns: {marked(t)}" if k == "return" else f":param {k}: {marked(t)}" for k, t in described.items())]


def ours(app, what, name, obj, skip, options):
    "Leave out what scikit-learn adds to an estimator by itself."
    return True if re.fullmatch(r"set_\w+_request|get_metadata_routing", name.split(".")[-1]) else None


def setup(app):
    app.connect("autodoc-process-docstring", fields_from_comments)
    app.connect("autodoc-skip-member", ours)
