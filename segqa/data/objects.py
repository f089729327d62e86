"""Objects of a label map, matched with the boxes that prompted them.

Nothing is dropped: a label without a box is an object, and so is a box, or a requested label, that the
segmentation model missed; its mask is empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from segqa.data.boxes import Box, label_number
from segqa.data.types import LabelMap, Mask, ObjectMask, PromptBox
from segqa.errors import InputError

Splitting = Literal["labels", "components"]
"""What is an object: a whole label, or each of its 8-connected components."""

UNKNOWN_LABEL = "unknown"
"""Label of an object that only an unlabelled box tells of, among several labels."""

_EIGHT_CONNECTED = np.ones((3, 3), bool)
_LITTLE_OVERLAP = 0.1

_Region = tuple[Mask, Box | None]


@dataclass(frozen=True, slots=True)
class _Matched:
    """What became of the unlabelled boxes."""

    regions: dict[int, list[_Region]]
    """Regions of each label, with their boxes."""
    missed: list[Box]
    """Boxes without a region."""


def find_objects(
    label_map: LabelMap,
    *,
    boxes: tuple[PromptBox, ...] = (),
    labels: Sequence[int] | None = None,
    objects: Splitting = "labels",
    label_names: Mapping[int, str] | None = None,
) -> Iterator[ObjectMask]:
    """Yield the objects of a label map, each with its mask and its box, one at a time: there may be thousands.

    A box with a label (a number, or a name of `label_names`) belongs to that label; any other box counts as
    unlabelled. Within one label the boxes are the objects: each component of the label goes to the box that
    holds most of its pixels, or to the nearest by centre when none holds any. Unlabelled boxes among several
    labels are assigned one to one by the largest sum of IoU with the objects' own boxes; a box and a missed
    label that are left over alone belong together.

    Args:
        label_map: Labels, shape `(H, W)`.
        boxes: Prompt boxes of the case.
        labels: The labels to look at, in this order; all that occur when `None`. One that does not occur
            gives an object with an empty mask. Boxes of other labels are left out with them.
        objects: Whether a label without boxes is one object or one for each component.
        label_names: Names by label, shown in place of the numbers.

    Yields:
        Objects in order of label, then of box or of component (from the top left); boxes without an object
        come last. They are numbered within their label, so that a label that one model missed does not shift the
        numbers of the others. An empty mask without boxes gives one empty object.
    """
    names = dict(label_names or {})
    meant = [_meant_label(box, names) for box in boxes]
    chosen = _choose_labels(label_map, labels, meant)
    without = [label for label in chosen if label not in meant]
    sole = (chosen if len(chosen) == 1 else without)[:1] if len(without) <= 1 else []
    free = [box.box for box, label in zip(boxes, meant, strict=True) if label is None]
    matched = _match_free(label_map, without, free, objects) if free and not sole else _Matched({}, [])
    count: Counter[str] = Counter()
    for label in chosen:
        name = names.get(label, str(label))
        own = [
            box.box for box, its in zip(boxes, meant, strict=True) if its == label or (its is None and sole == [label])
        ]
        for mask, box in matched.regions.get(label) or _share_label(label_map == label, own, objects):
            count[name] += 1
            yield ObjectMask(str(count[name]), name, mask, box)
    for number, box in enumerate(matched.missed, start=count[UNKNOWN_LABEL] + 1):
        yield ObjectMask(str(number), UNKNOWN_LABEL, np.zeros(label_map.shape, bool), box)


def object_remarks(found: ObjectMask) -> list[str]:
    """Return what is odd about an object and its box: `mask-outside-box`, `is-this-xywh`.

    The second is said when they overlap by an IoU under 0.1 and would overlap more if the four numbers of the
    box were read as corner and size.
    """
    own = Box.from_mask(found.mask)
    if own is None or found.box is None:
        return []
    box = found.box
    remarks = []
    if not found.mask[max(box.y0, 0) : max(box.y1, 0), max(box.x0, 0) : max(box.x1, 0)].any():
        remarks.append("mask-outside-box")
    overlap = box.iou(own)
    if overlap < _LITTLE_OVERLAP and Box.from_xywh(box.x0, box.y0, box.x1, box.y1).iou(own) > overlap:
        remarks.append("is-this-xywh")
    return remarks


def _meant_label(prompt: PromptBox, names: Mapping[int, str]) -> int | None:
    """Return the number of a box's label; `None` without one, or with a name that nothing explains."""
    if prompt.label is None:
        return None
    for number, name in names.items():
        if name == prompt.label:
            return number
    return label_number(prompt.label)


