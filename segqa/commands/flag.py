"""`segqa flag`: which segmentations to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segqa import console
from segqa.commands.options import FormatOption, OutputOption, ScoresArgument
from segqa.commands.results import DEFAULT_SCORES, check_output, hand_over, keep_apart, spare_inputs
from segqa.config import is_on_call, keep_closest
from segqa.errors import InputError

SHOWN = ["case", "object", "label", "model", "predicted_dice", "lower", "upper", "why"]


def flag(
    context: typer.Context,
    scores: ScoresArgument = DEFAULT_SCORES,
    percentile: Annotated[
        float | None,
        typer.Option(help="Flag so many percent, rounded up, with all equal to the last.", show_default="5"),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Flag what is below this score instead.")] = None,
    use: Annotated[
        Literal["predicted", "lower"], typer.Option(help="Compare the score, or the lower end of its interval.")
    ] = "predicted",
    per: Annotated[
        Literal["model", "label"] | None, typer.Option(help="Take the percentile within each model or label.")
    ] = None,
    fail_above_count: Annotated[
        int | None, typer.Option(min=0, help="Exit with 3 when more objects than this are flagged.")
    ] = None,
    fail_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 3 when more than this share is flagged, 0..1.")
    ] = None,
    output: OutputOption = None,
    file_format: FormatOption = "table",
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report of all objects.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors and GitHub's annotations only.")] = False,
) -> None:
    """List the segmentations that a person should look at first, worst first.

    Objects that could not be scored are always flagged. Under GitHub Actions the worst are annotated.

    For example:

    segqa flag --percentile 5

    segqa flag segqa/scores.csv --threshold 0.7 --use lower --output flags.csv

    segqa flag --threshold 0.7 --fail-above-count 100 --junit flags.xml --format json
    """
    from segqa.decisions import flagging, gates
    from segqa.output import ci, tables
    from segqa.schema import TableName

    if quiet:
        console.set_quiet(True)

    check_output(output, file_format, scores)
    spare_inputs(junit, scores)
    keep_apart(output, junit)
    frame = tables.read_scores(scores)
    if frame.is_empty() and (fail_above_count is not None or fail_share is not None):
        msg = f"{scores}: has no row, so the gate has nothing to check; score some masks first"
        raise InputError(msg)
    rule = keep_closest(context, percentile=percentile, threshold=threshold)
    if rule["threshold"] is not None and not is_on_call(context, "per"):
        per = None  # a default for the percentile that this call does without
    flags = flagging.flag(frame, **rule, use=use, per=per)
    title = f"{flags.height} of {frame.height} objects to look at, worst first"
    hand_over(
        flags, output=output, file_format=file_format, schema=TableName.FLAGS, title=title, shown=SHOWN, quiet=quiet
    )
    if junit is not None:
        ci.write_junit(junit, frame, flags)
    for line in ci.github_lines(flags, frame.height):
        console.annotate(line)
    gates.check_gate(flags, frame.height, above_count=fail_above_count, above_share=fail_share)
