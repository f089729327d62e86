"""Pictures of one object for people: the image around it, the mask's outline, the box, and where it may be wrong."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw
from scipy import ndimage

from segqa.data.boxes import Box
from segqa.data.cases import objects_of, read_case
from segqa.data.files import write_whole
from segqa.data.types import Case, Image, Mask, ObjectMask
from segqa.errors import InputError
from segqa.runtime import require_torch

if TYPE_CHECKING:
    from segqa.data.reading import Reading
    from segqa.quality.error_map import Method
    from segqa.quality.network import QualityNetwork

SIDE = 256
"""Longer side of a picture, in pixels."""

CONTEXT = 0.4
"""Share of the object that is shown around it on each side."""

OUTLINE = (255, 208, 0)
BOX = (0, 224, 255)
# Heat goes from nothing over red to white: it reads the same for people who cannot tell red from green.
_HEAT = np.array([255.0, 60.0, 40.0])

HEAT_SHARE = 0.75
"""How much of the picture the strongest heat covers."""

_QUALITIES = (80, 60, 40, 20)


@dataclass(frozen=True, slots=True)
class Seen:
    """An object of a case with its pixels."""

    case: str
    model: str
    one: ObjectMask
    image: Image


def draw_overlay(
    image: Image, mask: Mask, box: Box | None = None, *, error: NDArray[np.float32] | None = None, side: int = SIDE
) -> Image:
    """Return the surroundings of an object with the outline of its mask and its box.

    Args:
        image: Pixels `(H, W, 3)`, 0..255.
        mask: Predicted mask `(H, W)`; may be empty.
        box: Prompt box, drawn when given.
        error: How likely each pixel is wrong, `(H, W)`, 0..1; it shines.
        side: Longer side of the picture.

    Returns:
        Pixels `(h, w, 3)` with `max(h, w) == side`.
    """
    part = _surroundings(mask, box)
    scale = side / max(part.width, part.height)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    pixels = np.asarray(PillowImage.fromarray(image[part.slices]).resize(size, PillowImage.Resampling.BICUBIC))
    if error is not None:
        pixels = _heat(pixels, _resize(error[part.slices], size))
    outline = _outline(_resize(mask[part.slices].astype(np.float32), size) > 0.5)
    pixels = np.where(outline[..., None], np.array(OUTLINE, np.uint8), pixels)
    return pixels if box is None else _draw_box(pixels, box, part, scale)


def _surroundings(mask: Mask, box: Box | None) -> Box:
    """Return the part of the image to show: mask and box with some context, or all of it."""
    whole = Box(0, 0, mask.shape[1], mask.shape[0])
    own = Box.from_mask(mask)
    both = own.union(box) if own and box else own or box or whole
    return both.expand(CONTEXT).clip(*mask.shape)


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    picture = PillowImage.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize(size, PillowImage.Resampling.BILINEAR))


def _heat(pixels: Image, error: NDArray[np.float32]) -> Image:
    share = HEAT_SHARE * error.clip(0, 1)[..., None]
    return np.asarray((pixels * (1 - share) + _HEAT * share).round().astype(np.uint8))


def _outline(mask: Mask) -> Mask:
    """Return the pixels of the mask beside others, two wide so that they survive compression."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1))


def _draw_box(pixels: Image, box: Box, part: Box, scale: float) -> Image:
    picture = PillowImage.fromarray(pixels)
    left, top = (box.x0 - part.x0) * scale, (box.y0 - part.y0) * scale
    right, bottom = (box.x1 - part.x0) * scale - 1, (box.y1 - part.y0) * scale - 1
    ImageDraw.Draw(picture).rectangle((left, top, max(left, right), max(top, bottom)), outline=BOX, width=2)
    return np.asarray(picture)


