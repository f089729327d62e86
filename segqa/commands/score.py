"""`segqa score`: how good each mask is, without a reference."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segqa import console
from segqa.commands.options import (
    AllowMissingOption,
    AxisOption,
    BoxesOption,
    CalibrationOption,
    DeviceOption,
    Format,
    LabelsOption,
    NanOption,
    ObjectsOption,
    RayOption,
    ReferenceOption,
    RuntimeOption,
    WeightsOption,
    WindowOption,
    WorkersOption,
    parse_labels,
    parse_masks,
)
from segqa.commands.results import DEFAULT_SCORES, check_output, hand_over, keep_apart, spare_inputs
from segqa.commands.scoring import announce, learn, read_finished, tell_doubts, write_record
from segqa.errors import ExitCode, InputError
from segqa.weights import DEFAULT_EVALUATOR

if TYPE_CHECKING:
    import polars as pl

    from segqa.scores import ScorePlan

SHOWN = ["case", "object", "label", "model", "predicted_dice", "lower", "upper", "box_source", "status", "reason"]


def score(
    images: Annotated[Path, typer.Argument(help="Images: a folder, or one file.")],
    masks: Annotated[
        list[str],
        typer.Argument(help="Predicted masks with the same stems; sub-folders are models. Or NAME=DIR, repeatable."),
    ],
    boxes: BoxesOption = None,
    output: Annotated[Path | None, typer.Option(help="Table to write.", show_default="segqa/scores.csv")] = None,
    file_format: Annotated[Format, typer.Option("--format", help="What to print.")] = "table",
    weights: WeightsOption = DEFAULT_EVALUATOR,
    calibration: CalibrationOption = None,
    reference: ReferenceOption = None,
    labels: LabelsOption = None,
    objects: ObjectsOption = "labels",
    window: WindowOption = None,
    axis: AxisOption = -1,
    nan: NanOption = "error",
    allow_missing: AllowMissingOption = False,
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="skip: keep what cannot be scored as a row and exit with 4.")
    ] = "stop",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was killed.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file named with --output.")] = False,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    workers: WorkersOption = 0,
    ray: RayOption = None,
    error_maps: Annotated[
        Path | None, typer.Option(help="Also write pictures of where each mask is likely wrong (needs PyTorch).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be scored, and stop.")] = False,
) -> None:
    """Predict the Dice of every mask, object by object, and write a table.

    For example:

    segqa score images masks --boxes boxes.json

    segqa score images masks --output scores.json --format json

    segqa score images unet=results/unet sam=results/sam

    segqa score volume.nii.gz prediction.nii.gz --window 40 400 --labels 1,2
    """
    from segqa.data.reading import Reading
    from segqa.journal import remove_journal
    from segqa.output.runrecord import record_path
    from segqa.runtime import require_torch
    from segqa.scores import plan_score, run_score, to_table

    if error_maps is not None:
        require_torch("--error-maps")
    start = time.monotonic()
    target = output or DEFAULT_SCORES
    side_files = (boxes, calibration, *(reference or ()))
    check_output(output, file_format, *side_files)
    spare_inputs(record_path(target), *side_files)
    keep_apart(target, record_path(target), folder=error_maps)
    journal = target.with_name(f".{target.name}.journal")
    if not resume and not overwrite:
        _spare_table(output)
    reading = Reading(parse_labels(labels), objects, window=window, nan=nan, on_error=on_error)
    plan = plan_score(
        images,
        parse_masks(masks),
        boxes,
        weights=weights,
        reading=reading,
        calibration=calibration,
        reference=reference,
        axis=axis,
        allow_missing=allow_missing,
        runtime=runtime,
        device=device,
        workers=workers,
        ray=ray,
    )
    if error_maps is not None:
        from segqa.output.overlays import check_folder

        check_folder(error_maps, plan.cases)
    if resume and not journal.exists():
        if (finished := read_finished(plan, target)) is not None:
            console.note(f"{target}: this run came to its end; nothing is left to score")
            _show(finished, file_format)
            _draw_maps(plan, None if dry_run else error_maps)
            _end(finished)
            return
        if not overwrite:
            _spare_table(output)
    announce(plan)
    if dry_run:
        console.result(f"{len(plan.cases)} cases would be scored into {target}")
        return
    plan = learn(plan, journal=journal if resume else None)
    rows = run_score(plan, journal=journal, resume=resume)
    table = to_table(console.progress(rows, description="cases scored", total=len(plan.cases)))
    _show(table, file_format, output=target)
    write_record(table, plan, target, time.monotonic() - start)
    _draw_maps(plan, error_maps)
    remove_journal(journal)  # last, so that `--resume` draws the maps of a run that was killed among them
    _end(table)


def _spare_table(output: Path | None) -> None:
    if output is not None and output.exists():
        msg = f"{output}: exists; choose another --output, or replace it with --overwrite"
        raise InputError(msg)


def _show(table: pl.DataFrame, file_format: Format, *, output: Path | None = None) -> None:
    from segqa.schema import TableName

    title = f"Predicted quality of {table.height} objects"
    hand_over(table, output=output, file_format=file_format, schema=TableName.SCORES, title=title, shown=SHOWN)


def _draw_maps(plan: ScorePlan, folder: Path | None) -> None:
    if folder is None:
        return
    from segqa.output.overlays import write_error_maps

    n_maps = write_error_maps(plan.cases, plan.reading, plan.evaluator.info.path, folder)
    console.note(f"{n_maps} error maps written to {folder}")


def _end(table: pl.DataFrame) -> None:
    """Tell what is odd about the rows, and end with 4 when some could not be scored."""
    counts = tell_doubts(table)
    if counts.failed:
        console.warn(f"{counts.failed} of {counts.read} rows could not be scored; see `reason`")
        raise typer.Exit(ExitCode.PARTIAL)
