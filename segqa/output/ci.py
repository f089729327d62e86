"""What continuous integration reads: GitHub annotations and step summary, JUnit XML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import polars as pl

from segqa.data.files import write_whole
from segqa.schema import KEY_COLUMNS, STATUS_ERROR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_ANNOTATIONS = 10
"""GitHub shows no more than this for one step."""

MAX_SUMMARY_ROWS = 500
"""Keeps the summary far below GitHub's limit of 1 MiB."""

_NOT_XML = r"[\x{00}-\x{08}\x{0B}\x{0C}\x{0E}-\x{1F}\x{FFFE}\x{FFFF}]"
_XML_MARKS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}


def annotation_lines(flags: pl.DataFrame) -> list[str]:
    """Return workflow commands for the worst flags, at most `MAX_ANNOTATIONS`, one a line.

    Args:
        flags: The flagged rows, worst first (`decisions.flagging.flag`).
    """
    rows = flags.head(MAX_ANNOTATIONS).iter_rows(named=True)
    return [f"::warning title={_property('segqa: ' + _name(row))}::{_data(row['why'])}" for row in rows]


def step_summary(flags: pl.DataFrame, n_objects: int) -> str:
    """Return a Markdown table of the worst flags, at most `MAX_SUMMARY_ROWS`, with the number of all."""
    lines = [f"### segqa: {flags.height} of {n_objects} objects to look at", ""]
    if flags.height:
        lines += ["| case | object | label | model | why |", "| --- | --- | --- | --- | --- |"]
    for row in flags.head(MAX_SUMMARY_ROWS).iter_rows(named=True):
        cells = (row[name] for name in (*KEY_COLUMNS, "why"))
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    if flags.height > MAX_SUMMARY_ROWS:
        lines += ["", f"... and {flags.height - MAX_SUMMARY_ROWS} more"]
    return "\n".join(lines) + "\n"


def github_lines(flags: pl.DataFrame, n_objects: int, *, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Append the summary where GitHub asks for it, and return the annotations to print.

    Args:
        flags: The flagged rows, worst first.
        n_objects: Number of objects that were looked at.
        environment: Variables of the process; without `GITHUB_ACTIONS` nothing happens.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    return append_summary(step_summary(flags, n_objects), environment) + annotation_lines(flags)


def append_summary(text: str, environment: Mapping[str, str]) -> list[str]:
    """Append text to the step summary, if there is one, and return an annotation when it cannot be written.

    That is no error: a gate that follows says more about the masks than a missing summary.
    """
    summary = environment.get("GITHUB_STEP_SUMMARY")
    if not summary:
        return []
    try:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        fact = f"{summary}: the step summary cannot be written ({error.strerror or error}); see GITHUB_STEP_SUMMARY"
        return [f"::warning title=segqa::{_data(fact)}"]
    return []


def write_junit(path: Path, scores: pl.DataFrame, flags: pl.DataFrame) -> None:
    """Write a JUnit report: one suite per model, one test per object.

    A flagged object is a failure; one that could not be scored is an error.

    Args:
        path: The XML file; written whole.
        scores: Every object.
        flags: Those of them that are flagged, with `why`.

    Raises:
        InputError: The file cannot be written.
    """
    rows = scores.join(flags.select(*KEY_COLUMNS, "why"), on=KEY_COLUMNS, how="left", maintain_order="left")
    rows = rows.with_columns(_kind=_kind()).select("model", "_kind", _xml=_test())
    write_whole(path, lambda file: _write_suites(rows, file))


def _write_suites(rows: pl.DataFrame, file: IO[bytes]) -> None:
    file.write(b'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="segqa">\n')
    for suite in rows.partition_by("model", maintain_order=True):
        (name,) = suite.head(1).select(_xml(_or_segqa("model")))["model"]
        counts = dict(suite["_kind"].drop_nulls().value_counts().rows())
        found = f'tests="{suite.height}" failures="{counts.get("failure", 0)}" errors="{counts.get("error", 0)}"'
        file.write(f'  <testsuite name="{name}" {found} skipped="0" time="0">\n'.encode())
        file.write("\n".join(suite["_xml"].to_list()).encode())
        file.write(b"\n  </testsuite>\n")
    file.write(b"</testsuites>\n")


def _kind() -> pl.Expr:
    """Return `failure`, `error`, or null for a test that passed."""
    is_lost = pl.col("predicted_dice").is_null() | (pl.col("status") == STATUS_ERROR)
    kind = pl.when(is_lost).then(pl.lit("error")).otherwise(pl.lit("failure"))
    return pl.when(pl.col("why").is_not_null()).then(kind)


def _test() -> pl.Expr:
    """Return the element of one object; a million are written as fast as a table."""
    name = _xml(pl.format("{} object {} label {}", "case", "object", "label"))
    start = pl.format('    <testcase classname="{}" name="{}" time="0">', _xml(_or_segqa("model")), name)
    bad = pl.format('<{} message="{}" type="segmentation quality"/>', "_kind", _xml(pl.col("why")))
    dice = pl.format("<system-out>predicted_dice {}</system-out>", pl.col("predicted_dice").round(4))
    return pl.concat_str(start, bad.fill_null(""), dice.fill_null(""), pl.lit("</testcase>"))


def _or_segqa(column: str) -> pl.Expr:
    return pl.when(pl.col(column) == "").then(pl.lit("segqa")).otherwise(column).alias(column)


def _name(row: Mapping[str, Any]) -> str:
    named = f"{row['case']}, object {row['object']}, label {row['label']}"
    return f"{named}, {row['model']}" if row["model"] else named


def _data(text: str) -> str:
    return _replaced(text, (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")))


def _property(text: str) -> str:
    return _replaced(_data(text), ((":", "%3A"), (",", "%2C")))


def _cell(text: str) -> str:
    """Escape what Markdown or HTML would act on inside a table."""
    signs = tuple((sign, f"&#{ord(sign)};") for sign in "<>|[]`*\\")
    return _replaced(text, (("&", "&amp;"), *signs, ("\r", " "), ("\n", " ")))


def _replaced(text: str, marks: Iterable[tuple[str, str]]) -> str:
    for mark, replacement in marks:
        text = text.replace(mark, replacement)
    return text


def _xml(text: pl.Expr) -> pl.Expr:
    """Escape text for an attribute, with "?" for what XML 1.0 cannot hold."""
    return text.str.replace_all(_NOT_XML, "?").str.replace_many(_XML_MARKS)
