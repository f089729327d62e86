"""Every mask judged by an evaluator: one row a mask."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from benchmarks.quality.trials import Trial, all_trials
from segqa.data.types import ObjectMask
from segqa.quality.preprocessing import build_input
from segqa.quality.records import Record
from segqa.quality.scoring import Evaluator, Opinion, SecondJudge, combine, doubt_columns

DOUBTS = {"lower": "lower_dice", "upper": "upper_dice", "novelty": "novelty"}
"""Columns of a table -> what the calibration of the weights says."""


def judge(
    records: Sequence[Record], evaluator: Evaluator, seed: int, *, references: SecondJudge | None = None
) -> pl.DataFrame:
    """Return one row per mask: data set, case, source, true and predicted Dice, and what needs no evaluator.

    `confidence` is the segmenter's own estimate where it gives one, `area` the share of the box that the mask's area
    makes, at most 1; `reference` the opinion of the second judge, if there is one. The masks and the order of the rows
    depend on records and seed only.
    """
    rows = []
    for number, (record, trials) in enumerate(all_trials(records, seed)):
        image = record.image
        scores, embeddings = evaluator.look([build_input(image, t.mask, t.box, evaluator.profile) for t in trials])
        seconds = [_ask(references, record, trial) for trial in trials]
        combine(scores[:, evaluator.heads.index("dice")], seconds)
        doubts = doubt_columns(scores, embeddings, evaluator)
        for trial, score, doubt, second in zip(trials, scores[:, 0], doubts, seconds, strict=True):
            rows.append(
                {
                    "dataset": record.dataset,
                    "case": record.case,
                    "object": f"{record.case}/{record.object}/{number}",
                    "source": trial.source,
                    "true": trial.dice,
                    "predicted": float(score),
                    "confidence": trial.confidence,
                    "reference": None if second is None else second.dice,
                    "area": min(float(trial.mask.sum()) / trial.box.area, 1.0),
                    **{name: doubt[key] for name, key in DOUBTS.items() if key in doubt},
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def _ask(references: SecondJudge | None, record: Record, trial: Trial) -> Opinion | None:
    if references is None:
        return None
    return references.judge(record.image, ObjectMask(record.object, record.label, trial.mask, trial.box))
