"""File names that fit on one line, files written whole, and errors of decoders as one line."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def show_name(path: Path | str) -> str:
    """Return the last part of a path for a message; escaped when it would break the line."""
    name = Path(path).name or str(path)
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
        msg = f"{show_name(path)}: cannot be decoded ({fact}); is it damaged? Export the file again."
        raise InputError(msg) from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step, so that no reader ever sees half of it and a failure leaves the old one.

    Raises:
        InputError: The folder is missing, read-only or full.
    """
    part: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}.", delete=False) as file:
            part = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        msg = f"{show_name(path)}: cannot be written ({error.strerror or error}); check {path.parent}"
        raise InputError(msg) from error
