"""Support sets: which predictions an engine learns from in each repeat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segqa.spe.engines import CanvasMasks

SUPPORT_SIZE = 64
"""Pairs in a support set; UniverSeg was trained with 64 (Wu et al. 2025, section 3.3)."""
REPEATS = 6
"""Random support sets a model (same section)."""
MIN_PIXELS = 10
"""A prediction with fewer foreground pixels shows nothing and is left out (the SPE authors' code)."""


def draw_orders(n_images: int, *, repeats: int = REPEATS, seed: int = 0) -> NDArray[np.int64]:
    """Return one random order of the images for each repeat, shape `(repeats, n_images)`.

    Every model's support sets are taken from the same orders: the luck of the draw then moves all
    checkpoints alike, and their differences, which the mapping lives on, are free of it.
    """
    rng = np.random.default_rng([seed, n_images])
    return np.stack([rng.permutation(n_images) for _ in range(repeats)])


def choose_support(masks: CanvasMasks, order: NDArray[np.int64], *, size: int = SUPPORT_SIZE) -> NDArray[np.int64]:
    """Return the first `size` images of `order` whose mask is large enough, in increasing order.

    Args:
        masks: Predictions of one model for one label, shape `(N, SIDE, SIDE)`.
        order: Random order of the images, shape `(N,)`.
        size: Largest number of pairs.

    Returns:
        Row numbers, shape `(S,)` with `S <= size`; empty when no mask is large enough.
    """
    usable = masks.sum(axis=(1, 2)) >= MIN_PIXELS
    return np.sort(order[usable[order]][:size])
