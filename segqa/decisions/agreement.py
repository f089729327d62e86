"""Tables of how well predicted scores agree with true ones; each counts the objects that it leaves out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from segqa.decisions.pairs import BETAS, beta_relative_accuracy
from segqa.errors import InputError
from segqa.schema import KEY_COLUMNS
from segqa.statistics import aurc, auroc, kendall, mae, pearson, rmse, spearman

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ALL_MODELS = "(all)"
"""The `model` of the row over all models."""


def join_truth(scores: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Add the `true_*` columns to the scores by case, object, label and model.

    Returns:
        The rows of `scores` in their order; `true_*` is null where the truth has no such row. Then the rows of the
        truth that have no score though their model has some, as of an object that a mask without boxes misses.

    Raises:
        InputError: No row has a partner, or the truth has no row. Partners may all be undefined.
    """
    if scores.height and truth.is_empty():
        msg = (
            "the truth has no row to compare the scores with; give the table that `segqa evaluate` wrote of these masks"
        )
        raise InputError(msg)
    added = [name for name in truth.columns if name.startswith("true_")]
    if truth.select(KEY_COLUMNS).hash_rows().n_unique() < truth.height:
        truth = truth.unique(KEY_COLUMNS, keep="first", maintain_order=True)
    kept = scores.drop(added, strict=False)
    # Written in one order, as they mostly are: no search is needed.
    is_aligned = kept.select(KEY_COLUMNS).equals(truth.select(KEY_COLUMNS))
    if is_aligned:
        joined = kept.hstack(truth.select(added))
    else:
        joined = kept.join(truth.select(*KEY_COLUMNS, *added), on=list(KEY_COLUMNS), how="left", maintain_order="left")
    if scores.height and kept.join(truth, on=list(KEY_COLUMNS), how="semi").is_empty():
        ours, theirs = (", ".join(frame.select(KEY_COLUMNS).head(1).rows()[0]) for frame in (scores, truth))
        msg = f"no score has a true value: the scores begin with ({ours}), the truth with ({theirs}); "
        raise InputError(msg + "case, object, label and model must be the same in both")
    if is_aligned:
        return joined
    unscored = truth.join(kept, on=list(KEY_COLUMNS), how="anti", maintain_order="left")
    unscored = unscored.filter(pl.col("model").is_in(kept["model"].unique().implode()))
    return pl.concat([joined, unscored.select(*KEY_COLUMNS, *added)], how="diagonal")


def unscored_remark(scores: pl.DataFrame, truth: pl.DataFrame, joined: pl.DataFrame) -> str | None:
    """Return a line on rows of the truth that `join_truth` found no score of; `None` when there are none."""
    n_unscored = joined.height - scores.height
    if not n_unscored:
        return None
    return (
        f"{n_unscored} of {truth.height} true rows have no score, as of objects that a mask misses; "
        "give `segqa score` and `segqa evaluate` the same --boxes and their objects are the same"
    )


def without_lost(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of objects; that of a file that is broken or not there stays only where its case has no other.

    The objects of the case are then those that other models have there; this one has no score of them. A file that is
    a volume is named without a slice, and has those of all slices.
    """
    is_object = pl.col("object").fill_null("") != ""
    volume = pl.col("case").str.replace(r":\d+$", "")
    is_known = is_object.any().over("case") | ((pl.col("case") == volume) & is_object.any().over(volume))
    return frame.filter(is_object | ~is_known)


def defined_pairs(frame: pl.DataFrame) -> tuple[Floats, Floats]:
    """Return predicted and true Dice of the rows that have both, as arrays of shape `(n,)`."""
    both = frame.select("predicted_dice", "true_dice").fill_nan(None).drop_nulls()
    return both["predicted_dice"].to_numpy(), both["true_dice"].to_numpy()


def agreement_table(frame: pl.DataFrame, *, by: str = "model") -> pl.DataFrame:
    """Compare predicted with true Dice for each value of a column and for all together.

    Args:
        frame: Scores with `predicted_dice` and `true_dice` (`join_truth`).
        by: The column to group by.

    Returns:
        One row per group in order of its name, last the row `(all)`: numbers of objects compared (`n`) and left
        out for want of a score or a true value (`n_undefined`), the mean score, the mean true Dice of all objects
        that have one, and of the compared: correlations, errors, `auroc` for a true Dice below 0.7, and `aurc`.
    """
    groups = [*frame.partition_by(by, maintain_order=True)] if frame.height else []
    groups.sort(key=lambda group: str(group[by][0]))
    rows = [_agreement_row(group, by, str(group[by][0])) for group in groups]
    return pl.DataFrame([*rows, _agreement_row(frame, by, ALL_MODELS)], infer_schema_length=None)


def order_curve(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the β-relative accuracy of each model over β: `model`, `beta`, `right_order`, `n_pairs`.

    Args:
        frame: Scores with `predicted_dice` and `true_dice` (`join_truth`).
    """
    rows = []
    for model in sorted(frame["model"].unique().to_list()):
        shares, numbers = beta_relative_accuracy(*defined_pairs(frame.filter(model=model)))
        for beta, share, number in zip(BETAS, shares.tolist(), numbers.tolist(), strict=True):
            rows.append((model, beta, None if math.isnan(share) else share, number))
    types = {"model": pl.String, "beta": pl.Float64, "right_order": pl.Float64, "n_pairs": pl.Int64}
    return pl.DataFrame(rows, schema=types, orient="row")


def model_order(table: pl.DataFrame) -> float:
    """Return Kendall's τ-b between the order of the models by predicted and by true mean Dice.

    Args:
        table: `agreement_table`; its last row (all models) is left out.

    Returns:
        -1..1; `nan` with fewer than two models.
    """
    means = table.head(-1).select("mean_predicted", "mean_true").drop_nulls()
    return kendall(means["mean_predicted"].to_numpy(), means["mean_true"].to_numpy())


def _agreement_row(frame: pl.DataFrame, by: str, name: str) -> dict[str, object]:
    predicted, true = defined_pairs(frame)
    known = frame["true_dice"].fill_nan(None).mean()  # also of what has no score: a missed object never improves a mean
    numbers = {
        "mean_predicted": float(predicted.mean()) if predicted.size else math.nan,
        "mean_true": known if isinstance(known, float) else math.nan,
        "pearson": pearson(predicted, true),
        "spearman": spearman(predicted, true),
        "kendall": kendall(predicted, true),
        "mae": mae(predicted, true),
        "rmse": rmse(predicted, true),
        "auroc": auroc(predicted, true),
        "aurc": aurc(predicted, true),
    }
    defined = {key: None if math.isnan(value) else value for key, value in numbers.items()}
    return {by: name, "n": true.size, "n_undefined": frame.height - true.size} | defined
