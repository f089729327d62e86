"""Files that may hold many pictures: NIfTI, DICOM, .npy and .npz; decoded once, sliced often.

Axes. NIfTI and DICOM voxels are indexed (x, y, z), and a slice is shown with x to the right: a slice along
the last axis has shape (y, x), as SimpleITK and nnU-Net show it. Arrays of .npy and .npz are taken as they
are, rows before columns; the keys `imgs`, `gts` and `segs` of the CVPR 2024 / MedSAM files hold (D, H, W) and
are brought to (H, W, D). So the last axis is the depth in every format.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from segqa.data.arrays import Role, read_array, read_array_header
from segqa.data.decoding import check_pixels
from segqa.data.dicom import read_dicom, read_dicom_header
from segqa.data.files import show_name
from segqa.data.formats import Format
from segqa.data.grids import Grid
from segqa.data.intensities import value_limits
from segqa.data.nifti import read_nifti, read_nifti_header
from segqa.data.types import Source
from segqa.errors import InputError

T = TypeVar("T")

_FEW = 8
_remembered = _FEW
_PERCENTILES = (0.5, 99.5)


@dataclass(slots=True)
class Volume:
    """Voxels of shape `(a, b, c)`, or `(a, b, c, 3)` in colour, with what their file says about them."""

    voxels: NDArray[np.generic]
    grid: Grid
    limits: tuple[float, float]
    """Range of intensities that every slice is shown in, so that slices of one volume share a scale."""


def read_volume(path: Path, kind: Format, role: Role) -> Volume:
    """Decode a file that may hold a volume; a flat one has depth 1.

    The limits of an image are the file's own window (DICOM), else the 0.5th and 99.5th percentile of the whole
    volume, else, for a single picture, its extremes.

    Raises:
        InputError: Damaged, too large, or not a scalar volume.
    """
    grid = read_grid(path, kind, role)
    if kind is Format.NIFTI:
        voxels = read_nifti(path, grid)
    elif kind in (Format.DICOM, Format.SERIES):
        voxels = read_dicom(path, grid)
    else:
        voxels = read_array(path, role, grid)
    if grid.window is not None:
        limits = grid.window
    elif role == "mask":
        limits = 0.0, 0.0  # labels are not shown in a range, and percentiles of a large volume take long
    else:
        limits = value_limits(voxels, percentiles=_PERCENTILES if grid.depth() > 1 else None)
    voxels.setflags(write=False)
    return Volume(voxels, grid, limits)


def read_grid(path: Path, kind: Format, role: Role) -> Grid:
    """Return shape and geometry of a file that may hold a volume, from its header alone.

    Raises:
        InputError: No readable header, too large, or a geometry that cannot be used.
    """
    if kind is Format.NIFTI:
        grid = read_nifti_header(path)
    elif kind in (Format.DICOM, Format.SERIES):
        grid = read_dicom_header(path)
    else:
        grid = read_array_header(path, role)
    check_pixels(math.prod(grid.shape), path)
    return grid


def check_slice(grid: Grid, source: Source) -> None:
    """Refuse a source that names no slice of a volume, or one that is not there.

    Raises:
        InputError: As said.
    """
    if source.slice_index is None:
        if grid.depth() > 1:
            fact = f"a volume of {grid.depth()} slices where one picture was expected"
            msg = f"{source}: {fact}; give image and mask both as volumes"
            raise InputError(msg)
    elif not 0 <= source.slice_index < grid.depth(source.axis):
        fact = f"no slice {source.slice_index} among {grid.depth(source.axis)} along axis {source.axis}"
        msg = f"{show_name(source.path)}: {fact}"
        raise InputError(msg)


def cut_slice(voxels: NDArray[Any], grid: Grid, source: Source) -> NDArray[Any]:
    """Return the picture of a source, shape `(H, W)` or `(H, W, 3)`.

    Raises:
        InputError: The source names no slice of a volume, or one that is not there.
    """
    check_slice(grid, source)
    index, axis = (0, 2) if source.slice_index is None else (source.slice_index, source.axis % 3)
    flat = voxels[(slice(None),) * axis + (index,)]
    return flat.swapaxes(0, 1) if grid.x_first else flat


class _Slot:
    """The place of one decoded file; its lock lets the first thread decode while the others wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: Any = None


_slots: OrderedDict[tuple[Any, ...], _Slot] = OrderedDict()
_slots_lock = threading.Lock()


def remember_at_least(n_files: int) -> None:
    """Keep so many decoded files from now on: the volumes of a case are read slice by slice, in turns."""
    global _remembered
    with _slots_lock:
        _remembered = max(_remembered, n_files)


def forget() -> None:
    """Let go of all decoded files, and keep only a few again: a program that goes on needs its memory."""
    global _remembered
    with _slots_lock:
        _slots.clear()
        _remembered = _FEW


def remember(load: Callable[..., T], path: Path, *rest: Any) -> T:
    """Return `load(path, *rest)`, decoded once as long as the file is unchanged and among the last few.

    Safe to call from many threads.
    """
    status = path.stat()
    key = (load, path, status.st_mtime_ns, status.st_size, rest)
    with _slots_lock:
        slot = _slots.pop(key, None) or _Slot()
        _slots[key] = slot
        if len(_slots) > _remembered:
            _slots.popitem(last=False)
    with slot.lock:
        if slot.value is None:
            slot.value = load(path, *rest)
        value: T = slot.value
        return value
