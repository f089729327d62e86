"""Segmenters with their encoder in bfloat16: faster on processors that compute in it; see `benchmarks/prompts.py`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from segqa.data.types import Image
from segqa.segmenters.base import Prompt, Segmentation, check_prompts
from segqa.segmenters.prompted import PromptedModel


class HalfPrecision:
    """A model whose encoder, which takes nearly all of the time, runs in bfloat16; the edges of masks differ.

    Args:
        model: In full precision; its encoder's memory is laid out anew.
        device: Where it computes.
    """

    def __init__(self, model: PromptedModel, *, device: str) -> None:
        self.name = model.name
        self.takes_points = model.takes_points
        self._model = model
        self._kind = torch.device(device).type
        model._net.image_encoder.to(memory_format=torch.channels_last)

    def segment(self, image: Image, prompts: Sequence[Prompt]) -> Segmentation:
        """Return a mask and the predicted IoU for each prompt; see `segqa.segmenters.base.Segmenter`."""
        check_prompts(image, prompts)
        with torch.autocast(self._kind, torch.bfloat16):
            encoded = self._model.encode(image)
        return self._model.decode(encoded, prompts)
