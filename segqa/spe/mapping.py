"""From what can be measured without labels to an estimate of the real performance, with an interval.

The paper (Wu et al. 2025, section 2.3) maps pseudo performance alone; here agreement is a second input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import isotonic_regression, nnls

from segqa.errors import InputError
from segqa.statistics import pearson

LARGEST_EXPONENT = 100.0
"""Beyond it an extrapolation would overflow; no distance is that long."""

Floats = NDArray[np.float64]

KINDS = ("linear", "quadratic", "log", "isotonic")
AUTO = "auto"
PENALTY = 1e-3
"""Of a ridge, in units of each input's own variance: it decides only where inputs say the same."""
ROUNDING = 1e-9
"""Numbers that differ by less (of those above 1, by less of themselves) are equal: means differ in their last bits."""
SLACK = 0.1
"""Share of the fitted range that a measurement may lie beyond it before nothing is known of how bad it can be."""
MIN_POINTS = 3
"""Two points lie on every line: a mapping from fewer than three says nothing about its own error."""

SPE_METRICS = ("dice", "hd95", "precision", "recall", "jaccard", "pixel_correlation")
"""The six metrics in the order of the paper's Table 2."""
RANGES = dict.fromkeys(SPE_METRICS, (0.0, 1.0)) | {"hd95": (0.0, np.inf), "pixel_correlation": (-1.0, 1.0)}
LESS_IS_BETTER = frozenset({"hd95"})


class Estimate(NamedTuple):
    """An estimate of one metric with its prediction interval."""

    value: float
    lower: float
    upper: float
    extrapolates: bool
    """A measurement lies outside the range that the mapping was fitted on."""


class Component(NamedTuple):
    """One part of an estimate's variance, and how well it is known."""

    variance: float
    freedom: float
    """Degrees of freedom that it was estimated with."""


@dataclass(frozen=True)
class Mapping:
    """A fitted mapping; it keeps its points, so that error and interval follow from itself alone."""

    kind: str
    metric: str
    measured: Floats
    """What `I` measurements without labels say of the `K` models, shape `(K, I)`."""
    real: Floats
    """The models' mean metric on the test images, shape `(K,)`."""
    spread: Floats
    """Standard deviation over the test groups of what nothing measured explains of the metric, shape `(K,)`."""
    n_test: Floats
    """Number of test groups behind each mean: those in which the metric is defined, shape `(K,)`."""
    limits: tuple[float, float]
    """Least and largest value that the metric can take on these images."""

    def predict(self, measured: Floats) -> Floats:
        """Return estimates of shape `(N,)`, inside the metric's limits, for measurements `(N, I)`."""
        return np.clip(_surface(self.kind, self.measured, self.real, measured), *self.limits)

    @cached_property
    def leave_one_out(self) -> Floats:
        """The estimate of each model from all the others, shape `(K,)`."""
        rest = ~np.eye(len(self.real), dtype=bool)
        found = [_surface(self.kind, self.measured[keep], self.real[keep], self.measured[~keep]) for keep in rest]
        return np.clip(np.concatenate(found), *self.limits)

    @property
    def error(self) -> float:
        """Mean absolute error of the leave-one-out estimates, in the metric's unit."""
        return float(np.abs(self.leave_one_out - self.real).mean())

    @property
    def correlation(self) -> float:
        """Pearson's correlation of leave-one-out estimates and truth; `nan` when one of them is constant."""
        return pearson(self.leave_one_out, self.real)

    def estimate(self, measured: Floats, *, n_groups: int, level: float = 0.9) -> Estimate:
        """Return the estimate for a set of `n_groups` patients, volumes or single images, with a prediction interval.

        Two errors add up: the mapping's own (from leave-one-out; it grows away from the fitted models), and that the
        test images and the new images are both samples, whose means differ by chance even if all that is measured is
        equal. Beyond the worst fitted model nothing tells how much worse this one is: there the interval is open.

        Args:
            measured: The measurements on the new images, shape `(I,)`.
            n_groups: Number of new groups in which the metric is defined.
            level: Share of cases in which the interval should hold the metric's true mean, 0..1.
        """
        value = float(self.predict(measured[None])[0])
        parts = self._mapping_error(measured), self._sampling_error(value, n_groups)
        half = _student_width(parts, level)
        lower, upper = max(value - half, self.limits[0]), min(value + half, self.limits[1])
        least, most = self.measured.min(axis=0), self.measured.max(axis=0)
        rounding = ROUNDING * np.maximum(np.abs(measured), 1)
        slack = SLACK * (most - least) + rounding
        if self.metric in LESS_IS_BETTER:
            upper = self.limits[1] if (measured > most + slack).any() else upper
        else:
            lower = self.limits[0] if (measured < least - slack).any() else lower
        inside = (least - rounding <= measured) & (measured <= most + rounding)
        return Estimate(value, lower, upper, not inside.all())

    def _mapping_error(self, measured: Floats) -> Component:
        """Return the mapping's own error at a place, from its errors at the fitted models."""
        variance = float(np.mean((self.leave_one_out - self.real) ** 2))
        own, here = _leverage(self.kind, self.measured, np.concatenate([self.measured, measured[None]]))
        freedom = max(len(self.real) - 1 - len(measured), 1)
        return Component(variance * (1 + here) / (1 + own), freedom)

    def _sampling_error(self, value: float, n_groups: int) -> Component:
        """Return how far the means of test images and new images differ by chance, for models of that value."""
        order = np.argsort(self.real, kind="stable")
        spread, n_test = (float(np.interp(value, self.real[order], each[order])) for each in (self.spread, self.n_test))
        return Component(spread**2 * (1 / n_test + 1 / max(n_groups, 1)), max(n_test - 1, 1))


