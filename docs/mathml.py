"""Formulas become MathML when the site is built: browsers show it without script or network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

OPERATORS = re.compile(r"\\(arg|sg)(?![A-Za-z])")  # latex2mathml does not know these,
SIZES = re.compile(r"\\[Bb]igg?[lrm]?(?=\\[A-Za-z])")  # nor a size before a named delimiter


def mathml(node, display):
    "The formula in `node`; what could not be converted is a warning, and with -W an error."
    text = OPERATORS.sub(r"\\operatorname{\1}", SIZES.sub("", node.astext()))
    out = convert(text, display=display)
    if left := re.search(r"\\[A-Za-z]+", out):
        message = "formula with %s, which latex2mathml does not know: %s"
        log = logging.getLogger(__name__)
        log.warning(message, left[0], node.astext(), location=node)
    return out


def visit_inline(translator, node):
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(translator, node):
    translator.body.append(f'<div class="math">{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
