"""The site: built as CONTRIBUTING says, without a warning; every link and anchor leads somewhere, nothing is fetched; looked at in a browser in three shapes.

    pytest tests/test_site.py        # screenshots stay in build/shots, or in $NCVQ_SHOTS
"""
import json, os, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import prep

PROBE = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
    dict(cell_type="markdown", id="a", metadata={}, source="# A probe\n\n> A tutorial that nobody listed\n\nSee [reading](00_data.ipynb#Files) and [a program](../setup.py)."),
    dict(cell_type="code", id="b", metadata={}, source="#| fig-alt: One red dot.\nplot()", execution_count=None, outputs=[dict(output_type="display_data", metadata={}, data={"image/png": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="})])]}


def text(path): return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    "What a test wants to know of a page."
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.images, self.headings, self.n_math = set(), [], [], [], [], 0
        self.feed(text(path))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {v for k in ("id", "name") if (v := a.get(k))}
        if tag == "a" and a.get("href"): self.links.append(a["href"])
        if tag == "link" and a.get("rel") not in ("index", "search", "next", "prev", "author", "copyright"): self.loads.append(a["href"])
        self.loads += [a[k] for k in ("src", "srcset", "poster", "data") if tag != "a" and a.get(k)]
        if tag == "img": self.images.append(a)
        if re.fullmatch("h[1-6]", tag): self.headings.append(int(tag[1]))
        self.n_math += tag == "math"


def broken(folder):
    "Local links and anchors of built pages that lead nowhere."
    pages = {p: Page(p) for p in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for href in {*page.links, *page.loads}:
            to = urlsplit(href)
            if to.scheme or to.netloc: continue
            target = (path.parent / unquote(to.path)).resolve() if to.path else path
            if target.is_dir(): target /= "index.html"
            if not target.is_file(): found.append(f"{path.relative_to(folder)}: {href}, no such file")
            elif to.fragment and target in pages and unquote(to.fragment) not in pages[target].ids: found.append(f"{path.relative_to(folder)}: {href}, no such anchor")
    return found


def fetched(folder):
    "What built pages, styles and scripts would get from elsewhere by themselves."
    away = re.compile(r"^\s*(https?:)?//")
    found = [f"{p.relative_to(folder)}: {u}" for p in folder.rglob("*.html") for u in Page(p).loads if away.match(u)]
    for path in [*folder.rglob("*.css"), *folder.rglob("*.js")]:
        code = re.sub(r"/\*.*?\*/", "", text(path), flags=re.S)
        for m in re.finditer(r"""(?:url\(\s*|@import\s+|fetch\(\s*|import\(\s*|importScripts\(\s*|(?:\.src|\.href)\s*=\s*|\.open\([^)]*,\s*)["'`]?((?:https?:)?//[^"'`)\s]+)""", code): found.append(f"{path.relative_to(folder)}: {m[1]}")
    return found


# What can be said without the site

def test_checks_can_fail(tmp_path):
    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="b.html">b</a><a href="#top">ok</a><a href="#no">x</a><a href="https://x.example">far</a><script src="//cdn.example/x.js"></script><img src="c.png">')
    (tmp_path / "s.css").write_text("/* url(https://comment.example) */ @import 'https://fonts.example/f'; p { background: url(data:x) }")
    (tmp_path / "s.js").write_text("// see http://x\nfetch('https://api.example/');var ns='http://www.w3.org/2000/svg'")
    assert sorted(broken(tmp_path)) == ["a.html: #no, no such anchor", "a.html: b.html, no such file", "a.html: c.png, no such file"]
    assert sorted(fetched(tmp_path)) == ["a.html: //cdn.example/x.js", "s.css: https://fonts.example/f", "s.js: https://api.example/"]


def test_front_page_says_what_the_index_runs():
    source = "\n".join("".join(c["source"]) for c in json.loads(text(ROOT / "nbs" / "index.ipynb"))["cells"])
    commands = re.findall(r"^ {4}(\S.*)$", text(ROOT / "docs" / "index.md"), re.M)
    assert commands and not [c for c in commands if c not in source]


# The site

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The site of a copy of the project, with one tutorial more; built once, also when several processes share the tests."
    for name in ("sphinx", "myst_nb", "furo", "latex2mathml", "sphinx_copybutton"): pytest.importorskip(name, reason="the site needs the extra `docs`: pip install -e '.[docs]'")
    base = tmp_path_factory.getbasetemp()
    tmp = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    with FileLock(f"{tmp}.lock"):
        if not (tmp / "built").exists(): build(tmp)
    return tmp / "html"


def build(tmp):
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir()
    for name in ("docs", "nbs", "ncvq_nb"): shutil.copytree(ROOT / name, tmp / name, ignore=shutil.ignore_patterns("_build", "notebooks", "__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"): shutil.copy(ROOT / name, tmp)
    (tmp / "nbs" / "28_probe.ipynb").write_text(json.dumps(PROBE))
    r = subprocess.run([sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "html"], cwd=tmp, env={**os.environ, "PYTHONPATH": str(tmp)}, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-3000:]
    (tmp / "built").touch()


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
    groups = {c: re.findall(r'href="notebooks/(\w[\w-]*)\.html"', part) for c, part in re.findall(r'<span class="caption-text">([^<]+)</span>(.*?)(?=<p class="caption"|$)', nav, re.S)}
    stems = sorted(p.stem for p in (ROOT / "nbs").glob("[0-9]*.ipynb"))
    assert list(groups) == ["Start", "Tutorials", "Chapters", "Results and promises", "Look up"]
    assert groups["Chapters"] == [s for s in stems if s < "20"] and groups["Results and promises"] == [s for s in stems if s >= "29"]
    assert groups["Tutorials"] == sorted([*(s for s in stems if "20" <= s < "29"), "28_probe"])
    probe = text(site / "notebooks" / "28_probe.html")
    assert 'href="00_data.html#files"' in probe and "and a program." in probe and 'alt="One red dot."' in probe


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*.ipynb")), ids=lambda p: p.stem)
def test_page_is_whole(site, path):
    "Formulas, figures and headings of the notebook have arrived; figures have words."
    page, cells = Page(site / "notebooks" / f"{path.stem}.html"), json.loads(text(path))["cells"]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert page.n_math >= prose.count("$$") // 2
    hidden = re.compile(r"#\| (hide|output: false|include: false)")
    drawn = sum(json.dumps(o.get("data", {})).count("image/png") for c in cells if c["cell_type"] == "code" and not hidden.match("".join(c["source"])) for o in c["outputs"])
    assert sum("_images" in i["src"] or i["src"].startswith("data:") for i in page.images) == drawn
    assert not re.search(r"\|\s*(-|—|–){1,3}:?\s*\|", re.sub(r"<pre.*?</pre>", "", text(site / "notebooks" / f"{path.stem}.html"), flags=re.S)), "a table was not made one"
    assert not [i for i in page.images if not re.search(r"\w \w", i.get("alt", "")) or i["alt"].endswith(".png")]
    assert page.headings.count(1) == 1 and all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:])), page.headings


@pytest.mark.slow
def test_every_public_name_has_its_parameters(site):
    from fastcore.docments import docments
    from importlib import import_module
    where = {stem: text(site / "notebooks" / f"{stem}.html") for stem in (p.stem for p in (ROOT / "nbs").glob("[0-9]*.ipynb"))}
    n = 0
    for module, names in prep.public("ncvq_nb").items():
        html = next(h for stem, h in where.items() if f'id="module-ncvq_nb.{module}"' in h)
        for name in names:
            thing = getattr(import_module(f"ncvq_nb.{module}"), name)
            if not callable(thing): continue
            assert f'id="ncvq_nb.{module}.{name}"' in html, f"{module}.{name} is not in the reference"
            block = html.split(f'id="ncvq_nb.{module}.{name}"')[1]
            for k, v in docments(thing, full=True).items():
                if k in ("return", "self") or not isinstance(v.docment, str): continue
                assert f"<strong>{k}</strong>" in block.split('class="py ')[0], f"{module}.{name} has no row for {k}"
                n += 1
    assert n > 200


# In a browser

LOOK = """() => ({wide: document.documentElement.scrollWidth - document.documentElement.clientWidth, broken: [...document.images].filter(i => !i.naturalWidth && i.loading != 'lazy').map(i => i.src),
  paper: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.querySelector('article') ?? document.body).color,
  out: [...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('pre, .table-wrapper, div.math, div.cell_output, math, .copybtn')).map(e => e.tagName + ' ' + e.textContent.slice(0, 40)).slice(0, 3)})"""


def light(rgb): return sum(map(float, re.findall(r"[\d.]+", rgb)[:3])) / 3


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["desktop", "dark", "phone"])
def test_pages_in_a_browser(site, browser, shots, shape):
    "No page is wider than the screen, light is light and dark is dark, no script fails, and from disk nothing else is asked for."
    how = dict(desktop=dict(viewport=dict(width=1400, height=1000), color_scheme="light"), dark=dict(viewport=dict(width=1100, height=1000), color_scheme="dark"),
               phone=dict(viewport=dict(width=390, height=844), is_mobile=True, has_touch=True, color_scheme="light"))[shape]
    context = browser.new_context(**how)
    context.set_default_timeout(180_000)  # a busy machine
    page, trouble = context.new_page(), []
    page.on("request", lambda r: trouble.append(f"asked for {r.url}") if not r.url.startswith(("file:", "data:")) else None)
    page.on("requestfailed", lambda r: trouble.append(f"did not get {r.url}"))
    page.on("pageerror", lambda e: trouble.append(f"script: {e}"))
    try:
        for path in sorted(p for p in site.rglob("*.html") if "_modules" not in p.parts):
            page.goto(path.as_uri())
            seen = page.evaluate(LOOK)
            if seen["wide"] > 0: trouble.append(f"{path.name} is {seen['wide']} px too wide: {seen['out']}")
            if seen["out"] or seen["broken"]: trouble.append(f"{path.name}: {seen}")
            if (light(seen["paper"]) < 80) != (shape == "dark") or abs(light(seen["paper"]) - light(seen["ink"])) < 100: trouble.append(f"{path.name}: {seen['ink']} on {seen['paper']}")
            if path.stem in ("index", "05_ssl", "09_generator"): page.screenshot(path=shots / f"site-{shape}-{path.parent.name}-{path.stem}.png", full_page=path.stem == "index")
    finally: context.close()
    assert not trouble, trouble


@pytest.mark.slow
def test_search_works_from_disk(site, browser):
    page = browser.new_page()
    page.set_default_timeout(180_000)
    page.goto((site / "search.html").as_uri() + "?q=perplexity")
    page.wait_for_selector("ul.search li a", timeout=60_000)
    found = [a.get_attribute("href") for a in page.query_selector_all("ul.search li a")]
    page.close()
    assert any("04_vq.html" in f for f in found), found
