"""File names that fit on one line, files written whole, JSON, and errors of decoders as one line."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def is_hidden(name: str) -> bool:
    """Tell files and folders that nobody put there: of a leading dot, and those that file browsers leave."""
    return name.startswith(".") or name.lower() in _JUNK


def visible_files(folder: Path) -> list[Path]:
    """Return the files of a folder that somebody put there, in order of name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not is_hidden(path.name))


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


def files_below(paths: Iterable[Path]) -> list[Path]:
    """Return the files among paths and in the folders among them, also in those that links lead to."""
    return [file for path in paths for file in (_walk(path) if path.is_dir() else [path])]


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, followlinks=True):
        here = Path(root).resolve()
        # A link to where it lies itself, or above, would never end.
        folders[:] = [name for name in folders if (here / name).resolve() not in (here, *here.parents)]
        yield from (Path(root) / name for name in files)


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

    A link stays one, and what it leads to is written. Devices and pipes (`/dev/stdout`) are written into.

    Args:
        path: The file; its folder is made if need be.
        dump: Writes the content to an open file.

    Raises:
        InputError: The file cannot be written (a folder of that name, no permission, full disk).
    """
    with _part_of(path) as (part, target):
        with part.open("wb") as file:
            dump(file)
            file.flush()
            if part != target:
                os.fsync(file.fileno())
        if part != target:
            part.replace(target)


def check_writable(path: Path) -> None:
    """Refuse, before slow work, a file that could not be written in the end; its folder is made if need be.

    Raises:
        InputError: As of `write_whole`.
    """
    with _part_of(path) as (part, target):
        if part != target:
            part.touch()


@contextmanager
def _part_of(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the name to write to first, gone at the end, and the file it is for; one and the same for a device.

    What the system refuses is an `InputError`.
    """
    try:
        if is_stream(path):
            yield path, path
            return
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name[:40]}.{os.getpid()}.part")
        try:
            yield part, target
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        msg = f"{path}: cannot be written ({reason}); choose another place or make room"
        raise InputError(msg) from error


def is_stream(path: Path) -> bool:
    """Tell whether a file takes bytes but cannot be replaced: a device or a pipe, or what `/dev/stdout` is just now."""
    return path.exists() and not path.is_dir() and (not path.is_file() or path.absolute().parts[:2] == ("/", "dev"))


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, with or without a byte order mark.

    Raises:
        InputError: It cannot be read, is no JSON, or an object in it has a key twice.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=partial(_unique, path))
    except OSError as error:
        msg = f"{show_name(path)}: cannot be read ({error.strerror or error}); give a JSON file"
        raise InputError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{show_name(path)}: not JSON ({' '.join(str(error).split())[:120]}); correct or write it anew"
        raise InputError(msg) from error


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [repr(key) for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        msg = f"{show_name(path)}: the key {list_some(twice)} stands twice in one object; join what they hold"
        raise InputError(msg)
    return found
