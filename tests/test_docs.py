"""The documentation says what the program does: each command is in it, and its pages are up to date."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def load_generator():
    spec = importlib.util.spec_from_file_location("make_cli_reference", DOCS / "make_cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands() -> dict[str, object]:
    import typer

    from segqa.cli import app

    return typer.main.get_command(app).commands


def test_the_reference_of_the_commands_is_up_to_date():
    assert load_generator().render() == (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["`--version`", "`--quiet`, `-q`", "`--help`, `-h`"])
def test_the_options_before_a_command_are_in_the_reference(option):
    first = load_generator().render().split("\n## ")[1]
    assert first.startswith("segqa\n")
    assert f"\n| {option} |" in first


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in commands() if f"segqa {name}" not in readme] == []


@pytest.mark.parametrize("page", sorted([*DOCS.rglob("*.md"), ROOT / "README.md", *(ROOT / "weights").glob("*.md")]))
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_column_of_the_scores_is_documented():
    from segqa.schema import SCORE_COLUMNS

    text = (DOCS / "reference" / "formats.md").read_text(encoding="utf-8")
    assert [column for column in SCORE_COLUMNS if f"`{column}`" not in text] == []
