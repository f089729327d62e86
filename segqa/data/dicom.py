"""DICOM: single files, files of many frames, and folders that hold one series."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from segqa.data.dicom_frames import split_frames
from segqa.data.files import decoding, show_name, visible_files
from segqa.data.grids import Grid, check_spacing
from segqa.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_UNEVEN = 0.1  # of the widest gap; positions are rounded, and a tilted gantry shifts them a little
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's patient axes point left and back, NIfTI's right and front


def read_dicom_header(path: Path) -> Grid:
    """Return shape and geometry of a DICOM file, or of a folder that holds one series, without its pixels.

    Raises:
        InputError: Not DICOM (a missing DICM marker is never passed over), without pixels, a DICOM SEG, or a
            folder of more than one series or size, or of several files of many frames.
    """
    with decoding(path):
        path = _sole_file(path)
        if not path.is_dir():
            return _file_grid(_open(path), path)
        slices = _sorted_series(path)
        first = slices[0][1]
        positions = [_position(split_frames(dataset)[0]) for _, dataset in slices]
        grid = _grid(first, split_frames(first)[0], path, depth=len(slices), positions=positions)
        if any((dataset.Rows, dataset.Columns) != (first.Rows, first.Columns) for _, dataset in slices):
            msg = f"{show_name(path)}: slices of different sizes where one DICOM series was expected"
            raise InputError(msg)
        if any(int(dataset.get("NumberOfFrames") or 1) > 1 for _, dataset in slices):
            msg = f"{show_name(path)}: {len(slices)} files, some of many frames; put each of these into its own folder"
            raise InputError(msg)
        return grid


def read_dicom(path: Path, grid: Grid) -> NDArray[np.generic]:
    """Return the rescaled voxels of a checked file or folder, shape `(x, y, z)` or `(x, y, z, 3)`."""
    with decoding(path):
        path = _sole_file(path)
        if path.is_dir():
            voxels = np.stack([_pixels(pydicom.dcmread(file), path) for file, _ in _sorted_series(path)])
        else:
            voxels = _pixels(pydicom.dcmread(path), path)
            if voxels.ndim - grid.is_color == 2:
                voxels = voxels[None]
        return np.moveaxis(voxels, (0, 1, 2), (2, 1, 0))


def _sole_file(path: Path) -> Path:
    """Return the only file of a folder: an enhanced series is one file of many frames."""
    files = visible_files(path) if path.is_dir() else []
    return files[0] if len(files) == 1 else path


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
    found = [(path, _open(path)) for path in visible_files(folder)]
    if not found:
        msg = f"{show_name(folder)}: an empty folder where a DICOM series was expected"
        raise InputError(msg)
    if len({dataset.get("SeriesInstanceUID") for _, dataset in found}) > 1:
        msg = f"{show_name(folder)}: more than one DICOM series; put each into its own folder"
        raise InputError(msg)
    return sorted(
        found, key=lambda item: (_position(split_frames(item[1])[0]), int(item[1].get("InstanceNumber") or 0))
    )


def _normal(dataset: Dataset) -> NDArray[np.float64]:
    row, column = np.asarray(dataset.ImageOrientationPatient, np.float64).reshape(2, 3)
    return np.cross(row, column)


def _position(dataset: Dataset) -> float:
    if "ImagePositionPatient" not in dataset or "ImageOrientationPatient" not in dataset:
        return 0.0
    return float(_normal(dataset) @ np.asarray(dataset.ImagePositionPatient, np.float64))


def _frame_order(frames: list[Dataset]) -> list[int]:
    """Return the frames along their normal; as they are stored when two are in one place (phases, echoes)."""
    positions = [_position(frame) for frame in frames]
    stored = range(len(frames))
    return sorted(stored, key=positions.__getitem__) if len(set(positions)) == len(frames) else list(stored)


def _slice_step(positions: list[float]) -> float | None:
    """Return the mean distance of neighbouring slices in millimetres."""
    return (positions[-1] - positions[0]) / (len(positions) - 1) or None if len(positions) > 1 else None


def _remark_gaps(positions: list[float]) -> tuple[str, ...]:
    gaps = np.diff(positions)
    if gaps.size == 0 or gaps.max() - gaps.min() <= _UNEVEN * abs(gaps).max():
        return ()
    return (f"uneven-slices: {gaps.min():g} to {gaps.max():g} mm apart; is a slice missing?",)


def _file_grid(dataset: Dataset, path: Path) -> Grid:
    frames = split_frames(dataset)
    order = _frame_order(frames)
    positions = [_position(frames[index]) for index in order]
    is_stack = positions == sorted(set(positions))
    grid = _grid(dataset, frames[order[0]], path, positions=positions if is_stack else [])
    if order == sorted(order):
        return grid
    return replace(grid, remarks=("frames-sorted: by position, not as the file holds them", *grid.remarks))


def _grid(dataset: Dataset, first: Dataset, path: Path, *, positions: list[float], depth: int | None = None) -> Grid:
    """Return the grid of a file, or of the series that it belongs to, with what its first slice says of itself."""
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    spacing = _spacing(first, path, _slice_step(positions))
    return Grid(
        (int(dataset.Columns), int(dataset.Rows), depth or int(dataset.get("NumberOfFrames") or 1)),
        x_first=True,
        spacing=spacing,
        affine=_affine(first, spacing),
        window=_window(first),
        is_inverted=photometric == "MONOCHROME1",
        is_color=int(dataset.get("SamplesPerPixel", 1)) == 3 or photometric == "PALETTE COLOR",
        remarks=_remark_gaps(positions),
    )


def _spacing(first: Dataset, path: Path, step: float | None) -> tuple[float, float, float] | None:
    sizes = first.get("PixelSpacing")
    if not sizes:
        return None
    if isinstance(sizes, float) or len(sizes) != 2:
        msg = f"{show_name(path)}: PixelSpacing {sizes} where two numbers were expected; correct the header"
        raise InputError(msg)
    row, column = map(float, sizes)
    spacing = (column, row, step or float(first.get("SliceThickness") or 1.0))
    check_spacing(spacing, path)
    return spacing


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


def _pixels(dataset: Dataset, path: Path) -> NDArray[np.generic]:
    """Return the rescaled pixels of a file, its frames in order of their positions."""
    pixels = dataset.pixel_array
    frames = split_frames(dataset)
    order = _frame_order(frames)
    if len(frames) > 1:
        if len(frames) != dataset.get("NumberOfFrames"):
            fact = f"{len(frames)} functional groups for {dataset.get('NumberOfFrames')} frames"
            msg = f"{show_name(path)}: {fact}; export the file again"
            raise InputError(msg)
        pixels = pixels[order]
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colors = apply_color_lut(pixels, dataset)
        return (colors >> 8).astype(np.uint8) if colors.dtype.itemsize == 2 else colors
    if dataset.get("SamplesPerPixel", 1) == 3:
        return np.asarray(pixels)
    if len(frames) == 1:
        return _rescale(pixels, frames[0])
    return np.stack([_rescale(plane, frames[index]) for plane, index in zip(pixels, order, strict=True)])


def _rescale(pixels: NDArray[np.generic], frame: Dataset) -> NDArray[np.generic]:
    values: NDArray[np.generic] = apply_modality_lut(pixels, frame)
    return values.astype(np.float32) if values.dtype == np.float64 else values
