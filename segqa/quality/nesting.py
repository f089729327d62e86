"""Objects within objects, made from plain ones: the cavity and the wall of a heart, the nucleus and what is around it.

Which of several structures in one box was meant can only be read off the mask and the box, and few data sets have
such structures. Here any object is parted, or gets a wall, and the parts get looks of their own, so that the boundary
between them is there to be seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segqa.data.types import Image, Mask
from segqa.quality.augmentation import repaint
from segqa.quality.corruptions import blur_mask, object_scale, smooth_noise
from segqa.quality.records import OWN

LEAST_SHARE = 0.12
"""A part smaller than this share of the whole is none."""


def nest(image: Image, labels: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Image, NDArray[np.uint8]]:
    """Part the object in two, or give it a wall, and make one of the parts, or both together, the object.

    Args:
        image: `(h, w, 3)`.
        labels: `(h, w)`, the object is `OWN`; not changed.
        rng: Draws how it is parted, which part is meant, and the looks.

    Returns:
        Image and labels, with the other part as one more object; both as they were when no part is large enough.
    """
    whole = labels == OWN
    kind = rng.uniform()
    if kind < 0.5:
        first = _core(whole, rng)
    elif kind < 0.7:
        first = _side(whole, rng)
    else:
        first, whole = whole, whole | _wall(labels, rng)
    second = whole & ~first
    other = int(labels.max()) + 1
    if min(first.sum(), second.sum()) < max(LEAST_SHARE * whole.sum(), 1) or other > np.iinfo(labels.dtype).max:
        return image, labels
    for part in (first, second) if rng.uniform() < 0.4 else (first if rng.uniform() < 0.5 else second,):
        image = repaint(image, part, rng)
    meant = rng.uniform()
    result = labels.copy()
    result[whole] = OWN
    if meant < 0.4:
        result[second] = other
    elif meant < 0.8:
        result[first] = other
    return image, result


def _core(whole: Mask, rng: np.random.Generator) -> Mask:
    """Return an inner part with a boundary of its own shape."""
    soft = blur_mask(whole, object_scale(whole) * rng.uniform(0.08, 0.3))
    noise = smooth_noise(whole.shape, int(rng.integers(2, 10)), rng)
    return whole & (soft + rng.uniform(0, 0.25) * noise > rng.uniform(0.55, 0.9))


def _side(whole: Mask, rng: np.random.Generator) -> Mask:
    """Return what lies on one side of a wavy line."""
    rows, columns = np.indices(whole.shape, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    along += object_scale(whole) * rng.uniform(0, 0.3) * smooth_noise(whole.shape, int(rng.integers(2, 8)), rng)
    inside = along[whole]
    return whole & (along > np.quantile(inside, rng.uniform(0.2, 0.8))) if inside.size else whole


def _wall(labels: NDArray[np.uint8], rng: np.random.Generator) -> Mask:
    """Return background around the object, of one thickness or thicker on one side."""
    whole = labels == OWN
    soft = blur_mask(whole, object_scale(whole) * rng.uniform(0.1, 0.4))
    noise = smooth_noise(whole.shape, int(rng.integers(2, 6)), rng)
    near = soft + rng.uniform(0, 0.15) * noise > rng.uniform(0.08, 0.3)
    return np.asarray((labels == 0) & near & (soft > 0.02))
