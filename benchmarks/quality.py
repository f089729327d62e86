"""How well an evaluator judges masks on data sets it was not trained on, beside simple baselines.

    segqa prepare ../shared/data/ph2 --out prepared-test/ph2 --side 2048 --max-cases 24 --max-objects 4
    python -m benchmarks.quality prepared-test --weights evaluator-lite0

Every mask of the prepared records is judged with the box that prompted it (exact, jittered or wrong); to these come,
for each object, corruptions of the reference, an empty mask, the filled box, the reference itself and, where there is
one, the mask of another object, judged with a jittered box of the object. Records made at `--side 2048` are not
shrunk, so the input is that of `segqa score`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from segqa import metrics
from segqa.agreement import aurc, auroc, mae, pearson, spearman
from segqa.data.boxes import Box
from segqa.data.types import Mask
from segqa.quality.corruptions import corrupt
from segqa.quality.library import read_library
from segqa.quality.novelty import NOVEL
from segqa.quality.preprocessing import build_input
from segqa.quality.prompting import jitter_box
from segqa.quality.records import OWN, Record
from segqa.quality.scoring import Evaluator, doubt_columns, load_evaluator
from segqa.weights import find_weights

CORRUPTIONS = 3
"""Corrupted references for each object."""

LOW = 0.7

LARGE = 0.2
"""An error above this is one that novelty should find."""

DOUBTS = {"lower": "lower_dice", "upper": "upper_dice", "novelty": "novelty"}
"""Columns of a table -> what the calibration of the weights says."""

SPOILT = ("corruption", "empty", "whole box", "other object")
"""Masks made from the reference by a mistake."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One mask to judge."""

    source: str
    mask: Mask
    box: Box
    dice: float
    confidence: float | None = None


def trials_of(record: Record, rng: np.random.Generator) -> Iterator[Trial]:
    """Yield the masks of a record; synthetic ones only for records around the object's own box."""
    for index, candidate in enumerate(record.candidates):
        name = f"{candidate.source} {candidate.prompt}"
        box = candidate.box.clip(*record.labels.shape)
        yield Trial(name, record.mask(index), box, candidate.dice, candidate.confidence)
    if any(candidate.prompt == "wrong" for candidate in record.candidates):
        return
    truth = record.truth
    height, width = truth.shape
    own = Box.from_mask(truth) or Box(0, 0, width, height)
    box = jitter_box(own, 0.1, height=height, width=width, rng=rng)
    filled = np.zeros_like(truth)
    filled[box.y0 : box.y1, box.x0 : box.x1] = True
    masks = [("corruption", corrupt(truth, rng)) for _ in range(CORRUPTIONS)]
    masks += [("empty", np.zeros_like(truth)), ("whole box", filled), ("reference", truth)]
    others = int(record.labels.max()) - OWN
    if others:
        masks.append(("other object", record.labels == OWN + 1 + rng.integers(others)))
    for name, mask in masks:
        yield Trial(name, mask, box, metrics.dice(mask, truth))


