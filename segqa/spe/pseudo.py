"""Pseudo performance: how well a model's predictions teach an engine to segment the training images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segqa import metrics
from segqa.spe.engines import Canvas, CanvasMasks, Engine
from segqa.spe.mapping import SPE_METRICS
from segqa.spe.support import choose_support

NORMAL_95 = 1.96
CHUNK = 8
"""With a tolerance, the interval is looked at after so many queries."""
MIN_QUERIES = 24
"""Fewer say too little about their own spread to stop at."""

Floats = NDArray[np.float64]
Values = list[list[float]]
"""The six metrics of each query of a step."""


class Step(NamedTuple):
    """Queries that are segmented with one support set."""

    draw: int
    queries: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """Which training image is queried with which draw, the same for every model."""

    orders: NDArray[np.int64]
    """Random orders of the images the supports come from, shape `(repeats, n)`."""
    n_queries: int
    every_draw: bool = False
    """Query each training image with every draw, as the paper does, instead of with one of them."""
    tolerance: float | None = None
    """Stop when the half width of the pseudo Dice's 95 % interval is below; `None` queries all."""
    support_size: int = 64
    seed: int = 0

    def steps(self) -> Iterator[Step]:
        """Yield the steps in the order they are worked through."""
        repeats = len(self.orders)
        shuffled = np.random.default_rng([self.seed, self.n_queries, 1]).permutation(self.n_queries)
        if self.every_draw:
            folds = [shuffled for _ in range(repeats)]
        else:
            folds = [shuffled[draw::repeats] for draw in range(repeats)]
        size = self.n_queries if self.tolerance is None else CHUNK
        for start in range(0, self.n_queries, size):
            for draw, fold in enumerate(folds):
                if len(part := fold[start : start + size]):
                    yield Step(draw, np.sort(part))


@dataclass(frozen=True, slots=True)
class Pseudo:
    """Pseudo performance of one model for one label."""

    mean: Floats
    """Mean of each of the six metrics, shape `(6,)`."""
    half_width: Floats
    """Half width of its 95 % interval, with finite-population correction, shape `(6,)`."""
    n: int
    """Number of training images that were queried."""
    n_undefined: int
    """Queried images without foreground in truth and prediction: left out of the means."""


def measure_pseudo(
    engine: Engine,
    queries: tuple[Canvas, CanvasMasks],
    supports: tuple[Canvas, CanvasMasks],
    *,
    plan: QueryPlan,
    key: str,
    known: Mapping[str, Values] | None = None,
    keep: Callable[[str, Values], object] | None = None,
) -> Pseudo:
    """Return the pseudo performance of one model for one label.

    Args:
        engine: Segments by example.
        queries: Training images and their true masks.
        supports: Images and the model's predictions on them; some prediction must have enough foreground.
        plan: Which image is queried with which draw, and when to stop.
        key: Name of this model and label in the names of steps.
        known: Values of finished steps by name, as an earlier run left them.
        keep: Receives name and values of each new step the moment they are there.
    """
    images, truths = queries
    values = np.full((len(plan.orders), plan.n_queries, len(SPE_METRICS)), np.nan)
    asked = np.zeros(plan.n_queries, dtype=bool)
    for number, step in enumerate(plan.steps()):
        name = f"{key}/{number}"
        measured = (known or {}).get(name)
        if measured is None:
            rows = choose_support(supports[1], plan.orders[step.draw], size=plan.support_size)
            # A support set without foreground teaches nothing: nothing is found.
            found = np.zeros((len(step.queries), *truths.shape[1:]), dtype=bool)
            if len(rows):
                scores = engine.segment(images[step.queries], supports[0][rows], supports[1][rows])
                found = scores > engine.threshold
            measured = measure_masks(found, truths[step.queries]).tolist()
            if keep is not None:
                keep(name, measured)
        values[step.draw, step.queries] = measured
        asked[step.queries] = True
        if plan.tolerance is not None and asked.sum() >= MIN_QUERIES:
            result = _summarise(values, asked)
            if result.half_width[SPE_METRICS.index("dice")] < plan.tolerance:
                return result
    return _summarise(values, asked)


def measure_masks(found: CanvasMasks, truths: CanvasMasks) -> Floats:
    """Return the six metrics of `N` pairs, shape `(N, 6)`; `nan` when both masks are empty.

    A distance to an empty mask is the image diagonal, so that missing an object never improves a mean.
    """
    measured = metrics.all_metrics_many(found, truths)
    values = np.stack([measured[name] for name in SPE_METRICS], axis=1)
    return np.where(np.isinf(values), metrics.image_diagonal(found.shape[1:]), values)


def mean_defined(values: Floats, axis: int = 0) -> Floats:
    """Return the mean over an axis without the undefined values; `nan` where none is defined."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0).sum(axis=axis)
    with np.errstate(invalid="ignore"):
        mean: Floats = total / defined.sum(axis=axis)
    return mean


def _summarise(values: Floats, asked: NDArray[np.bool_]) -> Pseudo:
    """Mean over the draws of each image, then over the images."""
    by_image = mean_defined(values)[asked]
    defined = np.isfinite(by_image).all(axis=1)
    n, total = int(asked.sum()), len(asked)
    rows = by_image[defined]
    if n == total:  # all there are: nothing was left to chance
        half = np.zeros(len(SPE_METRICS))
    else:
        spread = rows.std(axis=0, ddof=1) if len(rows) > 1 else np.full(len(SPE_METRICS), np.inf)
        half = NORMAL_95 * spread * np.sqrt((1 - n / total) / max(len(rows), 1))
    return Pseudo(mean_defined(by_image), half, n, int((~defined).sum()))
