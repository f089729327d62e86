"""File names that fit on one line, files written whole, and errors of decoders as one line."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def show_name(path: Path | str) -> str:
    """Return folder and name of a file for a message; escaped when they would break the line.

    The folder tells files of one name apart: an image and the masks of each model.
    """
    name = "/".join(Path(path).parts[-2:])
    return name if name.isprintable() else ascii(name)


def list_some(items: Sequence[str], *, limit: int = 5) -> str:
    """Return the first items separated by commas, and how many more there are."""
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises on broken bytes into an `InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders raise anything on broken bytes: struct.error, KeyError, SyntaxError
        fact = " ".join(str(error).split())[:160] or type(error).__name__
        msg = f"{show_name(path)}: cannot be decoded ({fact}); is it damaged? Export the file again"
        raise InputError(msg) from error


def write_whole(path: Path, dump: Callable[[IO[bytes]], object]) -> None:
    """Write a file in one step: no reader ever sees half of it, and a failure leaves the old one.

    Args:
        path: The file; its folder is made if need be.
        dump: Writes the content to an open file.

    Raises:
        InputError: The file cannot be written (a folder of that name, no permission, full disk).
    """
    with _part_of(path) as part:
        with part.open("wb") as file:
            dump(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def check_writable(path: Path) -> None:
    """Refuse, before slow work, a file that could not be written in the end; its folder is made if need be.

    Raises:
        InputError: As of `write_whole`.
    """
    with _part_of(path) as part:
        part.touch()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """Yield the name to write to first, which is gone at the end; what the system refuses is an `InputError`."""
    part = path.with_name(f".{path.name[:40]}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        msg = f"{path}: cannot be written ({reason}); choose another place or make room"
        raise InputError(msg) from error
