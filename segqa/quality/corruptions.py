"""Synthetic mistakes on the fly: masks of known quality, for training and for tests without a segmenter.

Each corruption takes a mask and returns another; how strongly is drawn at random, relative to the object's size, so
that the Dice of the results spreads over 0..1. A judge that has seen one kind of mistake only misjudges the others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageFilter
from scipy import ndimage

from segqa.data.boxes import Box
from segqa.data.types import Image, Mask

Corruption = Callable[[Mask, np.random.Generator], Mask]


def object_scale(mask: Mask) -> float:
    """Return the object's size in pixels: the side of a square of its area."""
    return max(float(np.sqrt(mask.sum())), 2.0)


def blur_mask(mask: Mask, radius: float) -> NDArray[np.float32]:
    """Return the mask blurred by a Gaussian, 0..1 (Pillow's, whose cost does not grow with the radius)."""
    picture = PillowImage.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(picture, dtype=np.float32) / np.float32(255)


def smooth_noise(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a field in -1..1 that varies over about `cells` cells along each axis."""
    coarse = rng.uniform(-1, 1, size=(cells, cells)).astype(np.float32)
    picture = PillowImage.fromarray(coarse, mode="F").resize((shape[1], shape[0]), PillowImage.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.float32)


def erode(mask: Mask, rng: np.random.Generator) -> Mask:
    """Shrink the object evenly."""
    return blur_mask(mask, object_scale(mask) * rng.uniform(0.02, 0.2)) > rng.uniform(0.6, 0.95)


def dilate(mask: Mask, rng: np.random.Generator) -> Mask:
    """Grow the object evenly."""
    return blur_mask(mask, object_scale(mask) * rng.uniform(0.02, 0.3)) > rng.uniform(0.05, 0.4)


def smooth(mask: Mask, rng: np.random.Generator) -> Mask:
    """Lose the fine shape: a mask made at a coarser grid or by a smoothing post-process."""
    return blur_mask(mask, object_scale(mask) * rng.uniform(0.05, 0.3)) > 0.5


def wobble(mask: Mask, rng: np.random.Generator) -> Mask:
    """Let the boundary wander in and out."""
    soft = blur_mask(mask, object_scale(mask) * rng.uniform(0.03, 0.3))
    noise = smooth_noise(mask.shape, int(rng.integers(3, 24)), rng)
    return soft + rng.uniform(0.2, 0.5) * noise > 0.5


def shift(mask: Mask, rng: np.random.Generator) -> Mask:
    """Displace the object by up to its own size."""
    distance = object_scale(mask) * rng.uniform(0.02, 1.0) ** 1.5
    angle = rng.uniform(0, 2 * np.pi)
    return _translate(mask, round(distance * np.sin(angle)), round(distance * np.cos(angle)))


def _translate(mask: Mask, dy: int, dx: int) -> Mask:
    moved = np.zeros_like(mask)
    height, width = mask.shape
    if abs(dy) >= height or abs(dx) >= width:
        return moved
    source = mask[max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
    moved[max(dy, 0) : max(dy, 0) + source.shape[0], max(dx, 0) : max(dx, 0) + source.shape[1]] = source
    return moved


def elastic(mask: Mask, rng: np.random.Generator) -> Mask:
    """Deform, scale and turn the object by a smooth displacement field."""
    amplitude = object_scale(mask) * rng.uniform(0.05, 0.5)
    cells = int(rng.integers(2, 8))
    grid = np.indices(mask.shape, dtype=np.float32)
    rows = grid[0] + amplitude * smooth_noise(mask.shape, cells, rng)
    columns = grid[1] + amplitude * smooth_noise(mask.shape, cells, rng)
    height, width = mask.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved = mask[rows.astype(np.intp).clip(0, height - 1), columns.astype(np.intp).clip(0, width - 1)]
    return np.asarray(inside & moved)


def cut(mask: Mask, rng: np.random.Generator) -> Mask:
    """Lose the part of the object on one side of a line."""
    rows, columns = np.nonzero(mask)
    if rows.size == 0:
        return mask
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    keep = along > np.quantile(along, rng.uniform(0.05, 0.85))
    result = np.zeros_like(mask)
    result[rows[keep], columns[keep]] = True
    return result


def holes(mask: Mask, rng: np.random.Generator) -> Mask:
    """Lose blobs inside the object."""
    noise = smooth_noise(mask.shape, int(rng.integers(4, 30)), rng)
    return mask & (noise < rng.uniform(0.0, 0.6))


def islands(mask: Mask, rng: np.random.Generator) -> Mask:
    """Add blobs around the object."""
    noise = smooth_noise(mask.shape, int(rng.integers(4, 30)), rng)
    near = blur_mask(mask, object_scale(mask) * rng.uniform(0.3, 1.0)) > 0.02
    return mask | (near & (noise > rng.uniform(0.2, 0.7)))


def blocks(mask: Mask, rng: np.random.Generator) -> Mask:
    """Make the mask on a coarse grid, as a low-resolution network does."""
    height, width = mask.shape
    step = max(2, round(object_scale(mask) * rng.uniform(0.05, 0.35)))
    coarse = PillowImage.fromarray(mask.astype(np.uint8) * 255).resize(
        (max(width // step, 1), max(height // step, 1)), PillowImage.Resampling.BOX
    )
    return np.asarray(coarse.resize((width, height), PillowImage.Resampling.NEAREST)) > 127


def drop_component(mask: Mask, rng: np.random.Generator) -> Mask:
    """Lose one connected part, when there are several."""
    parts, n_parts = ndimage.label(mask)
    return mask & (parts != rng.integers(1, n_parts + 1)) if n_parts > 1 else cut(mask, rng)


def whole_box(mask: Mask, rng: np.random.Generator) -> Mask:
    """Fill the object's box, or the ellipse in it: what a segmenter without an idea returns."""
    box = Box.from_mask(mask)
    if box is None:
        return mask
    filled = np.zeros_like(mask)
    if rng.uniform() < 0.6:
        filled[box.slices] = True
        return filled
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    dy = (rows + 0.5 - (box.y0 + box.y1) / 2) / (box.height / 2)
    dx = (columns + 0.5 - (box.x0 + box.x1) / 2) / (box.width / 2)
    return np.asarray(dy**2 + dx**2 <= 1.0)


def fill_holes(mask: Mask, rng: np.random.Generator) -> Mask:
    """Close gaps and fill what they enclose: a segmenter that takes a ring for a disc."""
    closed = blur_mask(mask, object_scale(mask) * rng.uniform(0.05, 0.4)) > rng.uniform(0.3, 0.5)
    return np.asarray(mask | ndimage.binary_fill_holes(mask | closed))


def empty(mask: Mask, rng: np.random.Generator) -> Mask:
    """Return nothing at all: the worst failure."""
    del rng
    return np.zeros_like(mask)


CORRUPTIONS: dict[str, Corruption] = {
    "erode": erode,
    "dilate": dilate,
    "smooth": smooth,
    "wobble": wobble,
    "shift": shift,
    "elastic": elastic,
    "cut": cut,
    "holes": holes,
    "islands": islands,
    "blocks": blocks,
    "drop_component": drop_component,
}
"""The gradual ones, drawn with equal chance and sometimes in chains; `empty`, `whole_box` and swapped objects are
drawn apart because each has one result only."""


def follow_image(mask: Mask, image: Image, rng: np.random.Generator) -> Mask:
    """Let the mask run along the image's own edges: leak into what looks like the object, lose what does not.

    Segmenters mostly err this way, and the other corruptions never do: their boundaries cross the picture blindly,
    which a judge could learn to see instead of learning where the object ends.

    Args:
        mask: The object `(h, w)`.
        image: The picture `(h, w, 3)`.
        rng: Draws how far from the object and by which likeness.
    """
    soft = blur_mask(mask, object_scale(mask) * rng.uniform(0.05, 0.5))
    near = (soft > 0.02) & ~mask
    if not mask.any() or not near.any():
        return mask
    grey = image @ rng.dirichlet(np.ones(3)).astype(np.float32)
    if rng.uniform() < 0.7:
        blurred = PillowImage.fromarray(grey.astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
        grey = np.asarray(blurred, dtype=np.float32)
    inside, outside = grey[mask], grey[near]
    # Half of the time the object is what resembles one of its parts: a segmenter that saw an inner structure only.
    like = float(np.quantile(inside, rng.uniform(0.1, 0.9))) if rng.uniform() < 0.5 else float(inside.mean())
    other = float(outside.mean())
    spread = float(np.hypot(inside.std(), outside.std())) + 1.0
    likeness = np.tanh((np.abs(grey - other) - np.abs(grey - like)) / (spread * rng.uniform(0.3, 1.5)))
    found = (soft > 0.02) & (soft - 0.5 + rng.uniform(0.15, 0.6) * likeness > rng.uniform(-0.15, 0.15))
    if rng.uniform() < 0.5:  # one piece, as most segmenters return
        parts, n_parts = ndimage.label(found)
        if n_parts > 1:
            found = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return np.asarray(found)


def corrupt(mask: Mask, rng: np.random.Generator, *, chain: float = 0.35) -> Mask:
    """Return the mask after one random corruption, or after several with the chance `chain` of each further one."""
    names = list(CORRUPTIONS)
    while True:
        mask = CORRUPTIONS[names[int(rng.integers(len(names)))]](mask, rng)
        if rng.uniform() >= chain or not mask.any():
            return mask
