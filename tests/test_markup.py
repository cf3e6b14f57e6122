"""Strangers' text stays text: parsers of HTML and Markdown find it again, and no element but ours.

The oracles are Python's parser of HTML and markdown-it, which is not ours either.
"""

import importlib
import json
import pkgutil
import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import ncvq_nb
import ncvq_nb.evaluation.present as presentation
from figures import every_plot
from fuzzing import fuzz
from ncvq_nb import NCVQ, Dataset, Report, Results
from ncvq_nb.bench.measurements import Measurements
from ncvq_nb.drawing.curves import plot_history
from ncvq_nb.engine.history import History
from ncvq_nb.evaluation.present import figures
from ncvq_nb.evaluation.ranks import Ranks, rank_methods
from ncvq_nb.evaluation.report import ReferenceValue, Row
from ncvq_nb.evaluation.run_figures import plot_pairs, plot_rankings, plot_variants
from ncvq_nb.evaluation.run_table import RunTable
from ncvq_nb.io.markup import (
    html_table,
    html_text,
    image_tag,
    markdown_code,
    markdown_line,
    markdown_table,
    markdown_text,
)
from ncvq_nb.io.wording import readable
from toys import as_dataset, fitted, noise, sines

STORED = Path(__file__).resolve().parents[1] / "nbs" / "results"
EVIL = (
    "<img src=x onerror=alert(1)>|a\n\n---\n# b\n```c``` `d` $x$ $$y$$ \\(z\\) \\| ](http://x) "
    "[e](http://x) ![f](http://x) <http://x> *g* __h__ ~~i~~ &lt;b&gt; \"' onload='j' --> "
    "\x1b[31m {{k}} | --- |"
)
STARTS = ["# x", "- x", "+ x", "1. x", "2) x", "> x", "===", "---", "***", "~~~", "```", ":::"]
STARTS += ["    x", "[x]: http://y", "[^1]: x", "| x |\n|---|", "%x", "+++", "<!-- x", "<?x"]
STARTS += ["(x)=", "{x}`y`"]


# ---- the oracles


class Parsed(HTMLParser):
    "Elements, attributes and texts of some HTML."

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts, self.cells = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        self.texts.append(data)
        if self.cells:
            self.cells[-1] += data

    def handle_comment(self, data):
        self.tags.append("comment")

    handle_decl = handle_pi = unknown_decl = handle_comment


def markdown(text):
    "Markdown as HTML: CommonMark with the tables and the struck text of GitHub."
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


TABLE = {"table", "thead", "tbody", "tr", "th", "td", "span", "p"}
CARD = TABLE | {"h1", "h2", "pre", "code"}
PICTURE = {"alt", "src", "width", "style"}


def check(html, tags=TABLE, attributes=()):
    "Nothing in it is an element, an attribute or a formula that is not ours."
    found = Parsed(html)
    assert set(found.tags) <= tags, set(found.tags) - tags
    for name, value in found.attributes:
        ours = name == "style" and re.fullmatch("text-align: ?(left|center|right)", value)
        assert ours or name in attributes, (name, value)
    for text in found.texts:  # MathJax looks within one element
        assert text.count("$") < 2 and not re.search(r"\\[(\[]|\\begin", text), text
    assert "\x1b" not in html
    return found


# ---- single texts


MARKS = "\\ $ ` `` | * _ __ ~~ [ ]( ](x) ![ < > <b> & &lt; &#36; # - + = 1. : % ( ) http://x www.x"
MARKS = st.sampled_from([*MARKS.split(), "\n", "\n\n", " ", "    ", "\t", "x", "a_b"])
MARKS |= st.characters(exclude_categories=("Cs",))
TEXTS = st.lists(MARKS, max_size=9).map("".join)


def seen(text):
    "What a reader should see of it."
    return " ".join(readable(text).split())


def check_text(text):
    "It is read as it is, in a paragraph, in a table and in HTML."
    for html in (markdown(markdown_line(text)), html_text(text)):
        assert seen("".join(check(html, {"p", "span"}).texts)) == seen(text)
    html = markdown(f"begin {markdown_text(text)} end")
    assert seen("".join(check(html, {"p", "span"}).texts)) == seen(f"begin {text} end")
    head, *cells = check(markdown(markdown_table([text], [[text], ["x"]]))).cells
    assert [seen(c) for c in (head, *cells)] == [seen(text), seen(text), "x"]
    found = Parsed(markdown(f"begin {markdown_code(text)} end"))
    assert set(found.tags) <= {"p", "code"} and not found.attributes
    assert seen("".join(found.texts)) == seen(f"begin {text} end")


@pytest.mark.parametrize("text", [EVIL, *STARTS, "", "`", "a`", "|", "a\\|b", "x ##", "\\", "$"])
def test_a_text_is_read_and_not_run(text):
    check_text(text)


@fuzz(150, text=TEXTS)
def test_any_text_is_read_and_not_run(text):
    check_text(text)


