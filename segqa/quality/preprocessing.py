"""ψ: image, mask and box become one input of the quality network (EvanySeg, section 3.4).

A `Profile` is stored in the weights file, so that training and scoring can never differ.
Pure numpy and Pillow: scoring imports no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from segqa.data.boxes import Box
from segqa.data.types import Image, Mask

Input = NDArray[np.float32]
"""Network input of one object, shape `(channels, size, size)`."""

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

MIN_CONTRAST = 4.0
"""Grey levels: a crop flatter than this is not stretched further, its noise would become structure."""


BELIEF_STRIDE = 4
"""The network's belief, and the truth it learns it from, are at a quarter of the input's resolution."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How ψ builds the input.

    `evanyseg` is the paper's: blend half the mask into the red channel, crop to the box, squash to a square.
    `segqa` keeps the aspect, shows a margin around the box, and gives mask and box channels of their own.
    """

    name: Literal["evanyseg", "segqa"] = "segqa"
    size: int = 160
    """Side of the input, in pixels."""
    margin: float = 0.25
    """Share of the box that is shown on each side (`segqa`)."""
    reach: float = 0.75
    """The view grows to show a mask that leaks out of the box, up to this share on each side (`segqa`)."""

    @property
    def channels(self) -> int:
        """Return the number of input channels."""
        return 3 if self.name == "evanyseg" else 5

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the weights file."""
        return asdict(self)


EVANYSEG = Profile(name="evanyseg", size=224, margin=0.0, reach=0.0)
SEGQA = Profile()


def build_input(image: Image, mask: Mask, box: Box | None, profile: Profile) -> Input:
    """Return ψ(image, mask, box).

    Args:
        image: Pixels `(H, W, 3)`, 0..255.
        mask: Predicted mask `(H, W)` of one object; may be empty.
        box: Prompt box, inside the image; without one the mask's own box is used, or the whole image when the
            mask is empty.
        profile: Which ψ.
    """
    if profile.name == "evanyseg":
        return _evanyseg_input(image, mask, box or Box.around(mask), profile)
    return _segqa_input(image, mask, box, profile)


def _evanyseg_input(image: Image, mask: Mask, box: Box, profile: Profile) -> Input:
    """Follow the official order: crop, blend with truncation, resize, normalise (facts page 1.3)."""
    crop = image[box.slices].copy()
    inside = mask[box.slices]
    crop[..., 0] = (0.5 * crop[..., 0] + 0.5 * (inside * 255.0)).astype(np.uint8)
    side = (profile.size, profile.size)
    resized = PillowImage.fromarray(crop).resize(side, PillowImage.Resampling.BILINEAR)
    pixels = np.asarray(resized, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(((pixels - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1))


def _segqa_input(image: Image, mask: Mask, box: Box | None, profile: Profile) -> Input:
    view = view_of(mask, box, profile)
    size = profile.size
    result = np.zeros((profile.channels, size, size), dtype=np.float32)
    seen = view.clip(*mask.shape)
    scale = size / view.width
    x0, x1 = placed(seen.x0 - view.x0, seen.x1 - view.x0, scale, size)
    y0, y1 = placed(seen.y0 - view.y0, seen.y1 - view.y0, scale, size)
    pixels = _resize(image[seen.slices], x1 - x0, y1 - y0)
    result[:3, y0:y1, x0:x1] = _standardise(pixels).transpose(2, 0, 1)
    result[3, y0:y1, x0:x1] = _resize(mask[seen.slices].astype(np.uint8) * 255, x1 - x0, y1 - y0) / np.float32(255)
    if box is not None:
        left, right = placed(box.x0 - view.x0, box.x1 - view.x0, scale, size)
        top, bottom = placed(box.y0 - view.y0, box.y1 - view.y0, scale, size)
        result[4, top:bottom, left:right] = 1.0
    return result


def view_of(mask: Mask, box: Box | None, profile: Profile) -> Box:
    """Return the square part of the plane that the `segqa` profile shows; it may reach over the image's edge.

    It is the box with its margin, grown to show a mask that leaks out of the box (up to `reach`), and squared by
    showing more context, so that shapes keep their aspect.
    """
    anchor = box or Box.around(mask)
    view = anchor.expand(profile.margin)
    own = Box.from_mask(mask)
    if box is not None and own is not None:
        leak = own.intersection(anchor.expand(profile.reach))
        if leak.area:
            view = view.union(leak)
    side = max(view.width, view.height)
    x0 = (view.x0 + view.x1 - side) // 2
    y0 = (view.y0 + view.y1 - side) // 2
    return Box(x0, y0, x0 + side, y0 + side)


def placed(start: int, stop: int, scale: float, size: int) -> tuple[int, int]:
    """Return an extent in the input's pixels, at least one pixel long."""
    first = min(max(round(start * scale), 0), size - 1)
    return first, min(max(round(stop * scale), first + 1), size)


def _resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    picture = PillowImage.fromarray(pixels)
    return np.asarray(picture.resize((width, height), PillowImage.Resampling.BILINEAR))


def _standardise(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the crop at mean 0 and deviation 1: scanners and windows differ in offset and gain."""
    values = pixels.astype(np.float32)
    scale = np.float32(max(float(values.std()), MIN_CONTRAST))
    standard: NDArray[np.float32] = (values - values.mean()) / scale
    return standard
