"""Boxes as values with one convention, and the files they come from."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segqa.data.files import list_some, read_json, show_name, write_whole
from segqa.data.formats import split_name
from segqa.data.types import PromptBox
from segqa.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MOST_OUTSIDE = 0.1
"""Share of a box's area that may lie outside of the image; it is clipped. More is an error."""

_FORMATS = ("xyxy", "xywh")


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

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> Box:
        """Return the tight box of a mask of shape `(H, W)`; the whole frame when it is empty."""
        height, width = mask.shape
        return cls.from_mask(mask) or cls(0, 0, width, height)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the rows and columns of the box: `image[box.slices]`; it must lie inside."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

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
        return Box(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1))

    def union(self, other: Box) -> Box:
        """Return the smallest box around both."""
        return Box(min(self.x0, other.x0), min(self.y0, other.y0), max(self.x1, other.x1), max(self.y1, other.y1))

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


def read_boxes(path: Path) -> dict[str, tuple[PromptBox, ...]]:
    """Read the prompt boxes of each case.

    Three forms are told apart by their keys: segqa's own (`{"format": "xyxy" or "xywh", "boxes": {case:
    [[12, 30, 88, 120], {"box": [5, 5, 60, 71], "label": "liver"}]}}`), a plain `{case: [[...]]}` in xyxy, and
    COCO's instances (xywh). There the label is the category's id, as in label maps made of such files, unless
    the category's name is a number itself; a sole category tells no objects apart, so it is no label. Cases are
    stems; an ending is taken off. Coordinates are pixels of the image as its masks have it, half-open, and are
    rounded.

    Returns:
        Boxes by case, in the order of the file.

    Raises:
        InputError: No JSON of these forms, a key twice, or a box that is not four numbers, is empty, inverted,
            normalised to 0..1 or of the background; names case and index.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        msg = f"{show_name(path)}: a JSON {type(content).__name__} where an object of case: boxes was expected"
        raise InputError(msg)
    if "annotations" in content and "images" in content:
        return _from_coco(content, path)
    layout = "xyxy"
    if isinstance(content.get("boxes"), dict):
        others = sorted(set(content) - {"boxes", "format"})
        if others:
            fact = f"unknown keys {list_some([repr(key) for key in others])} beside 'boxes'"
            msg = f"{show_name(path)}: {fact}; only 'format' may stand there"
            raise InputError(msg)
        layout = content.get("format", "xyxy")
        content = content["boxes"]
    if layout not in _FORMATS:
        msg = f"{show_name(path)}: box format {layout!r} where one of {', '.join(_FORMATS)} was expected"
        raise InputError(msg)
    boxes: dict[str, tuple[PromptBox, ...]] = {}
    for case, entries in content.items():
        key = case_key(case)
        if key in boxes:
            msg = f"{show_name(path)}: case {key!r} twice; join its boxes into one list"
            raise InputError(msg)
        boxes[key] = _parse_case(entries, layout, f"{show_name(path)}: case {case!r}")
    return boxes


def write_boxes(path: Path, boxes: Mapping[str, Sequence[PromptBox]]) -> None:
    """Write boxes in segqa's own form (xyxy), whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    content = {case: [_to_json(prompt) for prompt in prompts] for case, prompts in boxes.items()}
    text = json.dumps({"format": "xyxy", "boxes": content}, ensure_ascii=False, indent=1)
    write_whole(path, lambda file: file.write(text.encode()))


def place_box(box: Box, height: int, width: int, *, name: str = "box") -> tuple[Box, list[str]]:
    """Return the part of a box inside an image of that size, with the remark `box-clipped` if it was cut.

    Raises:
        InputError: It has no area, or more than 10 % of it lies outside; `name` says which box.
    """
    if not box.area:
        msg = f"{name}: ({box.x0}, {box.y0}, {box.x1}, {box.y1}) has no area; corners are x0, y0, x1, y1"
        raise InputError(msg)
    inside = box.clip(height, width)
    if inside == box:
        return box, []
    outside = 1 - inside.area / box.area
    corners = f"({box.x0}, {box.y0}, {box.x1}, {box.y1})"
    if outside > MOST_OUTSIDE:
        fact = f"{100 * outside:.0f} % of {corners} is outside of the image ({width} wide, {height} high)"
        msg = f"{name}: {fact}; correct the boxes file (is it xywh, (y, x) or of another image?)"
        raise InputError(msg)
    return inside, [f"box-clipped: {corners} reaches over the image"]


