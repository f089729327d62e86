"""The rooms of CONTRIBUTING.md import in one direction only."""

import ast
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "segqa"
ROOMS = ("data", "segmenters", "quality", "spe", "decisions", "output")
LAST = ("references", "labelled", "scores", "prepared", "api", "cli", "commands")
"""What puts the rooms together; no room knows it."""


def imported(path):
    """Yield the first name below segqa of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "segqa":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("segqa."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_those_before_it(room):
    later = {*ROOMS[ROOMS.index(room) + 1 :], *LAST}
    found = {(path.name, name) for path in (SOURCES / room).rglob("*.py") for name in imported(path) if name in later}
    assert found == set()


def test_the_order_is_that_of_the_contributors_page():
    page = (SOURCES.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert ", ".join(f"`{room}`" for room in ROOMS) in page
