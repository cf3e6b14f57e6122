"""Text becomes HTML and Markdown with every cell escaped: a parser finds the text again."""

import html
from html.parser import HTMLParser
from io import BytesIO

import pytest
from matplotlib.figure import Figure

from ncvq_nb.io.markup import html_table, image_tag, markdown_cell, markdown_table

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "a\\|b",
    "a\\",
    "two\nlines",
    "`code`",
    "&amp;",
    '" onload="x',
    "| --- |",
    "",
]


class Table(HTMLParser):
    "Tags and cells of a table."

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        self.cells[-1] += data


def test_html_cells_are_text():
    table = Table(html_table(HOSTILE, [HOSTILE, range(10)], "lcr" * 3 + "l"))
    assert table.cells == HOSTILE * 2 + [str(i) for i in range(10)]
    assert set(table.tags) == {"table", "thead", "tbody", "tr", "th", "td"}


def markdown_cells(line):
    "The cells of a line, as parsers of tables find them: a backslash takes what follows."
    cells, escaped = [""], False
    for c in line.removeprefix("|").removesuffix("|"):
        if escaped:
            cells[-1] += c if c in "\\|" else "\\" + c
        elif c == "|":
            cells.append("")
        elif c != "\\":
            cells[-1] += c
        escaped = c == "\\" and not escaped
    return [html.unescape(c.strip()) for c in cells]


def test_markdown_cells_are_text():
    lines = markdown_table(HOSTILE, [HOSTILE]).splitlines()
    assert len(lines) == 3
    want = [t.replace("\n", " ").replace("`", "'").removesuffix("\\") for t in HOSTILE]
    for line in (lines[0], lines[2]):
        assert [c.removesuffix("\\") for c in markdown_cells(line)] == want
        assert "<" not in line and "`" not in line
    assert markdown_cell("two\n lines") == "two lines"


def test_columns_are_aligned():
    assert markdown_table("abc", [], "lcr").splitlines()[1] == "|---|:-:|--:|"
    assert markdown_table("abc", []).splitlines()[1] == "|---|---|---|"
    assert html_table("ab", [], "lr").count("text-align:right") == 1
    assert "text-align" not in html_table("ab", [[1, 2]])


@pytest.mark.parametrize("table", [html_table, markdown_table])
def test_a_table_is_whole_or_refused(table):
    for rows, align in (([[1]], None), ([[1, 2, 3]], None), ([[1, 2]], "l")):
        with pytest.raises(ValueError):
            table(["a", "b"], rows, align)


def test_pictures_need_no_file():
    from base64 import b64decode

    from PIL import Image

    fig = Figure(figsize=(2, 1))
    fig.subplots().plot([0, 1, 0])
    tag = image_tag(fig, "<a> & \"b\"", dpi=50)
    (alt, src) = [dict(a) for t, a in parsed(tag)][0].values()
    assert alt == '<a> & "b"'
    image = Image.open(BytesIO(b64decode(src.removeprefix("data:image/png;base64,"))))
    assert image.size == (100, 50)


def parsed(text):
    "Tags and attributes of some HTML."
    found = []
    parser = HTMLParser()
    parser.handle_startendtag = lambda tag, attrs: found.append((tag, attrs))
    parser.feed(text)
    return found
