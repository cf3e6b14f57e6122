"""Formulas become MathML when the site is built: browsers show it without script or network.

latex2mathml translates LaTeX, `improved` turns its output into forms that browsers draw well (those
that MathML Core knows), and docs/fonts/math.woff2 has the delimiters, braces and letters they need.
"""

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

HERE = Path(__file__).resolve().parent
SPACE = "http://www.w3.org/1998/Math/MathML"
OPERATORS = re.compile(r"\\(arg|sg)(?![A-Za-z])")  # latex2mathml does not know these,
SIZES = re.compile(r"\\[Bb]igg?[lrm]?(?=\\[A-Za-z|])")  # nor a size before a named delimiter
BARS = re.compile(r"(?<!\\left)(?<!\\right)\\([lr])([Vv])ert(?![A-Za-z])")  # nor left from right
STAND_INS = {"lV": "\ue000", "lv": "\ue001", "rV": "\ue002", "rv": "\ue003"}  # it keeps these
FENCES = {"\ue000": "‖", "\ue001": "|", "\ue002": "‖", "\ue003": "|"}
LETTERS = {  # mathvariant → code points of A and of 0, and the letters that stand elsewhere
    "script": (0x1D49C, None, dict(zip("BEFHILMR", "ℬℰℱℋℐℒℳℛ"))),
    "double-struck": (0x1D538, 0x1D7D8, dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ"))),
}
OPEN, CLOSE = "([{⌊⌈⟨", ")]}⌋⌉⟩"
SCRIPTS = ("msub", "msup", "msubsup", "munder", "mover", "munderover")
ACCENTS = {"^": "ˆ", "~": "˜", "¯": "¯", "˙": "˙"}  # as accents look, not as they are typed
DRAWN = {"―": "overline", "⏟": "underbrace"}  # by the style sheet: see `token`
LONG = 20  # letters, numbers and signs, beyond which a phone may have to break a line
LIMITS = {"min", "max", "sup", "inf", "argmin", "argmax"}  # displayed, their index stands below


def letters(text, variant):
    "A text in another alphabet: browsers do not look at `mathvariant`."
    upper, digit, elsewhere = LETTERS[variant]

    def one(c):
        start = digit - ord("0") if c.isdigit() else upper - ord("A")
        return elsewhere.get(c) or chr(start + ord(c))

    return "".join(map(one, text))


def named(e):
    "Is this the name of a function or an operator, such as log or max?"
    return e is not None and e.tag in ("mi", "mo") and re.fullmatch("[A-Za-z]{2,}", e.text or "")


def is_operator(e, kinds):
    return e is not None and e.tag == "mo" and (e.text or " ") in kinds


def core(e, side=0):
    "What an element begins (0) or ends (-1) with, without indices, bars and the like."
    while len(e) and e.tag in (*SCRIPTS, "mrow"):
        e = e[side if e.tag == "mrow" else 0]
    return e


def token(e, display):
    "One sign, name or accent in the form that browsers draw well."
    text = (e.text or "").strip()
    if (variant := e.get("mathvariant")) in LETTERS and text:
        e.text = letters(text, variant)
        del e.attrib["mathvariant"]
    elif e.tag == "mi" and re.fullmatch("[Α-Ω]", text):
        e.set("mathvariant", "normal")  # as in TeX: capital Greek letters are upright
    elif text in FENCES:  # a closing bar is no opening one, and none grows beyond its formula
        form = "prefix" if text in "\ue000\ue001" else "postfix"
        e.tag, e.text = "mo", FENCES[text]
        e.attrib.update(form=form, stretchy="false")
    elif e.tag == "mo" and text and text in OPEN + CLOSE:
        e.set("form", "prefix" if text in OPEN else "postfix")
    elif e.tag == "mo" and text in ("/", "…", "."):
        e.attrib.update(lspace="0", rspace="0")
    elif e.tag in ("mi", "mo") and text in ("⧵", ":", "~", "±", "∞"):
        e.tag = "mi" if text == "∞" else "mo"
        e.text = {"⧵": "∖", "~": "∼"}.get(text, text)
    elif e.tag in ("mover", "munder") and e[1].text in DRAWN:
        # as a sign, Chromium does not widen the one, and leaves out parts of the other
        e.set("class", DRAWN[e[1].text])
        e.tag, e[:] = "mrow", e[:1]
    elif e.tag == "mover" and e[1].text in ACCENTS:
        e.set("accent", "true")
        e[1].text, e[1].tag = ACCENTS[e[1].text], "mo"
    elif e.tag == "msub" and display == "block" and e[0].text in LIMITS:
        e.tag = "munder"
    elif e.tag == "mtd" and "left" in e.get("columnalign", ""):
        e.set("style", "text-align: left")


def group(parent):
    "An index on a large closing delimiter belongs to all between it and its counterpart."
    opened = []
    for e in [*parent]:
        sign = core(e)
        if sign.tag != "mo" or not sign.get("minsize"):
            continue
        if sign.get("form") == "prefix":
            opened.append(e)
        elif opened:
            start, parts = opened.pop(), [*parent]
            if e is not sign:
                inside = ElementTree.Element("mrow")
                inside[:] = [*parts[parts.index(start) : parts.index(e)], sign]
                for part in inside[:-1]:
                    parent.remove(part)
                e[0] = inside


def row(parts):
    "What the neighbours say: signs, pairs of bars, names of functions and their distances."
    bars = [e for e in parts if is_operator(core(e), "|") and not core(e).get("form")]
    for i, e in enumerate(bars if len(bars) % 2 == 0 else ()):
        core(e).attrib.update(form=("prefix", "postfix")[i % 2], stretchy="false")
    for before, e, after in zip([None, *parts], parts, [*parts[1:], None]):
        e = core(e)
        left = core(before, -1) if before is not None else None
        right = core(after) if after is not None else None
        if is_operator(e, "−+") and (left is None or is_operator(left, OPEN + "=,<>≤≥≈←∈:;")):
            e.set("form", "prefix")
        if named(e):
            pulled = after is not None and after.get("width", "").startswith("-")
            tight = right is None or pulled or is_operator(right, OPEN + CLOSE + ",;=")
            loose = left is not None and (left.tag != "mo" or is_operator(left, CLOSE))
            e.tag = "mo"
            e.attrib.update(lspace="0.167em" * loose or "0", rspace="0" if tight else "0.167em")


def improved(tree, display):
    "The same formula in forms that browsers draw well."
    for e in [*tree.iter()]:
        token(e, display)
    for e in [*tree.iter()]:
        if e.tag in ("mrow", "math", "mstyle", "mtd"):
            group(e)
            row([*e])
    for e in tree.iter():
        for index in e[1:] if e.tag in SCRIPTS else ():  # as in TeX: no distances in an index
            for sign in index.iter("mo"):
                sign.attrib.update(lspace="0", rspace="0")
    return tree


def statements(row):
    "The parts of a displayed formula that wide spaces divide."
    parts = [[]]
    for e in row:
        parts[-1].append(e)
        if e.tag == "mspace" and e.get("width") in ("1em", "2em"):
            parts.append([])
    return [part for part in parts if part]


def pieces(statement):
    "A long one, divided before relations, plus and minus outside of all brackets."
    if sum(e.tag in ("mi", "mn", "mo") for part in statement for e in part.iter()) <= LONG:
        return [statement]
    parts, depth = [[]], 0
    for e in statement:
        sign = core(e)
        if is_operator(sign, "=≈←+−") and sign.get("form") != "prefix" and not depth:
            sign.set("form", "infix")
            parts.append([])
        if not is_operator(sign, "+−"):
            depth += {"prefix": 1, "postfix": -1}.get(sign.get("form"), 0)
        parts[-1].append(e)
    return [part for part in parts if part]


def displayed(tree):
    "A displayed formula in the pieces that the style sheet sets one below another on a phone."
    out = ""
    for statement in statements(tree[0]):
        made = []
        for piece in pieces(statement):
            one = ElementTree.Element(tree.tag, tree.attrib)
            ElementTree.SubElement(one, tree[0].tag, tree[0].attrib).extend(piece)
            made.append(ElementTree.tostring(one, encoding="unicode"))
        out += "".join(made) if len(made) == 1 else f"<div>{''.join(made)}</div>"
    return f'<div class="math">{out}</div>'


def mathml(node, display):
    "The formula in `node`; what could not be converted is a warning, and with -W an error."
    text = OPERATORS.sub(r"\\operatorname{\1}", SIZES.sub("", node.astext()))
    text = BARS.sub(lambda m: STAND_INS[m[1] + m[2]] + " ", text)
    out = convert(text, display=display).replace(f' xmlns="{SPACE}"', "")
    if left := re.search(r"\\([A-Za-z]+|.)", out):
        message = "formula with %s, which latex2mathml does not know: %s"
        log = logging.getLogger(__name__)
        log.warning(message, left[0], node.astext(), location=node)
    tree = improved(ElementTree.fromstring(out), display)
    return displayed(tree) if display == "block" else ElementTree.tostring(tree, encoding="unicode")


def visit_inline(translator, node):
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(translator, node):
    translator.body.append(mathml(node, "block") + "\n")
    raise nodes.SkipNode


def write_font(app):
    "The font inside a style sheet: from disk, browsers refuse one that lies in another folder."
    font = base64.b64encode((HERE / "fonts" / "math.woff2").read_bytes()).decode()
    source = f'url("data:font/woff2;base64,{font}") format("woff2")'
    folder = Path(app.outdir) / "_static"
    folder.mkdir(parents=True, exist_ok=True)
    rule = f'@font-face {{ font-family: "ncvq_nb Math"; src: {source}; }}\n'
    (folder / "math.css").write_text(rule, encoding="utf-8")


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("builder-inited", write_font)
    app.add_css_file("math.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
