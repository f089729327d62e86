"""Other looks of the same object: the picture changes, what is true about the mask does not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageFilter

from segqa.data.boxes import Box
from segqa.data.types import Image, Mask
from segqa.quality.corruptions import blur_mask


def random_symmetry(rng: np.random.Generator) -> tuple[int, bool]:
    """Return a number of quarter turns and whether to mirror."""
    return int(rng.integers(4)), bool(rng.integers(2))


def apply_symmetry(plane: NDArray[Any], symmetry: tuple[int, bool]) -> NDArray[Any]:
    """Turn and mirror an array of shape `(h, w)` or `(h, w, channels)`."""
    turns, mirror = symmetry
    turned = np.rot90(plane, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirror else turned)


def turn_box(box: Box, symmetry: tuple[int, bool], *, height: int, width: int) -> Box:
    """Return the box where `apply_symmetry` puts its pixels, for an image of that size before."""
    turns, mirror = symmetry
    for _ in range(turns):
        # A quarter turn counter-clockwise: column x becomes row (width - 1 - x), row y becomes column y.
        box = Box(box.y0, width - box.x1, box.y1, width - box.x0)
        height, width = width, height
    return Box(width - box.x1, box.y0, width - box.x0, box.y1) if mirror else box


def vary_picture(image: Image, rng: np.random.Generator) -> Image:
    """Return the picture as another scanner, lamp or export would have made it.

    Gamma, contrast curves, inversion, colour casts and loss of colour, blur, noise, low resolution, JPEG; each with a
    chance of its own. Offset and gain need none: ψ removes them.
    """
    values: NDArray[np.floating[Any]] = np.arange(256, dtype=np.float32) / 255
    if rng.uniform() < 0.6:
        values = values ** np.float32(np.exp(rng.normal(0, 0.4)))
    if rng.uniform() < 0.2:
        steep, middle = rng.uniform(4, 10), rng.uniform(0.3, 0.7)
        values = 1 / (1 + np.exp(-steep * (values - middle), dtype=np.float32))
    if rng.uniform() < 0.12:
        values = 1 - values
    if rng.uniform() < 0.12:
        values = _random_curve(rng)
    image = (values * 255).astype(np.uint8)[image]
    image = _vary_colour(image, rng)
    picture = PillowImage.fromarray(image)
    if rng.uniform() < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.0)))
    if rng.uniform() < 0.12:
        factor = rng.uniform(1.5, 3.5)
        small = (max(int(picture.width / factor), 4), max(int(picture.height / factor), 4))
        picture = picture.resize(small, PillowImage.Resampling.BILINEAR).resize(
            picture.size, PillowImage.Resampling.BICUBIC
        )
    if rng.uniform() < 0.1:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=int(rng.integers(20, 80)))
        picture = PillowImage.open(stream)
    result = np.asarray(picture)
    if rng.uniform() < 0.2:
        noise = rng.normal(0, rng.uniform(2, 20), size=result.shape[:2]).astype(np.float32)
        result = (result + noise[..., None]).clip(0, 255).astype(np.uint8)
    return result


def _random_curve(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth curve of 256 values in 0..1 that may rise and fall: the look of a modality that never was."""
    knots = np.sort(rng.uniform(0, 1, size=int(rng.integers(1, 4))))
    heights = rng.uniform(0, 1, size=len(knots) + 2)
    return np.interp(np.linspace(0, 1, 256), np.r_[0, knots, 1], heights).astype(np.float32)


def recolour_objects(image: Image, labels: NDArray[np.uint8], rng: np.random.Generator) -> Image:
    """Give each object, and what is around them, a brightness and contrast of its own.

    Which of two tissues is the brighter one is what differs between modalities; where they meet does not.

    Args:
        image: `(h, w, 3)`.
        labels: Objects by value `(h, w)`, 0 between them.
        rng: Draws the looks; each object keeps its own with a chance of one half.
    """
    for value in np.unique(labels):
        if rng.uniform() >= 0.5:
            image = repaint(image, labels == value, rng)
    return image


def repaint(image: Image, region: Mask, rng: np.random.Generator) -> Image:
    """Give a region `(h, w)` of a picture `(h, w, 3)` a brightness and contrast of its own; its texture stays."""
    alpha = blur_mask(region, rng.uniform(0.5, 2.0))[..., None]
    gain, level = rng.uniform(0.3, 1.2) * rng.choice([-1, 1], p=[0.15, 0.85]), rng.uniform(40, 215)
    middle = image[region].mean(axis=0, dtype=np.float32)
    painted = (image - middle) * np.float32(gain) + np.float32(level)
    return np.asarray((image + alpha * (painted - image)).clip(0, 255)).astype(np.uint8)


def _vary_colour(image: Image, rng: np.random.Generator) -> Image:
    choice = rng.uniform()
    if choice < 0.15:  # grey
        grey = image.mean(axis=2).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if choice < 0.25:  # another order of channels
        return np.ascontiguousarray(image[..., rng.permutation(3)])
    if choice < 0.4:  # a cast
        gain = rng.uniform(0.7, 1.0, size=3).astype(np.float32)
        return (image * gain).astype(np.uint8)
    return image
