"""`segqa report`: the scores as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segqa import console
from segqa.commands.options import (
    AxisOption,
    BoxesOption,
    LabelsOption,
    MasksOption,
    NanOption,
    ObjectsOption,
    ScoresArgument,
    WindowOption,
    parse_labels,
    parse_masks,
    paths_of,
)
from segqa.commands.results import DEFAULT_SCORES, spare_inputs
from segqa.errors import InputError
from segqa.weights import DEFAULT_EVALUATOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from segqa.data.reading import Reading
    from segqa.output.report import Key, Pictures

DEFAULT_REPORT = Path("segqa/report.html")


def report(
    scores: ScoresArgument = DEFAULT_SCORES,
    images: Annotated[Path | None, typer.Option(help="Images that were scored: a folder, or one file.")] = None,
    masks: MasksOption = None,
    boxes: BoxesOption = None,
    output: Annotated[Path, typer.Option("--output", "--out", help="HTML file to write.")] = DEFAULT_REPORT,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="Show so many of the worst objects.")] = 500,
    error_maps: Annotated[
        bool, typer.Option("--error-maps", help="Also show where each mask is likely wrong; needs PyTorch.")
    ] = False,
    weights: Annotated[str, typer.Option(help="Evaluator of the error maps.")] = DEFAULT_EVALUATOR,
    labels: LabelsOption = None,
    objects: ObjectsOption = "labels",
    window: WindowOption = None,
    axis: AxisOption = -1,
    nan: NanOption = "error",
) -> None:
    """Write a page with summary, models and the worst objects: one HTML file that opens from disk.

    With --images and --masks it shows each object; give the options that `segqa score` was given. Without them it
    is a table. All objects are counted, the worst are shown.

    For example:

    segqa report --images images --masks masks --boxes boxes.json

    segqa report --images images --masks unet=results/unet --masks sam=results/sam --labels 1,3

    segqa report segqa/scores.csv --output report.html --limit 100
    """
    from segqa.data.files import write_whole
    from segqa.data.reading import Reading
    from segqa.output import tables
    from segqa.output.report import render_report, worst_first

    named = parse_masks(masks) if masks else None
    spare_inputs(output, scores, boxes, images, *paths_of(named), Path(weights))
    if (images is None) != (named is None):
        msg = "--images and --masks belong together: give both for pictures, or none for a table"
        raise InputError(msg)
    if error_maps and images is None:
        msg = "--error-maps needs the pictures: give --images and --masks"
        raise InputError(msg)
    frame = tables.read_scores(scores)
    pictures: dict[Key, Pictures] = {}
    if images is not None and named is not None:
        reading = Reading(parse_labels(labels), objects, window=window, nan=nan)
        shown = worst_first(frame, limit)
        judge = weights if error_maps else None
        pictures = _draw(shown, images, named, boxes, reading=reading, axis=axis, weights=judge)
    page = render_report(frame, pictures=pictures, limit=limit, source=scores.name).encode()
    write_whole(output, lambda file: file.write(page))
    console.note(f"{min(limit, frame.height)} of {frame.height} objects shown, {len(page) / 1e6:.1f} MB")
    console.result(str(output))


def _draw(
    shown: pl.DataFrame,
    images: Path,
    masks: Path | Mapping[str, Path],
    boxes: Path | None,
    *,
    reading: Reading,
    axis: int,
    weights: str | None,
) -> dict[Key, Pictures]:
    from segqa.data.boxes import read_boxes
    from segqa.data.cases import find_cases
    from segqa.output.overlays import load_judge
    from segqa.output.report import draw_pictures
    from segqa.weights import find_weights

    for path in (images, *paths_of(masks)):
        if not path.exists():
            msg = f"{path}: no such file or folder; give the paths that were scored"
            raise InputError(msg)
    network = None if weights is None else load_judge(find_weights(weights))
    known = None if boxes is None else read_boxes(boxes)
    cases = find_cases(
        images, masks, boxes=known, labels=reading.labels, allow_missing=True, axis=axis, skip_unreadable=True
    )
    drawn = draw_pictures(shown, cases, reading, network=network)
    pictures = dict(console.progress(drawn, description="pictures drawn", total=shown.height))
    lost = shown.height - len(pictures)
    if lost:
        console.warn(f"{lost} of {shown.height} objects have no picture; were all options of `segqa score` given?")
    return pictures
