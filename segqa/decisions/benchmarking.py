"""Which segmentation model is better, from predicted scores alone (EvanySeg, section 3.6).

Objects of one image resemble each other, and so do the slices of one volume, so uncertainty comes from drawing whole
images and volumes with replacement. All models are drawn together, which makes their differences paired. Above
`MAX_GROUPS` of them, they are first dealt at random into so many groups, and groups are drawn: the same interval for a
fraction of the work.

Draws from few groups vary too little, and the shares of them that lie beyond a value say too little of chance: of 4
images, every difference with the same sign in all would be called real. So the draws give the standard error only,
corrected for the number of groups, and Student's t the width.

What comes from one image or volume alone would be equal in every draw: it has no interval, and nothing is called real.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import stdtrit

from segqa.data.groups import group_of
from segqa.decisions.agreement import without_lost
from segqa.errors import InputError
from segqa.schema import OBJECT_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MAX_GROUPS = 2_000

TIE = 1e-9
"""Means that differ by less are equal: the order of a sum changes its last bits."""

FEW = 0.5
"""Two models are compared fairly when they share at least so much of the objects of the one that has more."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What `benchmark` found.

    Attributes:
        models: One row per model, best first: `place`, `model`, `n` scored objects, `n_unscored`,
            `mean_predicted_dice` with its interval `mean_lower`, `mean_upper`, and `place_stability`: the share of
            draws, widened as the intervals are, in which the model kept its place, and no other had an equal mean. The
            last three are null where the scored objects come from fewer than two images or volumes.
        differences: One row per pair of models: `better` and `other` on the `n` objects scored for both, the mean
            paired `difference` with `lower` and `upper`, and `real`: whether the interval leaves out 0. The last
            three are null where the `n` objects come from fewer than two images or volumes.
    """

    models: pl.DataFrame
    differences: pl.DataFrame


def benchmark(scores: pl.DataFrame, *, level: float = 0.95, n_draws: int = 1000, seed: int = 0) -> Benchmark:
    """Compare models by mean predicted Dice, with intervals by a bootstrap over images and volumes.

    Args:
        scores: A table of scores.
        level: Level of the intervals, above 0 and below 1; each interval holds by itself, not all at once.
        n_draws: Number of bootstrap draws.
        seed: Seed of the draws.

    Returns:
        Tables of models and of their differences; a model without any score comes last, without a mean.

    Raises:
        InputError: The table is empty, or a number is out of range.
    """
    models = sorted(scores["model"].unique().to_list())
    scores = without_lost(scores)
    if scores.is_empty():
        msg = "the table of scores has no row; score some masks first"
        raise InputError(msg)
    if not 0 < level < 1:
        msg = f"level {level:g} is outside of 0..1"
        raise InputError(msg)
    for name, number, least in (("draws", n_draws, 1), ("seed", seed, 0)):
        if number < least:
            msg = f"{name} {number}: a number from {least} was expected"
            raise InputError(msg)
    rng = np.random.default_rng(seed)
    values, wholes = _matrix(scores, models)
    groups, n_groups = _deal(wholes, rng)
    weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws).astype(np.float64)
    means, draws = _means(values, groups, weights)
    # By mean; a model without scores has none and comes last, equals go by name.
    order = np.lexsort((np.arange(len(models)), -np.nan_to_num(means, nan=-1.0)))
    tail = (1 - level) / 2
    wide = means + (draws - means) * _student_factors(n_groups, n_draws, rng)[:, None]
    table = _model_table(models, values, groups, means, draws, _stability(wide[:, order]), order, tail)
    pairs = [
        _difference(models, values, groups, weights, (int(first), int(second)), tail)
        for first, second in combinations(order, 2)
    ]
    return Benchmark(table, pl.DataFrame(pairs, schema=_DIFFERENCES))


def overlap_remark(found: Benchmark) -> str | None:
    """Return a remark on the pair of models with the fewest objects in common, when these are few for either.

    Models without any score are left out: they have no mean, and are placed against none.
    """
    n_scored = {model: n for model, n in found.models.select("model", "n").iter_rows() if n}
    pairs = [
        (n / max(n_scored[better], n_scored[other]), n, better, other)
        for better, other, n in found.differences.select("better", "other", "n").iter_rows()
        if better in n_scored and other in n_scored
    ]
    share, n, better, other = min(pairs, default=(1.0, 0, "", ""))
    if share >= FEW:
        return None
    numbers = f"{n_scored[better]} and {n_scored[other]} are scored, {n} of them for both"
    return f"{better} and {other} are placed by different objects: {numbers}; score the same cases for both"


_DIFFERENCES = {
    "better": pl.String,
    "other": pl.String,
    "n": pl.Int64,
    "difference": pl.Float64,
    "lower": pl.Float64,
    "upper": pl.Float64,
    "real": pl.Boolean,
}


def _matrix(scores: pl.DataFrame, models: list[str]) -> tuple[Floats, NDArray[np.int64]]:
    """Return scores `(objects, models)` with `nan` for none, and the index of each object's image or volume."""
    objects = scores.select(OBJECT_COLUMNS).unique(maintain_order=True).with_row_index("_object")
    cells = scores.select(*OBJECT_COLUMNS, "model", "predicted_dice").join(objects, on=OBJECT_COLUMNS, how="left")
    columns = cells["model"].replace_strict(models, range(len(models)), return_dtype=pl.Int64)
    values = np.full((objects.height, len(models)), np.nan)
    dice = cells["predicted_dice"].cast(pl.Float64).fill_null(np.nan)
    values[cells["_object"].to_numpy(), columns.to_numpy()] = dice.to_numpy()
    cases = objects["case"].unique().to_list()
    wholes = objects["case"].replace_strict(cases, [group_of(case) for case in cases], return_dtype=pl.String)
    return values, wholes.rank("dense").cast(pl.Int64).to_numpy() - 1


