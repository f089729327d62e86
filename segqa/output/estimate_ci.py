"""What continuous integration reads of estimates and their gates: a JUnit report, annotations, a summary."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from pathlib import Path

from segqa.data.files import write_whole
from segqa.output.ci import append_summary
from segqa.spe.estimating import Estimates
from segqa.spe.gating import Gate


def write_junit(gates: Iterable[Gate], path: Path) -> None:
    """Write a JUnit report with one test a gate.

    Raises:
        InputError: The file cannot be written.
    """
    tests = list(gates)
    n_broken = sum(gate.is_broken for gate in tests)
    counts = {"tests": str(len(tests)), "failures": str(n_broken), "errors": "0", "skipped": "0", "time": "0"}
    root = ET.Element("testsuites", name="segqa")
    suite = ET.SubElement(root, "testsuite", {"name": "spe-estimate", **counts})
    for gate in tests:
        test = ET.SubElement(suite, "testcase", classname="spe-estimate", name=gate.name, time="0")
        if gate.is_broken:
            ET.SubElement(test, "failure", message=gate.sentence, type="estimated performance")
    ET.indent(root)
    content = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    write_whole(path, lambda file: file.write(content))


def github_lines(result: Estimates, gates: Iterable[Gate], *, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Append a summary where GitHub asks for it, and return an annotation for each broken gate.

    Args:
        result: The estimates.
        gates: The gates that were checked.
        environment: Variables of the process; without `GITHUB_ACTIONS` nothing happens.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    lines = append_summary(step_summary(result), environment)
    return lines + [f"::error title=segqa spe-estimate::{gate.sentence}" for gate in gates if gate.is_broken]


def step_summary(result: Estimates) -> str:
    """Return a Markdown table of the estimates, with the warnings below."""
    lines = [f"### segqa: estimated performance on {result.n_images} images", ""]
    lines += ["| label | metric | estimate | lower | upper |", "| --- | --- | ---: | ---: | ---: |"]
    for row in result.rows:
        value, lower, upper, _ = row.estimate
        lines.append(f"| {row.task} | {row.metric} | {value:.4f} | {lower:.4f} | {upper:.4f} |")
    return "\n".join([*lines, "", *(f"- {warning}" for warning in result.warnings)]) + "\n"
