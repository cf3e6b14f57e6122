"""Search with excerpts, from disk too: there no page may fetch another, as Sphinx's search does.

The text of every page goes into one script, which only the search page loads; _static/excerpts.js
answers from it. Sections that a search can lead to keep their texts apart.
"""

import json
from pathlib import Path

from docutils import nodes

FILE = "page-texts.js"


def text_of(section):
    "What stands in a section itself, not in those inside it; stored HTML and images have no words."
    parts = []

    def walk(node):
        if isinstance(node, nodes.Text):
            parts.append(node.astext())
        elif not isinstance(node, (nodes.section, nodes.raw, nodes.comment, nodes.title)):
            for child in node.children:
                walk(child)
            if isinstance(node, nodes.TextElement):
                parts.append("\n")

    for child in section.children:
        walk(child)
    return " ".join("".join(parts).split())


def collect(app, doctree):
    sections = [(s["ids"][0], text_of(s)) for s in doctree.findall(nodes.section)]
    texts(app.env)[app.env.docname] = sections


def texts(env):
    "{page: [(anchor, text), …]}, kept with Sphinx's own state between two builds."
    if not hasattr(env, "page_texts"):
        env.page_texts = {}
    return env.page_texts


def forget(app, env, docname):
    texts(env).pop(docname, None)


def merge(app, env, docnames, other):
    texts(env).update({name: texts(other)[name] for name in docnames})


def write(app, error):
    if error is None and app.builder.format == "html":
        made = json.dumps(texts(app.env), ensure_ascii=False, separators=(",", ":"))
        path = Path(app.outdir) / "_static" / FILE
        path.write_text(f"const pageTexts = {made};\n", encoding="utf-8")


def load(app, pagename, templatename, context, doctree):
    if pagename == "search":
        app.add_js_file(FILE)
        app.add_js_file("excerpts.js")


def setup(app):
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("html-page-context", load)
    app.connect("build-finished", write)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True}
