"""Defaults of the command line from `segqa.toml`, or from `[tool.segqa]` of `pyproject.toml`.

Sections are commands, keys are their options: `[flag]` with `percentile = 5` in `segqa.toml`, `[tool.segqa.flag]` in
`pyproject.toml`. What is given on the command line, or as `SEGQA_FLAG_PERCENTILE`, goes before the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from segqa.errors import InputError

if TYPE_CHECKING:
    import typer

OWN_FILE, SHARED_FILE = "segqa.toml", "pyproject.toml"

_PLACES = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")
"""Where a value can come from, closest first, as the command line library names it."""

T = TypeVar("T")


def load_defaults(context: typer.Context, start: Path) -> dict[str, Any]:
    """Return the defaults of all commands, in the form of `context.default_map`.

    Args:
        context: Of the callback that stands before the commands.
        start: Folder to look in; then its parents.

    Returns:
        Values by parameter name, by command; empty when no file speaks of segqa.

    Raises:
        InputError: The file cannot be read, or names a command or an option that there is not.
    """
    found = find_config(start)
    if found is None:
        return {}
    path, sections = found
    return _Reader(context, path).read_group(context.command, sections, "segqa")


def name_variables(context: typer.Context, group: Any, prefix: str) -> None:
    """Let every option's variable be called `SEGQA_<COMMAND>_<OPTION>`, as its long name says, not as its parameter.

    --help has none: a `SEGQA_FLAG_HELP` would print it instead of checking a gate, and end with 0.

    Args:
        context: Of the callback that stands before the commands.
        group: The commands.
        prefix: What the variables of the group begin with.
    """
    for name, command in group.commands.items():
        inner = f"{prefix}_{name}".upper().replace("-", "_")
        command.get_help_option(context).allow_from_autoenv = False
        if hasattr(command, "commands"):
            name_variables(context, command, inner)
            continue
        for parameter in command.params:
            spelled = next((text[2:].replace("-", "_") for text in parameter.opts if text.startswith("--")), None)
            if spelled not in (None, parameter.name):
                parameter.envvar = f"{inner}_{spelled.upper()}"
                parameter.allow_from_autoenv = False


def odd_variables(group: Any, prefix: str, invoked: str | None) -> list[str]:
    """Return a line on each variable that begins as those of a command do, and that no option has.

    Args:
        group: The commands, after `name_variables`.
        prefix: What the variables of the group begin with.
        invoked: The command that is called; variables of others matter to nobody now.
    """
    start = f"{prefix}_{invoked}_".upper().replace("-", "_")
    known = list(_variables(group, prefix))
    odd = sorted(name for name in os.environ if name.startswith(start) and name not in known)
    own = [name for name in known if name.startswith(start)]
    return [f"the variable {name} is of no option{_suggest(name, own)}" for name in odd]


def _variables(group: Any, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        inner = f"{prefix}_{name}".upper().replace("-", "_")
        if hasattr(command, "commands"):
            yield from _variables(command, inner)
            continue
        options = (parameter for parameter in command.params if parameter.param_type_name == "option")
        yield from (parameter.envvar or f"{inner}_{parameter.name.upper()}" for parameter in options)


def keep_closest(context: typer.Context, **rivals: T) -> dict[str, T | None]:
    """Of options that exclude each other, keep those given closest to the call; the others are `None`.

    Two that are given in the same place are both kept: it is for the command to refuse them.

    Args:
        context: Of the command.
        rivals: Values by parameter; `None` for one that was not given.
    """
    places = {name: _distance(context, name) for name, value in rivals.items() if value is not None}
    closest = min(places.values(), default=0)
    return {name: value if places.get(name) == closest else None for name, value in rivals.items()}


def is_on_call(context: typer.Context, name: str) -> bool:
    """Tell whether a parameter stands on the command line."""
    return _distance(context, name) == 0


def _distance(context: typer.Context, name: str) -> int:
    source = context.get_parameter_source(name)
    return _PLACES.index(source.name) if source is not None and source.name in _PLACES else len(_PLACES)


def find_config(start: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the nearest file that configures segqa, from `start` upwards, and what it says.

    In one folder `segqa.toml` goes first; a `pyproject.toml` without `[tool.segqa]` is passed by.

    Raises:
        InputError: A file on the way is no TOML, or segqa's part of it is no table.
    """
    for folder in (start, *start.parents):
        own, shared = folder / OWN_FILE, folder / SHARED_FILE
        if own.is_file():
            return own, _read_toml(own)
        if shared.is_file():
            tools = _read_toml(shared).get("tool", {})
            if isinstance(tools, dict) and "segqa" in tools:
                return shared, _table(tools["segqa"], shared, "tool.segqa")
    return None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:  # a TOML error and wrong bytes are ValueErrors
        msg = f"{path}: cannot be read as TOML ({' '.join(str(error).split())}); correct the file"
        raise InputError(msg) from error


class _Reader:
    """Holds one file against the commands that there are."""

    def __init__(self, context: typer.Context, path: Path) -> None:
        self._context = context
        self._path = path

    def read_group(self, group: Any, sections: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Return values by parameter, by command."""
        defaults = {}
        for section, content in sections.items():
            command = group.commands.get(section)
            if command is None:
                msg = f"{self._path}: {name} has no command {section!r}{_suggest(section, group.commands)}"
                raise InputError(msg)
            read = self.read_group if hasattr(command, "commands") else self.read_command
            defaults[section] = read(command, _table(content, self._path, section), section)
        return defaults

    def read_command(self, command: Any, options: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Return values by parameter."""
        known = _keys(command)
        defaults = {}
        for key, value in options.items():
            spelled = key.replace("_", "-")
            if spelled not in known:
                msg = f"{self._path}: {name} has no option {key!r}{_suggest(spelled, known)}"
                raise InputError(msg)
            if isinstance(value, str) and (getattr(known[spelled], "multiple", False) or known[spelled].nargs == -1):
                value = [value]  # a lone text would be taken letter by letter
            self.check_value(known[spelled], value, f"{self._path}: {key} of {name}")
            defaults[known[spelled].name] = value
        return defaults

    def check_value(self, parameter: Any, value: Any, name: str) -> None:
        """Refuse what the option does not take here, where the file can still be named."""
        import typer

        if isinstance(value, dict) or isinstance(value, bool) != bool(getattr(parameter, "is_flag", False)):
            msg = f"{name}: {value!r} does not fit; see the command's --help"
            raise InputError(msg)
        try:
            parameter.process_value(self._context, value)
        except typer.BadParameter as error:
            msg = f"{name}: {' '.join(error.message.split())}"
            raise InputError(msg) from error


def _keys(command: Any) -> dict[str, Any]:
    """Return parameters by what the file calls them: the long option without its dashes, or the argument's name."""
    known: dict[str, Any] = {}
    for parameter in command.params:
        names = [name[2:] for name in parameter.opts if name.startswith("--")] or [parameter.name]
        known |= {name.replace("_", "-"): parameter for name in names}
    return known


def _table(value: Any, path: Path, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{path}: {name} = {value!r} where a section of a command was expected, such as [flag]"
        raise InputError(msg)
    return value


def _suggest(wrong: str, known: Iterable[str]) -> str:
    close = get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(sorted(known))}"