def _deal(wholes: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """Return the group of each object: its image or volume, or one of `MAX_GROUPS` groups of them."""
    n_wholes = int(wholes.max()) + 1
    if n_wholes <= MAX_GROUPS:
        return wholes, n_wholes
    return rng.permutation(n_wholes)[wholes] % MAX_GROUPS, MAX_GROUPS


def _means(values: Floats, groups: NDArray[np.int64], weights: Floats) -> tuple[Floats, Floats]:
    """Return the mean of each column over its numbers, and the same in each draw: `(columns,)`, `(draws, columns)`."""
    sums, counts = (
        np.stack([np.bincount(groups, column, minlength=weights.shape[1]) for column in matrix.T], axis=1)
        for matrix in (np.nan_to_num(values), (~np.isnan(values)).astype(np.float64))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums.sum(axis=0) / counts.sum(axis=0), (weights @ sums) / (weights @ counts)


def _model_table(
    models: list[str],
    values: Floats,
    groups: NDArray[np.int64],
    means: Floats,
    draws: Floats,
    stability: Floats,
    order: NDArray[np.int64],
    tail: float,
) -> pl.DataFrame:
    scored = (~np.isnan(values)).sum(axis=0)
    rows = []
    for place, model in enumerate(order):
        lower, upper = _interval(values[:, model], groups, means[model], draws[:, model], tail)
        rows.append(
            {
                "place": place + 1,
                "model": models[model],
                "n": int(scored[model]),
                "n_unscored": values.shape[0] - int(scored[model]),
                "mean_predicted_dice": _number(means[model]),
                "mean_lower": None if lower is None else max(lower, 0.0),
                "mean_upper": None if upper is None else min(upper, 1.0),
                "place_stability": None if lower is None else float(stability[place]),
            }
        )
    types = dict.fromkeys(("mean_predicted_dice", "mean_lower", "mean_upper", "place_stability"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=types)


def _stability(draws: Floats) -> Floats:
    """Return the share of draws in which each column stands at its place, the best first: `(columns,)`.

    It stands there when as many others are better as stand before it, and no other is equal.
    """
    shares = np.zeros(draws.shape[1])
    for place, mean in enumerate(draws.T):
        ahead = draws - mean[:, None]  # nan, where either has no mean, is neither better nor equal
        better, reached = (ahead > TIE).sum(axis=1), (ahead >= -TIE).sum(axis=1)
        shares[place] = ((better == place) & (reached == place + 1)).mean()
    return shares


def _difference(
    models: list[str],
    values: Floats,
    groups: NDArray[np.int64],
    weights: Floats,
    pair: tuple[int, int],
    tail: float,
) -> dict[str, object]:
    difference = (values[:, pair[0]] - values[:, pair[1]])[:, None]
    mean, draws = _means(difference, groups, weights)
    if mean[0] < 0:  # on the objects that both have a score of, the order may differ from that of their own means
        pair, mean, draws = pair[::-1], -mean, -draws
    lower, upper = _interval(difference[:, 0], groups, mean[0], draws[:, 0], tail)
    return {
        "better": models[pair[0]],
        "other": models[pair[1]],
        "n": int((~np.isnan(difference)).sum()),
        "difference": _number(mean[0]),
        "lower": None if lower is None else max(lower, -1.0),
        "upper": None if upper is None else min(upper, 1.0),
        "real": None if lower is None else lower > 0,
    }


def _interval(
    column: Floats, groups: NDArray[np.int64], mean: float, draws: Floats, tail: float
) -> tuple[float | None, float | None]:
    """Return the interval of a column's mean; none where its numbers come from fewer than two groups."""
    draws = draws[~np.isnan(draws)]
    n_groups = np.unique(groups[~np.isnan(column)]).size
    if not draws.size or n_groups < 2:
        return None, None
    error = draws.std() * np.sqrt(n_groups / (n_groups - 1))
    half = float(stdtrit(n_groups - 1, 1 - tail) * error)
    return float(mean) - half, float(mean) + half


def _student_factors(n_groups: int, n_draws: int, rng: np.random.Generator) -> Floats:
    """Return what makes Student's t of each draw's deviation: the correction for few groups, over a random spread."""
    freedom = max(n_groups - 1, 1)
    factors: Floats = np.sqrt(n_groups / rng.chisquare(freedom, n_draws))
    return factors


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
