"""β-relative accuracy (EvanySeg, definition 3.3): does the evaluator put two masks in the right order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BETAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)

TOLERANCE = 1e-12
"""0.3 and 0.1 differ by 0.2, whatever their binary digits say."""


def beta_relative_accuracy(
    predicted: Floats, true: Floats, betas: Sequence[float] = BETAS
) -> tuple[Floats, NDArray[np.int64]]:
    """Return for each β the share of pairs in the right order among pairs whose true scores differ by β.

    A pair counts when its true scores differ, and by at least β; it is right when the predicted scores differ in
    the same direction, so two equal predicted scores are wrong. Exact, in O(n log n) for each β.

    Args:
        predicted: Predicted scores, shape `(n,)`, without `nan`.
        true: True scores, shape `(n,)`, without `nan`.
        betas: Smallest differences, 0..1.

    Returns:
        Shares in 0..1 (`nan` where no pair differs so much) and numbers of pairs, each of shape `(len(betas),)`.
    """
    order = np.argsort(true, kind="stable")
    true = true[order]
    ranks = np.unique(predicted[order], return_inverse=True)[1].astype(np.int32)
    levels = _wavelet_matrix(ranks)
    # Asked in order of rank, neighbouring questions look at neighbouring numbers, which the cache likes.
    by_rank = np.argsort(ranks, kind="stable")
    asked = ranks[by_rank]
    worse = np.searchsorted(true, true, side="left")
    shares, numbers = np.full(len(betas), np.nan), np.zeros(len(betas), np.int64)
    for index, beta in enumerate(betas):
        far = np.searchsorted(true, true - beta + TOLERANCE, side="right")
        ends = np.minimum(worse, far).astype(np.int32)
        numbers[index] = ends.sum(dtype=np.int64)
        if numbers[index]:
            shares[index] = _count_smaller(levels, asked, ends[by_rank]) / numbers[index]
    return shares, numbers


def _wavelet_matrix(values: NDArray[np.int32]) -> list[tuple[int, NDArray[np.int32]]]:
    """Return for each bit, highest first, how many of the first k values have it unset, for k = 0..n.

    After each bit the values are split stably, those without it first.
    """
    levels = []
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        unset = (values >> bit & 1) == 0
        before = np.zeros(values.size + 1, np.int32)
        np.cumsum(unset, out=before[1:])
        levels.append((bit, before))
        values = np.concatenate([values[unset], values[~unset]])
    return levels


def _count_smaller(
    levels: list[tuple[int, NDArray[np.int32]]], values: NDArray[np.int32], ends: NDArray[np.int32]
) -> int:
    """Return the sum over j of how many of the first `ends[j]` values are smaller than `values[j]`."""
    values, ends = values[ends > 0], ends[ends > 0]
    starts = np.zeros_like(ends)
    total = 0
    for bit, before in levels:
        is_set = values >> bit & 1
        start_unset, end_unset = before[starts], before[ends]
        total += int(((end_unset - start_unset) * is_set).sum(dtype=np.int64))
        # Values with the bit lie behind those without it, in the next level.
        starts = start_unset + is_set * (before[-1] + starts - 2 * start_unset)
        ends = end_unset + is_set * (before[-1] + ends - 2 * end_unset)
    return total