def to_data_uri(pixels: Image, *, max_bytes: int) -> str:
    """Return a picture as a WebP data URI of at most `max_bytes` characters, coarser or smaller where it must be."""
    picture = PillowImage.fromarray(pixels)
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "WEBP", quality=quality)
            uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
            if len(uri) <= max_bytes or max(picture.size) <= 16:
                return uri
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))


def see_objects(case: Case, reading: Reading) -> Iterator[Seen]:
    """Read a case at once, and return its objects one by one as `segqa score` cuts them out: there may be thousands.

    Raises:
        InputError: The case cannot be read.
    """
    loaded = read_case(case, reading)
    return (Seen(case.name, model, one, loaded.image.pixels) for model, one in objects_of(case, loaded, reading))


def check_folder(folder: Path, cases: Iterable[Case]) -> None:
    """Refuse a folder for error maps in which they would lie among the files that are scored, or replace them.

    Raises:
        InputError: The sub-folder of a model holds images or masks.
    """
    known = list(cases)
    read = {source.path.resolve().parent for case in known for source in (case.image, *case.masks.values())}
    for place in sorted({folder / _safe(model) for case in known for model in case.masks}):
        if place.resolve() in read:
            msg = f"--error-maps {folder}: {place} holds files that are scored; choose another folder"
            raise InputError(msg)


def write_error_maps(
    cases: Iterable[Case], reading: Reading, weights: Path, folder: Path, *, method: Method | None = None
) -> int:
    """Write a picture with the error map of every object that is scored, `<model>/<case>_<label>_<object>.png`.

    Args:
        cases: What is scored.
        reading: How it is read.
        weights: File of the evaluator that judges.
        folder: Made when missing.
        method: See `quality.error_map.error_map`.

    Returns:
        The number of pictures. A case that cannot be read has none when errors are skipped.

    Raises:
        MissingExtraError: PyTorch is not installed.
        InputError: A case cannot be read and errors stop the run, or a file cannot be written.
    """
    network = load_judge(weights)
    taken: set[Path] = set()
    for case in cases:
        for seen in _see_or_skip(case, reading):
            path = _free_name(folder / _safe(seen.model), f"{seen.case}_{seen.one.label}_{seen.one.object}", taken)
            picture = PillowImage.fromarray(draw_errors(seen, network, method=method))
            write_whole(path, lambda file: picture.save(file, "PNG"))  # noqa: B023
    return len(taken)


def _see_or_skip(case: Case, reading: Reading) -> Iterator[Seen]:
    try:
        return see_objects(case, reading)
    except InputError:
        if reading.on_error == "stop":
            raise
        return iter(())


def load_judge(weights: Path) -> QualityNetwork:
    """Return the network of a weights file for error maps, on the CPU; `MissingExtraError` without PyTorch."""
    require_torch("--error-maps")
    from segqa.quality.storage import load_network

    return load_network(weights)


def draw_errors(seen: Seen, network: QualityNetwork, *, method: Method | None = None) -> Image:
    """Return the overlay of an object with its error map; `method` as for `quality.error_map.error_map`."""
    from segqa.quality.error_map import best_method, error_map

    chosen = method or best_method(network)
    error = error_map(seen.image, seen.one.mask, seen.one.box, network, method=chosen)
    if chosen == "gradient":  # gains have no scale of their own: the largest of this object shine most
        error = error / max(float(np.quantile(error.clip(0), 0.995)), float(np.finfo(np.float32).tiny))
    return draw_overlay(seen.image, seen.one.mask, seen.one.box, error=error)


def _safe(name: str) -> str:
    """Return a name as one that every file system takes."""
    return re.sub(r"[^\w.-]", "_", name)[:100].strip(".") or "_"


def _free_name(folder: Path, name: str, taken: set[Path]) -> Path:
    """Return a PNG path that this run has not used; names that became equal get a number."""
    path, number = folder / f"{_safe(name)}.png", 1
    while path in taken:
        number += 1
        path = folder / f"{_safe(name)}-{number}.png"
    taken.add(path)
    return path
