"""MedSAM: SAM ViT-B retrained on medical images, with a preprocessing of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from segqa.segmenters.prompted import Frame
from segqa.segmenters.sam import Sam

if TYPE_CHECKING:
    from pathlib import Path

    from segqa.data.types import Image

SIDE = 1024


class MedSam(Sam):
    """MedSAM as its authors run it: squeezed to a square, 0..1 by minimum and maximum, no mean and deviation.

    The official EvanySeg release ran it through SAM's own preprocessing instead; for that, load the same
    checkpoint as `medsam-as-sam`.

    Args:
        checkpoint: A state dict of SAM ViT-B's layout, for boxes or for points.
        device: Where torch computes.
        name: The model's name in tables.
    """

    def __init__(self, checkpoint: Path, *, device: str = "cpu", name: str = "medsam") -> None:
        super().__init__(checkpoint, encoder="vit_b", device=device, name=name)

    def preprocess(self, image: Image) -> tuple[torch.Tensor, Frame]:
        """Return the input `(1, 3, 1024, 1024)` in 0..1 for an image of shape `(H, W, 3)`, and its frame."""
        square = resize_cubic(image, SIDE).astype(np.float32)
        low, high = square.min(), square.max()
        pixels = torch.from_numpy((square - low) / max(high - low, 1e-8)).permute(2, 0, 1)[None]
        return pixels.contiguous(), Frame((image.shape[0], image.shape[1]), (SIDE, SIDE))

    def to_masks(self, logits: torch.Tensor, frame: Frame) -> torch.Tensor:
        """Return masks `(N, H, W)` for logits `(N, 1, 256, 256)`: probabilities are enlarged, not logits."""
        share = functional.interpolate(logits.sigmoid(), frame.size, mode="bilinear", align_corners=False)
        return share[:, 0] > 0.5


def resize_cubic(image: Image, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the image squeezed to `(side, side, 3)` by cubic splines, smoothed first where it shrinks.

    The rule of skimage's `resize(order=3, anti_aliasing=True)`, with which MedSAM was trained.
    """
    factors = [side / image.shape[0], side / image.shape[1]]
    sigma = [max(0.0, (1 / factor - 1) / 2) for factor in factors]
    square = np.empty((side, side, 3), np.uint8)
    for channel in range(3):
        plane = image[..., channel].astype(np.float64)
        smooth = ndimage.gaussian_filter(plane, sigma, mode="mirror")
        # `output` fixes the shape, which `zoom` would else round from the factors.
        zoomed = ndimage.zoom(smooth, factors, output=np.empty((side, side)), order=3, mode="mirror", grid_mode=True)
        square[..., channel] = np.clip(zoomed, plane.min(), plane.max())
    return square
