"""Support sets: which predictions an engine learns from in each repeat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segqa.spe.engines import CanvasMasks

SUPPORT_SIZE = 64
"""Pairs in a support set; UniverSeg was trained with 64 (Wu et al. 2025, section 3.3)."""
REPEATS = 6
"""Random support sets a model (same section)."""
LADDER = (64, 24, 8)
"""Sizes that a mapping is fitted for when the engine is cheap."""
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


def support_sizes(n_images: int, *, limit: int = SUPPORT_SIZE, many: bool) -> list[int]:
    """Return the sizes of support set that mappings are fitted for, largest first.

    A larger support set teaches more, so pseudo performance grows with it even if the model is the same. A
    mapping therefore holds for one size, and a new set of images may have fewer usable predictions than the
    test set; with a cheap engine there is a mapping for smaller sizes, too.
    """
    largest = min(n_images, limit)
    sizes = sorted({size for size in (*LADDER, limit) if size <= largest}, reverse=True)
    return sizes if many and largest >= LADDER[-1] else [largest]
