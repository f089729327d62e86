"""Split conformal intervals around predicted scores, for objects of groups that were never seen.

Objects of one group (the objects of a case, the cases of a data set) are alike, so they count as one: as in
hierarchical conformal prediction (Lee, Barber, Willett 2023, arXiv 2306.06342) each of K groups weighs 1 / (K + 1),
shared evenly by its objects, and the last share stands for the group to come, which may be arbitrarily far off. The
weighted quantile of the residuals then covers a new object of a new group with the wanted probability or more,
whatever the distribution, as long as groups are exchangeable. A group of many objects cannot dominate. Nor can a data
set of many cases, where cases are the groups: then each data set has the same share.

Residuals are measured in units of `spread`: a score near 0 or 1 is seldom far off, one in the middle often is. Its
shape is fixed, not fitted, so that the guarantee stays; only the one number by which novelty widens is fitted on the
same residuals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segqa.errors import InputError

Floats = NDArray[np.float64]

LEVEL = 0.9
"""How often an interval should hold the true score, when nothing else is said."""

FLOOR = 0.05
"""Spread of a score of 0 or 1, beside 1 for a score of a half."""

MAX_WIDENING = 4.0
"""A few odd residuals must not blow up every interval of a novel input."""


@dataclass(frozen=True, slots=True)
class Interval:
    """How far the true score may be from a predicted one."""

    level: float
    """Share of new groups' objects that is covered, 0..1."""
    reach: float
    """Half a width, in units of `spread`."""
    widening: float
    """An input of novelty 1 has an interval `1 + widening` times as wide as one of novelty 0."""
    n_groups: int
    n_objects: int

    def around(self, predicted: Floats, novelty: Floats | None = None) -> tuple[Floats, Floats]:
        """Return lower and upper ends, each of shape `(n,)`, within 0..1.

        Args:
            predicted: Predicted scores, shape `(n,)`; what lies outside 0..1 is taken as its end.
            novelty: 0..1, shape `(n,)`; 0 when not given.
        """
        score = np.clip(np.asarray(predicted, np.float64), 0, 1)
        half = self.reach * _unit(score, novelty, self.widening)
        return np.clip(score - half, 0, 1), np.clip(score + half, 0, 1)

    def describe(self) -> str:
        """Return one line on what it was made of and what it says."""
        low, high = self.around(np.array([0.5, 0.9]))
        examples = f"0.5 is {low[0]:.2f} to {high[0]:.2f}, 0.9 is {low[1]:.2f} to {high[1]:.2f}"
        wider = f", up to {1 + self.widening:.2f} times as wide for novel inputs" if self.widening else ""
        return f"level {self.level:g} from {self.n_objects} objects of {self.n_groups} groups; {examples}{wider}"


def fit_interval(
    predicted: Floats,
    true: Floats,
    groups: Sequence[str],
    *,
    data_sets: Sequence[str] | None = None,
    novelty: Floats | None = None,
    level: float = LEVEL,
) -> Interval:
    """Return the interval that scores of new groups need.

    Args:
        predicted: Predicted scores, shape `(n,)`, without `nan`.
        true: True scores 0..1, shape `(n,)`, without `nan`.
        groups: Which group each is of, n names.
        data_sets: Which data set each is of, n names; these then weigh alike, whatever their number of groups.
        novelty: 0..1, shape `(n,)`; without it, the interval does not widen.
        level: Wanted coverage, between 0 and 1.

    Raises:
        InputError: The level is no share, or there are fewer groups than it needs.
    """
    n_groups = len(set(groups))
    if n_groups < needed_groups(level):
        msg = (
            f"{len(groups)} objects of {n_groups} groups: an interval of level {level:g} needs at least "
            f"{needed_groups(level)} groups; give more cases, or a lower --level"
        )
        raise InputError(msg)
    score = np.clip(np.asarray(predicted, np.float64), 0, 1)
    residuals = np.abs(np.asarray(true, np.float64) - score)
    weights = group_weights(groups, data_sets)
    widening = 0.0 if novelty is None else _fit_widening(residuals / spread(score), novelty, weights)
    reach = weighted_quantile(residuals / _unit(score, novelty, widening), weights, level)
    return Interval(level, reach, widening, n_groups, len(groups))


def needed_groups(level: float) -> int:
    """Return the least number of groups for a finite interval: K / (K + 1) must reach the level.

    Raises:
        InputError: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        msg = f"--level {level:g}: a share between 0 and 1 was expected, such as 0.9"
        raise InputError(msg)
    return max(math.ceil(level / (1 - level) - 1e-9), 1)


def spread(score: Floats) -> Floats:
    """Return how far a score in 0..1 is usually off, up to a factor: `FLOOR` at both ends, 1 in the middle."""
    unit: Floats = FLOOR + (1 - FLOOR) * 4 * score * (1 - score)
    return unit


def group_weights(groups: Sequence[str], data_sets: Sequence[str] | None = None) -> Floats:
    """Return the weight of each object: 1 / (K + 1) for each of K groups, shared by its objects.

    With the data set of each object, the K / (K + 1) of all groups is shared evenly by the data sets first.
    """
    _, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    share: Floats = 1 / sizes[index]
    if data_sets is not None:
        _, place = np.unique(np.asarray(data_sets), return_inverse=True)
        n_groups = np.bincount(place, share)
        share = share / n_groups[place] * len(sizes) / len(n_groups)
    return share / (len(sizes) + 1)


def weighted_quantile(values: Floats, weights: Floats, level: float) -> float:
    """Return the least value at or below which lies a weight of `level`; what lacks to a total of 1 is at infinity."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    place = int(np.searchsorted(total, level - 1e-9))
    return float(values[order[place]]) if place < len(order) else math.inf


def _unit(score: Floats, novelty: Floats | None, widening: float) -> Floats:
    return spread(score) if novelty is None else spread(score) * (1 + widening * np.asarray(novelty, np.float64))


def _fit_widening(residuals: Floats, novelty: Floats, weights: Floats) -> float:
    """Return slope over intercept of the line through residuals over novelty, at least 0: never narrower."""
    share = weights / weights.sum()
    centre, level = share @ novelty, share @ residuals
    variance = share @ (novelty - centre) ** 2
    slope = share @ ((novelty - centre) * (residuals - level)) / variance if variance > 0 else 0.0
    intercept = level - slope * centre
    if slope <= 0:
        return 0.0
    return float(min(slope / intercept, MAX_WIDENING)) if intercept > 0 else MAX_WIDENING
