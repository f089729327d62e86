"""From pseudo performance to an estimate of the real one (Wu et al. 2025, section 2.3), with an interval."""

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

LARGEST_EXPONENT = 100.0
"""Beyond it an extrapolation would overflow; no distance is that long."""

Floats = NDArray[np.float64]

KINDS = ("linear", "log", "isotonic")
AUTO = "auto"
MIN_POINTS = 3
"""Two points lie on every line: a mapping from fewer than three says nothing about its own error."""

METRICS = ("dice", "hd95", "precision", "recall", "jaccard", "pixel_correlation")
"""The six metrics in the order of the paper's Table 2."""
RANGES = dict.fromkeys(METRICS, (0.0, 1.0)) | {"hd95": (0.0, np.inf), "pixel_correlation": (-1.0, 1.0)}


class Estimate(NamedTuple):
    """An estimate of one metric with its prediction interval."""

    value: float
    lower: float
    upper: float
    extrapolates: bool
    """The pseudo performance lies outside the range that the mapping was fitted on."""


@dataclass(frozen=True)
class Mapping:
    """A fitted mapping; it keeps its points, so that error and interval follow from itself alone."""

    kind: str
    metric: str
    pseudo: Floats
    """Pseudo performance of the `K` models, shape `(K,)`."""
    real: Floats
    """Their mean metric on the test images, shape `(K,)`."""
    spread: Floats
    """Standard deviation of the metric over the test images, shape `(K,)`."""
    n_test: int
    """Number of test images behind each mean."""

    def predict(self, pseudo: Floats) -> Floats:
        """Return estimates of shape `(N,)`, inside the metric's range."""
        return np.clip(_curve(self.kind, self.pseudo, self.real, pseudo), *RANGES[self.metric])

    @cached_property
    def leave_one_out(self) -> Floats:
        """The estimate of each model from all the others, shape `(K,)`."""
        return _leave_one_out(self.kind, self.metric, self.pseudo, self.real)

    @property
    def error(self) -> float:
        """Mean absolute error of the leave-one-out estimates, in the metric's unit."""
        return float(np.abs(self.leave_one_out - self.real).mean())

    @property
    def correlation(self) -> float:
        """Pearson's correlation of leave-one-out estimates and truth; `nan` when one of them is constant."""
        return pearson(self.leave_one_out, self.real)

    def estimate(self, pseudo: float, *, n_images: int, level: float = 0.9) -> Estimate:
        """Return the estimate for a set of `n_images` with a prediction interval.

        Two errors add up: the mapping's own (from leave-one-out), and that the test images and the new
        images are both samples, whose means differ by chance even if the model is equally good on both.

        Args:
            pseudo: Pseudo performance on the new images.
            n_images: Number of new images.
            level: Share of cases in which the interval should hold the metric's true mean, 0..1.
        """
        value = float(self.predict(np.array([pseudo]))[0])
        variance = float(np.mean((self.leave_one_out - self.real) ** 2))
        order = np.argsort(self.pseudo, kind="stable")
        spread = float(np.interp(pseudo, self.pseudo[order], self.spread[order]))
        variance += spread**2 * (1 / self.n_test + 1 / n_images)
        half = float(stats.t.ppf((1 + level) / 2, len(self.pseudo) - 2)) * variance**0.5
        low, high = RANGES[self.metric]
        outside = not self.pseudo.min() <= pseudo <= self.pseudo.max()
        return Estimate(value, max(value - half, low), min(value + half, high), outside)


def fit_mapping(pseudo: Floats, real: Floats, *, spread: Floats, n_test: int, metric: str, kind: str = AUTO) -> Mapping:
    """Return the mapping of one metric; `auto` takes the kind with the smallest leave-one-out error.

    Args:
        pseudo: Pseudo performance of `K` models, shape `(K,)`.
        real: Their real performance, shape `(K,)`.
        spread: Standard deviation of the metric over the test images, shape `(K,)`.
        n_test: Number of test images.
        metric: One of `METRICS`.
        kind: One of `KINDS`, or `auto`.

    Raises:
        InputError: when fewer than three points differ, or a value is not finite.
    """
    if not (np.isfinite(pseudo).all() and np.isfinite(real).all()):
        msg = f"{metric}: undefined for a model (no foreground in truth and prediction); remove that label"
        raise InputError(msg)
    distinct = len(np.unique(np.stack([pseudo, real]), axis=1).T)
    if distinct < MIN_POINTS or len(np.unique(pseudo)) < MIN_POINTS:
        msg = (
            f"{metric}: {len(pseudo)} models give {len(np.unique(pseudo))} distinct points, a mapping needs "
            f"{MIN_POINTS}; add checkpoints of other quality to --predictions"
        )
        raise InputError(msg)
    kinds = KINDS if kind == AUTO else (kind,)
    candidates = [Mapping(each, metric, pseudo, real, spread, n_test) for each in kinds]
    return min(candidates, key=lambda mapping: mapping.error)


def pearson(a: Floats, b: Floats) -> float:
    """Return Pearson's correlation, -1..1; `nan` when one side is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _leave_one_out(kind: str, metric: str, pseudo: Floats, real: Floats) -> Floats:
    rest = ~np.eye(len(pseudo), dtype=bool)
    found = [_curve(kind, pseudo[keep], real[keep], pseudo[~keep]) for keep in rest]
    return np.clip(np.concatenate(found), *RANGES[metric])


def _curve(kind: str, pseudo: Floats, real: Floats, at: Floats) -> Floats:
    """Fit one kind of curve to points `(K,)` and return its value at `at`."""
    if kind == "linear":
        return _line(pseudo, real, at)
    if kind == "log":
        # Both sides: a distance spans orders of magnitude in training, and so does its error.
        line = _line(_log(pseudo), _log(real), _log(at))
        return np.expm1(np.minimum(line, LARGEST_EXPONENT))
    knots, level = _steps(pseudo, real)
    return np.interp(at, knots, level)


def _line(x: Floats, y: Floats, at: Floats) -> Floats:
    centred = x - x.mean()
    power = float(centred @ centred)
    slope = float(centred @ (y - y.mean())) / power if power > 0 else 0.0
    line: Floats = y.mean() + slope * (at - x.mean())
    return line


def _log(values: Floats) -> Floats:
    return np.log1p(np.maximum(values, -0.999))  # a correlation may touch -1, where the logarithm ends


def _steps(pseudo: Floats, real: Floats) -> tuple[Floats, Floats]:
    """Return the knots of the isotonic fit: the mean position and level of each pooled block."""
    order = np.lexsort((real, pseudo))
    fit = isotonic_regression(real[order])
    knots = [pseudo[order][start:end].mean() for start, end in pairwise(fit.blocks)]
    return np.array(knots), fit.x[fit.blocks[:-1]]