def fit_mapping(
    measured: Floats,
    real: Floats,
    *,
    spread: Floats,
    n_test: Floats,
    metric: str,
    kind: str = AUTO,
    largest_distance: float = np.inf,
) -> Mapping:
    """Return the mapping of one metric; `auto` takes the kind with the smallest leave-one-out error.

    Args:
        measured: What `I` measurements say of `K` models, shape `(K, I)`.
        real: Their real performance, shape `(K,)`.
        spread: Standard deviation over the test groups of what nothing measured explains, shape `(K,)`.
        n_test: Number of test groups in which the metric is defined, shape `(K,)`.
        metric: One of `SPE_METRICS`.
        kind: One of `KINDS`, or `auto`.
        largest_distance: What a distance to a missed object is: the largest diagonal of the images, in pixels.

    Raises:
        InputError: when fewer than three points differ, or a value is not finite.
    """
    if not (np.isfinite(measured).all() and np.isfinite(real).all()):
        msg = f"{metric}: undefined for a model (no foreground in truth and prediction); remove that label"
        raise InputError(msg)
    n_distinct = len(np.unique(measured, axis=0))
    if n_distinct < MIN_POINTS:
        msg = (
            f"{metric}: {len(measured)} models give {n_distinct} distinct points, a mapping needs "
            f"{MIN_POINTS}; add checkpoints of other quality to --predictions"
        )
        raise InputError(msg)
    kinds = KINDS if kind == AUTO else (kind,)
    low, high = RANGES[metric]
    limits = low, min(high, largest_distance) if metric in LESS_IS_BETTER else high
    candidates = [Mapping(each, metric, measured, real, spread, n_test, limits) for each in kinds]
    return min(candidates, key=lambda mapping: mapping.error)


def _student_width(parts: tuple[Component, ...], level: float) -> float:
    """Return the half width of an interval whose variance is a sum, by the Welch-Satterthwaite degrees of freedom."""
    total = sum(part.variance for part in parts)
    if total == 0:
        return 0.0
    freedom = 1 / sum((part.variance / total) ** 2 / part.freedom for part in parts)
    return float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(total))


