"""Novelty: how far an input lies from the training data, seen through the evaluator's own embedding.

The distance is Mahalanobis' on the principal axes of the training embeddings; the number that is shown is the share of
calibration inputs that lie nearer, so 0.5 is usual and 1 is beyond all that was calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COMPONENTS = 16
"""Axes kept; of 8 to 128, the rest beside them and nearest neighbours, 16 agreed best with errors, and is small."""

NOVEL = 0.99
"""Above this, an input is unlike what the weights were calibrated on."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The training embeddings in short."""

    centre: NDArray[np.float32]
    """Shape `(features,)`."""
    axes: NDArray[np.float32]
    """Shape `(components, features)`; along each, training inputs have deviation 1."""

    def distances(self, embeddings: NDArray[np.float32]) -> Floats:
        """Return how many deviations embeddings `(n, features)` lie from the centre on average over axes: `(n,)`."""
        along = (embeddings.astype(np.float64) - self.centre) @ self.axes.T.astype(np.float64)
        distances: Floats = np.sqrt(np.square(along).mean(axis=1))
        return distances


@dataclass(frozen=True, slots=True)
class Novelty:
    """The reference, and how far calibration inputs lie from it."""

    reference: Reference
    known: NDArray[np.float32]
    """Distances below which lie 0, 1, .. 100 % of the calibration inputs."""

    def of(self, embeddings: NDArray[np.float32]) -> Floats:
        """Return the share, 0..1, of calibration inputs that are nearer than embeddings `(n, features)`: `(n,)`."""
        return self.share(self.reference.distances(embeddings))

    def share(self, distances: Floats) -> Floats:
        """Return the share of calibration inputs below these distances, `(n,)`.

        Interpolated between percentiles, so that the last bits, in which runtimes differ, hardly matter.
        """
        return np.interp(distances, self.known, np.linspace(0, 1, len(self.known)))


def fit_reference(embeddings: NDArray[np.float32]) -> Reference:
    """Return centre and principal axes of training embeddings `(n, features)`; n should be some hundreds."""
    centre = embeddings.mean(axis=0)
    _, sizes, axes = np.linalg.svd(embeddings - centre, full_matrices=False)
    deviations = sizes / np.sqrt(len(embeddings))
    # Axes that are rounding errors of single precision are none.
    kept = int((deviations[:COMPONENTS] > 1e-5 * deviations[0]).sum()) if deviations[0] > 0 else 0
    scaled = axes[:kept] / deviations[:kept, None] if kept else np.zeros((1, embeddings.shape[1]))
    return Reference(centre.astype(np.float32), scaled.astype(np.float32))


def fit_novelty(reference: Reference, distances: Floats) -> Novelty:
    """Return the novelty for which inputs at these calibration distances are evenly spread over 0..1."""
    return Novelty(reference, np.percentile(distances, np.arange(101)).astype(np.float32))
