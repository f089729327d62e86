"""Masks of every format as label maps, and label maps written as PNG."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowModule
from PIL.Image import Image as PillowImage

from segqa.data.decoding import Decoded, decode_flat
from segqa.data.files import list_some, show_name, write_whole
from segqa.data.formats import FLAT_FORMATS, Format, sniff
from segqa.data.grids import Grid
from segqa.data.labels import foreground_remark, is_soft, lone_white, to_labels
from segqa.data.types import LabelMap, Picture, Source
from segqa.data.volumes import cut_slice, read_volume, remember
from segqa.errors import InputError

_READABLE_MODES = frozenset({"1", "L", "P", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_WHITE_FIRST = [255, 255, 255, 0, 0, 0]  # a palette of two colours against the order of its indices
_COLOR_MODES = {"LA": "LA", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}


@dataclass(slots=True)
class LabelVolume:
    """The labels of a whole volume file."""

    labels: NDArray[np.integer[Any]]
    grid: Grid
    white: int = 0
    """The value that label 1 was, where it was the only one and 255 or 65535."""
    warnings: list[str] = field(default_factory=list)


def read_mask(source: Source, *, labels: Collection[int] = ()) -> Picture:
    """Read a mask as a label map; `labels.py` holds the rule that turns values into labels.

    Palettes give their indices, not their colours, unless index 0 is white and 1 is black; a colour picture
    must have equal channels. JPEG is refused. The rule looks at a whole volume, not at a slice.

    Args:
        source: A file, or a slice of a volume.
        labels: Labels that are asked for. Where 255 (65535) is one of them, a mask of 0 and 255 keeps it; where
            several others are, it becomes label 1 with a remark: it may be meant to be ignored.

    Returns:
        Labels, int32 of shape `(H, W)`; warnings among `missing-iend`, `exif-rotated`, `alpha-dropped`,
        `palette-labels`, `palette-white`, `non-binary`, `probability-map`, `label-255`, `mostly-foreground`,
        `uneven-slices`; the spacing if the file tells.

    Raises:
        InputError: Missing, damaged, or no mask; one line with the remedy.
    """
    kind = sniff(source.path)
    if kind in FLAT_FORMATS:
        if source.slice_index is not None:
            msg = f"{source}: a {kind} file has no slices, but the image is a volume; save the mask as one too"
            raise InputError(msg)
        warnings: list[str] = []
        values = _read_flat(source, kind, warnings)
        picture = Picture(to_labels(values, source=source, warnings=warnings), warnings)
        white = lone_white(values) if labels else 0  # nobody asks otherwise
    else:
        volume = read_label_volume(source.path, kind=kind)
        pixels, white = cut_slice(volume.labels, volume.grid, source), volume.white
        spacing = volume.grid.plane_spacing(source.axis)
        picture = Picture(pixels, list(volume.warnings), spacing, volume.grid.affine)
    picture.pixels = picture.pixels.astype(np.int32)
    if white in labels:
        picture.pixels *= white
    elif white and len(labels) > 1:
        picture.warnings.append(f"label-{white}: the only label, taken as 1; if it means ignore, do not score it")
    remark = foreground_remark(picture.pixels)
    if remark is not None:
        picture.warnings.append(remark)
    return picture


def check_mask_format(source: Source, kind: Format) -> None:
    """Refuse the format that does not keep labels.

    Raises:
        InputError: The mask is a JPEG.
    """
    if kind is Format.JPEG:
        msg = (
            f"{source}: a JPEG mask; its compression changes the labels near every edge; "
            "export it as PNG from the original, not from this file"
        )
        raise InputError(msg)


def read_label_volume(path: Path, *, kind: Format) -> LabelVolume:
    """Return the labels of a volume file; decoded once and remembered among the last few.

    Raises:
        InputError: Damaged, too large, or no mask.
    """
    return remember(_load_labels, path, kind)


def write_mask(path: Path, label_map: LabelMap) -> None:
    """Write a label map as PNG, whole or not at all.

    8 bits up to label 127, 16 bits above: bright 8-bit values could be taken for a mask with soft edges.
    A map whose only label is 255 or 65535 reads back as label 1, as any mask of black and white does.

    Raises:
        InputError: A label is negative, above 65535, or so large and thin that the map would read back as a
            mask with soft edges; or the file cannot be written.
    """
    least, top = int(label_map.min()), int(label_map.max())
    if least < 0 or top > np.iinfo(np.uint16).max:
        msg = f"{show_name(path)}: labels {least}..{top} do not fit a PNG (0..65535); renumber them"
        raise InputError(msg)
    values = label_map.astype(np.uint8 if top < 128 else np.uint16)
    if is_soft(values):
        msg = f"{show_name(path)}: labels up to {top} on thin areas, as in a soft mask; renumber them from 1"
        raise InputError(msg)
    picture = PillowModule.fromarray(values)
    write_whole(path, lambda file: picture.save(file, format="PNG"))


def _load_labels(path: Path, kind: Format) -> LabelVolume:
    volume = read_volume(path, kind, "mask")
    warnings = list(volume.grid.remarks)
    values = volume.voxels
    if volume.grid.is_color:
        values = _one_channel(values, path, warnings)
    labels = to_labels(values, source=show_name(path), warnings=warnings)
    labels.setflags(write=False)
    return LabelVolume(labels, volume.grid, lone_white(values), warnings)


def _read_flat(source: Source, kind: Format, warnings: list[str]) -> NDArray[Any]:
    check_mask_format(source, kind)
    decoded = decode_flat(source.path, kind)
    if not isinstance(decoded, Decoded):
        return decoded if decoded.ndim == 2 else _one_channel(decoded, source.path, warnings)
    warnings += decoded.warnings
    image = decoded.image
    if image.mode in _READABLE_MODES:
        return _grey_values(image, decoded.bits, warnings)
    if image.mode not in _COLOR_MODES:
        msg = f"{source}: a {image.mode} picture where labels were expected; save it as grey PNG"
        raise InputError(msg)
    if decoded.bits > 8:
        msg = f"{source}: colour of {decoded.bits} bits where labels were expected; save it as 16-bit grey PNG"
        raise InputError(msg)
    values = np.asarray(image.convert(_COLOR_MODES[image.mode]))
    return _one_channel(values, source.path, warnings)


def _grey_values(image: PillowImage, bits: int, warnings: list[str]) -> NDArray[Any]:
    values = np.asarray(image)
    if image.mode == "P":
        if (image.getpalette() or [])[:6] == _WHITE_FIRST and values.max() <= 1:
            warnings.append("palette-white: white is taken as the object, not index 1, which is black")
            return np.asarray(1 - values)
        count = len(np.unique(values))
        if count > 2:
            warnings.append(f"palette-labels: {count} palette indices taken as labels")
        return values.astype(np.uint16)  # an index is never the grey of a soft edge
    if image.mode == "L" and bits in (2, 4):
        return values // np.uint8(255 // (2**bits - 1))  # Pillow stretches these to 0..255
    return values


def _one_channel(values: NDArray[Any], path: Path, warnings: list[str]) -> NDArray[Any]:
    """Return the channel that holds the mask of values `(..., C)`: grey, grey and alpha, RGB or RGBA."""
    count = values.shape[-1]
    has_alpha = count in (2, 4)
    alpha = values[..., -1] if has_alpha else None
    colors = values[..., :-1] if has_alpha else values
    grey = colors[..., 0]
    if (colors != grey[..., None]).any():
        raise InputError(_color_text(colors, path))
    if alpha is not None and alpha.min() != alpha.max():
        if grey.min() == grey.max():
            msg = f"{show_name(path)}: blank in colour, content in alpha; save the mask as a grey picture"
            raise InputError(msg)
        warnings.append("alpha-dropped")
    return np.asarray(grey)


def _color_text(colors: NDArray[Any], path: Path) -> str:
    found = np.unique(colors.reshape(-1, colors.shape[-1]), axis=0)
    names = ["(" + ", ".join(str(value) for value in color) + ")" for color in found.tolist()]
    fact = f"a colour mask with {len(names)} colours: {list_some(names, limit=4)}"
    remedy = "save one number a class (grey or palette PNG)"
    return f"{show_name(path)}: {fact}; {remedy}"
