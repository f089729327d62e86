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
from scipy.optimize import isotonic_regression

from segqa.errors import InputError
from segqa.statistics import pearson

LARGEST_EXPONENT = 100.0
"""Beyond it an extrapolation would overflow; no distance is that long."""

Floats = NDArray[np.float64]

KINDS = ("linear", "quadratic", "log", "isotonic")
AUTO = "auto"
PENALTY = 1e-3
"""Of a ridge, in units of each input's own variance: it decides only where inputs say the same."""
MIN_POINTS = 3
"""Two points lie on every line: a mapping from fewer than three says nothing about its own error."""

METRICS = ("dice", "hd95", "precision", "recall", "jaccard", "pixel_correlation")
"""The six metrics in the order of the paper's Table 2."""
RANGES = dict.fromkeys(METRICS, (0.0, 1.0)) | {"hd95": (0.0, np.inf), "pixel_correlation": (-1.0, 1.0)}
LESS_IS_BETTER = frozenset({"hd95"})


class Estimate(NamedTuple):
    """An estimate of one metric with its prediction interval."""

    value: float
    lower: float
    upper: float
    extrapolates: bool
    """A measurement lies outside the range that the mapping was fitted on."""


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
    """Standard deviation over the test images of what nothing measured explains of the metric, shape `(K,)`."""
    n_test: Floats
    """Number of test images behind each mean: those on which the metric is defined, shape `(K,)`."""

    def predict(self, measured: Floats) -> Floats:
        """Return estimates of shape `(N,)`, inside the metric's range, for measurements `(N, I)`."""
        return np.clip(_surface(self.kind, self.measured, self.real, measured), *RANGES[self.metric])

    @cached_property
    def leave_one_out(self) -> Floats:
        """The estimate of each model from all the others, shape `(K,)`."""
        return _leave_one_out(self.kind, self.metric, self.measured, self.real)

    @property
    def error(self) -> float:
        """Mean absolute error of the leave-one-out estimates, in the metric's unit."""
        return float(np.abs(self.leave_one_out - self.real).mean())

    @property
    def correlation(self) -> float:
        """Pearson's correlation of leave-one-out estimates and truth; `nan` when one of them is constant."""
        return pearson(self.leave_one_out, self.real)

    def estimate(self, measured: Floats, *, n_images: int, level: float = 0.9) -> Estimate:
        """Return the estimate for a set of `n_images` with a prediction interval.

        Two errors add up: the mapping's own (from leave-one-out), and that the test images and the new
        images are both samples, whose means differ by chance even if all that is measured is equal.

        Args:
            measured: The measurements on the new images, shape `(I,)`.
            n_images: Number of new images on which the metric is defined.
            level: Share of cases in which the interval should hold the metric's true mean, 0..1.
        """
        value = float(self.predict(measured[None])[0])
        variance = float(np.mean((self.leave_one_out - self.real) ** 2))
        order = np.argsort(self.real, kind="stable")
        spread, n_test = (float(np.interp(value, self.real[order], each[order])) for each in (self.spread, self.n_test))
        variance += spread**2 * (1 / n_test + 1 / n_images)
        freedom = max(len(self.real) - 1 - len(measured), 1)
        half = float(stats.t.ppf((1 + level) / 2, freedom)) * variance**0.5
        low, high = RANGES[self.metric]
        inside = (self.measured.min(axis=0) <= measured) & (measured <= self.measured.max(axis=0))
        return Estimate(value, max(value - half, low), min(value + half, high), not inside.all())


def fit_mapping(
    measured: Floats, real: Floats, *, spread: Floats, n_test: Floats, metric: str, kind: str = AUTO
) -> Mapping:
    """Return the mapping of one metric; `auto` takes the kind with the smallest leave-one-out error.

    Args:
        measured: What `I` measurements say of `K` models, shape `(K, I)`.
        real: Their real performance, shape `(K,)`.
        spread: Standard deviation over the test images of what nothing measured explains, shape `(K,)`.
        n_test: Number of test images on which the metric is defined, shape `(K,)`.
        metric: One of `METRICS`.
        kind: One of `KINDS`, or `auto`.

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
    candidates = [Mapping(each, metric, measured, real, spread, n_test) for each in kinds]
    return min(candidates, key=lambda mapping: mapping.error)


def _leave_one_out(kind: str, metric: str, measured: Floats, real: Floats) -> Floats:
    rest = ~np.eye(len(real), dtype=bool)
    found = [_surface(kind, measured[keep], real[keep], measured[~keep]) for keep in rest]
    return np.clip(np.concatenate(found), *RANGES[metric])


def _surface(kind: str, measured: Floats, real: Floats, at: Floats) -> Floats:
    """Fit one kind of surface to points `(K, I)` and return its value at `(N, I)`."""
    if kind == "linear":
        return _plane(measured, real, at)
    if kind == "quadratic":
        return _plane(_with_squares(measured, measured), real, _with_squares(at, measured))
    if kind == "log":
        # Both sides: a distance spans orders of magnitude in training, and so does its error.
        plane = _plane(_log(measured), _log(real), _log(at))
        return np.expm1(np.minimum(plane, LARGEST_EXPONENT))
    steps = [_steps(column, real) for column in measured.T]
    mean: Floats = np.mean([np.interp(column, *each) for column, each in zip(at.T, steps, strict=True)], axis=0)
    return mean


def _plane(x: Floats, y: Floats, at: Floats) -> Floats:
    """Return the value at `at` of the ridge regression of `y` on the standardised columns of `x`."""
    mean, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    columns = (x - mean) / scale
    gram = columns.T @ columns + PENALTY * len(x) * np.eye(x.shape[1])
    slopes = np.linalg.solve(gram, columns.T @ (y - y.mean()))
    plane: Floats = y.mean() + (at - mean) / scale @ slopes
    return plane


def _with_squares(values: Floats, measured: Floats) -> Floats:
    """Return the columns and the squares of their distances from the mean of what was measured."""
    return np.concatenate([values, (values - measured.mean(axis=0)) ** 2], axis=1)


def _log(values: Floats) -> Floats:
    return np.log1p(np.maximum(values, -0.999))  # a correlation may touch -1, where the logarithm ends


def _steps(measured: Floats, real: Floats) -> tuple[Floats, Floats]:
    """Return the knots of the isotonic fit: the mean position and level of each pooled block."""
    order = np.lexsort((real, measured))
    fit = isotonic_regression(real[order])
    knots = [measured[order][start:end].mean() for start, end in pairwise(fit.blocks)]
    return np.array(knots), fit.x[fit.blocks[:-1]]
