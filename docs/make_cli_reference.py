"""Writes `docs/reference/cli.md` from the commands themselves; a test holds the two together.

python docs/make_cli_reference.py
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

from segqa.cli import app

TARGET = Path(__file__).parent / "reference" / "cli.md"

INTRODUCTION = """# Commands

Made by `docs/make_cli_reference.py`. Every option can also be given by a configuration file or by a variable
(`SEGQA_SCORE_WORKERS=4`); see [configure](../how-to/configure.md).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug; please report it |
| 2 | the call or the files must change; one line says how |
| 3 | a quality gate failed; the results were written |
| 4 | done, but some rows could not be scored (`--on-error skip`) |
| 130 | interrupted |
"""


def describe(name: str, command: Any) -> str:
    """Return the page's section of one command."""
    if hasattr(command, "commands"):
        return "\n".join(describe(f"{name} {inner}", one) for inner, one in command.commands.items())
    rows = ["| | default | |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = ", ".join(f"`{text}`" for text in [*parameter.opts, *parameter.secondary_opts])
        shown = parameter.name.upper() if parameter.param_type_name == "argument" else names
        unset = parameter.default is None or parameter.default is False or parameter.required
        default = "" if unset else f"`{parameter.default}`"
        rows.append(f"| {shown} | {default} | {getattr(parameter, 'help', '') or ''} |")
    text = inspect.cleandoc(command.help or "")
    return f"## segqa {name}\n\n{text}\n\n" + "\n".join(rows) + "\n"


def render() -> str:
    """Return the whole page."""
    group: Any = typer.main.get_command(app)
    sections = [describe(name, command) for name, command in group.commands.items()]
    return "\n".join([INTRODUCTION, *sections])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
