"""What continuous integration reads: GitHub annotations and step summary, JUnit XML."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segqa.output.tables import write_whole
from segqa.schema import STATUS_ERROR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import polars as pl

MAX_ANNOTATIONS = 10
"""GitHub shows no more than this for one step."""

MAX_SUMMARY_ROWS = 500
"""Keeps the summary far below GitHub's limit of 1 MiB."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
        cells = (row[name] for name in ("case", "object", "label", "model", "why"))
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
    summary = environment.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(step_summary(flags, n_objects))
    return annotation_lines(flags)


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
    keys = ["case", "object", "label", "model"]
    rows = scores.join(flags.select(*keys, "why"), on=keys, how="left", maintain_order="left")
    root = ET.Element("testsuites", name="segqa")
    for suite in rows.partition_by("model", maintain_order=True):
        root.append(_suite(suite))
    tree = ET.ElementTree(root)
    ET.indent(tree)
    write_whole(path, lambda file: tree.write(file, encoding="utf-8", xml_declaration=True))


def _suite(rows: pl.DataFrame) -> ET.Element:
    suite = ET.Element("testsuite", name=_xml(rows["model"][0] or "segqa"))
    tests = [_test(row) for row in rows.iter_rows(named=True)]
    suite.extend(tests)
    suite.set("tests", str(len(tests)))
    for attribute, tag in (("failures", "failure"), ("errors", "error")):
        suite.set(attribute, str(sum(test.find(tag) is not None for test in tests)))
    suite.set("skipped", "0")
    suite.set("time", "0")
    return suite


def _test(row: Mapping[str, Any]) -> ET.Element:
    name = f"{row['case']} object {row['object']} label {row['label']}"
    test = ET.Element("testcase", classname=_xml(row["model"] or "segqa"), name=_xml(name), time="0")
    if row["why"] is not None:
        tag = "error" if row["predicted_dice"] is None or row["status"] == STATUS_ERROR else "failure"
        ET.SubElement(test, tag, message=_xml(row["why"]), type="segmentation quality")
    if row["predicted_dice"] is not None:
        ET.SubElement(test, "system-out").text = _xml(f"predicted_dice {row['predicted_dice']:.4f}")
    return test


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['case']}, object {row['object']}" + (f", {row['model']}" if row["model"] else "")


def _data(text: str) -> str:
    return _replaced(text, (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")))


def _property(text: str) -> str:
    return _replaced(_data(text), ((":", "%3A"), (",", "%2C")))


def _cell(text: str) -> str:
    """Escape what Markdown or HTML would act on inside a table."""
    marks = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\r", " "), ("\n", " "))
    return _replaced(text, marks)


def _replaced(text: str, marks: Iterable[tuple[str, str]]) -> str:
    for mark, replacement in marks:
        text = text.replace(mark, replacement)
    return text


def _xml(text: str) -> str:
    """Drop characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("?", text)
