"""True metrics of a predicted mask against a reference mask, in 2D or 3D, with numpy and scipy only.

The empty case is decided once, here. Both masks empty: every metric is `nan` ("undefined": leave it out of
means and say how many). One mask empty: overlaps are 0 and distances are `inf`; tables and training targets
put the image diagonal in its place (`finite_distance`), so that missing more never improves a mean.

A surface is made of the foreground voxels with a face-connected background neighbour; outside the image is
background, so a mask that fills the frame has a surface too. Distances are Euclidean, in the unit of
`spacing` (voxels when it is left out).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Spacing = Sequence[float] | None

OVERLAP_METRICS = ("dice", "jaccard", "precision", "recall", "pixel_correlation")
DISTANCE_METRICS = ("hd", "hd95", "hd95_pooled")
METRICS = OVERLAP_METRICS + DISTANCE_METRICS


def dice(pred: Mask, truth: Mask) -> float:
    """Return twice the common area over the sum of both areas, 0..1.

    Args:
        pred: Predicted mask, shape `(H, W)` or `(D, H, W)`, bool.
        truth: Reference mask, same shape.

    Returns:
        0 when one mask is empty, `nan` when both are.

    Raises:
        InputError: The shapes differ, or a mask is not bool.
    """
    return float(_dice(_count(pred, truth)))


def jaccard(pred: Mask, truth: Mask) -> float:
    """Return the common area over the area of the union, 0..1; arguments and empty case as in `dice`."""
    return float(_jaccard(_count(pred, truth)))


def precision(pred: Mask, truth: Mask) -> float:
    """Return the share of the predicted mask that is right, 0..1; arguments and empty case as in `dice`."""
    return float(_precision(_count(pred, truth)))


def recall(pred: Mask, truth: Mask) -> float:
    """Return the share of the reference mask that was found, 0..1; arguments and empty case as in `dice`."""
    return float(_recall(_count(pred, truth)))


def pixel_correlation(pred: Mask, truth: Mask) -> float:
    """Return Pearson's correlation of the two flattened masks (Matthews' coefficient), -1..1.

    The SPE paper calls it "Pearson". It looks at the background too, so it depends on the frame. A mask that
    fills the frame has no variance: 1 when the other fills it too, else 0. Arguments and empty case as in
    `dice`.
    """
    return float(_pixel_correlation(_count(pred, truth)))


def hd(pred: Mask, truth: Mask, *, spacing: Spacing = None) -> float:
    """Return the Hausdorff distance: the largest distance from one surface to the other.

    Args:
        pred: Predicted mask, shape `(H, W)` or `(D, H, W)`, bool.
        truth: Reference mask, same shape.
        spacing: Size of a voxel along each axis; the result has its unit.

    Returns:
        A distance >= 0; `inf` when one mask is empty, `nan` when both are.

    Raises:
        InputError: The shapes differ, a mask is not bool, or the spacing does not fit.
    """
    return _surface_distances(pred, truth, spacing)["hd"]


def hd95(pred: Mask, truth: Mask, *, spacing: Spacing = None) -> float:
    """Return the larger of the two directed 95th percentiles of the surface distances.

    This is the consensus definition (Metrics Reloaded, MONAI), with linear interpolation between ranks.
    Arguments and empty case as in `hd`.
    """
    return _surface_distances(pred, truth, spacing)["hd95"]


def hd95_pooled(pred: Mask, truth: Mask, *, spacing: Spacing = None) -> float:
    """Return the 95th percentile of the surface distances of both directions put together.

    This is what MedPy and the code of the SPE paper call HD95; it hides errors on the smaller surface.
    Arguments and empty case as in `hd`.
    """
    return _surface_distances(pred, truth, spacing)["hd95_pooled"]


def all_metrics(pred: Mask, truth: Mask, *, spacing: Spacing = None) -> dict[str, float]:
    """Return every metric of one pair by name (`METRICS`), sharing the work; arguments as in `hd`."""
    _check_pair(pred, truth)
    small_pred, small_truth = _crop(pred, truth)
    counts = _count(small_pred, small_truth)._replace(total=pred.size)
    overlaps = {name: float(formula(counts)) for name, formula in _OVERLAPS.items()}
    return overlaps | _cropped_distances(small_pred, small_truth, _check_spacing(spacing, pred.ndim))


def dice_many(preds: Mask, truths: Mask) -> Floats:
    """Return `dice` of N pairs at once.

    Args:
        preds: Predicted masks, shape `(N, H, W)` or `(N, D, H, W)`, bool.
        truths: Reference masks of the same shape, or one of shape `(H, W)` or `(D, H, W)` for all.

    Returns:
        Shape `(N,)`; `nan` where both masks are empty.

    Raises:
        InputError: The shapes differ, or the masks are not bool.
    """
    return _dice(_count_many(preds, truths))


def jaccard_many(preds: Mask, truths: Mask) -> Floats:
    """Return `jaccard` of N pairs at once; arguments as in `dice_many`."""
    return _jaccard(_count_many(preds, truths))


def precision_many(preds: Mask, truths: Mask) -> Floats:
    """Return `precision` of N pairs at once; arguments as in `dice_many`."""
    return _precision(_count_many(preds, truths))


def recall_many(preds: Mask, truths: Mask) -> Floats:
    """Return `recall` of N pairs at once; arguments as in `dice_many`."""
    return _recall(_count_many(preds, truths))


def pixel_correlation_many(preds: Mask, truths: Mask) -> Floats:
    """Return `pixel_correlation` of N pairs at once; arguments as in `dice_many`."""
    return _pixel_correlation(_count_many(preds, truths))


def all_metrics_many(preds: Mask, truths: Mask, *, spacing: Spacing = None) -> dict[str, Floats]:
    """Return every metric of N pairs by name, each of shape `(N,)`; arguments as in `dice_many` and `hd`."""
    preds, truths = _check_pairs(preds, truths)
    counts, steps = _count_many(preds, truths), _check_spacing(spacing, preds.ndim - 1)
    rows = [_cropped_distances(*_crop(pred, truth), steps) for pred, truth in zip(preds, truths, strict=True)]
    distances = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in DISTANCE_METRICS}
    return {name: formula(counts) for name, formula in _OVERLAPS.items()} | distances


def image_diagonal(shape: Sequence[int], spacing: Spacing = None) -> float:
    """Return the length of the diagonal of an image: the worst distance that a table shows."""
    return math.hypot(*(size * step for size, step in zip(shape, _check_spacing(spacing, len(shape)), strict=True)))


def finite_distance(value: float, shape: Sequence[int], spacing: Spacing = None) -> float:
    """Return a distance as tables show it: the image diagonal instead of `inf` (`nan` stays `nan`)."""
    return image_diagonal(shape, spacing) if math.isinf(value) else value


class _Counts(NamedTuple):
    """Numbers of voxels, each a scalar or of shape `(N,)`."""

    common: Integers
    pred: Integers
    truth: Integers
    total: int


def _count(pred: Mask, truth: Mask) -> _Counts:
    _check_pair(pred, truth)
    common, area, true_area = (np.asarray(np.count_nonzero(mask)) for mask in (pred & truth, pred, truth))
    return _Counts(common, area, true_area, pred.size)


def _count_many(preds: Mask, truths: Mask) -> _Counts:
    preds, truths = _check_pairs(preds, truths)
    # One call a mask: numpy counts a whole array several times as fast as along axes.
    common, area, true_area = (
        np.array([np.count_nonzero(mask) for mask in masks], np.int64) for masks in (preds & truths, preds, truths)
    )
    return _Counts(common, area, true_area, math.prod(preds.shape[1:]))


def _ratio(part: Integers, whole: Integers | Floats, counts: _Counts) -> Floats:
    """Divide; 0 where there is nothing to divide by, `nan` where both masks are empty."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(whole > 0, part / whole, 0.0)
    return np.where(counts.pred + counts.truth > 0, ratio, np.nan)


