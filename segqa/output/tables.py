"""Tables on disk: CSV, JSON, JSON lines and Parquet with one set of columns (`segqa/schema.py`).

An empty CSV cell and a JSON `null` mean "not available"; `nan` is written as that. Infinity is refused: a
table shows the image diagonal instead (`metrics.finite_distance`), so that means stay defined and nothing is
dropped. Files appear whole or not at all.
"""

from __future__ import annotations

import codecs
import io
import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import polars as pl
from polars.exceptions import PolarsError

from segqa import __version__
from segqa.data.files import write_whole
from segqa.errors import InputError
from segqa.schema import KEY_COLUMNS, SCHEMA_VERSION, SCORE_SCHEMA, STATUS_OK, TRUTH_SCHEMA, TableName

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS = ("csv", "json", "jsonl", "parquet")

TOLERANCE = 1e-6
"""So far beyond 0..1 a Dice may be by rounding."""

NUMBERED = ("object", "label")
"""Columns of names that are mostly numbers."""

_KNOWN_TYPES = TRUTH_SCHEMA | SCORE_SCHEMA


def read_scores(path: Path) -> pl.DataFrame:
    """Read a table of predicted scores, whoever wrote it.

    Needed are the key columns and `predicted_dice`. Other columns of the schema are filled with "not
    available" (`status` with "ok") when the file has none; columns that the schema does not know are kept.

    Args:
        path: A `.csv`, `.json`, `.jsonl` or `.parquet` file.

    Returns:
        The columns of `SCORE_SCHEMA` in their order, then the others; one row per case, object and model.

    Raises:
        InputError: The file is missing, unreadable, of another format, without a needed column, or a cell is
            not of its column's type.
    """
    return check_scores(_load(path), path.name)


def read_truth(path: Path) -> pl.DataFrame:
    """Read a table of true metrics as `segqa evaluate` writes it; needed are the keys and `true_dice`.

    Raises and columns as in `read_scores`, with `TRUTH_SCHEMA`.
    """
    return check_truth(_load(path), path.name)


def check_scores(frame: pl.DataFrame, name: str = "the scores") -> pl.DataFrame:
    """Return a table of predicted scores as `read_scores` does, which names it so in its errors."""
    return _check(frame, SCORE_SCHEMA, (*KEY_COLUMNS, "predicted_dice"), name)


def check_truth(frame: pl.DataFrame, name: str = "the truth") -> pl.DataFrame:
    """Return a table of true metrics as `read_truth` does, which names it so in its errors."""
    return _check(frame, TRUTH_SCHEMA, (*KEY_COLUMNS, "true_dice"), name)


def write_table(
    frame: pl.DataFrame, path: Path, *, file_format: str | None = None, schema: str = TableName.SCORES
) -> None:
    """Write a table in one step: a reader sees the old file or the whole new one.

    Args:
        frame: Any table; `nan` becomes "not available".
        path: Where to; missing folders are made.
        file_format: One of `FORMATS`; by default the file's extension tells.
        schema: Name that JSON and Parquet carry beside the version.

    Raises:
        InputError: Unknown extension, a folder is in the way, or the disk refuses.
        ValueError: A cell is infinite.
    """
    file_format = file_format or table_format(path)
    write_whole(path, lambda file: _dump(frame, file, file_format, schema))


def render(frame: pl.DataFrame, file_format: str, *, schema: str = TableName.SCORES) -> str:
    """Return a table as CSV, JSON or JSON lines for stdout.

    Raises:
        InputError: The format is Parquet (which is binary) or unknown.
    """
    if file_format == "parquet":
        msg = "format parquet is binary and is not printed: name a file with --output scores.parquet"
        raise InputError(msg)
    buffer = io.BytesIO()
    _dump(frame, buffer, file_format, schema)
    return buffer.getvalue().decode("utf-8")


def is_table(path: Path) -> bool:
    """Tell by the name whether a path is a table's; pictures and folders are not."""
    return path.suffix.lower().removeprefix(".") in FORMATS and not path.is_dir()


