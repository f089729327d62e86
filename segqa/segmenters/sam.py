"""SAM with ViT-B, ViT-L and ViT-H encoders; the architecture comes from `segment-anything`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as PillowImage

from segqa import state_dicts
from segqa.errors import require
from segqa.segmenters.prompted import Frame, PromptedModel, longest_side_size

if TYPE_CHECKING:
    from pathlib import Path

    from segqa.data.types import Image


class Sam(PromptedModel):
    """SAM; masks and predicted IoU are those of `segment_anything.SamPredictor` with `multimask_output=False`.

    Args:
        checkpoint: A state dict of the published layout.
        encoder: `vit_b`, `vit_l` or `vit_h`.
        device: Where torch computes.
        name: The model's name in tables.

    Raises:
        MissingExtraError: When `segment-anything` is not installed.
        InputError: When the checkpoint is not this SAM; names the first keys that differ.
    """

    def __init__(self, checkpoint: Path, *, encoder: str, device: str = "cpu", name: str) -> None:
        network = build_network(encoder)
        layout = f"sam-{encoder.replace('_', '-')}"
        state_dicts.load_into(network, state_dicts.read_state(checkpoint), name=layout, source=checkpoint)
        super().__init__(network, name=name, device=device)

    def preprocess(self, image: Image) -> tuple[torch.Tensor, Frame]:
        """Return the input `(1, 3, 1024, 1024)` for an image of shape `(H, W, 3)`, and its frame.

        The longest side becomes 1024, SAM's mean and deviation normalise, zeros fill the square.
        """
        height, width = image.shape[:2]
        frame = Frame((height, width), longest_side_size(height, width, self._net.image_encoder.img_size))
        resized = PillowImage.fromarray(image).resize(frame.filled[::-1], PillowImage.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()[None].to(self._device)
        return self._net.preprocess(pixels), frame

    def to_masks(self, logits: torch.Tensor, frame: Frame) -> torch.Tensor:
        """Return masks `(N, H, W)` for logits `(N, 1, 256, 256)`, thresholded at 0."""
        enlarged = self._net.postprocess_masks(logits, frame.filled, frame.size)
        masks: torch.Tensor = enlarged[:, 0] > self._net.mask_threshold
        return masks


def build_network(encoder: str) -> Any:
    """Return the untrained network for `vit_b`, `vit_l` or `vit_h`.

    Raises:
        MissingExtraError: When `segment-anything` is not installed.
    """
    require("segment_anything", "SAM", extra="sam")
    from segment_anything import sam_model_registry

    # The package would load a checkpoint without `weights_only` and onto the device it was saved from.
    return sam_model_registry[encoder](checkpoint=None)