def _dice(counts: _Counts) -> Floats:
    return _ratio(2 * counts.common, counts.pred + counts.truth, counts)


def _jaccard(counts: _Counts) -> Floats:
    return _ratio(counts.common, counts.pred + counts.truth - counts.common, counts)


def _precision(counts: _Counts) -> Floats:
    return _ratio(counts.common, counts.pred, counts)


def _recall(counts: _Counts) -> Floats:
    return _ratio(counts.common, counts.truth, counts)


def _pixel_correlation(counts: _Counts) -> Floats:
    covariance = counts.total * counts.common - counts.pred * counts.truth
    # Four square roots, not the root of the product, which leaves int64 for a volume.
    deviation = np.sqrt(counts.pred) * np.sqrt(counts.total - counts.pred)
    deviation = deviation * np.sqrt(counts.truth) * np.sqrt(counts.total - counts.truth)
    both_full = (counts.common == counts.total) & (counts.total > 0)
    correlation = np.clip(_ratio(covariance, deviation, counts), -1.0, 1.0)
    return np.where(both_full, 1.0, correlation)


_OVERLAPS = {
    "dice": _dice,
    "jaccard": _jaccard,
    "precision": _precision,
    "recall": _recall,
    "pixel_correlation": _pixel_correlation,
}


def _surface_distances(pred: Mask, truth: Mask, spacing: Spacing) -> dict[str, float]:
    _check_pair(pred, truth)
    return _cropped_distances(*_crop(pred, truth), _check_spacing(spacing, pred.ndim))


