"""How well predicted scores agree with true ones, as numbers.

Arrays hold one value per object, without `nan`; a number that is not defined (too few objects, all equal) is `nan`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

LOW_QUALITY = 0.7
"""A Dice below this is a segmentation to look at."""


def pearson(predicted: Floats, true: Floats) -> float:
    """Return Pearson's correlation, -1..1; `nan` below 2 objects or when one side is constant."""
    if predicted.size < 2 or np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return math.nan
    return float(np.corrcoef(predicted, true)[0, 1])


def spearman(predicted: Floats, true: Floats) -> float:
    """Return Spearman's rank correlation with mean ranks for ties; `nan` as in `pearson`."""
    return pearson(_ranks(predicted), _ranks(true))


def kendall(predicted: Floats, true: Floats) -> float:
    """Return Kendall's τ-b; `nan` as in `pearson`."""
    if predicted.size < 2 or np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return math.nan
    from scipy.stats import kendalltau

    return float(kendalltau(predicted, true).statistic)


def mae(predicted: Floats, true: Floats) -> float:
    """Return the mean absolute error; `nan` without objects."""
    return float(np.abs(predicted - true).mean()) if true.size else math.nan


def rmse(predicted: Floats, true: Floats) -> float:
    """Return the root of the mean squared error; `nan` without objects."""
    return math.sqrt(float(np.square(predicted - true).mean())) if true.size else math.nan


def auroc(predicted: Floats, true: Floats, *, threshold: float = LOW_QUALITY) -> float:
    """Return how well a low predicted score finds objects of a true score below the threshold, 0..1.

    It is the probability that a bad object has a lower predicted score than a good one, ties counting half;
    `nan` when all objects are bad or all are good.
    """
    is_low = true < threshold
    n_low, n_high = int(is_low.sum()), int((~is_low).sum())
    if not n_low or not n_high:
        return math.nan
    below = float(_ranks(-predicted)[is_low].sum()) - n_low * (n_low + 1) / 2
    return below / (n_low * n_high)


def risk_coverage(predicted: Floats, true: Floats) -> tuple[Floats, Floats]:
    """Return the mean true loss (1 - true score) of the objects kept, best predicted first.

    Objects of equal predicted score stand for their mean, so that their order does not matter.

    Returns:
        Coverage 1/n..1 and risk 0..1, both of shape `(n,)`.
    """
    order = np.argsort(-predicted, kind="stable")
    loss = 1.0 - true[order]
    _, group, size = np.unique(-predicted[order], return_inverse=True, return_counts=True)
    loss = (np.bincount(group, weights=loss, minlength=size.size) / np.maximum(size, 1))[group]
    kept = np.arange(1, true.size + 1)
    return kept / max(true.size, 1), np.cumsum(loss) / kept


def aurc(predicted: Floats, true: Floats) -> float:
    """Return the area under the risk-coverage curve (mean risk), lower is better; `nan` without objects."""
    return float(risk_coverage(predicted, true)[1].mean()) if true.size else math.nan


def _ranks(values: Floats) -> Floats:
    """Return ranks from 1, the mean rank for ties."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(size)
    return np.asarray((last - (size - 1) / 2)[group], np.float64)