def table_format(path: Path) -> str:
    """Return the format that a file's extension stands for; `InputError` when it stands for none."""
    file_format = path.suffix.lower().removeprefix(".")
    if file_format not in FORMATS:
        msg = f"{path.name}: unknown extension for a table; use one of .{', .'.join(FORMATS)}"
        raise InputError(msg)
    return file_format


def _dump(frame: pl.DataFrame, file: IO[bytes], file_format: str, schema: str) -> None:
    frame = _storable(frame)
    header = {"schema": schema, "version": SCHEMA_VERSION, "segqa_version": __version__}
    if file_format == "csv":
        frame.write_csv(file)
    elif file_format == "json":
        file.write(json.dumps(header)[:-1].encode() + b', "rows": ')
        frame.write_json(cast(io.IOBase, file))
        file.write(b"}\n")
    elif file_format == "jsonl":
        frame.write_ndjson(file)
    elif file_format == "parquet":
        frame.write_parquet(file, metadata={name: str(value) for name, value in header.items()})
    else:
        msg = f"unknown table format {file_format!r}; use one of {', '.join(FORMATS)}"
        raise InputError(msg)


def _storable(frame: pl.DataFrame) -> pl.DataFrame:
    """Turn `nan` into "not available" and refuse infinity."""
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    for name in floats:
        if frame[name].is_infinite().any():
            msg = f"column {name} holds infinity: write metrics.finite_distance of it"
            raise ValueError(msg)
    return frame.with_columns(pl.col(name).fill_nan(None) for name in floats)


def _check(
    frame: pl.DataFrame, schema: Mapping[str, pl.DataType], needed: tuple[str, ...], source: str
) -> pl.DataFrame:
    if not frame.columns:  # JSON of no rows names no columns
        frame = pl.DataFrame(schema=schema)
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        found = ", ".join(_shown(name) for name in frame.columns[:6]) or "no column"
        msg = f"{source}: no column {', '.join(missing)} (found {found}); give a table written by segqa"
        raise InputError(msg)
    frame = frame.with_columns(
        _typed(frame[name], _KNOWN_TYPES[name], source) for name in frame.columns if name in _KNOWN_TYPES
    )
    absent = {name: dtype for name, dtype in schema.items() if name not in frame.columns}
    frame = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())
    _check_keys(frame, source)
    for name in needed:
        if frame.schema[name].is_float():
            _check_range(frame[name], source)
    frame = frame.with_columns(pl.col(*KEY_COLUMNS).fill_null(""), pl.col("status").fill_null(STATUS_OK))
    return frame.select(*schema, pl.exclude(*schema))


def _shown(text: str) -> str:
    """Return a name for a message: bytes of a file that is no table would upset a terminal."""
    text = text[:40]
    return text if text.isprintable() else ascii(text)


def _check_range(dice: pl.Series, source: str) -> None:
    """Refuse percentages: every limit on them would be passed."""
    is_bad = ~dice.is_between(-TOLERANCE, 1 + TOLERANCE).fill_null(True)
    row = is_bad.arg_max() if is_bad.any() else None
    if row is not None:
        fact = f"row {row + 1}, column {dice.name}: {dice[row]:g} is outside of 0..1"
        msg = f"{source}: {fact}; divide percentages by 100"
        raise InputError(msg)


def _check_keys(frame: pl.DataFrame, source: str) -> None:
    """Refuse rows that could be mistaken for another: without a case, or with the keys of an earlier row."""
    nameless = frame["case"].is_null()
    if not nameless.any() and frame.select(KEY_COLUMNS).hash_rows().n_unique() == frame.height:
        return  # different hashes are different keys: the exact test below is much slower
    repeated = ~frame.select(pl.struct(KEY_COLUMNS).is_first_distinct()).to_series()
    for is_bad, fact in ((nameless, "has no case"), (repeated, "repeats case, object, label and model")):
        row = is_bad.arg_max() if is_bad.any() else None
        if row is not None:
            msg = f"{source}: row {row + 1} {fact}; correct or remove it"
            raise InputError(msg)


