"""What SAM and its relatives share: encode the image once, decode it for the prompts in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from segqa.errors import InputError
from segqa.segmenters.base import Prompt, Segmentation, check_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from segqa.data.types import Image

PROMPTS_AT_ONCE = 8
"""Prompts decoded together: fast, and memory does not grow with the number of prompts."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How an image lies in the square that the network sees."""

    size: tuple[int, int]
    """Height and width of the image."""
    filled: tuple[int, int]
    """Height and width that the resized image takes of the square, from its top left corner."""

    def place(self, points: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return `(x, y)` pairs of the image, shape `(..., 2)`, as places in the square."""
        return points * [self.filled[1] / self.size[1], self.filled[0] / self.size[0]]


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """What the encoder made of one image; decoding it for a prompt is cheap."""

    embedding: torch.Tensor
    """Shape `(1, 256, h, w)`."""
    frame: Frame


class PromptedModel(ABC):
    """A network of image encoder, prompt encoder and mask decoder, as SAM introduced them.

    Args:
        network: Has `image_encoder`, `prompt_encoder` and `mask_decoder`, with SAM's signatures.
        name: The model's name in tables.
        device: Where torch computes.
    """

    takes_points = True

    def __init__(self, network: Any, *, name: str, device: str) -> None:
        self.name = name
        self._device = torch.device(device)
        self._in_bfloat16 = False
        self._net = network.eval().requires_grad_(requires_grad=False).to(self._device)

    def use_bfloat16(self) -> None:
        """Run the encoder, which takes nearly all of the time, in bfloat16 from now on; the edges of masks differ."""
        self._in_bfloat16 = True
        self._net.image_encoder.to(memory_format=torch.channels_last)

    @abstractmethod
    def preprocess(self, image: Image) -> tuple[torch.Tensor, Frame]:
        """Return the encoder's input `(1, 3, side, side)` for an image of shape `(H, W, 3)`, and its frame."""

    @abstractmethod
    def to_masks(self, logits: torch.Tensor, frame: Frame) -> torch.Tensor:
        """Return masks `(N, H, W)` at the image's size for the decoder's logits `(N, 1, h, w)`."""

    @torch.inference_mode()
    def encode(self, image: Image) -> EncodedImage:
        """Return the embedding of an image of shape `(H, W, 3)`, reusable for any number of prompts."""
        pixels, frame = self.preprocess(image)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._in_bfloat16):
            embedding = self._net.image_encoder(pixels.to(self._device))
        return EncodedImage(embedding.float(), frame)

    @torch.inference_mode()
    def decode(self, encoded: EncodedImage, prompts: Sequence[Prompt]) -> Segmentation:
        """Return a mask and the predicted IoU for each prompt.

        Raises:
            InputError: For a prompt with points when the model takes boxes only.
        """
        if not self.takes_points and any(prompt.points for prompt in prompts):
            msg = f"{self.name} takes boxes only; for point prompts choose a SAM, MedSAM or SAM-Med2D"
            raise InputError(msg)
        masks = np.empty((len(prompts), *encoded.frame.size), bool)
        confidence = np.empty(len(prompts), np.float32)
        for indices in _batches(prompts):
            logits, iou = self._decode_batch(encoded, [prompts[index] for index in indices])
            masks[indices] = self.to_masks(logits, encoded.frame).cpu().numpy()
            confidence[indices] = iou.cpu().numpy()
        return Segmentation(masks, confidence)

    def segment(self, image: Image, prompts: Sequence[Prompt]) -> Segmentation:
        """Return a mask and the predicted IoU for each prompt on an image of shape `(H, W, 3)`.

        Raises:
            InputError: For a prompt that the model cannot take, or that lies outside the image.
        """
        check_prompts(image, prompts)
        return self.decode(self.encode(image), prompts)

    def _decode_batch(self, encoded: EncodedImage, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits `(N, 1, h, w)` and predicted IoUs `(N,)`; all prompts have the same parts."""
        sparse, dense = self._net.prompt_encoder(
            points=self._points(prompts, encoded.frame), boxes=self._boxes(prompts, encoded.frame), masks=None
        )
        return self._decode_tokens(encoded.embedding, sparse, dense)

    def _decode_tokens(
        self, embedding: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits `(N, 1, h, w)` and predicted IoUs `(N,)` for the prompt encoder's two results."""
        logits, iou = self._net.mask_decoder(
            image_embeddings=embedding,
            image_pe=self._net.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits, iou[:, 0]

    def _points(self, prompts: Sequence[Prompt], frame: Frame) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not prompts[0].points:
            return None
        values = np.array([prompt.points for prompt in prompts], np.float64)
        places = torch.tensor(frame.place(values[..., :2]), dtype=torch.float32, device=self._device)
        return places, torch.tensor(values[..., 2], dtype=torch.int32, device=self._device)

    def _boxes(self, prompts: Sequence[Prompt], frame: Frame) -> torch.Tensor | None:
        boxes = [prompt.box for prompt in prompts if prompt.box is not None]
        if not boxes:
            return None
        corners = np.array([[[box.x0, box.y0], [box.x1, box.y1]] for box in boxes], np.float64)
        places = frame.place(corners).reshape(-1, 4)
        return torch.tensor(places, dtype=torch.float32, device=self._device)


def longest_side_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return height and width when the longest side becomes `side`, rounded as SAM does."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def _batches(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Group the prompts' indices by what they consist of: a batch needs tensors of one shape."""
    kinds: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        kinds[prompt.box is not None, len(prompt.points)].append(index)
    for indices in kinds.values():
        for start in range(0, len(indices), PROMPTS_AT_ONCE):
            yield indices[start : start + PROMPTS_AT_ONCE]
