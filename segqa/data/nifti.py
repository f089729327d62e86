"""NIfTI files: header checks that nibabel would repair in silence, and voxels as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from segqa.data.files import decoding, show_name
from segqa.data.formats import HEAD_BYTES, unzip_head
from segqa.data.grids import Grid, check_spacing
from segqa.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MAX_OFFSET = 2**26  # header extensions may be long; voxels that begin later are a damaged or hostile header


def read_nifti_header(path: Path) -> Grid:
    """Return shape, voxel size and affine of a NIfTI file without reading its voxels.

    Raises:
        InputError: Damaged, of more than three dimensions, of vectors or colours, or with a voxel size
            that is not positive.
    """
    with decoding(path):
        header = _raw_header(path)
        shape = tuple(int(size) for size in header["dim"][1 : 1 + int(header["dim"][0])])
        _check_shape(shape, header.get_data_dtype(), path)
        if float(header["vox_offset"]) > _MAX_OFFSET:
            msg = f"{show_name(path)}: damaged header (voxels begin at {float(header['vox_offset']):.3g} bytes)"
            raise InputError(msg)
        sizes = [float(size) for size in header["pixdim"][1:4]][: len(shape)]
        check_spacing(sizes, path)
        x, y, z = (*shape[:3], 1)[:3]
        dx, dy, dz = (*sizes, 1.0)[:3]
        affine = np.asarray(header.get_best_affine(), np.float64)
        return Grid((x, y, z), x_first=True, spacing=(dx, dy, dz), affine=affine)


def read_nifti(path: Path, grid: Grid) -> NDArray[np.generic]:
    """Return the voxels of a checked file, shape `grid.shape`; 64-bit floats come as 32-bit ones."""
    with decoding(path):
        image: Any = nib.load(path)
        voxels: NDArray[np.generic] = np.asanyarray(image.dataobj).reshape(grid.shape)
        return voxels.astype(np.float32) if voxels.dtype == np.float64 else voxels


def _raw_header(path: Path) -> Any:
    """Return the header as stored: `nib.load` would turn a voxel size of 0 or -1 into 1."""
    if path.name.lower().endswith(".gz"):
        head = unzip_head(path)
    else:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    kind: Any = nib.Nifti2Header if head[4:7] == b"n+2" else nib.Nifti1Header
    return kind(head[: kind.sizeof_hdr], check=False)


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[np.generic], path: Path) -> None:
    if len(shape) > 3 and max(shape[3:]) > 1:
        sizes = " x ".join(map(str, shape))
        fact = f"{len(shape)}-D ({sizes}) where one volume was expected"
        msg = f"{show_name(path)}: {fact}; save each volume as its own file"
        raise InputError(msg)
    if len(shape) < 2 or min(shape) < 1:
        msg = f"{show_name(path)}: shape {shape} where a picture or a volume was expected"
        raise InputError(msg)
    if dtype.kind not in "biuf":
        msg = f"{show_name(path)}: voxels of type {dtype} where numbers were expected; save one channel"
        raise InputError(msg)
