"""`segqa evaluate`: true metrics where reference masks exist, and how well scores agree with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segqa import console
from segqa.commands.options import (
    AllowMissingOption,
    AxisOption,
    BoxesOption,
    FormatOption,
    LabelsOption,
    ObjectsOption,
    parse_labels,
    parse_masks,
)
from segqa.commands.results import check_output, hand_over, join_truth

SHOWN = ["case", "object", "label", "model", "true_dice", "true_jaccard", "true_hd95_px", "reason"]


def evaluate(
    pred: Annotated[
        list[str], typer.Argument(help="Predicted masks: a folder, with a sub-folder a model; or NAME=DIR, repeatable.")
    ],
    truth: Annotated[Path, typer.Argument(help="Reference masks with the same stems.")],
    scores: Annotated[Path | None, typer.Option(help="Table of `segqa score`: shows how well it agrees.")] = None,
    boxes: BoxesOption = None,
    labels: LabelsOption = None,
    objects: ObjectsOption = "labels",
    axis: AxisOption = -1,
    allow_missing: AllowMissingOption = False,
    output: Annotated[Path, typer.Option(help="Table to write.")] = Path("segqa/evaluation.csv"),
    file_format: FormatOption = "table",
) -> None:
    """Measure predicted masks against reference masks, object by object.

    What the prediction or the reference lacks is a row with Dice 0. With --scores the agreement of predicted
    and true Dice is printed, per model and overall. Give the boxes and the reading options that `segqa score`
    was given: the objects of both tables are then the same.

    For example:

    segqa evaluate masks truth --output evaluation.csv

    segqa evaluate masks truth --boxes boxes.json --scores segqa/scores.csv

    segqa evaluate unet=results/unet sam=results/sam truth
    """
    from segqa.data.boxes import read_boxes
    from segqa.decisions import agreement, evaluation
    from segqa.output import tables
    from segqa.schema import TableName

    check_output(output, file_format, scores, boxes)
    chosen = parse_labels(labels)
    known = None if scores is None else tables.read_scores(scores)
    found = evaluation.find_evaluated(
        parse_masks(pred),
        truth,
        boxes=None if boxes is None else read_boxes(boxes),
        labels=chosen,
        allow_missing=allow_missing,
        axis=axis,
    )
    for remark in (*evaluation.lonely_remark(found), *found.remarks()):
        console.warn(remark)
    cases = console.progress(found, description="cases evaluated", total=len(found))
    table = evaluation.evaluate_cases(cases, labels=chosen, objects=objects)
    hand_over(
        table,
        output=output,
        file_format=file_format,
        schema=TableName.EVALUATION,
        title="True metrics",
        shown=SHOWN,
        quiet=known is not None,
    )
    if known is not None:
        agreed = agreement.agreement_table(join_truth(known, table))
        title = "Agreement of predicted and true Dice"
        hand_over(agreed, output=None, file_format=file_format, schema=TableName.AGREEMENT, title=title)
