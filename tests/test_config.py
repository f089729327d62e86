from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from segqa.config import find_config, load_defaults
from segqa.errors import InputError


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """A small program with the options that commands have, started in a folder below `tmp_path`."""
    app = typer.Typer(context_settings={"auto_envvar_prefix": "SEGQA"})
    inner = typer.Typer()
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)

    @app.callback()
    def segqa(context: typer.Context) -> None:
        context.default_map = load_defaults(context, here)

    @app.command()
    def flag(
        scores: str = "scores.csv",
        percentile: float = 5.0,
        window: tuple[float, float] | None = None,
        allow_missing: Annotated[bool, typer.Option("--allow-missing")] = False,
        file_format: Annotated[Literal["table", "csv"], typer.Option("--format")] = "table",
    ) -> None:
        typer.echo(f"{scores} {percentile} {window} {allow_missing} {file_format}")

    @app.command()
    def rank(tables: list[str], masks: Annotated[list[str] | None, typer.Option()] = None) -> None:
        typer.echo(f"{tables} {masks}")

    @inner.command("list")
    def show(kind: str = "all") -> None:
        typer.echo(kind)

    @inner.command()
    def other() -> None: ...

    app.add_typer(inner, name="weights")

    def call(*arguments, toml=None, shared=None):
        if toml is not None:
            (tmp_path / "segqa.toml").write_text(toml)
        if shared is not None:
            (tmp_path / "pyproject.toml").write_text(shared)
        return CliRunner().invoke(app, list(arguments))

    return call


def error_of(result):
    assert isinstance(result.exception, InputError)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_without_a_file_the_built_in_defaults_hold(invoke):
    assert invoke("flag").output == "scores.csv 5.0 None False table\n"


def test_a_file_in_a_parent_folder_gives_defaults(invoke):
    toml = '[flag]\npercentile = 7\nwindow = [40, 400]\nallow_missing = true\nformat = "csv"\n'
    assert invoke("flag", toml=toml).output == "scores.csv 7.0 (40.0, 400.0) True csv\n"


def test_an_option_may_be_spelled_as_on_the_command_line(invoke):
    assert "True" in invoke("flag", toml="[flag]\nallow-missing = true\n").output


def test_pyproject_has_the_same_sections_below_tool_segqa(invoke):
    assert " 7.0 " in invoke("flag", shared="[tool.segqa.flag]\npercentile = 7\n").output


def test_segqa_toml_goes_before_pyproject_in_one_folder(invoke):
    both = {"toml": "[flag]\npercentile = 1\n", "shared": "[tool.segqa.flag]\npercentile = 2\n"}
    assert " 1.0 " in invoke("flag", **both).output


def test_the_nearest_file_counts_and_a_pyproject_of_others_is_passed_by(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "segqa.toml").write_text("[flag]\npercentile = 7\n")
    (inner / "pyproject.toml").write_text("[tool.black]\nline-length = 100\n")
    assert find_config(inner) == (tmp_path / "segqa.toml", {"flag": {"percentile": 7}})
    (inner / "segqa.toml").write_text("")
    assert find_config(inner) == (inner / "segqa.toml", {})


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(invoke, monkeypatch):
    toml = "[flag]\npercentile = 7\n"
    monkeypatch.setenv("SEGQA_FLAG_PERCENTILE", "8")
    assert " 8.0 " in invoke("flag", toml=toml).output
    assert " 9.0 " in invoke("flag", "--percentile", "9", toml=toml).output


def test_a_command_of_a_group_has_a_section_in_the_groups(invoke):
    assert invoke("weights", "list", toml='[weights.list]\nkind = "ours"\n').output == "ours\n"


@pytest.mark.parametrize("value", ['"a/b"', '["a/b"]'])
def test_a_lone_text_is_the_list_of_it_where_several_are_taken(invoke, value):
    assert invoke("rank", toml=f"[rank]\ntables = {value}\nmasks = {value}\n").output == "['a/b'] ['a/b']\n"


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("[flagg]\npercentile = 5\n", "segqa has no command 'flagg'; did you mean 'flag'?"),
        ("[flag]\npercentil = 5\n", "flag has no option 'percentil'; did you mean 'percentile'?"),
        ("[flag]\nzzz = 5\n", "flag has no option 'zzz'; it has allow-missing, format, percentile, scores, window"),
        ("percentile = 5\n", "segqa has no command 'percentile'"),
        ("flag = 5\n", "flag = 5 where a section"),
        ("[weights.lst]\nkind = 'a'\n", "weights has no command 'lst'; did you mean 'list'?"),
        ("[flag]\npercentile = 'many'\n", "percentile of flag: "),
        ("[flag]\nformat = 'xml'\n", "'xml' is not one of 'table', 'csv'"),
        ("[flag]\nwindow = [40]\n", "window of flag:"),
        ("[flag]\nallow_missing = 'false'\n", "allow_missing of flag: 'false' does not fit"),
        ("[flag]\npercentile = true\n", "percentile of flag: True does not fit"),
        ("[flag]\nscores = {a = 1}\n", "scores of flag: {'a': 1} does not fit"),
        ("[flag\n", "cannot be read as TOML"),
    ],
)
def test_what_the_file_gets_wrong_is_one_line_with_the_file_and_the_remedy(invoke, toml, text):
    message = error_of(invoke("flag", toml=toml))
    assert "segqa.toml: " in message
    assert text in message


