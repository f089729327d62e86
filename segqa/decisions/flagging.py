"""Which segmentations a person should look at first.

An object that could not be scored is always flagged, before all others: nobody knows how good it is. Of n scored
objects, a percentile p flags the ceil(n * p / 100) lowest, so at least one (p > 0) however few there are; objects
equal to the last of them are flagged too, so that the order of the rows does not decide. A threshold flags what
is below it, not what equals it. An empty table has no flags.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import polars as pl

from segqa.errors import InputError, check_choice
from segqa.schema import KEY_COLUMNS

DEFAULT_PERCENTILE = 5.0

Use = Literal["predicted", "lower"]
Per = Literal["model", "label"]


def flag(
    scores: pl.DataFrame,
    *,
    percentile: float | None = None,
    threshold: float | None = None,
    use: Use = "predicted",
    per: Per | None = None,
) -> pl.DataFrame:
    """Return the rows to look at, worst first, with a column `why`.

    Args:
        scores: A table of scores.
        percentile: Flag so many percent of the scored objects, 0..100 (5 when no threshold is given either).
        threshold: Flag scores below this instead, 0..1.
        use: Compare the predicted Dice, or the lower bound of its interval (the predicted Dice where a row has
            none).
        per: Take the percentile within each model or each label; not with a threshold.

    Returns:
        The flagged rows: those without a score first, then by increasing score.

    Raises:
        InputError: Both rules are given, an argument is none of its values, or no row has a lower bound to use.
    """
    _check(scores, percentile, threshold, use, per)
    value = pl.coalesce("lower", "predicted_dice") if use == "lower" else pl.col("predicted_dice")
    frame = scores.with_columns(value.fill_nan(None).alias("_value"))
    if threshold is not None:
        is_low, rule = pl.col("_value") < threshold, f"below {threshold:g}"
    else:
        share = DEFAULT_PERCENTILE if percentile is None else percentile
        is_low = _is_lowest(share, per)
        rule = f"among the lowest {share:g} %" + (f" of its {per}" if per else "")
    name = "lower bound" if use == "lower" else "predicted Dice"
    scored = pl.format("{} {} {}", pl.lit(name), pl.col("_value").round(4), pl.lit(rule))
    return (
        frame.filter(pl.col("_value").is_null() | is_low)
        .with_columns(why=pl.when(pl.col("_value").is_null()).then(_unscored()).otherwise(scored))
        .sort("_value", *KEY_COLUMNS, nulls_last=False)
        .drop("_value")
    )


def _is_lowest(percentile: float, per: Per | None) -> pl.Expr:
    # Rounded, so that 30 % of 10 objects are 3 whatever the binary digits of 0.3 say.
    number = (pl.col("_value").count() * percentile / 100).round(9).ceil()
    rank = pl.col("_value").rank("min")
    return rank.over(per) <= number.over(per) if per else rank <= number


def _unscored() -> pl.Expr:
    return pl.format("not scored: {}", pl.col("reason").fill_null("no score in the table"))


def _check(scores: pl.DataFrame, percentile: float | None, threshold: float | None, use: Use, per: Per | None) -> None:
    check_choice("use", use, get_args(Use))
    check_choice("per", per, (None, *get_args(Per)))
    if percentile is not None and threshold is not None:
        msg = "percentile and threshold are two rules; give one of them"
        raise InputError(msg)
    if per is not None and threshold is not None:
        msg = f"per {per} is for a percentile, a threshold is one for all; leave out one of them"
        raise InputError(msg)
    for name, value, top in (("percentile", percentile, 100), ("threshold", threshold, 1)):
        if value is not None and not (math.isfinite(value) and 0 <= value <= top):
            msg = f"{name} {value:g} is outside of 0..{top}"
            raise InputError(msg)
    if use == "lower" and scores.height and scores["lower"].null_count() == scores.height:
        msg = "no row has a lower bound; score with an evaluator that gives intervals, or use the predicted score"
        raise InputError(msg)
