"""What every segmenter takes and gives: prompts in, masks and the model's own confidence out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from segqa.data.boxes import Box
    from segqa.data.types import Image


@dataclass(frozen=True, slots=True)
class Prompt:
    """Where the object is: a box, points, or both, in pixels of the image."""

    box: Box | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    """`(x, y, positive)`: a positive point lies on the object, a negative one does not."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One mask per prompt, in the order of the prompts."""

    masks: NDArray[np.bool_]
    """Shape `(N, H, W)`, at the size of the image."""
    confidence: NDArray[np.float32]
    """Shape `(N,)`, in the model's own scale (SAM's: the predicted IoU); `nan` where it gives none."""


class Segmenter(Protocol):
    """Anything that turns prompts on an image into masks."""

    name: str
    takes_points: bool
    """Whether a prompt may be points without a box."""

    def segment(self, image: Image, prompts: Sequence[Prompt]) -> Segmentation:
        """Encode the image of shape `(H, W, 3)` once and decode it for all prompts.

        Raises:
            InputError: When the model cannot use a prompt.
        """
        ...


def check_prompts(image: Image, prompts: Sequence[Prompt]) -> None:
    """Refuse prompts that have nothing to say about an image of shape `(H, W, 3)`.

    Raises:
        InputError: For a prompt without box and points, and for a box or point outside the image.
    """
    height, width = image.shape[:2]
    for number, prompt in enumerate(prompts, start=1):
        if prompt.box is None and not prompt.points:
            msg = f"prompt {number}: neither a box nor a point; give one of them"
            raise InputError(msg)
        box = prompt.box
        if box is not None and box.clip(height, width).area == 0:
            msg = (
                f"prompt {number}: the box {box.x0},{box.y0},{box.x1},{box.y1} (x0,y0,x1,y1) has no pixel "
                f"in the {width}x{height} image; check the format of the box (xyxy or xywh)"
            )
            raise InputError(msg)
        for x, y, _ in prompt.points:
            if not (0 <= x <= width and 0 <= y <= height):
                msg = f"prompt {number}: the point {x:g},{y:g} (x,y) is outside the {width}x{height} image"
                raise InputError(msg)