def test_a_file_that_is_not_text_is_an_input_error(tmp_path):
    (tmp_path / "segqa.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as TOML"):
        find_config(tmp_path)


def test_the_section_of_segqa_in_pyproject_must_be_a_table(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool]\nsegqa = 1\n")
    with pytest.raises(InputError, match=r"tool\.segqa = 1"):
        find_config(tmp_path)


def test_the_program_itself_reads_the_file_and_ends_with_2_on_a_wrong_key(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores.csv").write_text("case,object,label,model,predicted_dice\na,1,1,m,0.5\nb,1,1,m,0.9\n")
    (tmp_path / "segqa.toml").write_text('[flag]\nthreshold = 0.95\nscores = "scores.csv"\nformat = "csv"\n')
    assert run("flag").stdout.count("below 0.95") == 2
    (tmp_path / "segqa.toml").write_text("[flag]\nthreshhold = 0.95\n")
    result = run("flag", "scores.csv")
    assert result.exit_code == 2
    assert "did you mean 'threshold'?" in result.stderr


@pytest.fixture
def graded(tmp_path, monkeypatch):
    """Ten objects, with a file that asks for a percentile."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"c{i},1,1,m,{i / 10}\n" for i in range(10))
    (tmp_path / "scores.csv").write_text("case,object,label,model,predicted_dice\n" + rows)
    (tmp_path / "segqa.toml").write_text('[flag]\npercentile = 50\nscores = "scores.csv"\n')
    return tmp_path


def flagged(result):
    assert result.exit_code == 0, result.stderr
    return result.stdout.count('"case"')


def test_of_rules_that_exclude_each_other_the_one_closest_to_the_call_wins(run, graded, monkeypatch):
    assert flagged(run("flag", "--format", "json")) == 5
    assert flagged(run("flag", "--format", "json", "--threshold", 0.25)) == 3
    monkeypatch.setenv("SEGQA_FLAG_THRESHOLD", "0.15")
    assert flagged(run("flag", "--format", "json")) == 2
    assert flagged(run("flag", "--format", "json", "--threshold", 0.25)) == 3
    assert flagged(run("flag", "--format", "json", "--percentile", 40)) == 4


def test_a_default_that_only_the_other_rule_has_a_use_for_is_passed_over(run, graded):
    (graded / "segqa.toml").write_text('[flag]\nper = "model"\n')
    assert flagged(run("flag", "scores.csv", "--format", "json", "--threshold", 0.25)) == 3
    result = run("flag", "scores.csv", "--threshold", 0.25, "--per", "model")
    assert result.exit_code == 2
    assert "leave out one of them" in result.stderr


def test_two_rules_in_one_place_are_still_refused(run, graded):
    (graded / "segqa.toml").write_text("[flag]\npercentile = 50\nthreshold = 0.5\n")
    result = run("flag", "scores.csv")
    assert result.exit_code == 2
    assert "give one of them" in result.stderr


def test_a_variable_is_called_by_the_long_option(run, graded, monkeypatch):
    monkeypatch.setenv("SEGQA_FLAG_FORMAT", "json")
    assert flagged(run("flag")) == 5
    monkeypatch.delenv("SEGQA_FLAG_FORMAT")
    monkeypatch.setenv("SEGQA_FLAG_FILE_FORMAT", "csv")
    assert "┃" in run("flag").stdout or "|" in run("flag").stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [("VERSION", "1"), ("VERSION", "0.1.0"), ("HELP", "1"), ("SHOW_COMPLETION", "1"), ("FLAG_HELP", "1")],
)
def test_a_variable_of_another_purpose_switches_no_gate_off(run, tmp_path, monkeypatch, name, value):
    (tmp_path / "scores.csv").write_text("case,object,label,model,predicted_dice\na,1,1,m,0.1\n")
    monkeypatch.setenv(f"SEGQA_{name}", value)
    result = run("flag", tmp_path / "scores.csv", "--threshold", 0.5, "--fail-above-count", 0)
    assert result.exit_code == 3


def test_quiet_has_a_variable(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGQA_QUIET", "1")
    result = run("demo", "--out", tmp_path / "demo")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_variable_that_no_option_has_is_told(run, graded, monkeypatch):
    monkeypatch.setenv("SEGQA_FLAG_PERCENTLE", "50")
    monkeypatch.setenv("SEGQA_RANK_TRUHT", "of another command")
    monkeypatch.setenv("SEGQA_CACHE", "of none")
    result = run("flag")
    assert result.exit_code == 0
    remark = "the variable SEGQA_FLAG_PERCENTLE is of no option; did you mean 'SEGQA_FLAG_PERCENTILE'?"
    assert [line for line in result.stderr.splitlines() if "variable" in line] == [f"warning: {remark}"]


def test_variables_of_a_command_whose_name_begins_as_another_are_known(run, monkeypatch):
    monkeypatch.setenv("SEGQA_CALIBRATE_WEIGHTS_LEVEL", "0.8")
    monkeypatch.setenv("SEGQA_CALIBRATE_LEVEL", "0.8")
    assert "variable" not in run("calibrate", "absent.csv", "absent.csv").stderr
    monkeypatch.setenv("SEGQA_WEIGHTS_VERIFY_WICH", "x")
    assert "SEGQA_WEIGHTS_VERIFY_WICH is of no option" in run("weights", "list").stderr
