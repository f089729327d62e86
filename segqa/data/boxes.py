"""Boxes as values with one convention, and the files they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open pixel box: `image[y0:y1, x0:x1]`, origin at the top left."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> Box:
        """Return the box of a corner and a size (COCO's convention), rounded to whole pixels."""
        return cls(round(x), round(y), round(x + width), round(y + height))

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> Box | None:
        """Return the tight box of a mask of shape `(H, W)`; `None` when it is empty."""
        rows = np.flatnonzero(mask.any(axis=1))
        if rows.size == 0:
            return None
        columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
        return cls(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)

    @property
    def width(self) -> int:
        """Return the extent along x, in pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Return the extent along y, in pixels."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Return the number of pixels; 0 for a box without extent."""
        return max(self.width, 0) * max(self.height, 0)

    def intersection(self, other: Box) -> Box:
        """Return the common part; its `area` is 0 when there is none."""
        return Box(
            max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1)
        )

    def union(self, other: Box) -> Box:
        """Return the smallest box around both."""
        return Box(
            min(self.x0, other.x0), min(self.y0, other.y0), max(self.x1, other.x1), max(self.y1, other.y1)
        )

    def iou(self, other: Box) -> float:
        """Return intersection over union, 0..1; 0 when both are without extent."""
        common = self.intersection(other).area
        total = self.area + other.area - common
        return common / total if total else 0.0

    def clip(self, height: int, width: int) -> Box:
        """Return the part inside an image of that size."""
        return self.intersection(Box(0, 0, width, height))

    def expand(self, share: float) -> Box:
        """Return the box with a margin of `share` of its size on each side (at least one pixel)."""
        dx = max(1, round(self.width * share))
        dy = max(1, round(self.height * share))
        return Box(self.x0 - dx, self.y0 - dy, self.x1 + dx, self.y1 + dy)
