"""`segqa evaluate`: true metrics where reference masks exist, and how well scores agree with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segqa import console
from segqa.commands.results import FormatOption, check_output, hand_over, parse_labels

SHOWN = ["case", "object", "label", "model", "true_dice", "true_jaccard", "true_hd95_px", "reason"]


def evaluate(
    pred: Annotated[Path, typer.Argument(help="Predicted masks: a folder, with a sub-folder a model.")],
    truth: Annotated[Path, typer.Argument(help="Reference masks with the same stems.")],
    scores: Annotated[Path | None, typer.Option(help="Table of `segqa score`: shows how well it agrees.")] = None,
    boxes: Annotated[Path | None, typer.Option(help="The boxes given to `segqa score`, for the same objects.")] = None,
    labels: Annotated[str | None, typer.Option(help="Labels to look at, such as 1,3. [default: all]")] = None,
    objects: Annotated[
        Literal["labels", "components"], typer.Option(help="What is an object where there are no boxes.")
    ] = "labels",
    allow_missing: Annotated[bool, typer.Option(help="Leave out files without a partner.")] = False,
    output: Annotated[Path, typer.Option(help="Table to write.")] = Path("segqa/evaluation.csv"),
    file_format: FormatOption = "table",
) -> None:
    """Measure predicted masks against reference masks, object by object.

    What the prediction or the reference lacks is a row with Dice 0. With --scores the agreement of predicted
    and true Dice is printed, per model and overall.

    For example:

    segqa evaluate masks truth --output evaluation.csv

    segqa evaluate masks truth --boxes boxes.json --scores segqa/scores.csv
    """
    from segqa.data.boxes import read_boxes
    from segqa.decisions import agreement, evaluation
    from segqa.output import tables

    check_output(output, file_format)
    known = None if scores is None else tables.read_scores(scores)
    found = evaluation.find_evaluated(
        pred, truth, boxes=None if boxes is None else read_boxes(boxes), allow_missing=allow_missing
    )
    cases = console.progress(found, description="cases evaluated", total=len(found))
    table = evaluation.evaluate_cases(cases, labels=parse_labels(labels), objects=objects)
    hand_over(
        table,
        output=output,
        file_format=file_format,
        schema="segqa.evaluation",
        title="True metrics",
        shown=SHOWN,
        quiet=known is not None,
    )
    if known is not None:
        agreed = agreement.agreement_table(agreement.join_truth(known, table))
        title = "Agreement of predicted and true Dice"
        hand_over(agreed, output=None, file_format=file_format, schema="segqa.agreement", title=title)
