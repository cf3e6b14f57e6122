"""A report shows itself, is saved and read back; those of earlier versions can still be read"""

import json
import math
import os

import pytest

from fuzzing import REFUSED, damage, fuzz, tried
from hypothesis import assume
from hypothesis import strategies as st
from ncvq_nb.evaluation.report import ReferenceValue, Report, Row, format_number
from ncvq_nb.io.storage import content_digest


@pytest.fixture
def report():
    floor = ReferenceValue("floor", 1.1, "real <train> | test")
    tokenizer = ReferenceValue("tokenizer", math.nan, "none")
    ceiling = ReferenceValue("ceiling", 1.0, "x")
    rows = [
        Row("FID", 3.2, 2.8, 3.7, "lower", (floor, tokenizer)),
        Row("CAS", 0.91, better="higher", references=(ceiling,)),
    ]
    return Report("a & b", rows, ["A <note>."], {"confidence": 0.9})


def test_a_report_shows_itself(report):
    html, markdown, text = report._repr_html_(), report._repr_markdown_(), repr(report)
    assert "real &lt;train&gt;" in html and "a &amp; b" in html and "A &lt;note&gt;." in html
    assert html.count("<tr>") == 3 and "<train>" not in html + markdown
    assert "real &lt;train&gt; \\| test" in markdown and "A &lt;note&gt;." in markdown
    bars = [line.replace("\\|", "").count("|") for line in markdown.splitlines()[:4]]
    assert len(set(bars)) == 1
    for part in ("90 % interval", "2.80 … 3.70", "0.910", "floor 1.10", "· A <note>."):
        assert part in text


def test_a_report_becomes_a_data_frame(report):
    pytest.importorskip("pandas")
    table = report.to_frame()
    assert list(table.index) == ["FID", "CAS"] and table.index.name == "metric"
    assert list(table) == ["value", "low", "high", "better", "floor", "tokenizer", "ceiling"]
    assert table.loc["FID", ["value", "low", "high", "floor"]].tolist() == [3.2, 2.8, 3.7, 1.1]
    assert table.loc["CAS", "ceiling"] == 1.0 and math.isnan(table.loc["CAS", "low"])
    assert list(Report("empty").to_frame()) == ["value", "low", "high", "better"]


def test_where_nothing_needs_escaping_markdown_is_as_it_was():
    floor = ReferenceValue("floor", 0.315, "real train, n = 67, against test")
    rows = [Row("FID", 60.5, 58.3, 63.0, "lower", (floor,)), Row("IS", 1.0)]
    assert Report("NCVQ on x", rows, ["No probes."])._repr_markdown_() == (
        "| NCVQ on x | value | 95 % interval | better | reference values |\n"
        "|---|--:|:-:|---|---|\n"
        "| FID | 60.5 | 58.3 … 63.0 | lower | floor 0.315 (real train, n = 67, against test) |\n"
        "| IS | 1.00 |  |  |  |\n"
        "\nNo probes.\n"
    )


def test_rows_are_found_by_name(report):
    assert float(report["FID"]) == 3.2 and report["FID"].floor == 1.1
    assert report["CAS"].ceiling == 1 and math.isnan(report["CAS"].floor)
    assert [r.metric for r in report] == ["FID", "CAS"] and len(report) == 2
    assert "FID" in report and "IS" not in report
    with pytest.raises(KeyError, match="'IS' is not in this report; it has FID, CAS. Notes: A <"):
        report["IS"]


def test_a_report_is_saved_and_read_back(report, tmp_path):
    for path in (tmp_path / "new" / "v1.2 report", str(tmp_path / "r.json"), tmp_path / "r.md"):
        file = report.save(path)
        assert repr(Report.load(file)) == repr(report) and file.suffix == ".json"
        assert Report.load(file).to_dict() == report.to_dict()
        markdown = file.with_suffix(".md").read_text(encoding="utf-8")
        assert markdown == report._repr_markdown_()

    def refuse(constant):
        pytest.fail(f"{constant} is no JSON")

    strict = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    assert strict["rows"][1]["low"] is None and "references" in strict["rows"][0]
    names = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {"r.json", "r.md", "v1.2 report.json", "v1.2 report.md"}


def test_a_report_is_read_under_the_name_it_was_saved_by(tmp_path):
    for name in ("lr0", "lr0.1", "lr0.json", "b.md"):
        Report(name).save(tmp_path / name)
    asked = ("lr0.1", "lr0.1.json", "lr0.1.md", "b", "b.md", "lr0")
    found = [Report.load(tmp_path / name).name for name in asked]
    assert found == ["lr0.1"] * 3 + ["b.md"] * 2 + ["lr0.json"]
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["b.json", "b.md", "lr0.1.json", "lr0.1.md", "lr0.json", "lr0.md"]