def _surface(kind: str, measured: Floats, real: Floats, at: Floats) -> Floats:
    """Fit one kind of surface to points `(K, I)` and return its value at `(N, I)`; none falls where an input rises."""
    if kind == "isotonic":
        steps = [_steps(column, real) for column in measured.T]
        mean: Floats = np.mean([np.interp(column, *each) for column, each in zip(at.T, steps, strict=True)], axis=0)
        return mean
    columns, there = _columns(kind, measured, at)
    if kind == "log":
        # Both sides: a distance spans orders of magnitude in training, and so does its error.
        return np.expm1(np.minimum(_plane(columns, _log(real), there), LARGEST_EXPONENT))
    return _plane(columns, real, there)


def _columns(kind: str, measured: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Return what a plane is laid through: functions of the inputs that never fall, at the models and at `at`."""
    if kind == "log":
        return _log(measured), _log(at)
    if kind == "quadratic":
        least, most = measured.min(axis=0), measured.max(axis=0)
        return _parabolas(measured, least, most), _parabolas(at, least, most)
    return measured, at


def _parabolas(values: Floats, least: Floats, most: Floats) -> Floats:
    """Return, of each column, the two parabolas that stand at the ends of its range.

    With weights of 0 and more they make up every parabola that does not fall within the range; beyond it they go on
    straight.
    """
    inside = np.clip(values, least, most)
    beyond = (values - inside) * 2 * (most - least)
    rising = (inside - least) ** 2 + np.maximum(beyond, 0)
    falling = -((most - inside) ** 2) + np.minimum(beyond, 0)
    return np.concatenate([rising, falling], axis=1)


def _plane(x: Floats, y: Floats, at: Floats) -> Floats:
    """Return the value at `at` of the ridge regression of `y` on the standardised columns of `x`.

    Slopes are 0 or more: each input is the same metric as the output, measured otherwise, and a worse measurement
    must not make a better estimate.
    """
    mean, scale = _standard(x)
    rows = np.concatenate([(x - mean) / scale, np.sqrt(PENALTY * len(x)) * np.eye(x.shape[1])])
    slopes, _ = nnls(rows, np.concatenate([y - y.mean(), np.zeros(x.shape[1])]))
    plane: Floats = y.mean() + (at - mean) / scale @ slopes
    return plane


def _leverage(kind: str, measured: Floats, at: Floats) -> tuple[float, float]:
    """Return how much of its own error a plane takes over at the models, on the mean, and at the last row of `at`.

    The isotonic curves have no such measure: they are flat beyond their ends.
    """
    if kind == "isotonic":
        return 0.0, 0.0
    columns, there = _columns(kind, measured, at)
    mean, scale = _standard(columns)
    z, rows = (columns - mean) / scale, (there - mean) / scale
    gram = z.T @ z + PENALTY * len(z) * np.eye(z.shape[1])
    leverages = 1 / len(z) + (rows * np.linalg.solve(gram, rows.T).T).sum(axis=1)
    return float(leverages[:-1].mean()), float(leverages[-1])


def _standard(x: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each column; 1 for one that only rounding tells from a constant."""
    spread = x.std(axis=0)
    return x.mean(axis=0), np.where(spread > ROUNDING * np.maximum(np.abs(x).max(axis=0), 1), spread, 1)


def _log(values: Floats) -> Floats:
    return np.log1p(np.maximum(values, -0.999))  # a correlation may touch -1, where the logarithm ends


def _steps(measured: Floats, real: Floats) -> tuple[Floats, Floats]:
    """Return the knots of the isotonic fit: the mean position and level of each pooled block.

    Models with the same measurement stand for their mean: nothing tells which of them a new one is like.
    """
    places, which, counts = np.unique(measured, return_inverse=True, return_counts=True)
    fit = isotonic_regression(np.bincount(which, real) / counts, weights=counts)
    means = [np.average(places[start:end], weights=counts[start:end]) for start, end in pairwise(fit.blocks)]
    return np.array(means), fit.x[fit.blocks[:-1]]
