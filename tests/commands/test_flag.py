import json
import xml.etree.ElementTree as ET

import polars as pl
import pytest

from segqa.output.tables import read_scores


@pytest.fixture
def scores(tmp_path):
    path = tmp_path / "segqa" / "scores.csv"
    path.parent.mkdir()
    rows = [f"case_{i:02},1,1,sam,{i / 20},ok," for i in range(20)]
    rows.append("broken,1,1,sam,,error,truncated file")
    path.write_text("case,object,label,model,predicted_dice,status,reason\n" + "\n".join(rows) + "\n")
    return path


def cases(stdout):
    return [row["case"] for row in json.loads(stdout)["rows"]]


def test_it_reads_what_score_wrote_in_the_working_directory(run, scores, monkeypatch):
    monkeypatch.chdir(scores.parent.parent)
    result = run("flag", "--percentile", 5)
    assert result.exit_code == 0
    assert "case_00" in result.stdout
    assert "case_01" not in result.stdout


def test_what_could_not_be_scored_comes_first(run, scores):
    assert cases(run("flag", scores, "--threshold", 0.1, "--format", "json").stdout) == [
        "broken",
        "case_00",
        "case_01",
    ]


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_the_output_file_can_be_read_again(run, scores, tmp_path, suffix):
    path = tmp_path / f"flags.{suffix}"
    assert run("flag", scores, "--output", path).exit_code == 0
    assert read_scores(path)["case"].to_list() == ["broken", "case_00"]
    assert read_scores(path)["why"][0] == "not scored: truncated file"


def test_printed_csv_is_a_table(run, scores):
    result = run("flag", scores, "--format", "csv")
    assert pl.read_csv(result.stdout.encode())["case"].to_list() == ["broken", "case_00"]


def test_quiet_prints_nothing(run, scores):
    result = run("flag", scores, "--quiet")
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize("limit", [["--fail-above-count", 2], ["--fail-share", 0.1]])
def test_a_failed_gate_exits_three_and_names_the_case_after_writing(run, scores, tmp_path, limit):
    path = tmp_path / "flags.csv"
    result = run("flag", scores, "--threshold", 0.1, *limit, "--output", path)
    assert result.exit_code == 3
    assert "case_00" in result.stderr
    assert path.exists()


def test_a_passed_gate_exits_zero(run, scores):
    shown = ("flag", scores, "--threshold", 0.1, "--format", "json")
    result = run(*shown, "--fail-above-count", 3, "--fail-share", 0.15)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(cases(result.stdout)) == 3
    limits = [("--fail-above-count", 2), ("--fail-share", 0.14)]  # and of 3 in 21, one less does not pass
    assert [run(*shown, *limit).exit_code for limit in limits] == [3, 3]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--percentile", 5, "--threshold", 0.5],
        ["--percentile", 150],
        ["--use", "lower"],
        ["--format", "parquet"],
        ["--output", "flags.xlsx"],
        ["--fail-share", 3],
        ["--per", "case"],
        ["--per", "model", "--threshold", 0.5],
    ],
)
def test_a_bad_call_exits_two_and_writes_nothing(run, scores, arguments):
    result = run("flag", scores, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert list(scores.parent.iterdir()) == [scores]


def test_a_missing_table_is_one_line(run, tmp_path):
    result = run("flag", tmp_path / "none.csv")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "segqa score" in result.stderr


def test_junit_has_every_object(run, scores, tmp_path):
    path = tmp_path / "flags.xml"
    run("flag", scores, "--junit", path)
    suite = ET.parse(path).getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("21", "1", "1")


def test_github_gets_annotations_and_a_summary(run, scores, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = run("-q", "flag", scores, "--format", "json")
    assert "::warning title=segqa%3A case_00%2C object 1%2C label 1" in result.stderr
    assert json.loads(result.stdout)
    assert "case_00" in summary.read_text()


def test_the_gate_is_checked_when_github_names_no_place_for_the_summary(run, scores, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary.md"))
    result = run("flag", scores, "--fail-above-count", 0)
    assert result.exit_code == 3
    assert f"::warning title=segqa::{tmp_path}/none/summary.md: the step summary cannot be written" in result.stderr
    assert "::warning title=segqa%3A case_00" in result.stderr


@pytest.mark.parametrize("gate", [("--fail-above-count", 0), ("--fail-share", 0.5)])
def test_a_gate_does_not_pass_on_an_empty_table(run, tmp_path, gate):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\n")
    assert run("flag", path).exit_code == 0
    result = run("flag", path, *gate)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {path}: has no row, so the gate has nothing to check; score some masks first\n"