def judge(records: Sequence[Record], evaluator: Evaluator, seed: int) -> pl.DataFrame:
    """Return one row per mask: data set, case, source, true and predicted Dice, baselines."""
    rows = []
    for number, record in enumerate(records):
        trials = list(trials_of(record, np.random.default_rng([seed, number])))
        image = record.image
        scores, embeddings = evaluator.look([build_input(image, t.mask, t.box, evaluator.profile) for t in trials])
        doubts = doubt_columns(scores, embeddings, evaluator)
        for trial, score, doubt in zip(trials, scores[:, 0], doubts, strict=True):
            rows.append(
                {
                    "dataset": record.dataset,
                    "case": record.case,
                    "object": f"{record.case}/{record.object}/{number}",
                    "source": trial.source,
                    "true": trial.dice,
                    "predicted": float(score),
                    "confidence": trial.confidence,
                    "area": float(trial.mask.sum()) / trial.box.area,
                    **{name: doubt[key] for name, key in DOUBTS.items() if key in doubt},
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def agreement_row(name: str, part: pl.DataFrame, column: str = "predicted") -> dict[str, object]:
    """Return the figures of one group of masks."""
    known = part.drop_nulls([column, "true"])
    predicted, true = known[column].to_numpy(), known["true"].to_numpy()
    return {
        "group": name,
        "n": known.height,
        "pearson": pearson(predicted, true),
        "spearman": spearman(predicted, true),
        "mae": mae(predicted, true),
        f"auroc<{LOW}": auroc(predicted, true, threshold=LOW),
        "aurc": aurc(predicted, true),
    }


def selection_row(name: str, part: pl.DataFrame) -> dict[str, object]:
    """Return how well the best mask of each object is found among its candidates, reference left out."""
    wins, regrets, chance = [], [], []
    for _, group in part.filter(pl.col("source") != "reference").group_by("object", maintain_order=True):
        true, predicted = group["true"].to_numpy(), group["predicted"].to_numpy()
        if len(true) > 1:
            chosen = true[int(np.argmax(predicted))]
            wins.append(bool(chosen == true.max()))
            regrets.append(float(true.max() - chosen))
            chance.append(float(true.max() - true.mean()))
    return {
        "group": name,
        "n": len(wins),
        "best found": np.mean(wins),
        "regret": np.mean(regrets),
        "regret of chance": np.mean(chance),
    }


def interval_row(name: str, part: pl.DataFrame) -> dict[str, object]:
    """Return how often the intervals hold the true Dice, how wide they are, and whether novelty finds large errors."""
    inside = (part["lower"] <= part["true"]) & (part["true"] <= part["upper"])
    error = (part["predicted"] - part["true"]).abs().to_numpy()
    return {
        "group": name,
        "n": part.height,
        "coverage": inside.mean(),
        "width": (part["upper"] - part["lower"]).mean(),
        "novelty": part["novelty"].mean(),
        f"share over {NOVEL}": (part["novelty"] > NOVEL).mean(),
        f"auroc of novelty, error>{LARGE}": auroc(-part["novelty"].to_numpy(), -error, threshold=-LARGE),
    }


def by_set(table: pl.DataFrame, *, intervals: bool = False) -> pl.DataFrame:
    """Return the figures of each data set and their mean: of the scores, or of their intervals."""
    make = interval_row if intervals else agreement_row
    rows = [make(name, table.filter(dataset=name)) for name in table["dataset"].unique().sort().to_list()]
    numbers = [key for key in rows[0] if key not in ("group", "n")]
    mean = {key: float(np.nanmean([float(row[key]) for row in rows])) for key in numbers}  # type: ignore[arg-type]
    return pl.DataFrame([*rows, {"group": "mean of sets", "n": table.height} | mean])


def report(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Return the printed tables."""
    sets = table["dataset"].unique().sort().to_list()
    plain = table.filter(pl.col("source").str.starts_with("litemedsam") | pl.col("source").is_in(SPOILT))
    by_source = [agreement_row(name, table.filter(source=name)) for name in table["source"].unique().sort().to_list()]
    prompted = table.filter(pl.col("source").is_in(["litemedsam exact", "litemedsam jittered"]))
    head = []
    for name in sets:
        mine = prompted.filter(dataset=name)
        row = {"group": name, "n": mine.height}
        for label, column in (("segqa", "predicted"), ("LiteMedSAM's IoU head", "confidence"), ("mask area", "area")):
            row[label] = agreement_row(name, mine, column)["pearson"]  # type: ignore[assignment]
        head.append(row)
    low = [
        {"source": name, "n": part.height, "share under 0.3": float((part["predicted"] < 0.3).mean() or 0)}
        for name in ("empty", "whole box", "other object")
        if (part := table.filter(source=name)).height
    ]
    selection = [selection_row(name, table.filter(dataset=name)) for name in sets]
    tables = [
        ("Agreement by data set: LiteMedSAM with exact, jittered and wrong boxes, and corruptions", by_set(plain)),
        ("Agreement by data set: these, Otsu's masks and the references themselves", by_set(table)),
        ("Agreement by source, all sets pooled", pl.DataFrame(by_source)),
        ("Pearson on LiteMedSAM's masks (exact and jittered boxes) beside baselines", pl.DataFrame(head)),
        ("Hopeless masks", pl.DataFrame(low)),
        ("Best of candidates", pl.DataFrame(selection)),
    ]
    if "lower" in table.columns:
        tables.append(("Intervals by data set", by_set(table, intervals=True)))
    return tables


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, nargs="+")
    parser.add_argument("--weights", default="evaluator-lite0")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the rows as CSV")
    arguments = parser.parse_args()
    evaluator = load_evaluator(find_weights(arguments.weights), runtime=arguments.runtime, threads=1)
    records = read_library(arguments.prepared, validation_share=0.0).training
    table = judge(records, evaluator, arguments.seed)
    if arguments.out:
        table.write_csv(arguments.out)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True, float_precision=3):
        for title, frame in report(table):
            print(f"\n{title}\n{frame}")


if __name__ == "__main__":
    main()
