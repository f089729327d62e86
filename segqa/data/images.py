"""Images of every format as 8-bit RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segqa.data.decoding import Decoded, decode_flat
from segqa.data.formats import FLAT_FORMATS, Format, sniff
from segqa.data.intensities import NanPolicy, replace_nan, to_bytes, value_limits, window_limits
from segqa.data.types import Picture, Source
from segqa.data.volumes import cut_slice, read_volume, remember
from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage

_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def read_image(
    source: Source,
    *,
    window: tuple[float, float] | None = None,
    nan: NanPolicy = "error",
    orient: bool = True,
) -> Picture:
    """Read an image as 8-bit RGB; the format is told by the first bytes, not by the name.

    8-bit pixels are taken as they are; grey gets three equal channels, palettes and CMYK are converted, alpha
    is left out. Grey of more than 8 bits is scaled: by `window` when given, else by the window that a DICOM
    file carries, else from the least to the largest pixel; a slice of a volume from the 0.5th to the 99.5th
    percentile of the volume, so that its slices share a scale. Colour of 16 bits keeps its upper byte.

    Args:
        source: A file, or a slice of a volume.
        window: Centre and width of the intensities to show (40 400 is soft tissue in CT).
        nan: Whether NaN and infinite pixels are an error or become 0.
        orient: Whether to turn the picture as its EXIF orientation says.

    Returns:
        Read-only pixels, uint8 of shape `(H, W, 3)`; warnings among `missing-iend`, `exif-rotated`,
        `alpha-dropped`, `nan-zeroed`, `uneven-slices`; the spacing when the file tells.

    Raises:
        InputError: Missing, damaged, too large, of more than one page, NaN; one line with the remedy.
    """
    limits = window_limits(window) if window is not None else None
    kind = sniff(source.path)
    if kind in FLAT_FORMATS:
        if source.slice_index is not None:
            msg = f"{source}: a {kind} file has no slices; give it as an image of its own"
            raise InputError(msg)
        decoded = decode_flat(source.path, kind, orient=orient)
        if isinstance(decoded, Decoded):
            return _from_pillow(decoded, source, limits, nan)
        picture = Picture(decoded)
        inverted, default = False, None
    else:
        picture, default, inverted = _from_volume(source, kind)
    picture.pixels = _to_rgb(picture, source, limits or default, nan)
    if inverted:
        picture.pixels = 255 - picture.pixels
    return picture


def read_image_beside(
    source: Source,
    sizes: Collection[tuple[int, ...]],
    *,
    window: tuple[float, float] | None = None,
    nan: NanPolicy = "error",
) -> Picture:
    """Read an image whose masks have these sizes, `(H, W)` each.

    One that its EXIF orientation turns away from its masks is taken as it is stored, with the warning `exif-ignored`.
    Arguments, result and errors are else those of `read_image`.
    """
    picture = read_image(source, window=window, nan=nan)
    upright, stored = picture.pixels.shape[:2], picture.pixels.shape[1::-1]
    if "exif-rotated" in picture.warnings and set(sizes) == {stored} != {upright}:
        picture = read_image(source, window=window, nan=nan, orient=False)
        picture.warnings.append("exif-ignored: the masks fit the image as it is stored")
    return picture


def _from_volume(source: Source, kind: Format) -> tuple[Picture, tuple[float, float], bool]:
    volume = remember(read_volume, source.path, kind, "image")
    grid = volume.grid
    pixels = cut_slice(volume.voxels, grid, source)
    picture = Picture(pixels, list(grid.remarks), grid.plane_spacing(source.axis), grid.affine)
    return picture, volume.limits, grid.is_inverted


def _from_pillow(decoded: Decoded, source: Source, limits: tuple[float, float] | None, nan: NanPolicy) -> Picture:
    picture = Picture(np.empty(0, np.uint8), decoded.warnings)
    if decoded.image.mode in _DEEP_MODES:
        picture.pixels = np.asarray(decoded.image)
        picture.pixels = _to_rgb(picture, source, limits, nan)
    else:
        picture.pixels = np.asarray(_drop_alpha(decoded.image, picture.warnings))
    return picture


def _drop_alpha(image: PillowImage, warnings: list[str]) -> PillowImage:
    """Return the image in RGB, with a remark when some pixel was transparent."""
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in _ALPHA_MODES:
        if image.getchannel("A").getextrema() != (255, 255):
            warnings.append("alpha-dropped")
        if image.mode in ("La", "RGBa"):
            image = image.convert(image.mode.upper())
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_rgb(picture: Picture, source: Source, limits: tuple[float, float] | None, nan: NanPolicy) -> NDArray[np.uint8]:
    """Return values of any type, shape `(H, W)` or with a last axis of colours, as 8-bit RGB."""
    values = picture.pixels
    if values.ndim == 3:
        values = _drop_alpha_channel(values, picture.warnings)
    if values.dtype == np.bool_:
        grey = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype == np.uint8:
        grey = values.astype(np.uint8, copy=False)
    else:
        finite = replace_nan(values, source=source, nan=nan, warnings=picture.warnings)
        grey = to_bytes(finite, *(limits or value_limits(finite, percentiles=None)))
    return grey if grey.ndim == 3 else np.repeat(grey[:, :, None], 3, axis=2)


def _drop_alpha_channel(values: NDArray[np.generic], warnings: list[str]) -> NDArray[np.generic]:
    """Return one channel or three of an array with one to four."""
    count = values.shape[2]
    if count in (2, 4):
        alpha = values[:, :, -1]
        if alpha.min() != alpha.max():
            warnings.append("alpha-dropped")
        values = values[:, :, :-1]
    return values[:, :, 0] if values.shape[2] == 1 else values