def case_key(name: str) -> str:
    """Return the key that pairs files and boxes: NFC, without a known ending."""
    return split_name(unicodedata.normalize("NFC", name))[0]


def asked_labels(labels: Collection[int] | None, boxes: Collection[PromptBox]) -> set[int]:
    """Return the labels that a call or the boxes of a case ask for."""
    numbers = {label_number(box.label) for box in boxes if box.label is not None}
    return {*(labels or ()), *(number for number in numbers if number is not None)}


def label_number(label: str) -> int | None:
    """Return the number that a label is; `None` for a word."""
    text = label.strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _from_coco(content: dict[str, Any], path: Path) -> dict[str, tuple[PromptBox, ...]]:
    name = show_name(path)
    try:
        cases = {image["id"]: case_key(image["file_name"]) for image in content["images"]}
        names = {entry["id"]: str(entry["name"]) for entry in content.get("categories", ())}
        several = len({*names, *(entry.get("category_id") for entry in content["annotations"])} - {None}) > 1
        boxes: dict[str, list[PromptBox]] = {case: [] for case in cases.values()}
        for index, entry in enumerate(content["annotations"]):
            where = f"{name}: annotation {index}"
            image, category = entry["image_id"], entry.get("category_id")
            if image not in cases:
                msg = f"{where}: image {image!r} is not among the images of the file; add it, or leave the box out"
                raise InputError(msg)
            own = names.get(category)
            number = category if several else None
            label = number if own is None or label_number(own) is None else own
            prompt = _parse_entry({"box": entry["bbox"], "label": label}, "xywh", where)
            boxes[cases[image]].append(replace(prompt, name=own))
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{name}: a COCO file without a valid {error}; images need id and file_name, annotations bbox"
        raise InputError(msg) from error
    if len(boxes) < len(cases):
        twice = sorted({case for case in cases.values() if list(cases.values()).count(case) > 1})
        msg = f"{name}: images of the same name: {list_some(twice)}; give them different names"
        raise InputError(msg)
    return {case: tuple(found) for case, found in boxes.items()}


def _parse_case(entries: Any, layout: str, name: str) -> tuple[PromptBox, ...]:
    if not isinstance(entries, list):
        msg = f"{name}: {str(entries)[:60]!r} where a list of boxes was expected"
        raise InputError(msg)
    return tuple(_parse_entry(entry, layout, f"{name}, box {index}") for index, entry in enumerate(entries))


def _parse_entry(entry: Any, layout: str, name: str) -> PromptBox:
    if not isinstance(entry, dict):
        return PromptBox(_parse_box(entry, layout, name))
    others = sorted(set(entry) - {"box", "label"})
    if others:
        msg = f"{name}: unknown keys {list_some([repr(key) for key in others])}; a box has 'box' and perhaps 'label'"
        raise InputError(msg)
    label = None if entry.get("label") is None else str(entry["label"])
    if label is not None and label_number(label) == 0:
        msg = f"{name}: label 0 is the background; labels are the values of the mask above 0"
        raise InputError(msg)
    return PromptBox(_parse_box(entry.get("box"), layout, name), label)


def _parse_box(values: Any, layout: str, name: str) -> Box:
    is_four = isinstance(values, list) and len(values) == 4
    if not is_four or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        msg = f"{name}: {str(values)[:60]} where four numbers were expected"
        raise InputError(msg)
    if not all(math.isfinite(v) and abs(v) < 2**31 for v in values):
        fact = "is beyond any image" if all(math.isfinite(v) for v in values) else "is not finite"
        msg = f"{name}: {values} {fact}; give pixels"
        raise InputError(msg)
    if all(0 <= v <= 1 for v in values) and any(isinstance(v, float) for v in values):
        msg = f"{name}: {values} looks normalised to 0..1; give pixels"
        raise InputError(msg)
    box = Box.from_xywh(*values) if layout == "xywh" else Box(*map(round, values))
    if box.width <= 0 or box.height <= 0:
        hint = 'is it xywh? Then set "format": "xywh"' if layout == "xyxy" else "width and height must be above 0"
        msg = f"{name}: {values} has no area ({layout}); {hint}"
        raise InputError(msg)
    return box


def _to_json(prompt: PromptBox) -> list[int] | dict[str, Any]:
    corners = [prompt.box.x0, prompt.box.y0, prompt.box.x1, prompt.box.y1]
    return corners if prompt.label is None else {"box": corners, "label": prompt.label}
