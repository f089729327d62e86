import xml.etree.ElementTree as ET

import polars as pl
import pytest

from segqa.output import ci

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
    assert len(line.splitlines()) == 1 or "\n" not in line
    assert line.startswith("::warning title=segqa%3A a%25b%0D%0Ac%3Ad%2C|<e>&")
    assert "::a%25b%0D%0Ac:d,|" in line


def test_there_are_ten_annotations_at_most():
    assert len(ci.annotation_lines(flags(30))) == 10


def test_the_summary_is_a_table_that_nothing_breaks_out_of():
    text = ci.step_summary(flags(), 7)
    assert "1 of 7 objects" in text
    row = text.splitlines()[-1]
    assert row.startswith("| a%b  c:d,\\|&lt;e&gt;&amp;")
    assert row.replace("\\|", "").count("|") == 6


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
    assert medsam.find("testcase/system-out").text == "predicted_dice 0.1000"


def test_junit_keeps_to_the_common_schema(tmp_path):
    path = tmp_path / "junit.xml"
    ci.write_junit(path, flags(3).drop("why"), flags(1))
    root = ET.parse(path).getroot()
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert set(suite.attrib) == {"name", "tests", "failures", "errors", "skipped", "time"}
        for test in suite:
            assert test.tag == "testcase"
            assert set(test.attrib) == {"classname", "name", "time"}
            assert {child.tag for child in test} <= {"failure", "error", "system-out"}


def test_an_empty_table_is_a_report_without_suites(tmp_path):
    path = tmp_path / "junit.xml"
    ci.write_junit(path, flags().clear().drop("why"), flags().clear())
    assert len(ET.parse(path).getroot()) == 0
