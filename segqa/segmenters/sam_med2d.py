"""SAM-Med2D: SAM ViT-B at 256 pixels with an adapter in each encoder block."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from segqa import state_dicts
from segqa.errors import require
from segqa.segmenters.prompted import Frame, PromptedModel

if TYPE_CHECKING:
    from pathlib import Path

    from segqa.data.types import Image

SIDE = 256
WIDTH, DEPTH, HEADS, PATCH = 768, 12, 12, 16
GLOBAL_BLOCKS = (2, 5, 8, 11)
PIXEL_MEAN, PIXEL_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class SamMed2d(PromptedModel):
    """SAM-Med2D for boxes and points, one mask a prompt.

    Args:
        checkpoint: A state dict of the published layout (with adapters).
        device: Where torch computes.
        name: The model's name in tables.

    Raises:
        MissingExtraError: When `segment-anything` is not installed.
        InputError: When the checkpoint is not SAM-Med2D; names the first keys that differ.
    """

    def __init__(self, checkpoint: Path, *, device: str = "cpu", name: str = "sam-med2d") -> None:
        network = build_network()
        state_dicts.load_into(network, state_dicts.read_state(checkpoint), name="sam-med2d", source=checkpoint)
        super().__init__(network, name=name, device=device)

    def preprocess(self, image: Image) -> tuple[torch.Tensor, Frame]:
        """Return the input `(1, 3, 256, 256)` for an image of shape `(H, W, 3)`, and its frame.

        Squeezed to a square by taking the nearest pixel, as SAM-Med2D was trained.
        """
        height, width = image.shape[:2]
        rows, columns = np.arange(SIDE) * height // SIDE, np.arange(SIDE) * width // SIDE
        small = (image[np.ix_(rows, columns)] - np.array(PIXEL_MEAN)) / np.array(PIXEL_DEVIATION)
        pixels = torch.from_numpy(small.astype(np.float32)).permute(2, 0, 1)[None].contiguous()
        return pixels, Frame((height, width), (SIDE, SIDE))

    def to_masks(self, logits: torch.Tensor, frame: Frame) -> torch.Tensor:
        """Return masks `(N, H, W)` for logits `(N, 1, 64, 64)`, enlarged in two steps as published."""
        enlarge = partial(functional.interpolate, mode="bilinear", align_corners=False)
        return enlarge(enlarge(logits, (SIDE, SIDE)), frame.size)[:, 0] > 0


class Adapter(nn.Module):
    """Weighs the channels, then looks around each place at half the resolution; added beside the MLP.

    The names of its parts are those of the published state dict.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.channel = nn.Sequential(
            nn.Linear(width, width // 4, bias=False),
            nn.ReLU(),
            nn.Linear(width // 4, width, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the correction for tokens of shape `(N, H, W, C)`, in the same shape."""
        weighed = tokens * self.channel(tokens.mean((1, 2)))[:, None, None]
        around = self.spatial(weighed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        corrected: torch.Tensor = self.norm(tokens + around)
        return corrected


class SamMed2dNetwork(nn.Module):
    """SAM's three parts at 256 pixels, with adapters in the image encoder."""

    def __init__(self, modeling: Any) -> None:
        super().__init__()
        grid = SIDE // PATCH
        self.image_encoder = modeling.ImageEncoderViT(
            depth=DEPTH,
            embed_dim=WIDTH,
            img_size=SIDE,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=HEADS,
            use_rel_pos=True,
            global_attn_indexes=GLOBAL_BLOCKS,
            window_size=14,
        )
        for block in self.image_encoder.blocks:
            block.Adapter = Adapter(WIDTH)
            # MLP and adapter read the same normalised tokens and their outputs are summed.
            block.mlp.register_forward_hook(partial(_add_adapter, block.Adapter))
        self.prompt_encoder = modeling.PromptEncoder(
            embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(SIDE, SIDE), mask_in_chans=16
        )
        self.mask_decoder = modeling.MaskDecoder(
            transformer_dim=256,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048),
        )


def build_network() -> SamMed2dNetwork:
    """Return the untrained network.

    Raises:
        MissingExtraError: When `segment-anything` is not installed.
    """
    require("segment_anything", "SAM-Med2D", extra="sam")
    from segment_anything import modeling

    return SamMed2dNetwork(modeling)


def _add_adapter(adapter: Adapter, _mlp: nn.Module, tokens: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    corrected: torch.Tensor = output + adapter(tokens[0])
    return corrected
