"""The record of a run, `run.json`: what was run, with what, on how much, and how it ended."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from segqa import __version__
from segqa.data.files import write_whole
from segqa.schema import STATUS_ERROR, STATUS_WARNING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl

RUN_NAME = "segqa.run"
RECORD_VERSION = 1

_REPORTED = ("numpy", "scipy", "polars", "pillow", "onnxruntime", "torch", "timm")
_IMPORT_NAMES = {"pillow": "PIL"}


@dataclass(frozen=True, slots=True)
class WeightsUsed:
    """Which weights a run used: their name, the SHA-256 of the file, and their licence."""

    name: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of rows: read, scored, scored with a warning (among the scored), and failed."""

    read: int
    scored: int
    warned: int
    failed: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything needed to repeat a run and to trust its table; `seconds` is wall time."""

    command: str
    options: Mapping[str, object]
    seed: int | None
    device: str
    weights: WeightsUsed | None
    counts: Counts
    seconds: float
    key: str | None = None
    """What a resumed run must share with this one; see `journal.journal_key`."""
    table_sha256: str | None = None
    """Of the table's file, by which it is known to be this run's."""


def record_path(table: Path) -> Path:
    """Return where the record of the run lies that wrote a table."""
    return table.with_name(f"{table.stem}.run.json")


def count_rows(scores: pl.DataFrame) -> Counts:
    """Return how many rows of a table were scored, with a warning, or not at all."""
    failed = scores.filter(status=STATUS_ERROR).height
    warned = scores.filter(status=STATUS_WARNING).height
    return Counts(read=scores.height, scored=scores.height - failed, warned=warned, failed=failed)


def versions() -> dict[str, str]:
    """Return versions of segqa, Python and those libraries that this run has loaded."""
    loaded = [name for name in _REPORTED if _IMPORT_NAMES.get(name, name) in sys.modules]
    found = {name: metadata.version(name) for name in loaded}
    return {"segqa": __version__, "python": platform.python_version(), **found}


def write_run_record(path: Path, record: RunRecord) -> None:
    """Write the record as JSON, whole; options that JSON does not know are written as text.

    Raises:
        InputError: The file cannot be written.
    """
    document = {
        "schema": RUN_NAME,
        "version": RECORD_VERSION,
        "versions": versions(),
        "platform": platform.platform(),
        **asdict(record),
    }
    text = json.dumps(document, indent=2, default=str, ensure_ascii=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))
