import html
import xml.etree.ElementTree as ET
from pathlib import Path

import polars as pl
import pytest

from segqa.output import ci

SCHEMA = Path(__file__).with_name("junit.xsd")
NASTY = "a%b\r\nc:d,|<e>&\x00\ud7ff😀"


def flags(n=1, name=NASTY) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "case": [f"{name}{i}" for i in range(n)],
            "object": ["1"] * n,
            "label": ["1"] * n,
            "model": ["sam"] * n,
            "predicted_dice": [0.1] * n,
            "status": ["ok"] * n,
            "why": [f"{name} below 0.7"] * n,
        }
    )


def test_annotations_are_one_line_each_and_escaped():
    (line,) = ci.annotation_lines(flags())
    assert not {"\n", "\r"} & set(line)
    assert line.startswith("::warning title=segqa%3A a%25b%0D%0Ac%3Ad%2C|<e>&")
    assert "::a%25b%0D%0Ac:d,|" in line


@pytest.mark.parametrize("text", ["\n::error::stolen", "\r::set-output name=a::b", "%0A::error::x", "a,file=b", "::"])
def test_no_name_can_begin_a_command_of_its_own_or_another_property(text):
    (line,) = ci.annotation_lines(flags(name=text))
    assert "\n" not in line
    assert "\r" not in line
    command, _, message = line.removeprefix("::").partition("::")
    kind, _, properties = command.partition(" ")
    assert kind == "warning"
    assert properties.count("=") == 1 + text.count("=")  # a value may hold "=", only a comma begins another property
    assert "," not in properties
    decoded = [("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")]
    for code, sign in decoded:
        message, properties = message.replace(code, sign), properties.replace(code, sign)
    assert message == f"{text} below 0.7"
    assert properties == f"title=segqa: {text}0, object 1, label 1, sam"


def test_there_are_ten_annotations_at_most():
    assert len(ci.annotation_lines(flags(30))) == 10


def test_the_summary_is_a_table_that_nothing_breaks_out_of():
    text = ci.step_summary(flags(), 7)
    assert "1 of 7 objects" in text
    row = text.splitlines()[-1]
    assert html.unescape(row).startswith("| a%b  c:d,|<e>&")
    assert row.count("|") == 6


@pytest.mark.parametrize("name", ["a\\|b", "![x](http://y)", "`code`", "*loud*"])
def test_a_name_is_shown_as_it_is_in_the_summary(name):
    row = ci.step_summary(flags(name=name), 7).splitlines()[-1]
    assert row.count("|") == 6
    assert not set("<>[]`*\\") & set(row)
    assert html.unescape(row).startswith(f"| {name}")


def test_a_long_summary_is_cut_and_says_so():
    text = ci.step_summary(flags(600), 1000)
    assert text.count("\n| ") == 502
    assert "... and 100 more" in text


def test_without_flags_the_summary_has_no_table():
    assert ci.step_summary(flags().clear(), 3).strip().endswith("0 of 3 objects to look at")


@pytest.mark.parametrize("environment", [{}, {"GITHUB_ACTIONS": "false"}])
def test_outside_of_github_nothing_happens(environment):
    assert ci.github_lines(flags(), 1, environment=environment) == []


def test_summaries_are_appended(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(path)}
    assert ci.github_lines(flags(name="x"), 1, environment=environment)
    assert path.read_text().startswith("before\n### segqa")


def test_junit_counts_failures_and_errors_per_model(tmp_path):
    scores = pl.concat(
        [
            flags(3),
            flags(2, name="ok").with_columns(model=pl.lit("medsam")),
            flags(1, name="broken").with_columns(predicted_dice=pl.lit(None, pl.Float64)),
        ]
    )
    flagged = scores[[0, 5]]
    path = tmp_path / "junit.xml"
    ci.write_junit(path, scores.drop("why"), flagged)
    suites = {suite.get("name"): suite for suite in ET.parse(path).getroot()}
    sam, medsam = suites["sam"], suites["medsam"]
    assert [sam.get(name) for name in ("tests", "failures", "errors")] == ["4", "1", "1"]
    assert [medsam.get(name) for name in ("tests", "failures", "errors")] == ["2", "0", "0"]
    assert sam.find("testcase/failure").get("message") == "a%b\r\nc:d,|<e>&?\ud7ff😀 below 0.7"
    assert medsam.find("testcase/system-out").text == "predicted_dice 0.1"
    assert sam.find("testcase/error") is not None
    assert sam.findall("testcase")[-1].find("system-out") is None


def test_a_score_whose_row_is_an_error_is_an_error_in_junit(tmp_path):
    odd = flags(1).with_columns(status=pl.lit("error"))
    ci.write_junit(tmp_path / "junit.xml", odd.drop("why"), odd)
    (suite,) = ET.parse(tmp_path / "junit.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["1", "0", "1"]


def follows_schema(path):
    """Hold a report against the schema that Ant and Jenkins share."""
    etree = pytest.importorskip("lxml.etree")
    schema = etree.XMLSchema(etree.parse(SCHEMA))
    schema.assertValid(etree.parse(path))


@pytest.mark.parametrize("name", ["plain", NASTY, "]]>", "'\"", "\ufffe\uffff\x1b", "", "日本\u202e"])
@pytest.mark.parametrize("model", ["sam", "", "<a b='c'>&amp;\x01"])
def test_junit_keeps_to_the_common_schema_whatever_names_hold(tmp_path, name, model):
    path = tmp_path / "junit.xml"
    table = flags(3, name=name).with_columns(model=pl.lit(model))
    lost = table[1].with_columns(predicted_dice=pl.lit(None, pl.Float64), case=pl.lit("lost"))
    ci.write_junit(path, pl.concat([table, lost]).drop("why"), pl.concat([table[0], lost]))
    follows_schema(path)
    (suite,) = ET.parse(path).getroot()
    assert [suite.get(count) for count in ("tests", "failures", "errors")] == ["4", "1", "1"]
    assert {test.get("classname") for test in suite} == {suite.get("name")}


def test_the_schema_refuses_what_is_no_report(tmp_path):
    etree = pytest.importorskip("lxml.etree")
    path = tmp_path / "junit.xml"
    path.write_text('<testsuites><testsuite name="a"><testcase/></testsuite></testsuites>')
    with pytest.raises(etree.DocumentInvalid):
        follows_schema(path)


def test_an_empty_table_is_a_report_without_suites(tmp_path):
    path = tmp_path / "junit.xml"
    ci.write_junit(path, flags().clear().drop("why"), flags().clear())
    assert len(ET.parse(path).getroot()) == 0
    follows_schema(path)
