"""Writes `docs/reference/cli.md` from the commands themselves; a test holds the two together.

python docs/make_cli_reference.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from segqa.cli import app

TARGET = Path(__file__).parent / "reference" / "cli.md"

INTRODUCTION = """# Commands

Made by `docs/make_cli_reference.py`. Every option of a command can also be given by a configuration file or by a
variable (`SEGQA_SCORE_WORKERS=4`); see [configure](../how-to/configure.md).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug; please report it |
| 2 | the call or the files must change; one line says how |
| 3 | a quality gate failed; the results were written |
| 4 | done, but some rows could not be scored (`--on-error skip`) |
| 130 | interrupted |
"""


def describe_group(group: Any) -> str:
    """Return the page's section of the options that stand before a command."""
    text = "Before the command, as in `segqa --quiet score ...`; `-h` also after it, for the help of the command."
    # The options of completion are typer's own, and so are their texts.
    parameters = [one for one in group.params if not one.name.endswith("_completion")]
    help_option = group.get_help_option(typer.Context(group, **group.context_settings))
    return f"## segqa\n\n{text}\n\n{tabulate([*parameters, help_option])}"


def describe(name: str, command: Any) -> str:
    """Return the page's section of one command."""
    if hasattr(command, "commands"):
        return "\n".join(describe(f"{name} {inner}", one) for inner, one in command.commands.items())
    text = inspect.cleandoc(command.help or "")
    parameters = [one for one in command.params if one.name != "help"]
    return f"## segqa {name}\n\n{text}\n\n{tabulate(parameters)}"


def tabulate(parameters: Iterable[Any]) -> str:
    """Return a table of parameters, one a row."""
    rows = ["| | default | |", "|---|---|---|"]
    for parameter in parameters:
        opts = sorted(parameter.opts, key=len, reverse=True)  # typer gives those of the help in random order
        names = ", ".join(f"`{text}`" for text in [*opts, *parameter.secondary_opts])
        shown = parameter.name.upper() if parameter.param_type_name == "argument" else names
        unset = parameter.default is None or parameter.default is False or parameter.required
        default = "" if unset else f"`{parameter.default}`"
        if isinstance(parameter.show_default, str):  # in words, where the value depends on something
            default = parameter.show_default
        rows.append(f"| {shown} | {default} | {getattr(parameter, 'help', '') or ''} |")
    return "\n".join(rows) + "\n"


def render() -> str:
    """Return the whole page."""
    group: Any = typer.main.get_command(app)
    sections = [describe(name, command) for name, command in group.commands.items()]
    return "\n".join([INTRODUCTION, describe_group(group), *sections])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
