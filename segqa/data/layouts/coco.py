"""COCO instances: a folder of images and a JSON with `images`, `annotations` and `categories`."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segqa.data.boxes import case_key
from segqa.data.files import list_some, read_json, show_name
from segqa.data.groups import group_of
from segqa.data.layouts.dataset import Dataset, Finding, LabelledCase, LeftOut, TrueObject, Truth
from segqa.data.types import Mask, Source
from segqa.errors import InputError, require


def recognise(images: Path, truth: Path | None) -> str | None:
    """Say why this is the layout; `None` when it is not."""
    is_coco = truth is not None and truth.is_file() and truth.suffix.lower() == ".json" and images.is_dir()
    return "a folder of images and a JSON of annotations" if is_coco else None


def read(images: Path, truth: Path | None, finding: Finding) -> Dataset:
    """Return the data set; each annotation is one object, crowds and mere boxes are left out with a reason.

    Raises:
        InputError: No COCO file, or images are missing.
    """
    if truth is None:
        msg = f"{images}: give the JSON with the annotations too, as second path"
        raise InputError(msg)
    content = read_json(truth)
    name = show_name(truth)
    if not isinstance(content, dict):
        msg = f"{name}: a JSON {type(content).__name__} where images, annotations and categories were expected"
        raise InputError(msg)
    try:
        labels = {int(entry["id"]): str(entry["name"]) for entry in content.get("categories", ())}
        pictures = {
            entry["id"]: _Picture(str(entry["file_name"]), int(entry["height"]), int(entry["width"]))
            for entry in content["images"]
        }
        annotations, left_out = _sort_out(content["annotations"], pictures, name)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        fact = f"an entry without a valid {error}"
        msg = f"{name}: {fact}; images need id, file_name, height, width; annotations id, image_id, category_id"
        raise InputError(msg) from error
    pictures = _without_folders(pictures, images)
    absent = {key: one.file_name for key, one in pictures.items() if not (images / one.file_name).is_file()}
    if absent and not finding.allow_missing:
        some = list_some(list(absent.values()), limit=3)
        msg = f"{name}: {len(absent)} images are not in {images}: {some}; add them or use --allow-missing"
        raise InputError(msg)
    left_out += [LeftOut(case_key(file), "no such image") for file in absent.values()]
    found = [_case(images, one, annotations[key]) for key, one in pictures.items() if key not in absent]
    cases = [replace(case, truth_files=(truth,)) for case in found]
    folder = images.resolve()
    own = folder.parent.name if folder.name.lower() == "images" else folder.name
    return Dataset(own, tuple(cases), labels, has_instances=True, left_out=tuple(left_out))


@dataclass(frozen=True, slots=True)
class _Picture:
    file_name: str
    height: int
    width: int


def _without_folders(pictures: Mapping[Any, _Picture], images: Path) -> dict[Any, _Picture]:
    """Return the pictures, those that lie in the folder itself under their names alone, whatever folder they had."""
    counts = Counter(Path(one.file_name).name for one in pictures.values())
    found = {}
    for key, one in pictures.items():
        alone = Path(one.file_name).name
        is_here = counts[alone] == 1 and not (images / one.file_name).is_file() and (images / alone).is_file()
        found[key] = replace(one, file_name=alone) if is_here else one
    return found


@dataclass(frozen=True, slots=True)
class _Annotation:
    name: str
    category: int
    segmentation: Any


def _sort_out(
    entries: Sequence[Mapping[str, Any]], pictures: Mapping[Any, _Picture], name: str
) -> tuple[dict[Any, list[_Annotation]], list[LeftOut]]:
    """Return the usable annotations by image, and the others with the reason."""
    annotations: dict[Any, list[_Annotation]] = {key: [] for key in pictures}
    left_out = []
    for entry in entries:
        one = _Annotation(str(entry["id"]), int(entry["category_id"]), entry.get("segmentation"))
        picture = pictures.get(entry["image_id"])
        if picture is None:
            msg = f"{name}: annotation {one.name} belongs to image {entry['image_id']}, which is not there; add it"
            raise InputError(msg)
        if entry.get("iscrowd"):
            left_out.append(LeftOut(case_key(picture.file_name), "a crowd, not one object", one.name))
        elif not one.segmentation:
            left_out.append(LeftOut(case_key(picture.file_name), "a box without segmentation", one.name))
        else:
            annotations[entry["image_id"]].append(one)
    return annotations, left_out


def _case(images: Path, picture: _Picture, annotations: Sequence[_Annotation]) -> LabelledCase:
    key = case_key(picture.file_name)
    read_truth = partial(_read_truth, tuple(annotations), picture.height, picture.width, key)
    return LabelledCase(key, group_of(key), Source(images / picture.file_name), read_truth)


def _read_truth(annotations: Sequence[_Annotation], height: int, width: int, case: str) -> Truth:
    objects = []
    for one in annotations:
        try:
            mask = decode_segmentation(one.segmentation, height=height, width=width)
        except (ValueError, TypeError, KeyError) as error:
            msg = f"{case}: annotation {one.name} has no valid segmentation ({error}); correct or remove it"
            raise InputError(msg) from error
        objects.append(TrueObject(one.name, one.category, mask))
    return Truth.of_objects(objects, height=height, width=width)


def decode_segmentation(shape: Any, *, height: int, width: int) -> Mask:
    """Return the mask of polygons `[[x, y, x, y, ...], ...]` or of run lengths `{"size": ..., "counts": ...}`.

    Raises:
        ValueError: It is neither, or of another size.
        MissingExtraError: Compressed run lengths need pycocotools.
    """
    if isinstance(shape, list):
        mask = np.zeros((height, width), bool)
        for polygon in shape:
            mask |= fill_polygon(np.asarray(polygon, float).reshape(-1, 2), height=height, width=width)
        return mask
    if list(shape["size"]) != [height, width]:
        msg = f"run lengths of size {shape['size']}, image {[height, width]} (height, width)"
        raise ValueError(msg)
    if isinstance(shape["counts"], list):
        runs = np.asarray(shape["counts"], int)
        if runs.sum() != height * width or (runs < 0).any():
            msg = f"run lengths for {runs.sum()} of {height * width} pixels"
            raise ValueError(msg)
        columns: Mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height)
        return columns.T
    require("pycocotools", "Compressed run lengths", extra="coco")
    from pycocotools import mask as codec

    with warnings.catch_warnings():  # pycocotools asks NumPy 2 for an array in NumPy 1's way
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(codec.decode({"size": [height, width], "counts": shape["counts"]}) > 0)


def fill_polygon(corners: NDArray[np.float64], *, height: int, width: int) -> Mask:
    """Return the pixels whose centre lies inside a polygon (even-odd rule).

    Args:
        corners: `(x, y)` pairs, shape `(N, 2)`; the corner of the first pixel is 0, 0, its centre 0.5, 0.5.
        height: Of the mask.
        width: Of the mask.
    """
    mask = np.zeros((height, width), bool)
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    for row in range(max(0, int(y0.min())), min(height, int(np.ceil(y0.max())))):
        y = row + 0.5
        cut = (y0 <= y) != (y1 <= y)
        crossings = np.sort(x0[cut] + (y - y0[cut]) / (y1[cut] - y0[cut]) * (x1[cut] - x0[cut]))
        edges = np.clip(np.ceil(crossings - 0.5).astype(int), 0, width)
        for start, end in edges.reshape(-1, 2):
            mask[row, start:end] = True
    return mask
