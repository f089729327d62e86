"""The best mask of each object, and how good the choice is when the truth is known (EvanySeg, section 3.6)."""

from __future__ import annotations

import polars as pl

from segqa.decisions.agreement import without_lost
from segqa.errors import InputError
from segqa.schema import OBJECT_COLUMNS


def rank(scores: pl.DataFrame) -> pl.DataFrame:
    """Choose for each object the model with the highest predicted Dice; of equals, the first by name.

    Args:
        scores: A table of scores of any number of models.

    Returns:
        One row per object in the order of the scores: `model`, `predicted_dice`, `lower`, `upper` of the choice
        (null when no model has a score there), `runner_up` and its `runner_up_dice`, the `margin` between them,
        `intervals_overlap` (null without intervals), numbers of models `n_scored` and `n_unscored` there.
    """
    scored = (
        pl.col("predicted_dice").is_not_null(),
        pl.col("predicted_dice").is_not_nan(),
    )
    n_models = scores["model"].n_unique()
    numbered = without_lost(scores).with_columns(
        _row=pl.int_range(pl.len()), _scored=scored[0] & scored[1].fill_null(False)
    )
    objects = (
        numbered.group_by(OBJECT_COLUMNS)
        .agg(pl.col("_row").min(), n_scored=pl.col("_scored").sum())
        .with_columns(n_unscored=n_models - pl.col("n_scored"))
    )
    candidates = numbered.filter("_scored").sort("predicted_dice", "model", descending=[True, False])
    places = candidates.with_columns(_place=pl.int_range(pl.len()).over(OBJECT_COLUMNS))
    values = ("model", "predicted_dice", "lower", "upper")
    first = places.filter(pl.col("_place") == 0).select(*OBJECT_COLUMNS, *values)
    second = places.filter(pl.col("_place") == 1).select(
        *OBJECT_COLUMNS, runner_up="model", runner_up_dice="predicted_dice", _upper="upper"
    )
    return (
        objects.join(first, on=OBJECT_COLUMNS, how="left")
        .join(second, on=OBJECT_COLUMNS, how="left")
        .sort("_row")
        .with_columns(
            margin=pl.col("predicted_dice") - pl.col("runner_up_dice"),
            # The choice is not worse, so the intervals overlap where its lower end is under the other's upper.
            intervals_overlap=pl.col("lower") <= pl.col("_upper"),
        )
        .select(
            *OBJECT_COLUMNS, *values, "runner_up", "runner_up_dice", "margin", "intervals_overlap", pl.col("^n_.*$")
        )
    )


def selection_table(frame: pl.DataFrame) -> pl.DataFrame:
    """Compare choosing by predicted Dice with an oracle, with always one model, and with chance.

    Args:
        frame: Scores of two or more models with `true_dice` (`agreement.join_truth`).

    Returns:
        One row per `strategy` (`predicted`, `oracle`, `always <model>`, `random`), best mean first: `accuracy`
        (share of objects where the chosen mask is the best; equals count as best), `mean_true_dice`, `regret`
        (mean Dice lost against the oracle), `n` objects compared and `n_incomplete` left out because a model
        has no predicted or true score there. `random` is the expectation over all models.

    Raises:
        InputError: There are fewer than two models.
    """
    models = sorted(frame["model"].unique().to_list())
    if len(models) < 2:
        msg = f"a choice needs two models or more; the table has {len(models)}: {', '.join(models)}"
        raise InputError(msg)
    frame = without_lost(frame)
    candidates = frame.select(*OBJECT_COLUMNS, "model", "predicted_dice", "true_dice").fill_nan(None).drop_nulls()
    candidates = candidates.filter(pl.col("model").n_unique().over(OBJECT_COLUMNS) == len(models))
    best = pl.col("true_dice").max().over(OBJECT_COLUMNS)
    candidates = candidates.with_columns(best=pl.col("true_dice") == best, regret=best - pl.col("true_dice")).sort(
        "predicted_dice", "model", descending=[True, False]
    )
    picked = {
        "predicted": candidates.unique(OBJECT_COLUMNS, keep="first", maintain_order=True),
        "oracle": candidates.filter("best").unique(OBJECT_COLUMNS, keep="first", maintain_order=True),
        "random": candidates,
    } | {f"always {model}": candidates.filter(pl.col("model") == model) for model in models}
    n_objects = picked["predicted"].height
    counts = {"n": n_objects, "n_incomplete": frame.select(OBJECT_COLUMNS).unique().height - n_objects}
    rows = [
        {
            "strategy": name,
            "accuracy": chosen["best"].mean(),
            "mean_true_dice": chosen["true_dice"].mean(),
            "regret": chosen["regret"].mean(),
        }
        | counts
        for name, chosen in picked.items()
    ]
    types = dict.fromkeys(("accuracy", "mean_true_dice", "regret"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=types).sort("regret", maintain_order=True)
