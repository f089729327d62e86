"""`segqa rank`: the best mask of each object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segqa import console
from segqa.commands.results import (
    DEFAULT_SCORES,
    FormatOption,
    OutputOption,
    ScoresArgument,
    check_output,
    hand_over,
)
from segqa.errors import InputError

SHOWN = ["case", "object", "label", "model", "predicted_dice", "runner_up", "margin", "intervals_overlap"]
TITLE = "Best mask of each object"
COMPARED = "Choosing by predicted score, against an oracle, one model and chance"


def rank(
    scores: ScoresArgument = DEFAULT_SCORES,
    truth: Annotated[Path | None, typer.Option(help="Table of `segqa evaluate`: tells how good the choice is.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of masks, a sub-folder a model.")] = None,
    copy_best: Annotated[
        Path | None, typer.Option(help="Write a mask per case there, each object from its best model.")
    ] = None,
    output: OutputOption = None,
    file_format: FormatOption = "table",
) -> None:
    """Choose for each object the mask with the highest predicted score.

    The margin to the runner-up and whether their intervals overlap tell how sure the choice is. With --truth
    the choice is compared with an oracle, with always one model, and with chance.

    For example:

    segqa rank segqa/scores.csv --output selection.csv

    segqa rank --truth evaluation.csv
    """
    from segqa.decisions import agreement, ranking
    from segqa.output import tables

    check_output(output, file_format)
    if (copy_best is None) != (masks is None):
        msg = "--copy-best and --masks belong together: where to write, and where the masks are"
        raise InputError(msg)
    frame = tables.read_scores(scores)
    joined = None if truth is None else agreement.join_truth(frame, tables.read_truth(truth))
    chosen = ranking.rank(frame)
    if joined is None:
        hand_over(chosen, output=output, file_format=file_format, schema="segqa.selection", title=TITLE, shown=SHOWN)
    else:
        if output is not None:
            tables.write_table(chosen, output, schema="segqa.selection")
        compared = ranking.selection_table(joined)
        hand_over(compared, output=None, file_format=file_format, schema="segqa.selection_quality", title=COMPARED)
    if masks is not None and copy_best is not None:
        from segqa.decisions.composing import write_chosen

        console.note(f"{write_chosen(frame, chosen, masks, copy_best)} masks written to {copy_best}")