OLD = """{
 "name": "NCVQ on ItalyPowerDemand",
 "rows": [
  {
   "metric": "FID",
   "value": 60.5,
   "low": 58.25,
   "high": 63,
   "better": "lower",
   "beside": [
    {"kind": "floor", "value": 0.3125, "what": "real train, n = 67, against test"},
    {"kind": "tokenizer", "value": null, "what": "its reconstructions of test"}
   ]
  },
  {"metric": "CAS", "value": 0.5, "low": null, "high": null, "better": "higher", "beside": []}
 ],
 "notes": ["No probes: the model has no method features."],
 "settings": {"data": "ItalyPowerDemand", "n_train": 67, "confidence": 0.95},
 "sha256": "50697097398bb2aa5acce29b3b0c245bc73840c11620fd61d4bc999caa5f63ed"
}"""


def test_reports_of_earlier_versions_can_be_read(tmp_path):
    file = tmp_path / "report.json"
    file.write_text(OLD, encoding="utf-8")
    report = Report.load(file)
    assert float(report["FID"]) == 60.5 and report["FID"].floor == 0.3125
    assert report["FID"].references[1].kind == "tokenizer"
    assert math.isnan(report["FID"].references[1].value) and report["CAS"].references == ()
    assert report.settings["n_train"] == 67 and len(report.notes) == 1
    again = Report.load(report.save(tmp_path / "again"))
    assert again.to_dict() == report.to_dict()
    file.write_text(OLD.replace("60.5", "6.05"), encoding="utf-8")
    with pytest.raises(ValueError, match="its checksum is wrong"):
        Report.load(file)


def test_what_is_no_report_is_refused(tmp_path, report):
    file = report.save(tmp_path / "r")
    whole = json.loads(file.read_text(encoding="utf-8"))
    whole.pop("sha256")
    wrong = dict(metric="a", value="b", low=1, high=2, better="", references=[])
    rows = [dict(rows=v) for v in (3, [{}], [3], [wrong], [{**wrong, "references": [3]}])]
    for change in (*rows, dict(notes=None), dict(settings=1)):
        d = whole | change
        d["sha256"] = content_digest(json.dumps(d, sort_keys=True))
        file.write_text(json.dumps(d), encoding="utf-8")
        with pytest.raises(ValueError, match="r.json is no report, or a damaged one"):
            Report.load(file)
    for text in ("", "{", "[]", "[1]", "{}", "null", "3", '{"name": 1}', "[" * 100_000):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="r.json is no report, or a damaged one"):
            Report.load(file)


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "0"),
        (3.14159, "3.14"),
        (150.0, "150"),
        (12345.6, "12346"),
        (999.7, "1000"),
        (0.00002, "2.0e-05"),
        (1.0, "1.00"),
        (-0.5, "-0.500"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_three_significant_digits(value, text):
    assert format_number(value) == text


def test_a_report_in_another_encoding_is_refused(tmp_path, report):
    file = report.save(tmp_path / "r")
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-16")
    with pytest.raises(ValueError, match="r.json is no report, or a damaged one"):
        Report.load(file)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("reports")


@fuzz(
    60,
    name=st.text(max_size=10),
    metric=st.text(max_size=10),
    values=st.lists(st.floats(), min_size=4, max_size=4),
    note=st.text(max_size=20),
    kind=st.text(max_size=5),
)
def test_reports_of_any_text_come_back(home, name, metric, values, note, kind):
    assume(not any("\ud800" <= c <= "\udfff" for c in name + metric + note + kind))
    references = (ReferenceValue(kind, values[3], note),)
    rows = [Row(metric, *values[:3], better="lower", references=references)]
    r = Report(name, rows, [note], {"note": note})
    again = Report.load(tried(lambda: r.save(home / "r"), "-"))
    assert again.to_dict() == r.to_dict()
    assert repr(again) and again._repr_html_() and again._repr_markdown_()


@fuzz(150, spoil=damage())
def test_a_report_with_any_damage_is_the_same_or_refused(home, spoil):
    whole = Report("r", [Row("FID", 1.25)])
    file = whole.save(home / "damaged")
    file.write_bytes(spoil(file.read_bytes()))
    found = tried(lambda: Report.load(home / "damaged"), str(file))
    assert found is REFUSED or found.to_dict() == whole.to_dict()


def test_only_files_of_a_few_megabytes_are_read(tmp_path):
    file = tmp_path / "r.json"
    file.write_text("[" + "[]," * 2_000_000 + "[]]")
    with pytest.raises(ValueError, match="r.json is no report.* larger than 4,194,304 bytes"):
        Report.load(file)
    file.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(file)
        with pytest.raises(ValueError, match="r.json is no report.* a pipe"):
            Report.load(file)


def test_an_error_names_the_first_metrics_only():
    report = Report("many", [Row(f"{'x' * 90}{i}", i) for i in range(5000)], ["n" * 10**5])
    with pytest.raises(KeyError, match=r"5,000 in all") as e:
        report["y" * 10**5]
    assert len(str(e.value)) < 6000
