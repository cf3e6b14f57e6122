"""The site: built without a warning, all links lead somewhere, nothing is fetched; its looks.

    pytest tests/test_site.py        # screenshots stay in build/shots, or in $NCVQ_SHOTS
"""

import json
import os
import re
import subprocess
import sys
from functools import lru_cache
from html.parser import HTMLParser
from importlib import import_module
from io import BytesIO
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from conftest import THOROUGH
from PIL import Image
from test_house import PAGES, ROOT, cells_of, copy, notebook, prep, source

DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJg"
    "gg=="
)
PROBE = """# A probe

> A tutorial that nobody listed

See [reading](../io/files.ipynb), [training](../07_training.ipynb#Training)
and [a program](../../setup.py).
"""


def probe():
    "A tutorial that is written to the site like any other: prose, and a cell with a figure."
    nb = dict(nbformat=4, nbformat_minor=5, metadata={}, cells=[])
    figure = dict(output_type="display_data", metadata={}, data={"image/png": DOT})
    nb["cells"] = [
        dict(cell_type="markdown", id="a", metadata={}, source=PROBE),
        dict(
            cell_type="code",
            id="b",
            metadata={},
            source="#| fig-alt: One red dot.\nplot()",
            execution_count=None,
            outputs=[figure],
        ),
    ]
    return json.dumps(nb)


def text(path):
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    "What a test wants to know of a page."

    def __init__(self, path):
        super().__init__()
        self.ids = set()
        self.links, self.loads, self.images, self.headings = [], [], [], []
        self.n_math, self.in_math, self.math = 0, False, ""
        self.feed(text(path))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {v for k in ("id", "name") if (v := a.get(k))}
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        about = ("index", "search", "next", "prev", "author", "copyright")
        if tag == "link" and a.get("rel") not in about:
            self.loads.append(a["href"])
        if tag != "a":
            self.loads += [a[k] for k in ("src", "srcset", "poster", "data") if a.get(k)]
        if tag == "img":
            self.images.append(a)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.n_math += tag == "math"
        self.in_math |= tag == "math"

    def handle_endtag(self, tag):
        self.in_math &= tag != "math"

    def handle_data(self, data):
        if self.in_math:
            self.math += data


parsed = lru_cache(maxsize=None)(Page)  # the longest pages take a second