def _cropped_distances(pred: Mask, truth: Mask, spacing: tuple[float, ...]) -> dict[str, float]:
    """Return the three distances of two masks that have a ring of background around them."""
    has_pred, has_truth = bool(pred.any()), bool(truth.any())
    if not (has_pred and has_truth):
        return dict.fromkeys(DISTANCE_METRICS, math.inf if has_pred or has_truth else math.nan)
    surfaces = _surface(pred), _surface(truth)
    fits = max(pred.shape) <= MOST_EXACT and math.prod(map(np.count_nonzero, surfaces)) <= MOST_PAIRS
    measure = _measure_all_pairs if fits and set(spacing) == {1.0} else _measure_by_tree
    (there, there_zeros), (back, back_zeros) = measure(*surfaces, spacing)
    pooled = np.concatenate([there, back])
    return {
        "hd": float(pooled.max(initial=0.0)),
        "hd95": max(_percentile95(there, there_zeros), _percentile95(back, back_zeros)),
        "hd95_pooled": _percentile95(pooled, there_zeros + back_zeros),
    }


MOST_PAIRS = 2**18
"""Of so few pairs of surface voxels, a table of all distances is quicker than a tree."""
MOST_EXACT = 1024
"""Up to this size, squared distances and all steps towards them are integers that float32 holds exactly."""

_Nearest = tuple["Floats", int]
"""Distances of a surface's voxels to the other surface, and how many more of them are 0."""


def _measure_all_pairs(pred: Mask, truth: Mask, spacing: tuple[float, ...]) -> tuple[_Nearest, _Nearest]:
    """Return the distances of two small surfaces, voxels of size 1, in both directions."""
    return _nearest_of_all(*(_points(surface, spacing).astype(np.float32) for surface in (pred, truth)))


def _nearest_of_all(here: NDArray[np.float32], there: NDArray[np.float32]) -> tuple[_Nearest, _Nearest]:
    """Return the distance of each point `(n, axes)` to its nearest on the other side, in both directions."""
    here_square, there_square = ((points**2).sum(axis=1, keepdims=True) for points in (here, there))
    # |a - b|^2 = -2ab + |a|^2 + |b|^2 as one matrix product.
    left = np.hstack([-2 * here, here_square, np.ones_like(here_square)])
    right = np.hstack([there, np.ones_like(there_square), there_square])
    squares = left @ right.T
    first, second = (np.sqrt(squares.min(axis=axis).astype(np.float64)) for axis in (1, 0))
    return (first, 0), (second, 0)


def _measure_by_tree(pred: Mask, truth: Mask, spacing: tuple[float, ...]) -> tuple[_Nearest, _Nearest]:
    """Return the distances of two surfaces in both directions."""
    return _directed(pred, truth, spacing), _directed(truth, pred, spacing)


