"""Which images are unlike the training images: a mapping says nothing about those."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from segqa.spe.engines import Canvas

USUAL_SHARE = 0.05
"""Share of the training images that would count as novel beside the others."""


class Embedder(Protocol):
    """Turns an image into a vector that is near those of similar images."""

    def embed(self, images: Canvas) -> NDArray[np.float32]:
        """Return vectors of shape `(N, C)` for images `(N, SIDE, SIDE, 3)`."""
        ...


def find_novel(embedder: Embedder, images: Canvas, training: Canvas) -> NDArray[np.bool_]:
    """Tell for each image whether it is farther from the training images than they are from each other.

    Args:
        embedder: Gives the vectors.
        images: The images in question, shape `(N, SIDE, SIDE, 3)`.
        training: The training images.

    Returns:
        Shape `(N,)`: the distance to the nearest training image is above the 95th percentile of the training
        images' own distances to their nearest neighbour.
    """
    known = embedder.embed(training).astype(np.float64)
    scale = known.std(axis=0) + 1e-6
    between = cdist(known / scale, known / scale)
    np.fill_diagonal(between, np.inf)
    usual = np.quantile(between.min(axis=1), 1 - USUAL_SHARE)
    nearest = cdist(embedder.embed(images) / scale, known / scale).min(axis=1)
    return np.asarray(nearest > usual)
