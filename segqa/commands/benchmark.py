"""`segqa benchmark`: which segmentation model is better, and is the difference real."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segqa import console
from segqa.commands.options import FormatOption, OutputOption, ScoresArgument
from segqa.commands.results import DEFAULT_SCORES, check_output, hand_over, join_truth, keep_apart

if TYPE_CHECKING:
    import polars as pl


def benchmark(
    scores: ScoresArgument = DEFAULT_SCORES,
    truth: Annotated[
        Path | None, typer.Option(help="Table of `segqa evaluate`: adds how well the scores agree with it.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write figures (PNG and SVG) there.")] = None,
    level: Annotated[float, typer.Option(help="Level of each interval, 0..1.")] = 0.95,
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws of whole images and volumes.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    output: OutputOption = None,
    file_format: FormatOption = "table",
) -> None:
    """Compare segmentation models by their mean predicted score, without any truth.

    Intervals come from drawing whole images and volumes with replacement; of one alone there are none. The table of
    models is the result; differences between models, and the agreement with the truth, follow in the format for people.

    For example:

    segqa benchmark segqa/scores.csv

    segqa benchmark --truth evaluation.csv --plots figures
    """
    from segqa.decisions import benchmarking
    from segqa.output import tables
    from segqa.schema import TableName

    check_output(output, file_format, scores, truth)
    keep_apart(output, folder=plots)
    frame = tables.read_scores(scores)
    joined = frame if truth is None else join_truth(frame, tables.read_truth(truth))
    found = benchmarking.benchmark(frame, level=level, n_draws=draws, seed=seed)
    if remark := benchmarking.overlap_remark(found):
        console.warn(remark)
    hand_over(
        found.models, output=output, file_format=file_format, schema=TableName.BENCHMARK, title="Predicted scores"
    )
    if file_format == "table":
        if found.differences.height:
            console.table(found.differences, title="Differences of models on the same objects")
        if truth is not None:
            _show_agreement(joined)
    if plots is not None:
        from segqa.output.plots import save_plots

        console.note(f"{len(save_plots(joined, plots))} figures written to {plots}")


def _show_agreement(frame: pl.DataFrame) -> None:
    from segqa.decisions import agreement

    table = agreement.agreement_table(frame)
    console.table(table, title="Agreement of predicted and true Dice")
    console.table(agreement.order_curve(frame), title="Share of pairs in the right order, by difference β")
    order = agreement.model_order(table)
    if not math.isnan(order):
        console.result(f"Order of the models, predicted and true: Kendall's tau {order:.4f}")
