"""The random walker of Grady (2006) inside a box: the classical method that follows edges, without any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage

from segqa.errors import InputError, require
from segqa.segmenters.base import Segmentation, check_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from segqa.data.boxes import Box
    from segqa.data.types import Image, Mask
    from segqa.segmenters.base import Prompt

SIDE = 128
"""Longest side at which the walk is solved; larger boxes are shrunk to it, and their edges are that coarse."""
CORE = 0.7
"""Share of the box's sides that the ellipse of seeds in its middle has; with less, the walkers of the frame, which is
longer, win what no edge protects."""
EDGE = 1000.0
"""How much edges are shied away from: beta of scikit-image."""


class RandomWalker:
    """Each pixel of the box goes to the seeds that a walker from there, shy of edges, is likelier to meet first.

    The seeds of the object are an ellipse in the middle of the box, those of the background its surroundings.

    Raises:
        MissingExtraError: When scikit-image is not installed.
    """

    name = "random-walker"
    takes_points = False

    def __init__(self) -> None:
        require("skimage", self.name, extra="classical")

    def segment(self, image: Image, prompts: Sequence[Prompt]) -> Segmentation:
        """Return a mask for each box, and no confidence; see `segqa.segmenters.base.Segmenter`.

        Raises:
            InputError: For a prompt without a box.
        """
        check_prompts(image, prompts)
        height, width = image.shape[:2]
        masks = np.zeros((len(prompts), height, width), dtype=bool)
        for mask, prompt in zip(masks, prompts, strict=True):
            if prompt.box is None:
                msg = f"{self.name} takes boxes only"
                raise InputError(msg)
            box = prompt.box.clip(height, width)
            mask[box.slices] = _walk(image, box)
        return Segmentation(masks, np.full(len(prompts), np.nan, np.float32))


def _walk(image: Image, box: Box) -> Mask:
    """Return the object's pixels within the box, at the box's size."""
    from skimage.segmentation import random_walker

    crop = PillowImage.fromarray(image[box.slices])
    shrink = min(1.0, SIDE / max(crop.size))
    width, height = (max(1, round(side * shrink)) for side in crop.size)
    pixels = np.asarray(crop.resize((width, height), PillowImage.Resampling.BOX), np.float64) / 255
    if pixels.min() == pixels.max():  # no edge anywhere, and the walker's unit is the spread of the picture
        return np.ones((box.y1 - box.y0, box.x1 - box.x0), dtype=bool)
    # A frame repeats the outermost pixels: the background has seeds even where the box ends with the image.
    framed = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    seeds = _seeds((height, width))
    chance = seeds == 1
    if not seeds.all():
        chance = random_walker(framed, seeds, EDGE, mode="bf", return_full_prob=True, channel_axis=-1)[0]
    likely = PillowImage.fromarray(chance[1:-1, 1:-1].astype(np.float32))
    return np.asarray(likely.resize(crop.size, PillowImage.Resampling.BILINEAR)) > 0.5


def _seeds(size: tuple[int, int]) -> NDArray[np.int32]:
    """Return 1 in the middle, 2 on a frame of one pixel around `size`, else 0."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    down = (rows - (height - 1) / 2) / max(CORE * height / 2, 0.5)
    across = (columns - (width - 1) / 2) / max(CORE * width / 2, 0.5)
    core = down**2 + across**2 <= 1
    if not core.any():
        core[height // 2, width // 2] = True
    seeds = np.full((height + 2, width + 2), 2, np.int32)
    seeds[1:-1, 1:-1] = core
    return seeds
