"""Errors that a user can cause, and the exit codes they end in."""

from enum import IntEnum


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