def broken(folder):
    "Local links and anchors of built pages that lead nowhere."
    found, pages = [], {p: parsed(p) for p in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        for href in {*page.links, *page.loads}:
            to = urlsplit(href)
            if to.scheme or to.netloc:
                continue
            target = (path.parent / unquote(to.path)).resolve() if to.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                found.append(f"{path.relative_to(folder)}: {href}, no such file")
            elif to.fragment and target in pages and unquote(to.fragment) not in pages[target].ids:
                found.append(f"{path.relative_to(folder)}: {href}, no such anchor")
    return found


GETS = re.compile(
    r"(?:url\(\s*|@import\s+|fetch\(\s*|import\(\s*|importScripts\(\s*"
    r"|(?:\.src|\.href)\s*=\s*|\.open\([^)]*,\s*)"
    r"""["'`]?((?:https?:)?//[^"'`)\s]+)"""
)


def fetched(folder):
    "What built pages, styles and scripts would get from elsewhere by themselves."
    away, found = re.compile(r"^\s*(https?:)?//"), []
    for path in folder.rglob("*.html"):
        urls = [u for u in parsed(path).loads if away.match(u)]
        found += [f"{path.relative_to(folder)}: {u}" for u in urls]
    for path in [*folder.rglob("*.css"), *folder.rglob("*.js")]:
        code = re.sub(r"/\*.*?\*/", "", text(path), flags=re.S)
        found += [f"{path.relative_to(folder)}: {m[1]}" for m in GETS.finditer(code)]
    return found


# What can be said without the site


def test_checks_can_fail(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html">b</a><a href="#top">ok</a><a href="#no">x</a>'
        '<a href="https://x.example">far</a><script src="//cdn.example/x.js"></script>'
        '<img src="c.png">'
    )
    (tmp_path / "s.css").write_text(
        "/* url(https://comment.example) */ @import 'https://fonts.example/f';"
        "p { background: url(data:x) }"
    )
    (tmp_path / "s.js").write_text(
        "// see http://x\nfetch('https://api.example/');var ns='http://www.w3.org/2000/svg'"
    )
    assert sorted(broken(tmp_path)) == [
        "a.html: #no, no such anchor",
        "a.html: b.html, no such file",
        "a.html: c.png, no such file",
    ]
    assert sorted(fetched(tmp_path)) == [
        "a.html: //cdn.example/x.js",
        "s.css: https://fonts.example/f",
        "s.js: https://api.example/",
    ]


def formula(tex, display="block"):
    pytest.importorskip("latex2mathml", reason="the site needs the extra `docs`")
    import mathml

    return mathml.mathml(SimpleNamespace(astext=lambda: tex), display)


def test_formulas_in_forms_that_browsers_draw():
    bars = r'<mo (?:\w+="\w+" ?)*form="(\w+)"[^>]*>‖'
    assert re.findall(bars, formula(r"\lVert z - e_k \rVert^2")) == ["prefix", "postfix"]
    assert "‖" in formula(r"p \,\big\|\, q") and "\\" not in formula(r"p \,\big\|\, q")
    bars = r'form="(\w+)"[^>]*>\|'
    assert re.findall(bars, formula(r"|x| \le \lvert y \rvert")) == ["prefix", "postfix"] * 2
    letters = formula(r"\mathcal L + \mathcal N + \mathbb R + \mathbb 1 + \mathcal{L}")
    assert [c for c in "ℒ𝒩ℝ𝟙" if c not in letters] == [] and "mathvariant" not in letters
    assert '<mrow class="overline"' in formula(r"\overline{x^2}")
    brace = formula(r"\underbrace{x^2}_{\text{time}}")
    assert '<munder><mrow class="underbrace"' in brace and "⏟" not in brace
    assert "<munder><mo" in formula(r"\min_k x") and "munder" not in formula(r"\min_k x", "inline")
    grouped = formula(r"\Bigl( x \Bigr)^2")
    assert re.search(r"<msup><mrow><mo [^>]*>\(</mo><mi>x</mi><mo [^>]*>\)</mo></mrow>", grouped)
    assert 'form="prefix">−' in formula("a = -b") and 'form="prefix">−' not in formula("a - b")
    assert '<mo lspace="0.167em" rspace="0.167em">log</mo>' in formula(r"p \log p")


def test_long_formulas_can_be_broken_and_short_ones_only_at_wide_spaces():
    assert formula("a = b").count("<math") == 1
    assert formula(r"a = b, \qquad c = d").count("<math") == 2
    terms = " + ".join(f"a_{i}(x + y)" for i in range(4))
    assert formula(f"b = {terms}").count("<math") == 5  # before = and +, not inside of brackets
    assert formula(f"b = {terms}", "inline").count("<math") == 1


def test_front_page_says_what_the_index_runs():
    index = "\n".join(source(c) for c in notebook(PAGES["index"])["cells"])
    commands = re.findall(r"^ {4}(\S.*)$", text(ROOT / "docs" / "index.md"), re.M)
    assert commands and not [c for c in commands if c not in index]


# The site


def build(folder):
    "The site of a copy of the project, with one tutorial more."
    files = ("settings.ini", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
    copy(folder, "docs", "nbs", "ncvq_nb", *files)
    (folder / "nbs" / "tutorials" / "28_probe.ipynb").write_text(probe())
    r = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "html"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert r.returncode == 0, r.stderr[-3000:]


@pytest.fixture(scope="session")
def site(shared):
    for name in ("sphinx", "myst_nb", "furo", "latex2mathml", "sphinx_copybutton"):
        pytest.importorskip(name, reason="the site needs the extra `docs`")
    return shared("site", build) / "html"


@pytest.mark.slow
def test_links_lead_somewhere(site):
    assert len(list(site.rglob("*.html"))) > 20
    assert not (found := broken(site)), found


@pytest.mark.slow
def test_nothing_is_fetched(site):
    assert not (found := fetched(site)), found


@pytest.mark.slow
def test_every_notebook_is_there_in_its_group(site):
    nav = text(site / "index.html").split('class="sidebar-tree"')[1].split("</div>")[0]
    part = r'<span class="caption-text">([^<]+)</span>(.*?)(?=<p class="caption"|$)'
    href = r'href="notebooks/([\w/-]+)\.html"'
    groups = {c: re.findall(href, inside) for c, inside in re.findall(part, nav, re.S)}
    annexes = [f"Annex: {a}" for a in prep.ANNEXES]
    captions = ["Start", "Tutorials", "Chapters", "Results and promises", *annexes, "Look up"]
    assert list(groups) == captions
    by_folder = {}
    for name in [*PAGES, "tutorials/28_probe"]:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    assert groups["Chapters"] == [n for n in by_folder.pop("") if n != "index"]
    assert groups["Tutorials"] == by_folder.pop("tutorials")
    assert groups["Results and promises"] == by_folder.pop("results")
    for annex, names in by_folder.items():  # in the order in which they know one another
        assert sorted(groups[f"Annex: {annex}"]) == names
        place = {n: i for i, n in enumerate(groups[f"Annex: {annex}"])}
        exported = prep.exports()
        for module, name in exported.items():
            known = [exported[k] for k, _ in prep.imports(module) if k in exported]
            if name in place:
                assert all(place[k] < place[name] for k in known if k in place)


@pytest.mark.slow
def test_a_new_page_is_listed_and_linked(site):
    page = text(site / "notebooks" / "tutorials" / "28_probe.html")
    assert 'href="../io/files.html"' in page and "and a program." in page
    assert 'href="../07_training.html#training"' in page and 'alt="One red dot."' in page


@pytest.mark.slow
def test_the_font_has_every_character_of_the_formulas(site):
    "As docs/fonts/make.py put them there; of a single letter a browser draws the italic one."
    listed = re.search(r'CHARACTERS = """(.*?)"""', text(ROOT / "docs" / "fonts" / "make.py"), re.S)
    ranges = [[int(n, 16) for n in part.split("-")] for part in listed[1].split()]
    has = {chr(c) for r in ranges for c in range(r[0], r[-1] + 1)}
    used = set("".join(parsed(p).math for p in site.rglob("*.html"))) - {"\n"}
    assert len(used) > 100 and not used - has, sorted(used - has)


@pytest.mark.slow
def test_front_page_shows_what_it_is_for(site):
    "A figure, the first lines of the overview as code, and uses with their pages."
    html = text(site / "index.html")
    start = html[: html.index('id="install"')]
    code = re.sub("<[^>]+>", "", start)
    assert 'class="hero"' in start and "model.sample(100, y=2" in code
    assert len(re.findall(r'<li><p><strong><a [^>]*href="notebooks/', start)) == 6


HIDDEN = re.compile(r"#\| (hide|output: false|include: false)")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(site, name):
    "Formulas, figures and headings of the notebook have arrived; figures have words."
    path = site / "notebooks" / f"{name}.html"
    page, cells = parsed(path), notebook(PAGES[name])["cells"]
    assert page.n_math >= "\n".join(cells_of(PAGES[name], "markdown")).count("$$") // 2
    shown = [c for c in cells if c["cell_type"] == "code" and not HIDDEN.match(source(c))]
    drawn = sum(
        json.dumps(o.get("data", {})).count("image/png") for c in shown for o in c["outputs"]
    )
    figures = [i for i in page.images if "_images" in i["src"] or i["src"].startswith("data:")]
    assert len(figures) == drawn
    prose = re.sub(r"<pre.*?</pre>", "", text(path), flags=re.S)
    assert not re.search(r"\|\s*(-|—|–){1,3}:?\s*\|", prose), "a table was not made one"
    mute = [i for i in page.images if not re.search(r"\w\W+\w", i.get("alt", ""))]
    assert not mute and not [i for i in page.images if i["alt"].endswith(".png")]
    steps = zip(page.headings, page.headings[1:])
    assert page.headings.count(1) == 1 and all(b <= a + 1 for a, b in steps), page.headings


@pytest.mark.slow
def test_every_public_name_has_its_parameters(site):
    from fastcore.docments import docments

    n = 0
    for module, name in prep.exports().items():
        html, where = text(site / "notebooks" / f"{name}.html"), f"ncvq_nb.{module}"
        names = prep.public(module)
        assert not names or f'id="module-{where}"' in html
        for public in names:
            thing = getattr(import_module(where), public)
            if not callable(thing):
                continue
            parts = html.split(f'id="{where}.{public}"')
            assert len(parts) == 2, f"{where}.{public} is not in the reference"
            maker = getattr(thing, "__init__", thing) if isinstance(thing, type) else thing
            if not getattr(maker, "__module__", "").startswith("ncvq_nb"):
                continue  # a class whose parameters are those of another library
            block = parts[1].split('class="py ')[0]
            assert "-----" not in block, f"{where}.{public}: sections of a docstring"
            for k, v in docments(thing, full=True).items():
                if k not in ("return", "self") and isinstance(v.docment, str):
                    rows = block.count(f"<strong>{k}</strong>")
                    assert rows == 1, f"{where}.{public}: {rows} rows for {k}"
                    n += 1
    assert n > 200


# In a browser

LOOK = """() => {
  const allowed = '.table-wrapper, div.cell_output, .copybtn';
  const root = document.documentElement, article = document.querySelector('article');
  const outside = e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(allowed);
  const images = [...document.images].filter(i => !i.naturalWidth && i.loading != 'lazy');
  const out = [...document.querySelectorAll('article *')].filter(outside);
  const all = what => [...document.querySelectorAll('article ' + what)];
  const size = e => e.getBoundingClientRect();
  const em = e => parseFloat(getComputedStyle(e).fontSize);
  const fits = e => e.scrollWidth <= e.clientWidth + 1 && e.scrollHeight <= e.clientHeight + 1;
  const bars = all('mo').filter(e => e.textContent == '‖');
  const clipped = all('pre, article div.math').filter(e => !fits(e));
  return {
    wide: root.scrollWidth - root.clientWidth,
    broken: images.map(i => i.src),
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(article ?? document.body).color,
    out: out.map(e => e.tagName + ' ' + e.textContent.slice(0, 40)).slice(0, 3),
    clipped: clipped.map(e => e.textContent.slice(0, 60)),
    tall: bars.filter(e => size(e).height > 1.5 * em(e)).map(e => e.parentNode.textContent),
    font: !all('math').length || document.fonts.check('16px "ncvq_nb Math"'),
  };
}"""
SHAPES = dict(
    desktop=dict(viewport=dict(width=1400, height=1000), color_scheme="light"),
    dark=dict(viewport=dict(width=1100, height=1000), color_scheme="dark"),
    phone=dict(
        viewport=dict(width=390, height=844), is_mobile=True, has_touch=True, color_scheme="light"
    ),
)
# One page of each kind: lists, prose, formulas, the longest reference, names, a search box
KINDS = ["index", *(f"notebooks/{n}" for n in ("index", "06_tokenizer", "09_generator", "api"))]
KINDS.append("search")


def light(rgb):
    return sum(map(float, re.findall(r"[\d.]+", rgb)[:3])) / 3


def trouble_with(page, path, dark):
    page.goto(path.as_uri())
    seen = page.evaluate(LOOK)
    paper, ink = light(seen["paper"]), light(seen["ink"])
    if seen["wide"] > 0:
        yield f"{path.name} is {seen['wide']} px too wide: {seen['out']}"
    if seen["out"] or seen["broken"] or seen["clipped"] or seen["tall"] or not seen["font"]:
        yield f"{path.name}: {seen}"
    if (paper < 80) != dark or abs(paper - ink) < 100:
        yield f"{path.name}: {seen['ink']} on {seen['paper']}"


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_pages_in_a_browser(site, browser, shots, shape):
    """No page is wider than the screen, no code and no formula wider than its place, no bar taller
    than its line, light is light and dark is dark, no script fails, and from disk nothing else is
    asked for. What fits a phone fits a desktop: there every sixth page is looked at (by night all),
    elsewhere one of each kind."""
    context = browser.new_context(**SHAPES[shape])
    context.set_default_timeout(180_000)  # a busy machine
    page, trouble = context.new_page(), []

    def asked(request):
        if not request.url.startswith(("file:", "data:")):
            trouble.append(f"asked for {request.url}")

    page.on("request", asked)
    page.on("requestfailed", lambda r: trouble.append(f"did not get {r.url}"))
    page.on("pageerror", lambda e: trouble.append(f"script: {e}"))
    kinds = [site / f"{k}.html" for k in KINDS]
    many = sorted(site.rglob("*.html"))[:: 1 if THOROUGH else 6]
    try:
        for path in {*kinds, *many} if shape == "phone" else kinds:
            trouble += trouble_with(page, path, dark=shape == "dark")
            if path in kinds[:4]:
                name = "-".join(path.relative_to(site).with_suffix("").parts)
                page.screenshot(path=shots / f"site-{shape}-{name}.png")
    finally:
        context.close()
    assert not trouble, trouble


BRACES = """() => [...document.querySelectorAll('math .underbrace')].map(e => {
  const {x, bottom, width} = e.getBoundingClientRect();
  return {x, y: bottom - 6, width, height: 6};
})"""


def covered(png):
    "The share of columns in which something is drawn."
    gray = np.asarray(Image.open(BytesIO(png)).convert("L"), float)
    return float((np.ptp(gray, 0) > 30).mean())


@pytest.mark.slow
def test_braces_are_as_wide_as_what_they_name(site, browser):
    "What was painted is looked at: a browser's own brace has parts that are not drawn."
    page = browser.new_page(viewport=dict(width=1400, height=9000), device_scale_factor=2)
    page.goto((site / "notebooks" / "06_tokenizer.html").as_uri())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = [covered(page.screenshot(clip=c)) for c in page.evaluate(BRACES)]
        assert len(found) == 6 and min(found) > 0.95, (scheme, found)
    page.close()


@pytest.mark.slow
def test_search_works_from_disk(site, browser, shots):
    "Pages are found, and the lines around the word stand below each."
    page = browser.new_page()
    page.set_default_timeout(180_000)
    page.goto((site / "search.html").as_uri() + "?q=perplexity")
    page.wait_for_selector("ul.search li a", timeout=60_000)
    page.wait_for_selector("ul.search li p.context", timeout=60_000)
    found = [a.get_attribute("href") for a in page.query_selector_all("ul.search li a")]
    said = [p.inner_text() for p in page.query_selector_all("ul.search li p.context")]
    page.screenshot(path=shots / "site-search.png")
    page.close()
    assert any("04_vq.html" in f for f in found), found
    assert sum("perplexity" in s.lower() for s in said) >= min(3, len(said)), said