def present_labels(label_map: LabelMap) -> set[int]:
    """Return the labels above 0; counting beats sorting by far where labels are small numbers."""
    if label_map.size and label_map.min() >= 0 and label_map.max() < label_map.size:
        return set(np.flatnonzero(np.bincount(label_map.ravel())).tolist()) - {0}
    return set(np.unique(label_map).tolist()) - {0}


def _choose_labels(label_map: LabelMap, labels: Sequence[int] | None, meant: Sequence[int | None]) -> list[int]:
    if labels is not None:
        if 0 in labels:
            msg = "label 0 is the background; choose among the labels above it"
            raise InputError(msg)
        return list(dict.fromkeys(labels))
    present = present_labels(label_map) | {label for label in meant if label is not None}
    return sorted(present - {0}) or [1]


def _match_free(label_map: LabelMap, labels: Sequence[int], boxes: Sequence[Box], objects: Splitting) -> _Matched:
    """Assign unlabelled boxes one to one to the regions of several labels, by the largest sum of IoU."""
    regions = [(label, mask) for label in labels for mask, _ in _share_label(label_map == label, [], objects)]
    own = [Box.from_mask(mask) for _, mask in regions]
    overlap = np.array([[box.iou(other) if other else 0.0 for other in own] for box in boxes])
    pairs: dict[int, int] = {}
    if overlap.size:
        rows, columns = linear_sum_assignment(overlap, maximize=True)
        pairs = {int(c): int(r) for r, c in zip(rows, columns, strict=True) if overlap[r, c] > 0}
    missed = [index for index in range(len(boxes)) if index not in pairs.values()]
    absent = [index for index, other in enumerate(own) if other is None]
    if len(missed) == len(absent) == 1:
        pairs[absent[0]] = missed.pop()
    found: dict[int, list[_Region]] = {}
    for index, (label, mask) in enumerate(regions):
        box = boxes[pairs[index]] if index in pairs else None
        found.setdefault(label, []).append((mask, box))
    return _Matched(found, [boxes[index] for index in missed])


def _share_label(mask: Mask, boxes: Sequence[Box], objects: Splitting) -> Iterator[_Region]:
    """Yield the objects of one label: its boxes with their components, or itself, whole or split."""
    if len(boxes) == 1 or (not boxes and objects == "labels"):
        yield mask, boxes[0] if boxes else None
        return
    if boxes:
        owned = share_components(mask, boxes)
        yield from ((owned == index, box) for index, box in enumerate(boxes))
        return
    components, count = ndimage.label(mask, _EIGHT_CONNECTED)
    yield from ((components == number, None) for number in range(1, count + 1))
    if not count:
        yield mask, None


def share_components(mask: Mask, boxes: Sequence[Box]) -> NDArray[np.int32]:
    """Return the index of the box that each pixel of a mask belongs to; -1 off the mask.

    An 8-connected component goes whole to the box that holds most of its pixels (of equals to the smallest, then to
    the first), or to the nearest by centre when none holds any.

    Args:
        mask: Shape `(H, W)`, as is the result; it may be empty.
        boxes: At least one.
    """
    components, count = ndimage.label(mask, _EIGHT_CONNECTED)
    owners = np.full(count + 1, -1, np.int32)
    most = np.zeros(count + 1, np.int64)
    order = sorted(range(len(boxes)), key=lambda index: boxes[index].area)
    for index in order:  # no table of boxes and components: there may be thousands of both
        box = boxes[index].clip(*mask.shape)
        inside = components[box.y0 : max(box.y1, box.y0), box.x0 : max(box.x1, box.x0)]
        held = np.bincount(inside.ravel(), minlength=count + 1)
        held[0] = 0
        is_more = held > most
        owners[is_more], most[is_more] = index, held[is_more]
    outside = np.flatnonzero(most[1:] == 0) + 1
    if outside.size:
        owners[outside] = _nearest(np.array(ndimage.center_of_mass(mask, components, outside)), boxes, order)
    return np.asarray(owners[components])


def _nearest(points: NDArray[np.float64], boxes: Sequence[Box], order: Sequence[int]) -> NDArray[np.int32]:
    """Return the index of the box whose centre is nearest to each point `(y, x)`, of equals the first in order."""
    found = np.zeros(len(points), np.int32)
    least = np.full(len(points), np.inf)
    for index in order:
        box = boxes[index]
        distance = ((points - ((box.y0 + box.y1 - 1) / 2, (box.x0 + box.x1 - 1) / 2)) ** 2).sum(axis=1)
        is_nearer = distance < least
        found[is_nearer], least[is_nearer] = index, distance[is_nearer]
    return found