def test_what_means_nothing_is_left_as_it_is():
    for text in ("n_train = 67", "floor 0.315 (real, n = 67)", "12 × 3", "[1, 2)", "'it' (50 %)"):
        assert markdown_text(text) == markdown_line(text) == text
    assert markdown_text("two\n lines") == "two lines"


# ---- tables and pictures


def test_columns_are_aligned():
    assert markdown_table("abc", [], "lcr").splitlines()[1] == "|---|:-:|--:|"
    assert markdown_table("abc", []).splitlines()[1] == "|---|---|---|"
    assert html_table("ab", [], "lr").count("text-align:right") == 1
    assert "text-align" not in html_table("ab", [[1, 2]])
    cells = check(html_table([EVIL, "n"], [[EVIL, 1]])).cells
    assert cells == [readable(EVIL), "n", readable(EVIL), "1"]


@pytest.mark.parametrize("table", [html_table, markdown_table])
def test_a_table_is_whole_or_refused(table):
    for rows, align in (([[1]], None), ([[1, 2, 3]], None), ([[1, 2]], "l")):
        with pytest.raises(ValueError):
            table(["a", "b"], rows, align)


def test_pictures_need_no_file():
    fig = Figure(figsize=(2, 1))
    fig.subplots().plot([0, 1, 0])
    found = dict(check(image_tag(fig, f'" {EVIL}', dpi=50), {"img"}, PICTURE).attributes)
    assert found["alt"] == f'" {readable(EVIL)}' and found["width"] == "192"
    image = Image.open(BytesIO(b64decode(found["src"].removeprefix("data:image/png;base64,"))))
    assert image.size == (100, 50)


# ---- whatever shows itself


def spoiled(d):
    "A dict with all its texts spoiled, also those in dicts within it; its keys are ours."
    inner = {k: spoiled(v) for k, v in d.items() if isinstance(v, dict)}
    return d | inner | {k: EVIL + v for k, v in d.items() if isinstance(v, str)}


def a_report():
    references = ReferenceValue(EVIL, 1.0, EVIL), ReferenceValue("floor", 2.0, EVIL)
    rows = [Row(EVIL, 1.0, 0.5, 2.0, EVIL, references), Row("FID", 2.0)]
    return Report(EVIL, rows, [EVIL, *STARTS], {EVIL: EVIL, "data": EVIL, "confidence": 0.9})


def a_dataset():
    X, y = noise(6)
    return as_dataset((X, np.array([EVIL, EVIL + "2"])[y]), name=EVIL)


def some_results():
    keys = dict(dataset=EVIL, setting=EVIL, seed=0)
    found = Results([keys | {EVIL: 1.0, "FID": 2.0}, keys | {"seed": 1, EVIL: 2.0}])
    found.failed = {EVIL: EVIL, **{k: EVIL for k in STARTS}}
    return found


def some_measurements():
    rows = json.loads((STORED / "bench.json").read_text())
    return Measurements(map(spoiled, rows[:3]))


def a_history():
    return History({"step": [1, 2], "seconds": [0.1, 0.2], EVIL: [1.0, 2.0], "loss": [3.0, 4.0]})


def some_ranks():
    return rank_methods(np.arange(9).reshape(3, 3) % 4, [EVIL, "b", "$c$"])


def some_runs():
    keys = dict(dataset=EVIL, setting=EVIL, variant=EVIL, method=EVIL, augment="", prior=EVIL)
    return RunTable([keys | dict(seed=0, version=EVIL, metric=EVIL, reference="", value=1.0)])


SHOWN = {
    Report: a_report,
    Dataset: a_dataset,
    Results: some_results,
    Measurements: some_measurements,
    History: a_history,
    Ranks: some_ranks,
    RunTable: some_runs,
}
WAYS = ("_repr_html_", "_repr_markdown_", "_repr_mimebundle_", "_repr_svg_", "_repr_latex_")


def test_nothing_else_shows_itself():
    "Classes of the package with a representation of their own, found by walking its modules."
    found = set()
    for m in pkgutil.walk_packages(ncvq_nb.__path__, "ncvq_nb."):
        for c in vars(importlib.import_module(m.name)).values():
            if isinstance(c, type) and c.__module__ == m.name and any(w in vars(c) for w in WAYS):
                found.add(c)
    assert found == set(SHOWN), "a class that shows itself must be tried here too"


@pytest.mark.parametrize("kind", SHOWN, ids=lambda c: c.__name__)
def test_whatever_shows_itself_shows_strings_as_they_are(kind):
    thing = SHOWN[kind]()
    ways = [w for w in WAYS if hasattr(thing, w)]
    assert ways and "\x1b" not in repr(thing)
    for way in ways:
        text = getattr(thing, way)()
        html = markdown(text) if way == "_repr_markdown_" else text
        found = check(html, TABLE | {"img"}, PICTURE)
        assert found.tags.count("img") == (kind is Dataset)
        told = EVIL[:50] if kind is Dataset else EVIL  # which shows long names in part
        assert seen(told) in seen("".join(found.texts))


