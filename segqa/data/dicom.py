"""DICOM: single files, files of many frames, and folders that hold one series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from segqa.data.files import decoding, show_name
from segqa.data.grids import Grid, check_spacing
from segqa.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's patient axes point left and back, NIfTI's right and front


def list_series(folder: Path) -> list[Path]:
    """Return the visible files of a folder in order of name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def read_dicom_header(path: Path) -> Grid:
    """Return shape and geometry of a DICOM file, or of a folder that holds one series, without its pixels.

    Raises:
        InputError: Not DICOM (a missing DICM marker is never passed over), without pixels, a DICOM SEG, or a
            folder of more than one series or size.
    """
    with decoding(path):
        if not path.is_dir():
            return _grid(_open(path), path)
        slices = _sorted_series(path)
        first, step = slices[0][1], _slice_step(slices)
        grid = _grid(first, path, depth=len(slices), step=step)
        if any((dataset.Rows, dataset.Columns) != (first.Rows, first.Columns) for _, dataset in slices):
            msg = f"{show_name(path)}: slices of different sizes where one DICOM series was expected"
            raise InputError(msg)
        return grid


def read_dicom(path: Path, grid: Grid) -> NDArray[np.generic]:
    """Return the rescaled voxels of a checked file or folder, shape `(x, y, z)` or `(x, y, z, 3)`."""
    with decoding(path):
        if path.is_dir():
            planes = [_pixels(pydicom.dcmread(file)) for file, _ in _sorted_series(path)]
            voxels = np.stack(planes)
        else:
            voxels = _pixels(pydicom.dcmread(path))
            if voxels.ndim - grid.is_color == 2:
                voxels = voxels[None]
        return np.moveaxis(voxels, (0, 1, 2), (2, 1, 0))


def _open(path: Path) -> Dataset:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    name = show_name(path)
    if dataset.get("SOPClassUID") == _SEGMENTATION:
        msg = f"{name}: a DICOM SEG object; convert it to NIfTI or PNG label maps"
        raise InputError(msg)
    if "Rows" not in dataset or "Columns" not in dataset:
        msg = f"{name}: a DICOM file without an image; leave it out"
        raise InputError(msg)
    return dataset


def _sorted_series(folder: Path) -> list[tuple[Path, Dataset]]:
    """Return the files of one series along its normal; by number, then name, without positions."""
    found = [(path, _open(path)) for path in list_series(folder)]
    if not found:
        msg = f"{show_name(folder)}: an empty folder where a DICOM series was expected"
        raise InputError(msg)
    if len({dataset.get("SeriesInstanceUID") for _, dataset in found}) > 1:
        msg = f"{show_name(folder)}: more than one DICOM series; put each into its own folder"
        raise InputError(msg)
    return sorted(found, key=lambda item: (_position(item[1]), int(item[1].get("InstanceNumber") or 0)))


def _normal(dataset: Dataset) -> NDArray[np.float64]:
    row, column = np.asarray(dataset.ImageOrientationPatient, np.float64).reshape(2, 3)
    return np.cross(row, column)


def _position(dataset: Dataset) -> float:
    if "ImagePositionPatient" not in dataset or "ImageOrientationPatient" not in dataset:
        return 0.0
    return float(_normal(dataset) @ np.asarray(dataset.ImagePositionPatient, np.float64))


def _slice_step(slices: list[tuple[Path, Dataset]]) -> float | None:
    """Return the distance of neighbouring slices in millimetres."""
    if len(slices) == 1:
        return None
    step = (_position(slices[-1][1]) - _position(slices[0][1])) / (len(slices) - 1)
    return step or None


def _grid(dataset: Dataset, path: Path, *, depth: int | None = None, step: float | None = None) -> Grid:
    frames = depth or int(dataset.get("NumberOfFrames") or 1)
    spacing = None
    if dataset.get("PixelSpacing"):
        row, column = map(float, dataset.PixelSpacing)
        spacing = (column, row, step or float(dataset.get("SliceThickness") or 1.0))
        check_spacing(spacing, path)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    return Grid(
        (int(dataset.Columns), int(dataset.Rows), frames),
        x_first=True,
        spacing=spacing,
        affine=_affine(dataset, spacing),
        window=_window(dataset),
        is_inverted=photometric == "MONOCHROME1",
        is_color=int(dataset.get("SamplesPerPixel", 1)) == 3 or photometric == "PALETTE COLOR",
    )


def _affine(dataset: Dataset, spacing: tuple[float, float, float] | None) -> NDArray[np.float64] | None:
    if spacing is None or "ImagePositionPatient" not in dataset or "ImageOrientationPatient" not in dataset:
        return None
    row, column = np.asarray(dataset.ImageOrientationPatient, np.float64).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row, column, _normal(dataset)]) * spacing
    affine[:3, 3] = np.asarray(dataset.ImagePositionPatient, np.float64)
    return np.asarray(_TO_RAS @ affine, np.float64)


def _window(dataset: Dataset) -> tuple[float, float] | None:
    """Return the limits of the file's first window."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or not width > 0:
        return None
    return centre - width / 2, centre + width / 2


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (int, float)) else value[0])


def _pixels(dataset: Dataset) -> NDArray[np.generic]:
    pixels = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colors = apply_color_lut(pixels, dataset)
        return (colors >> 8).astype(np.uint8) if colors.dtype.itemsize == 2 else colors
    if dataset.get("SamplesPerPixel", 1) == 3:
        return np.asarray(pixels)
    values: NDArray[np.generic] = apply_modality_lut(pixels, dataset)
    return values.astype(np.float32) if values.dtype == np.float64 else values
