"""What an installation holds: the built wheel and source distribution follow from these files and lists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import segqa

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_a_type_checker_of_the_user_sees_the_types(pyproject):
    assert "Typing :: Typed" in pyproject["project"]["classifiers"]
    assert (Path(segqa.__file__).parent / "py.typed").is_file()


def test_the_source_distribution_takes_only_what_lies_at_the_top(pyproject):
    taken = pyproject["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in taken if not name.startswith("/")] == []
    assert [name for name in taken if not (ROOT / name[1:]).exists()] == []


def test_the_source_distribution_has_what_its_readme_links(pyproject):
    taken = pyproject["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    links = re.findall(r"\]\(([^):#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 3
    assert [link for link in links if f"/{link.split('/')[0]}" not in taken] == []
