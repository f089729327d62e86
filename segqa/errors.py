"""Errors that a user can cause, and the exit codes they end in."""

from __future__ import annotations

import importlib.util
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ExitCode(IntEnum):
    """What the process tells the shell; the table is part of the documentation."""

    DONE = 0
    BUG = 1
    INPUT = 2
    GATE = 3
    PARTIAL = 4
    INTERRUPTED = 130


class SegqaError(Exception):
    """Base of every error whose text is meant for the user: one line with file, fact and remedy."""

    exit_code: ExitCode = ExitCode.INPUT


class InputError(SegqaError):
    """The call or the files must change."""


class MissingExtraError(InputError):
    """An optional dependency is needed; the text names the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}': pip install 'segqa[{extra}]'")


class GateError(SegqaError):
    """A quality gate failed; the results themselves were computed and written."""

    exit_code = ExitCode.GATE


def require(package: str, feature: str, *, extra: str) -> None:
    """Refuse to go on without an optional package; nothing is imported to find out.

    Raises:
        MissingExtraError: Names the feature that needs it, and the extra that brings it.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(feature, extra)


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse what is none of the choices; for the Python interface, whose calls nothing has checked yet."""
    if value not in choices:
        msg = f"{name} {value!r}: one of {', '.join(map(str, choices))} was expected"
        raise InputError(msg)
