"""Agreement: how far a model's masks are what the training masks teach an engine to find in the same images.

Pseudo performance (Wu et al. 2025) teaches with the predictions and asks the training images. Agreement goes the
other way: it teaches with the training masks and asks the images that were predicted. It sees these images
themselves, it needs no support sets of equal size, and what the engine finds serves all models, so it costs
next to nothing beside pseudo performance. The two err for different reasons, and the mapping takes both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segqa.spe.cohorts import Labelled, Predicted
from segqa.spe.engines import SIDE, Canvas, CanvasMasks, Engine
from segqa.spe.mapping import SPE_METRICS
from segqa.spe.pseudo import measure_masks
from segqa.spe.support import choose_support, draw_orders

MOST_TEACHERS = 256
"""Training images that teach a cheap engine, at most: each one's share of the work is kept in memory."""
AT_ONCE = 1024
"""Images that are segmented at a time: their probabilities take 64 MB."""


def measure_agreement(
    engine: Engine, training: Labelled, predicted: Predicted, *, support_size: int, seed: int
) -> NDArray[np.float64]:
    """Return each metric of every model's masks against what the engine finds, shape `(N, K, L, 6)`.

    Args:
        engine: Segments by example.
        training: Teaches the engine.
        predicted: The images, and the predictions of `K` models on them.
        support_size: Training images that teach an engine that is not cheap.
        seed: Which of the training images those are.
    """
    order = draw_orders(len(training.images), repeats=1, seed=seed)[0]
    limit = MOST_TEACHERS if engine.is_cheap else support_size
    values = np.empty((len(predicted.images), len(predicted.masks), len(training.labels), len(SPE_METRICS)))
    for label in range(len(training.labels)):
        rows = choose_support(training.masks[:, label], order, size=limit)
        found = _find(engine, predicted.images, training.images[rows], training.masks[rows, label])
        for number, model in enumerate(predicted.masks):
            values[:, number, label] = measure_masks(predicted.mask_of(model, label), found)
    return values


def _find(engine: Engine, images: Canvas, support_images: Canvas, support_masks: CanvasMasks) -> CanvasMasks:
    if not len(support_images):  # no training mask is large enough to teach anything
        return np.zeros((len(images), SIDE, SIDE), dtype=bool)
    blocks = (images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE))
    found = [engine.segment(block, support_images, support_masks) > engine.threshold for block in blocks]
    return np.concatenate(found)
