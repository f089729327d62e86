"""What the other rooms see of the disk: images, label maps, objects and cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segqa.data.files import show_name

if TYPE_CHECKING:
    from segqa.data.boxes import Box

Image = NDArray[np.uint8]
"""Pixels of shape `(H, W, 3)`, 0..255; a grey image has three equal channels."""

LabelMap = NDArray[np.int32]
"""Classes of shape `(H, W)`, 0 is background."""

Mask = NDArray[np.bool_]
"""One object, shape `(H, W)`."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one 2D picture is: a file, or one slice of a volume file."""

    path: Path
    slice_index: int | None = None
    """Index along the slicing axis of a volume; `None` for a flat file."""
    axis: int = -1
    """Slicing axis of a volume."""

    def __str__(self) -> str:
        name = show_name(self.path)
        return name if self.slice_index is None else f"{name}[{self.slice_index}]"


@dataclass(frozen=True, slots=True)
class PromptBox:
    """A box that a file gave for a case, with the label it is meant for when the file says so."""

    box: Box
    label: str | None = None
    name: str | None = None
    """What the file calls the label, beside its number (COCO)."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image with the mask of each model that segmented it, paired by stem."""

    name: str
    image: Source
    masks: dict[str, Source]
    """Mask by model name."""
    boxes: tuple[PromptBox, ...] = ()
    labels: tuple[int, ...] | None = None
    """Of a slice, those of the labels asked for that are in it; `None` where all of them are looked for."""


@dataclass(frozen=True, slots=True)
class ObjectMask:
    """One object of one predicted label map: what gets one row in the table."""

    object: str
    """Number among the objects of its label in the case, from "1"."""
    label: str
    mask: Mask
    box: Box | None
    """Prompt box from the file; `None` when there is none for this object."""


@dataclass(slots=True)
class Picture:
    """A decoded image or label map with what the reader had to remark."""

    pixels: NDArray[Any]
    warnings: list[str] = field(default_factory=list)
    spacing: tuple[float, float] | None = None
    """Pixel size (row, column) in millimetres when the file tells."""
    affine: NDArray[np.float64] | None = None
    """Voxel index to millimetres (RAS) of the file, shape `(4, 4)`, when it tells."""
