"""The only place that prints: results to stdout, everything else to stderr."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, TextIO, TypeVar

if TYPE_CHECKING:
    import polars as pl
    from _typeshed import ReadableBuffer
    from rich.console import Console
    from rich.table import Table

T = TypeVar("T")

LINE_EVERY_SECONDS = 30.0
"""Without a terminal, progress is one line every so often: a log stays readable."""

NO_WIDTH = 1_000_000
"""A pipe or a log has no width: a table takes there what it needs."""

FREE_TEXT = ("reason", "why")
"""Columns that fold where a terminal is narrow; the others tell which object it is, and must not."""

LEAST_TEXT = 20
"""Such a column is not made narrower; then the terminal folds the lines of the table."""

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Silence notes and progress; warnings, errors and results stay."""
    global _quiet
    _quiet = quiet


class _Pipe(io.FileIO):
    """A pipe that takes what nobody reads any more."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def harden_streams() -> None:
    """Let no stream end a command: files are still written, gates checked.

    A reader of a pipe may have gone (`segqa flag | head`), and an encoding may lack a character (β in cp1252, that of
    a redirected stream on Windows), which is then escaped. The streams themselves are replaced, since rich and typer
    write to them too, and each ends the process with 1.
    """
    sys.stdout, sys.stderr = _hardened(sys.stdout), _hardened(sys.stderr)


def _hardened(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # `None` when it was closed at the start
        return stream
    if stream.isatty():
        stream.reconfigure(errors="backslashreplace")
        return stream
    raw = _Pipe(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else NO_WIDTH, highlight=False, soft_wrap=True)


def result(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def note(text: str) -> None:
    """Say what is being done, on stderr."""
    if not _quiet:
        sys.stderr.write(text + "\n")


def annotate(text: str) -> None:
    """Say on stderr what a machine reads there, such as GitHub's annotations: no note that could be silenced."""
    sys.stderr.write(text + "\n")


def warn(text: str) -> None:
    """Say what the user should know, on stderr."""
    sys.stderr.write(f"warning: {text}\n")


def error(text: str) -> None:
    """Say why the command ends, on stderr."""
    sys.stderr.write(f"error: {' '.join(text.split())}\n")


def table(frame: pl.DataFrame, *, title: str | None = None, limit: int | None = None) -> None:
    """Print a frame as a table to stdout, numbers with four digits, at most `limit` rows; no cell is cut."""
    from rich.console import ConsoleDimensions
    from rich.table import Table

    shown = frame if limit is None else frame.head(limit)
    grid = Table(title=title, title_justify="left")
    for name, dtype in shown.schema.items():
        side: Literal["left", "right"] = "right" if dtype.is_numeric() else "left"
        grid.add_column(name, justify=side, no_wrap=name not in FREE_TEXT, overflow="fold")
    for row in shown.iter_rows():
        grid.add_row(*(_cell(value) for value in row))
    console = _console(stderr=False)
    # With the height: of a dumb terminal rich believes the width alone to be 80.
    console.size = ConsoleDimensions(max(console.width, _least_width(console, grid)), console.height)
    console.print(grid)
    if shown.height < frame.height:
        console.print(f"... {frame.height - shown.height} more rows")


def _least_width(console: Console, grid: Table) -> int:
    """Return the width below which rich would cut cells."""
    texts = [column for column in grid.columns if not column.no_wrap]
    for column in texts:
        column.max_width = LEAST_TEXT
    least = console.measure(grid, options=console.options.update(width=NO_WIDTH)).maximum
    for column in texts:
        column.max_width = None
    return least


def _cell(value: object) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return escape(str(value))


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Pass `items` on and show how far it is: a bar on a terminal, a line now and then in a log."""
    if _quiet:
        yield from items
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        yield from _progress_bar(items, description, total)
    else:
        yield from _progress_lines(items, description, total)


def _progress_bar(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        yield from bar.track(items, description=description, total=total)


def _progress_lines(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            left = f"/{total}, about {(now - start) / done * (total - done):.0f} s left" if total else ""
            note(f"{description}: {done}{left}")
