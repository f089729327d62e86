"""Which objects of a reference are taken, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segqa.data.boxes import Box
from segqa.data.layouts.dataset import TrueObject, Truth
from segqa.data.objects import share_components
from segqa.data.types import LabelMap, Mask

LEAST_PART = 0.1
"""Connected parts smaller than this share of the label's largest are no objects of their own."""


@dataclass(frozen=True, slots=True)
class Target:
    """One object that masks are proposed for."""

    name: str
    value: int
    """Class, as predicted label maps have it."""
    truth: Mask
    box: Box
    peers: Sequence[Box] = ()
    """Boxes of all objects that share the class, its own among them; none where the class is the object."""

    @property
    def label(self) -> str:
        """Return the class as text."""
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not made, and why; empty fields mean all of it."""

    case: str
    group: str
    reason: str
    object: str = ""
    label: str = ""
    source: str = ""
    prompt: str = ""


def choose_targets(
    truth: Truth, *, min_side: int, max_objects: int, components: bool, rng: np.random.Generator
) -> tuple[list[Target], dict[str, str]]:
    """Return the objects to take, and the reason by name of those left out.

    Args:
        truth: The reference of one image.
        min_side: Least extent of an object's box in either direction, in pixels.
        max_objects: How many are taken at most, drawn at random.
        components: Also take the large connected parts of a label as objects of their own.
        rng: Draws when there are more.
    """
    targets: list[Target] = []
    reasons: dict[str, str] = {}
    known = _known_objects(truth.objects) if truth.objects else _label_objects(truth, components=components)
    for found, peers in known:
        box = Box.from_mask(found.mask)
        if box is None:
            reasons[found.name] = "empty in the reference"
        elif min(box.width, box.height) < min_side:
            reasons[found.name] = f"too small: {box.width} x {box.height} px, at least {min_side} are needed"
        else:
            targets.append(Target(found.name, found.value, found.mask, box, peers))
    if len(targets) > max_objects:
        chosen = np.sort(rng.choice(len(targets), size=max_objects, replace=False))
        taken = {int(index) for index in chosen}
        drawn = f"not drawn: {max_objects} of {len(targets)} objects are taken"
        reasons |= {target.name: drawn for index, target in enumerate(targets) if index not in taken}
        targets = [targets[index] for index in sorted(taken)]
    return targets, reasons


def _known_objects(objects: Sequence[TrueObject]) -> Iterator[tuple[TrueObject, Sequence[Box]]]:
    """Yield objects that are known one by one, each with the boxes of all of its class."""
    boxes: dict[int, list[Box]] = {}
    for found in objects:
        box = Box.from_mask(found.mask)
        if box is not None:
            boxes.setdefault(found.value, []).append(box)
    yield from ((found, boxes.get(found.value, ())) for found in objects)


def _label_objects(truth: Truth, *, components: bool) -> Iterator[tuple[TrueObject, Sequence[Box]]]:
    """Yield each label and, if asked for, its large parts, with the boxes of all: small ones belong to no large one."""
    for label in np.unique(truth.labels[truth.labels > 0]):
        value = int(label)
        mask = truth.labels == value
        yield TrueObject(str(value), value, mask), ()
        if components:
            parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
            areas = np.bincount(parts.ravel())[1:]
            large = (np.flatnonzero(areas >= LEAST_PART * areas.max()) + 1).tolist()
            if len(large) > 1:
                boxes = [Box(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(parts)]
                yield from ((TrueObject(f"{value}.{part}", value, parts == part), boxes) for part in large)


def predicted_masks(prediction: LabelMap, targets: Sequence[Target]) -> Iterator[Mask]:
    """Yield the mask that a predicted label map has of each target, as `segqa score` finds it with boxes.

    Objects that share a class share its components (`share_components`); else the class is the mask.

    Args:
        prediction: Shape `(H, W)`, classes as the targets have them.
        targets: Objects of one image.
    """
    owners = np.full(prediction.shape, -1, np.int32)  # one image is enough for all classes: no two share a pixel
    shared: set[int] = set()
    for target in targets:
        mask = prediction == target.value
        if target.peers:
            if target.value not in shared:
                owners[mask] = share_components(mask, target.peers)[mask]
                shared.add(target.value)
            mask &= owners == target.peers.index(target.box)
        yield mask
