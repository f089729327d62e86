"""A crash-safe record of finished rows, so that a killed run loses at most what was in flight.

The first line holds a key: a hash of the options, the weights and the inputs. A run with another key must not
continue the journal. Each further line is one row as JSON; a last line that a crash tore is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import nullcontext, suppress
from typing import IO, TYPE_CHECKING, Any

from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    Row = Mapping[str, Any]


def journal_key(*, options: Mapping[str, object], weights: str, inputs: Iterable[Path]) -> str:
    """Return a hash that changes when an option, the weights or an input file (size or time) changes.

    Args:
        options: What the result depends on; values that JSON does not know count by their text.
        weights: Hash of the weights.
        inputs: Every file read; their order does not matter, nor do links that lead nowhere.

    Returns:
        64 hexadecimal digits.
    """
    stats = ((str(path), path.stat()) for path in inputs if path.exists())
    files = sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    text = json.dumps([dict(options), weights, files], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def stamp_files(files: Iterable[Path]) -> str:
    """Return a hash that changes when a file changes (size or time), 64 hexadecimal digits."""
    return journal_key(options={}, weights="", inputs=files)


class Journal:
    """Rows of a run, appended as they are finished.

    >>> with Journal(path, key, resume=True) as journal:       # doctest: +SKIP
    ...     for case in cases_without(journal.rows):
    ...         journal.append(score(case))
    ...     write_table(pl.DataFrame(journal.rows), output)
    >>> remove_journal(path)                                   # the result is complete and written elsewhere

    Attributes:
        rows: Every row of the journal, those of the resumed run first.
    """

    def __init__(self, path: Path, key: str, *, resume: bool = False) -> None:
        """Start a journal, or continue the one that is there.

        Args:
            path: The journal file; its folder is made.
            key: What `journal_key` returned for this run.
            resume: Continue an existing journal; otherwise it is begun anew.

        Raises:
            InputError: The journal belongs to another run, one that is under way writes it, or it cannot be read or
                written.
        """
        self._path = path
        self.rows: list[dict[str, Any]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            msg = f"{path}: the journal cannot be written ({error.strerror}); choose another output folder"
            raise InputError(msg) from error
        try:
            _lock(self._file, path)
            whole = self._recover(key) if resume else 0
            self._file.truncate(whole)
            if not whole:
                self._write([{"key": key}])
        except BaseException:
            self._close(quietly=True)
            raise

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows and put them on the disk before returning.

        Raises:
            InputError: The disk is full.
        """
        added = [dict(row) for row in rows]
        self._write(added)
        self.rows += added

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(quietly=error is not None)

    def _close(self, *, quietly: bool) -> None:
        """Close the file; quietly after an error, since what could not be written is tried once more."""
        with suppress(OSError) if quietly else nullcontext():
            self._file.close()

    def _write(self, rows: Iterable[Row]) -> None:
        try:
            self._file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            fact = f"the journal cannot be written ({error.strerror})"
            msg = f"{self._path}: {fact}; make room and go on with --resume, or choose another output folder"
            raise InputError(msg) from error

    def _recover(self, key: str) -> int:
        """Load the whole lines and return where they end; 0 when not even the first line is whole."""
        self.rows, end = _read(self._path, key)
        return end


def finished_rows(path: Path, key: str) -> list[dict[str, Any]]:
    """Return what a resumed run will find in a journal, and leave it as it is; nothing where there is none.

    Raises:
        InputError: The journal belongs to another run, or cannot be read.
    """
    return _read(path, key)[0] if path.exists() else []


def remove_journal(path: Path) -> None:
    """Remove the journal of a run whose result is written, unless another run writes it by now.

    Where a run draws error maps, or measures what no journal keeps, another may begin before it ends.
    """
    try:
        with path.open("ab") as file:
            _lock(file, path)
    except (FileNotFoundError, InputError):
        return
    path.unlink(missing_ok=True)


def _read(path: Path, key: str) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a journal, and where its whole lines end."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        msg = f"{path}: the journal cannot be read ({error.strerror}); delete it or run without --resume"
        raise InputError(msg) from error
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    try:
        parsed = [json.loads(line) for line in lines]
        found = parsed[0]["key"] if parsed else key
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: not a journal of segqa; delete it or run without --resume"
        raise InputError(msg) from error
    if found != key:
        msg = f"{path}: the journal is of a run with other options, weights or inputs; "
        raise InputError(msg + "repeat that call, or run without --resume to begin anew")
    return parsed[1:], sum(len(line) for line in lines)


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep other runs from a journal until it is closed, where the system knows how.

    Raises:
        InputError: Another run keeps it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        msg = f"{path}: another run writes it; wait for its end, or choose another output"
        raise InputError(msg) from error
    except OSError:  # a file system without locks
        return