def _load(path: Path) -> pl.DataFrame:
    """Read the file with as little interpretation as its format allows."""
    file_format = table_format(path)
    if not path.is_file():
        msg = f"{path}: no such file; write one with `segqa score` or name another"
        raise InputError(msg)
    try:
        if file_format == "csv":
            return _load_csv(path)
        if file_format == "json":
            return _load_json(path)
        if file_format == "jsonl":
            has_rows = path.stat().st_size > 0
            return pl.read_ndjson(path, infer_schema_length=None) if has_rows else pl.DataFrame()
        return pl.read_parquet(path)
    except (PolarsError, OSError, UnicodeError) as error:
        reason = (str(error).strip().splitlines() or ["empty file"])[0]
        msg = f"{path.name}: not a readable {file_format} table ({reason}); write it anew"
        raise InputError(msg) from error


def _load_csv(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            msg = f"{path.name}: text in UTF-16, as spreadsheets save it; save it as CSV in UTF-8, with commas"
            raise InputError(msg)
    header = pl.read_csv(path, infer_schema=False, n_rows=0).columns
    if len(header) == 1 and ";" in header[0]:
        msg = f"{path.name}: its columns are separated by semicolons; save it with commas, and numbers with points"
        raise InputError(msg)
    if any(name != name.strip() for name in header):  # a blank after each comma belongs to no name and no number
        text = pl.read_csv(path, infer_schema=False)
        return text.select(pl.all().str.strip_chars().replace("", None).name.map(str.strip))
    try:
        types = {name: dtype for name, dtype in _KNOWN_TYPES.items() if name in header}
        return pl.read_csv(path, infer_schema=False, schema_overrides=types)
    except PolarsError:  # as text it can be read, and the cell that does not fit be named
        return pl.read_csv(path, infer_schema=False)


def _load_json(path: Path) -> pl.DataFrame:
    document = pl.read_json(path, infer_schema_length=None)
    if "rows" not in document.columns or not isinstance(document.schema["rows"], pl.List):
        msg = f'{path.name}: no "rows" in the JSON object; give a table written by segqa'
        raise InputError(msg)
    version = document["version"][0] if "version" in document.columns else SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        msg = f"{path.name}: schema version {version} where {SCHEMA_VERSION} was expected; update segqa"
        raise InputError(msg)
    rows = document["rows"].explode().drop_nulls()
    if rows.is_empty():
        return pl.DataFrame()
    return rows.struct.unnest()


def _typed(column: pl.Series, dtype: pl.DataType, source: str) -> pl.Series:
    """Return the column in its type, `nan` as null; a cell that does not fit is an error with its row."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if column.name in NUMBERED:
        column = _without_fractions(column)
    if dtype.is_integer():
        numbers = column.cast(pl.Float64, strict=False)
        cast = numbers.set(numbers != numbers.round(), None).cast(dtype, strict=False)
    else:
        cast = column.cast(dtype, strict=False)
    bad = cast.is_null() & column.is_not_null()
    if dtype.is_float():
        bad = bad | cast.is_infinite().fill_null(False)
        cast = cast.fill_nan(None)
    row = bad.arg_max() if bad.any() else None
    if row is not None:
        wanted = "a whole number" if dtype.is_integer() else "a number" if dtype.is_numeric() else "text"
        msg = f"{source}: row {row + 1}, column {column.name}: {column[row]!r} where {wanted} was expected"
        raise InputError(msg)
    return cast


def _without_fractions(column: pl.Series) -> pl.Series:
    """Return text, `1.0` as `1` when all of it is such: pandas writes numbers so that stand beside an empty cell."""
    text = column.cast(pl.String, strict=False)
    is_whole = text.filter(text != "").str.contains(r"^-?\d+\.0$").all()
    return text.str.strip_suffix(".0") if is_whole else text
