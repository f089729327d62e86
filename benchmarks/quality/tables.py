"""Rows of judged masks become the printed tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from benchmarks.quality.trials import REFERENCE, SPOILT
from segqa.quality.novelty import NOVEL
from segqa.statistics import LOW_QUALITY, aurc, auroc, mae, pearson, spearman

LARGE = 0.2
"""An error above this is one that novelty should find."""

AUROC = f"auroc<{LOW_QUALITY}"

BESIDE = "beside "
"""Begins the columns of evaluators that are compared with the one under test."""

OWN_BOX = "own box"
"""Column of the agreement with LiteMedSAM prompted by the mask's own box."""

LITEMEDSAM = ("litemedsam exact", "litemedsam jittered")
"""Masks of the segmenter whose prompt box is about the object."""

CHOICES = ("best found", "regret")
"""Measures of choosing among the masks of an object."""

MEASURES = ("pearson", "spearman", "mae", AUROC, *CHOICES)
"""What judges are compared by."""


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
        AUROC: auroc(predicted, true),
        "aurc": aurc(predicted, true),
    }


def selection_row(name: str, part: pl.DataFrame, column: str = "predicted") -> dict[str, object]:
    """Return how well the best mask of each object is found among its candidates, reference left out.

    Of masks that a judge holds to be equally good one is taken at random: the figures are their means.
    """
    wins, regrets, chance = [], [], []
    known = part.filter(pl.col("source") != REFERENCE).drop_nulls(column)
    for _, group in known.group_by("object", maintain_order=True):
        true, predicted = group["true"].to_numpy(), group[column].to_numpy()
        if len(true) > 1:
            chosen = true[predicted == predicted.max()]
            wins.append(float((chosen == true.max()).mean()))
            regrets.append(float(true.max() - chosen.mean()))
            chance.append(float(true.max() - true.mean()))
    return {
        "group": name,
        "n": len(wins),
        "best found": _mean(wins),
        "regret": _mean(regrets),
        "regret of chance": _mean(chance),
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
    rows = [make(name, part) for name, part in _sets(table)]
    numbers = [key for key in rows[0] if key not in ("group", "n")]
    mean = {key: _mean([float(row[key]) for row in rows]) for key in numbers}  # type: ignore[arg-type]
    return pl.DataFrame([*rows, {"group": "mean of sets", "n": table.height} | mean])


def judges_of(table: pl.DataFrame) -> dict[str, str]:
    """Return the names of all that give a number for any mask, with the columns of `with_baselines`."""
    judges = {"segqa": "predicted"}
    judges |= {name.removeprefix(BESIDE): name for name in table.columns if name.startswith(BESIDE)}
    if OWN_BOX in table.columns:
        judges |= {"own box": OWN_BOX, "segqa + own box": "both"}
    return judges | {"mask area": "area", "constant": "constant"}


def with_baselines(part: pl.DataFrame) -> pl.DataFrame:
    """Add what follows from other columns.

    `constant` is the mean true Dice of the masks of the data set, the best guess of one who knows the set and sees no
    mask; `both` is the mean of the evaluator and the agreement with the mask's own box.
    """
    part = part.with_columns(constant=pl.col("true").mean().over("dataset"))
    if OWN_BOX in part.columns:
        part = part.with_columns(both=pl.mean_horizontal("predicted", OWN_BOX))
    return part


def compare(part: pl.DataFrame, judges: Mapping[str, str]) -> pl.DataFrame:
    """Return one row per data set and judge: `group`, `judge`, numbers of masks and of objects, and `MEASURES`.

    Args:
        part: Rows of `judge`.
        judges: Name -> column.
    """
    rows = []
    for name, mine in _sets(with_baselines(part)):
        for judge, column in judges.items():
            agrees, chooses = agreement_row(name, mine, column), selection_row(name, mine, column)
            figures = {key: (agrees | chooses)[key] for key in MEASURES}
            rows.append({"group": name, "judge": judge, "masks": agrees["n"], "objects": chooses["n"]} | figures)
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col(MEASURES).fill_nan(None))


def means(compared: pl.DataFrame) -> pl.DataFrame:
    """Return the means over the data sets for each judge of `compare`, and its worst Pearson."""
    first, *others = MEASURES
    worst = pl.col(first).min().alias(f"worst {first}")
    return compared.group_by("judge", maintain_order=True).agg(pl.col(first).mean(), worst, pl.col(others).mean())


def spread_out(compared: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Return one measure of `compare`: data sets and their mean down, judges across."""
    counted = "objects" if measure in CHOICES else "masks"
    numbers = compared.group_by("group", maintain_order=True).agg(pl.col(counted).max())
    values = compared.pivot("judge", index="group", values=measure, maintain_order=True)
    table = numbers.join(values, on="group", maintain_order="left")
    mean = pl.exclude("group", counted).mean()
    return pl.concat([table, table.select(pl.lit("mean of sets").alias("group"), pl.col(counted).sum(), mean)])


def without_easy(table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of LiteMedSAM's masks and of mistakes, without Otsu's masks and the references themselves."""
    return table.filter(pl.col("source").str.starts_with("litemedsam") | pl.col("source").is_in(SPOILT))


def report(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Return the printed tables."""
    plain = without_easy(table)
    by_source = [agreement_row(name, table.filter(source=name)) for name in table["source"].unique().sort().to_list()]
    hopeless = [(name, table.filter(source=name)) for name in ("empty", "whole box", "other object")]
    low = [
        {
            "source": name,
            "n": part.height,
            "share under 0.3": (part["predicted"] < 0.3).mean(),
            "truly under 0.3": (part["true"] < 0.3).mean(),
        }
        for name, part in hopeless
        if part.height
    ]
    tables = [
        ("Agreement by data set: LiteMedSAM with exact, jittered and wrong boxes, and corruptions", by_set(plain)),
        ("Agreement by data set: these, Otsu's masks and the references themselves", by_set(table)),
        ("Agreement by source, all sets pooled", pl.DataFrame(by_source)),
        ("Hopeless masks", pl.DataFrame(low)),
        *_beside_baselines(plain, table),
    ]
    if "lower" in table.columns:
        tables.append(("Intervals by data set", by_set(table, intervals=True)))
    return tables


def _beside_baselines(plain: pl.DataFrame, table: pl.DataFrame) -> Iterable[tuple[str, pl.DataFrame]]:
    judges = judges_of(table)
    everything = compare(plain, judges)
    yield "Beside baselines, means of the sets: all these masks", means(everything)
    for measure in MEASURES:
        yield f"Beside baselines, all these masks: {measure}", spread_out(everything, measure)
    prompted = table.filter(pl.col("source").is_in(LITEMEDSAM))
    if prompted.height:
        own = compare(prompted, judges | {"LiteMedSAM's IoU head": "confidence"})
        yield "Beside baselines, means of the sets: LiteMedSAM's masks of exact and jittered boxes", means(own)
        for measure in ("pearson", *CHOICES):
            yield (
                f"Beside baselines, LiteMedSAM's masks of exact and jittered boxes: {measure}",
                spread_out(own, measure),
            )


def _sets(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    return [(name, table.filter(dataset=name)) for name in table["dataset"].unique().sort().to_list()]


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is defined; `nan` when nothing is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