def test_an_estimator_shows_its_settings_as_they_are():
    found = Parsed(NCVQ(ssl=EVIL, augment=EVIL, device=EVIL)._repr_html_())
    assert "img" not in found.tags and not [k for k, _ in found.attributes if k == "onerror"]


# ---- what is written to files


@pytest.fixture(scope="module")
def hostile():
    "A model and its data, whose names are all spoiled."
    names = [f"{EVIL}{k}" for k in "12"]
    model = fitted(names, epochs=1)
    X, y = sines(n=24, names=names)
    data = as_dataset((X[:12], y[:12]), (X[12:], y[12:]), name=EVIL)
    model.history_ = {k: {**v, EVIL: list(v["loss"])} for k, v in model.history_.items()}
    return model, data


@pytest.fixture(scope="module")
def presented(hostile, tmp_path_factory):
    "The folder that `present` made of them, and the figures in it."
    folder, drawn = tmp_path_factory.mktemp("hostile") / "p", {}
    quick = dict(n_resamples=2, n_samples=4, cas_total=4, fcn=dict(max_steps=1), cache_dir=False)

    def keep(*args, **kw):
        drawn.update(figures(*args, **kw))
        return drawn

    with pytest.MonkeyPatch.context() as m:
        m.setattr(presentation, "figures", keep)
        presentation.present(*hostile, folder, **quick)
    return folder, drawn


def test_all_that_is_presented_is_text(presented):
    pages = sorted(presented[0].rglob("*.md"))
    assert [p.name for p in pages] == ["README.md", "report.md"]
    for page in pages:
        text = page.read_text("utf-8")
        head, body = re.match(r"(?:---\n(.*?)\n---\n)?(.*)", text, re.S).groups()
        found = check(markdown(body), CARD, {"class"})
        classes = [v for k, v in found.attributes if k == "class"]
        assert classes == ["language-python"] * bool(head)  # one block of code, which is ours
        assert seen(EVIL) in seen("".join(found.texts))
        if head:
            assert set(yaml.safe_load(head)) == {"library_name", "tags"}
    names = {p.name for p in presented[0].rglob("*")}
    assert all(re.fullmatch(r"[\w.]+", n) for n in names), names


def test_the_card_says_how_to_sample_a_label_of_any_kind(presented):
    tokens = MarkdownIt().parse((presented[0] / "model" / "README.md").read_text("utf-8"))
    code = [t.content for line in tokens for t in line.children or () if t.type == "code_inline"]
    (call,) = [c for c in code if "y=" in c]
    assert call.startswith("model.sample(10, y=") and len(call) < 200


def test_errors_of_cells_are_text(tmp_path):
    place = tmp_path / "toy" / "small" / "0"
    place.mkdir(parents=True)
    (place / "error.txt").write_text(f"Traceback\n{EVIL}\n")
    text = Results.read(tmp_path)._repr_markdown_()
    assert "onerror" not in text or "<img" not in text
    check(markdown(text))


# ---- pictures


def formulas(fig):
    "Texts in a figure that matplotlib would set as formulas, but for what it writes itself."
    found = [t for t in fig.findobj(Text) if t.get_parse_math() and t.get_text().count("$") > 1]
    return [t.get_text() for t in found if "mathdefault" not in t.get_text()]


def test_no_name_in_a_picture_is_a_formula(presented):
    labels = np.array(["$x$ 1", "$\\nonsense{$ 2"])[np.arange(6) % 2]
    made = [f() for f in every_plot(labels=labels, title="$x$ and $\\nonsense{$")]
    made += presented[1].values()
    runs = [dict(dataset=k, setting="$x$", seed=0, **{"$y$": 1.0}) for k in ("$x$", "b")]
    made.append(Results(runs).plot())
    made[-1].draw_without_rendering()  # which makes the labels of its ticks
    columns = {"step": [1, 2], "$x$": [1.0, 2.0], "$y$": [3.0, 4.0]}
    made.append(plot_history({"$z$": columns}, strips=("$x$",)))
    made.append(plot_rankings({"$x$ and $y$": some_ranks(), "$z$ $z$": "$none$ $none$"}))
    keys = dict(setting="$x$ $", reference="")
    runs = RunTable(
        keys | dict(dataset=d, variant=v, seed=s, metric=m, value=s + len(v))
        for d, v in (("$x$ 1", "$y$"), ("$x$ 2", "$z$ $w$"))
        for m in ("$m$", "$n$")
        for s in range(4)
    )
    made += [plot_pairs(runs, "$m$", "$n$"), plot_variants(runs, {"$m$ $m$": "$m$", "$o$": "o"})]
    for fig in made[-2:]:
        fig.draw_without_rendering()
    for fig in made:
        assert not formulas(fig)
