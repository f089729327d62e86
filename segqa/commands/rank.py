"""`segqa rank`: the best mask of each object."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segqa import console
from segqa.commands.options import (
    AllowMissingOption,
    AxisOption,
    BoxesOption,
    CalibrationOption,
    FormatOption,
    LabelsOption,
    MasksOption,
    NanOption,
    ObjectsOption,
    OutputOption,
    RayOption,
    ReferenceOption,
    WeightsOption,
    WindowOption,
    WorkersOption,
    parse_labels,
    parse_masks,
)
from segqa.commands.results import DEFAULT_SCORES, check_output, hand_over, join_truth, keep_apart, spare_inputs
from segqa.commands.scoring import announce, learn, tell_doubts, write_record
from segqa.config import is_on_call
from segqa.errors import InputError
from segqa.weights import DEFAULT_EVALUATOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from segqa.scores import ScorePlan

SHOWN = ["case", "object", "label", "model", "predicted_dice", "runner_up", "margin", "intervals_overlap"]
TITLE = "Best mask of each object"
COMPARED = "Choosing by predicted score, against an oracle, one model and chance"
SCORING = (
    "boxes",
    "weights",
    "calibration",
    "reference",
    "labels",
    "objects",
    "window",
    "nan",
    "allow_missing",
    "workers",
    "ray",
)
"""Options that only images need."""


def rank(
    context: typer.Context,
    scores: Annotated[
        Path, typer.Argument(help="Table that `segqa score` wrote; or images, which are scored first.")
    ] = DEFAULT_SCORES,
    masks: MasksOption = None,
    boxes: BoxesOption = None,
    truth: Annotated[Path | None, typer.Option(help="Table of `segqa evaluate`: tells how good the choice is.")] = None,
    copy_best: Annotated[
        Path | None, typer.Option(help="Write a mask per case there, each object from its best model.")
    ] = None,
    weights: WeightsOption = DEFAULT_EVALUATOR,
    calibration: CalibrationOption = None,
    reference: ReferenceOption = None,
    labels: LabelsOption = None,
    objects: ObjectsOption = "labels",
    window: WindowOption = None,
    axis: AxisOption = -1,
    nan: NanOption = "error",
    allow_missing: AllowMissingOption = False,
    workers: WorkersOption = 0,
    ray: RayOption = None,
    output: OutputOption = None,
    file_format: FormatOption = "table",
) -> None:
    """Choose for each object the mask with the highest predicted score.

    The margin to the runner-up and whether their intervals overlap tell how sure the choice is. With --truth
    the choice is compared with an oracle, with always one model, and with chance. Images are scored as
    `segqa score` does, into segqa/scores.csv.

    For example:

    segqa rank images --masks unet=results/unet --masks sam=results/sam --copy-best best

    segqa rank segqa/scores.csv --output selection.csv

    segqa rank --truth evaluation.csv
    """
    from segqa.decisions import ranking
    from segqa.output import tables
    from segqa.schema import TableName

    side_files = (truth, boxes, calibration, *(reference or ()))
    check_output(output, file_format, scores, *side_files)
    keep_apart(output, folder=copy_best)
    if truth is not None and file_format == "parquet":
        msg = "--format parquet prints nothing, but the comparison with --truth is printed; choose csv, json or jsonl"
        raise InputError(msg)
    named = parse_masks(masks) if masks else None
    plan: ScorePlan | None = None
    if tables.is_table(scores):
        _check_table_call(context, has_masks=named is not None, copies=copy_best is not None)
        frame = tables.read_scores(scores)
    else:
        from segqa.data.reading import Reading
        from segqa.output.runrecord import record_path
        from segqa.scores import plan_score

        own = (DEFAULT_SCORES, record_path(DEFAULT_SCORES))
        for target in own:
            spare_inputs(target, *side_files)
        keep_apart(*own, output, folder=copy_best)
        plan = plan_score(
            scores,
            _needed(named, scores),
            boxes,
            weights=weights,
            calibration=calibration,
            reference=reference,
            reading=Reading(parse_labels(labels), objects, window=window, nan=nan),
            axis=axis,
            allow_missing=allow_missing,
            workers=workers,
            ray=ray,
        )
        if copy_best is not None:
            from segqa.decisions.composing import check_folder

            check_folder(copy_best, plan.cases, masks=named)
        frame = _score(plan)
    chosen = ranking.rank(frame)
    if truth is None:
        hand_over(chosen, output=output, file_format=file_format, schema=TableName.SELECTION, title=TITLE, shown=SHOWN)
    else:
        compared = ranking.selection_table(join_truth(frame, tables.read_truth(truth)))
        if output is not None:
            tables.write_table(chosen, output, schema=TableName.SELECTION)
            console.note(f"{chosen.height} rows written to {output}")
        hand_over(compared, output=None, file_format=file_format, schema=TableName.SELECTION_QUALITY, title=COMPARED)
    if copy_best is not None and named is not None:
        from segqa.decisions import composing

        cases = composing.find_masks(frame, named, axis=axis) if plan is None else plan.cases
        n_masks = composing.write_chosen(frame, chosen, cases, copy_best, masks=named)
        console.note(f"{n_masks} masks written to {copy_best}")


def _check_table_call(context: typer.Context, *, has_masks: bool, copies: bool) -> None:
    """Refuse what would have no effect on a table that is there already."""
    if copies and not has_masks:
        msg = "--copy-best needs --masks: where to write, and where the masks are"
        raise InputError(msg)
    unused = [name for name in (*SCORING, *(() if copies else ("masks",))) if is_on_call(context, name)]
    if unused:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        msg = f"{options}: for images that are scored first{'' if copies else ', or --masks for --copy-best'}; "
        raise InputError(msg + "a table of scores is ranked as it is")


def _needed(masks: Path | Mapping[str, Path] | None, images: Path) -> Path | Mapping[str, Path]:
    if masks is None:
        msg = f"{images}: not a table by its name; to score images first, name their masks with --masks NAME=DIR"
        raise InputError(msg)
    return masks


def _score(plan: ScorePlan) -> pl.DataFrame:
    """Return the scores, and keep them where `segqa score` does: they were the slow part."""
    from segqa.output.tables import write_table
    from segqa.scores import run_score, to_table

    start = time.monotonic()
    announce(plan)
    plan = learn(plan)
    rows = console.progress(run_score(plan), description="cases scored", total=len(plan.cases))
    table = to_table(rows)
    write_table(table, DEFAULT_SCORES)
    console.note(f"{table.height} rows written to {DEFAULT_SCORES}")
    write_record(table, plan, DEFAULT_SCORES, time.monotonic() - start)
    tell_doubts(table)
    return table
