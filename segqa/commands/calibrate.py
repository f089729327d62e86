"""`segqa calibrate`: intervals for your own data, from scores whose truth you know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segqa import console
from segqa.commands.results import spare_inputs

if TYPE_CHECKING:
    import polars as pl

    from segqa.quality.intervals import Interval


def calibrate(
    scores: Annotated[Path, typer.Argument(help="Table that `segqa score` wrote, of cases with a reference.")],
    truth: Annotated[Path, typer.Argument(help="Table that `segqa evaluate` wrote for the same masks.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("segqa/calibration.json"),
    groups: Annotated[
        Path | None,
        typer.Option(help="groups.json: patient of each case or volume.", show_default="each image or volume alone"),
    ] = None,
    level: Annotated[float, typer.Option(help="How often an interval shall hold the true Dice, 0..1.")] = 0.9,
) -> None:
    """Learn from cases with a reference how far scores of data like yours are off.

    `segqa score --calibration` then gives these intervals. The objects of one group count as one.

    For example:

    segqa calibrate segqa/scores.csv segqa/evaluation.csv --groups groups.json

    segqa score images masks --calibration segqa/calibration.json
    """
    import polars as pl

    from segqa.data.files import write_whole
    from segqa.decisions.agreement import join_truth
    from segqa.output import tables
    from segqa.output.runrecord import record_path
    from segqa.quality.calibration import render_interval

    spare_inputs(out, scores, truth, groups, record_path(scores))
    joined = join_truth(tables.read_scores(scores), tables.read_truth(truth))
    known = joined.with_columns(pl.col("predicted_dice", "true_dice", "novelty").fill_nan(None))
    known = known.drop_nulls(["predicted_dice", "true_dice"])
    if known.height < joined.height:
        console.note(f"{joined.height - known.height} of {joined.height} rows have no score or no truth: left out")
    interval = _fit(known, _group_names(known["case"].to_list(), groups), level)
    with_references = known["reference_dice"].null_count() < known.height
    about = {"scores": scores.name, "truth": truth.name, "references": with_references}
    text = render_interval(interval, weights_sha256=_weights_of(scores), about=about)
    write_whole(out, lambda file: file.write(text.encode()))
    console.result(f"{out} written: {interval.describe()}")


def _fit(known: pl.DataFrame, names: list[str], level: float) -> Interval:
    from segqa.quality.intervals import fit_interval

    novelty = None if known["novelty"].null_count() else known["novelty"].to_numpy()
    predicted, true = known["predicted_dice"].to_numpy(), known["true_dice"].to_numpy()
    return fit_interval(predicted, true, names, novelty=novelty, level=level)


def _group_names(cases: list[str], path: Path | None) -> list[str]:
    """Return the group of each case: without a file its volume, or itself."""
    from segqa.data.groups import group_of, read_groups

    return [group_of(case) for case in cases] if path is None else read_groups(path, cases)


def _weights_of(scores: Path) -> str | None:
    """Return the SHA-256 of the weights that made the scores, when the record of their run lies beside them."""
    from segqa.output.runrecord import record_path

    record = record_path(scores)
    try:
        digest = json.loads(record.read_text(encoding="utf-8"))["weights"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        console.note(f"{record.name} does not lie beside {scores.name}: the calibration will not check the weights")
        return None
    return str(digest)
