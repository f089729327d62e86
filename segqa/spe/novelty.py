"""Which images are unlike the training images: a mapping says nothing about those."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from segqa.spe.engines import Canvas

USUAL_SHARE = 0.05
"""Share of the training images that would count as novel beside those of other groups."""


class Embedder(Protocol):
    """Turns an image into a vector that is near those of similar images."""

    def embed(self, images: Canvas) -> NDArray[np.float32]:
        """Return vectors of shape `(N, C)` for images `(N, SIDE, SIDE, 3)`."""
        ...


def find_novel(
    embedder: Embedder, images: Canvas, training: Canvas, groups: NDArray[np.int64]
) -> NDArray[np.bool_] | None:
    """Tell for each image whether it is farther from the training images than they are from those of other groups.

    Images of one group are look-alikes, as slices of a patient are: beside those, every new patient would be novel.

    Args:
        embedder: Gives the vectors.
        images: The images in question, shape `(N, SIDE, SIDE, 3)`.
        training: The training images, shape `(T, SIDE, SIDE, 3)`.
        groups: Number of each training image's group (patient, volume, or the image itself), shape `(T,)`.

    Returns:
        Shape `(N,)`: the distance to the nearest training image is above the 95th percentile of the training
        images' own distances to their nearest neighbour in another group. `None` when all training images are of one
        group: nothing tells how far apart groups usually are.
    """
    if (groups == groups[0]).all():
        return None
    known = embedder.embed(training).astype(np.float64)
    scale = known.std(axis=0) + 1e-6
    between = cdist(known / scale, known / scale)
    # Row by row: a mask of all pairs would be another large array.
    for distances, group in zip(between, groups, strict=True):
        distances[groups == group] = np.inf
    usual = np.quantile(between.min(axis=1), 1 - USUAL_SHARE)
    nearest = cdist(embedder.embed(images) / scale, known / scale).min(axis=1)
    return np.asarray(nearest > usual)
