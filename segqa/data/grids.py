"""Shape and place of a volume: what its header tells."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from segqa.data.files import show_name
from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

T = TypeVar("T")

AFFINE_TOLERANCE = 1e-3
"""Millimetres by which the affines of image and mask may differ."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Shape and place of a volume; a flat picture has depth 1."""

    shape: tuple[int, int, int]
    x_first: bool = False
    """Indexed (x, y, z) as NIfTI is, so a slice is transposed to be shown."""
    spacing: tuple[float, float, float] | None = None
    """Voxel size along each axis, in millimetres."""
    affine: NDArray[np.float64] | None = None
    """Voxel index to millimetres (RAS), shape `(4, 4)`."""
    window: tuple[float, float] | None = None
    """Darkest and brightest intensity that the file asks for."""
    is_inverted: bool = False
    """Large values are dark (MONOCHROME1)."""
    is_color: bool = False
    remarks: tuple[str, ...] = ()
    """What is odd about the geometry, a remark each."""

    def depth(self, axis: int = -1) -> int:
        """Return the number of slices along an axis."""
        return self.shape[axis % 3]

    def plane_shape(self, axis: int = -1) -> tuple[int, int]:
        """Return height and width of a slice."""
        return self._in_plane(self.shape, axis)

    def plane_spacing(self, axis: int = -1) -> tuple[float, float] | None:
        """Return the pixel size (row, column) of a slice in millimetres, when the file tells."""
        return None if self.spacing is None else self._in_plane(self.spacing, axis)

    def _in_plane(self, values: tuple[T, T, T], axis: int) -> tuple[T, T]:
        first, second = (value for index, value in enumerate(values) if index != axis % 3)
        return (second, first) if self.x_first else (first, second)


def check_spacing(spacing: Sequence[float], path: Path) -> None:
    """Refuse a voxel size that is not a positive number."""
    if not all(np.isfinite(size) and size > 0 for size in spacing):
        sizes = " x ".join(f"{size:g}" for size in spacing)
        msg = f"{show_name(path)}: voxel size {sizes} mm, not all above 0; correct the header"
        raise InputError(msg)


def compare_affines(
    image: NDArray[np.float64] | None, mask: NDArray[np.float64] | None, ranges: Sequence[tuple[int, int]]
) -> str | None:
    """Return a remark when image and mask lie in different places, by more than 0.001 in any entry.

    Args:
        image: Voxel index to millimetres (RAS), shape `(4, 4)`, when the file tells.
        mask: The same of the mask.
        ranges: First and last index along each axis; the distance is the largest at these corners.
    """
    if image is None or mask is None or np.abs(image - mask).max() <= AFFINE_TOLERANCE:
        return None
    corners = np.array([(*corner, 1) for corner in product(*ranges)])
    apart = float(np.linalg.norm((corners @ (image - mask).T)[:, :3], axis=1).max())
    ours, theirs = (orientation(affine) for affine in (image, mask))
    turned = f"; the mask is stored as {theirs}, the image as {ours}" if ours != theirs else ""
    return f"affine-mismatch: voxels of image and mask are up to {apart:.3g} mm apart{turned}"


def orientation(affine: NDArray[np.float64]) -> str:
    """Return where each axis points to, such as `RAS`: right, anterior, superior; the opposites are L, P and I."""
    letters = []
    for column in affine[:3, :3].T:
        row = int(np.abs(column).argmax())
        letters.append(("RL", "AP", "SI")[row][int(column[row] < 0)])
    return "".join(letters)
