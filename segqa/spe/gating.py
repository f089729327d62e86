"""Gates: estimates held against limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from segqa.errors import InputError
from segqa.spe.bundle import MEAN
from segqa.spe.estimating import Estimates
from segqa.spe.mapping import LESS_IS_BETTER, RANGES, SPE_METRICS


@dataclass(frozen=True, slots=True)
class Gate:
    """One estimate held against one limit."""

    name: str
    sentence: str
    is_broken: bool


def parse_gates(texts: Iterable[str], word: Literal["under", "over"]) -> dict[str, float]:
    """Return limits by metric from texts such as `dice=0.85`.

    Args:
        texts: Of one option.
        word: Which of the two options: a limit from below is for metrics of which more is better.

    Raises:
        InputError: Not of that form, an unknown metric, no finite number, a metric given twice, a number that the
            metric never reaches, or the option for metrics of the other kind.
    """
    limits: dict[str, float] = {}
    for text in texts:
        metric, _, number = text.partition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if metric not in SPE_METRICS or not math.isfinite(limit) or metric in limits:
            msg = f"gate {text!r}: write METRIC=NUMBER, once for a metric, for example dice=0.85; metrics: "
            raise InputError(msg + ", ".join(SPE_METRICS))
        low, high = RANGES[metric]
        if not low <= limit <= high:
            msg = (
                f"--fail-{word} {text}: {metric} is {low:g} to {high:g}, so this would say nothing; correct the number"
            )
            raise InputError(msg)
        if (metric in LESS_IS_BETTER) != (word == "over"):
            other = "over" if word == "under" else "under"
            fact = f"{'less' if word == 'under' else 'more'} of {metric} is better"
            msg = f"--fail-{word} {text}: {fact}, so good models would fail; write --fail-{other} {text}"
            raise InputError(msg)
        limits[metric] = limit
    return limits


def check_gates(result: Estimates, *, under: Mapping[str, float], over: Mapping[str, float]) -> list[Gate]:
    """Hold every label's interval, and that of their mean, against the limits.

    Args:
        result: The estimates.
        under: Least acceptable value by metric; compared with the interval's lower end.
        over: Largest acceptable value by metric; compared with the interval's upper end.
    """
    gates = []
    for row in result.rows:
        name = f"mean {row.metric}" if row.task == MEAN else f"{row.metric} of label {row.task}"
        ends = f"{row.estimate.value:.4f} [{row.estimate.lower:.4f}, {row.estimate.upper:.4f}]"
        for word, limits in (("under", under), ("over", over)):
            if row.metric in limits:
                limit = limits[row.metric]
                low = word == "under"
                # Written so that an undefined estimate passes no gate.
                is_broken = not (row.estimate.lower >= limit if low else row.estimate.upper <= limit)
                verdict = f"reaches {word}" if is_broken else f"stays {'above' if low else 'below'}"
                gates.append(Gate(f"{name} {word} {limit:g}", f"{name} {ends} {verdict} {limit:g}", is_broken))
    return gates


def estimate_table(result: Estimates) -> pl.DataFrame:
    """Return the estimates as a table for people, one row a label and metric."""
    return pl.DataFrame(
        [
            {
                "label": row.task,
                "metric": row.metric,
                "estimate": row.estimate.value,
                "lower": row.estimate.lower,
                "upper": row.estimate.upper,
                "pseudo": row.pseudo,
                "agreement": row.agreement,
                "pseudo_half_width": row.half_width,
                "n": row.n,
            }
            for row in result.rows
        ]
    )