def _directed(start: Mask, end: Mask, spacing: tuple[float, ...]) -> _Nearest:
    """Return the distances from the surface `start` to `end`."""
    from scipy.spatial import cKDTree

    away = start & ~end
    zeros = int(np.count_nonzero(start)) - int(np.count_nonzero(away))
    if not away.any():
        return np.empty(0), zeros
    # An unbalanced tree with large leaves is the quickest to build for points on a grid.
    tree = cKDTree(_points(end, spacing), leafsize=32, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(_points(away, spacing))
    return distances, zeros


def _points(mask: Mask, spacing: tuple[float, ...]) -> Floats:
    """Return the places of the voxels, shape `(n, axes)`; several times as fast as `np.argwhere`."""
    places = np.unravel_index(np.flatnonzero(mask), mask.shape)
    return np.stack([place * step for place, step in zip(places, spacing, strict=True)], axis=1)


def _percentile95(distances: Floats, zeros: int) -> float:
    """Return the linear 95th percentile of the distances and so many zeros."""
    position = 0.95 * (distances.size + zeros - 1)
    low = math.floor(position)
    low_rank, high_rank = low - zeros, min(low + 1 - zeros, distances.size - 1)
    if high_rank < 0:
        return 0.0
    ordered = np.partition(distances, (max(low_rank, 0), high_rank))
    below = float(ordered[low_rank]) if low_rank >= 0 else 0.0
    return below + (position - low) * (float(ordered[high_rank]) - below)


def _surface(mask: Mask) -> Mask:
    """Return the voxels with a face-connected background neighbour; the outermost ring must be background."""
    inner = (slice(1, -1),) * mask.ndim
    inside = mask[inner].copy()
    for axis in range(mask.ndim):
        for neighbour in (slice(None, -2), slice(2, None)):
            inside &= mask[(*inner[:axis], neighbour, *inner[axis + 1 :])]
    surface = mask.copy()
    surface[inner] &= ~inside
    return surface


def _crop(pred: Mask, truth: Mask) -> tuple[Mask, Mask]:
    """Cut both masks to the box around their union and put one voxel of background around it."""
    union = pred | truth
    box: list[slice] = []
    for axis in range(pred.ndim):
        others = tuple(other for other in range(pred.ndim) if other != axis)
        found = np.flatnonzero(union.any(axis=others))
        span = slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)
        union = union[(slice(None),) * axis + (span,)]
        box.append(span)
    return _framed(pred[tuple(box)]), _framed(truth[tuple(box)])


def _framed(mask: Mask) -> Mask:
    framed = np.zeros([size + 2 for size in mask.shape], dtype=bool)
    framed[(slice(1, -1),) * mask.ndim] = mask
    return framed


def _check_pair(pred: Mask, truth: Mask) -> None:
    if pred.shape != truth.shape:
        msg = f"predicted mask {pred.shape} and reference mask {truth.shape}: give two masks of one shape"
        raise InputError(msg)
    for name, mask in (("predicted", pred), ("reference", truth)):
        if mask.dtype != np.bool_:
            msg = f"{name} mask {mask.shape} has type {mask.dtype}: give a bool mask, for example `mask > 0`"
            raise InputError(msg)


def _check_pairs(preds: Mask, truths: Mask) -> tuple[Mask, Mask]:
    if truths.ndim == preds.ndim - 1 and truths.shape == preds.shape[1:]:
        truths = np.broadcast_to(truths, preds.shape)
    _check_pair(preds, truths)
    return preds, truths


def _check_spacing(spacing: Spacing, ndim: int) -> tuple[float, ...]:
    if spacing is None:
        return (1.0,) * ndim
    steps = tuple(float(step) for step in spacing)
    if len(steps) != ndim or not all(math.isfinite(step) and step > 0 for step in steps):
        msg = f"spacing {steps} does not fit a mask of {ndim} axes: give {ndim} positive numbers"
        raise InputError(msg)
    return steps
