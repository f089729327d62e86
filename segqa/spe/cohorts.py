"""Sets of images on the engines' canvas: read, checked, shrunk to 128 x 128."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segqa import metrics
from segqa.data.cases import find_cases, read_case
from segqa.data.files import list_some
from segqa.data.groups import group_of
from segqa.data.objects import present_labels
from segqa.data.types import Case
from segqa.errors import InputError
from segqa.spe.engines import SIDE, Canvas
from segqa.spe.mapping import SPE_METRICS

TRUTH = "truth"
REMEDY = "remove these files, or add their partners"
MIN_SLICE_PIXELS = 20
"""Slices of a volume with fewer labelled pixels teach and measure nothing (Wu et al. 2025, section 3.1)."""

Watch = Callable[[Iterable[Case], str, int], Iterable[Case]]
"""Passes cases on and shows how far it is: `(cases, description, total)`."""


class Shrunk(NamedTuple):
    """One image and its masks on the canvas, with the label maps at their own size."""

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.uint8]]
    """Packed masks `(L, SIDE, SIDE / 8)` by model: many models of many images are kept at a time."""
    label_maps: dict[str, NDArray[np.int32]]


@dataclass(frozen=True)
class Labelled:
    """Images with true masks, `(N, SIDE, SIDE, 3)` and `(N, L, SIDE, SIDE)`."""

    images: Canvas
    masks: NDArray[np.bool_]
    labels: list[int]


@dataclass(frozen=True)
class Predicted:
    """Images with the predictions of `K` models."""

    images: Canvas
    masks: dict[str, NDArray[np.uint8]]
    """Packed predictions `(N, L, SIDE, SIDE / 8)` by model."""
    real: NDArray[np.float64]
    """True metrics `(N, K, L, 6)` at the images' own size, `nan` where undefined; no rows without truth."""
    groups: NDArray[np.int64]
    """Shape `(N,)`: number of the patient or volume, or of the image itself; images of one group are alike."""
    diagonal: float
    """Largest diagonal of an image, in its pixels."""
    shown: NDArray[np.bool_]
    """Shape `(N,)`: all but the slices of volumes without foreground in any mask; training images are like these."""
    other_labels: list[int]
    """Labels that occur in the masks and are not looked at."""

    def mask_of(self, model: str, label: int) -> NDArray[np.bool_]:
        """Return one model's masks for the label at that position, `(N, SIDE, SIDE)`."""
        return np.unpackbits(self.masks[model][:, label], axis=-1).astype(bool)


def read_training(images: Path, masks: Path, *, watch: Watch) -> Labelled:
    """Read the training images with their true masks; labels are the values that occur in them.

    Raises:
        InputError: Unpaired or unreadable files, sizes that differ, no foreground, constant images.
    """
    cases = find_cases(images, {TRUTH: masks}, remedy=REMEDY)
    found: list[NDArray[np.uint8]] = []
    maps: list[dict[int, NDArray[np.bool_]]] = []
    for case in watch(cases, "reading training images", len(cases)):
        loaded = read_case(case)
        label_map = loaded.masks[TRUTH].pixels
        if not _is_too_empty(case, label_map):
            found.append(shrink_image(loaded.image.pixels))
            maps.append({label: shrink_mask(label_map == label) for label in present_labels(label_map)})
    labels = sorted({label for row in maps for label in row})
    if not labels:
        msg = f"{masks}: no foreground in any training mask; give the masks that belong to {images}"
        raise InputError(msg)
    blank = np.zeros((SIDE, SIDE), dtype=bool)
    stack = np.stack([np.stack([row.get(label, blank) for label in labels]) for row in maps])
    canvas = np.stack(found)
    _check_content(canvas, images)
    return Labelled(canvas, stack, labels)


def read_predicted(
    images: Path, predictions: dict[str, Path], *, labels: Sequence[int], truth: Path | None, watch: Watch
) -> Predicted:
    """Read images with the predictions of several models, and measure those when there is truth.

    Every slice of a volume is an image, with or without predicted foreground: a model must not look better for the
    slices in which it missed the object. Constant slices, as at the ends of a padded volume, show nothing.

    Args:
        images: Folder of images.
        predictions: Folder of masks by model.
        labels: Values to look at.
        truth: Folder of true masks.
        watch: Shows progress.

    Raises:
        InputError: Files that cannot be paired or read, constant images, labels without foreground.
    """
    masks = predictions if truth is None else {TRUTH: truth, **predictions}
    cases = find_cases(images, masks, remedy=REMEDY, every_slice=True)
    rows: list[Shrunk] = []
    real: list[NDArray[np.float64]] = []
    shown: list[bool] = []
    groups: list[str] = []
    diagonal = 0.0
    present: set[int] = set()
    seen = np.zeros(len(labels), dtype=bool)
    for case in watch(cases, f"reading {images.parent.name or images.name} images", len(cases)):
        row = _read_row(case, labels)
        is_slice = case.image.slice_index is not None
        if is_slice and np.ptp(row.image) == 0:
            continue
        found = set().union(*(present_labels(label_map) for label_map in row.label_maps.values()))
        shown.append(not is_slice or bool(found))
        groups.append(group_of(case.name))
        diagonal = max(diagonal, *(metrics.image_diagonal(each.shape) for each in row.label_maps.values()))
        present |= found
        if truth is not None:
            true_map = row.label_maps[TRUTH]
            measured = np.full((len(predictions), len(labels), len(SPE_METRICS)), np.nan)
            if not _is_too_empty(case, true_map):
                seen |= [bool((true_map == label).any()) for label in labels]
                measured[:] = [measure_row(row.label_maps[model], true_map, labels) for model in predictions]
            real.append(measured)
        rows.append(row._replace(label_maps={}))
    if not rows:
        msg = f"{images}: every slice is constant and shows nothing; give the images that belong to the predictions"
        raise InputError(msg)
    if truth is not None and not seen.any():
        msg = f"{images}: no slice has {MIN_SLICE_PIXELS} labelled pixels; give the masks that belong to these images"
        raise InputError(msg)
    _check_labels(labels, seen, truth)
    canvas = np.stack([row.image for row in rows])
    _check_content(canvas, images)
    packed = {model: np.stack([row.masks[model] for row in rows]) for model in predictions}
    for position, label in enumerate(labels):
        if not any(masks[:, position].any() for masks in packed.values()):
            fact = f"labels {', '.join(map(str, labels))} were expected, the masks have {sorted(present) or 'none'}"
            msg = f"label {label}: no foreground in any prediction for {images}, so nothing can be estimated; {fact}"
            raise InputError(msg)
    numbers = np.unique(groups, return_inverse=True)[1]
    others = sorted(present - set(labels))
    return Predicted(canvas, packed, np.array(real), numbers, diagonal, np.array(shown), others)


def _check_labels(labels: Sequence[int], seen: NDArray[np.bool_], truth: Path | None) -> None:
    lacking = [str(label) for label, is_there in zip(labels, seen, strict=True) if truth and not is_there]
    if lacking:
        msg = f"{truth}: no test mask has label {list_some(lacking)}, which the training masks have; add cases with it"
        raise InputError(msg)


def measure_row(predicted: NDArray[np.int32], truth: NDArray[np.int32], labels: Sequence[int]) -> NDArray[np.float64]:
    """Return the six metrics of each label of one image at its own size, shape `(L, 6)`."""
    values = np.empty((len(labels), len(SPE_METRICS)))
    for position, label in enumerate(labels):
        found = metrics.all_metrics(predicted == label, truth == label)
        values[position] = [metrics.finite_distance(found[name], truth.shape) for name in SPE_METRICS]
    return values


def shrink_image(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return an RGB image `(H, W, 3)` on the canvas."""
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def shrink_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask `(H, W)` on the canvas: foreground is what is at least half covered."""
    image = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)) >= 128


def _read_row(case: Case, labels: Sequence[int]) -> Shrunk:
    loaded = read_case(case)
    maps = {model: picture.pixels.astype(np.int32) for model, picture in loaded.masks.items()}
    masks = {
        model: np.packbits([shrink_mask(each == label) for label in labels], axis=-1)
        for model, each in maps.items()
        if model != TRUTH
    }
    return Shrunk(shrink_image(loaded.image.pixels), masks, maps)


def _is_too_empty(case: Case, label_map: NDArray[np.generic]) -> bool:
    return case.image.slice_index is not None and int(np.count_nonzero(label_map)) < MIN_SLICE_PIXELS


def _check_content(canvas: Canvas, source: Path) -> None:
    constant = int((np.ptp(canvas.reshape(len(canvas), -1), axis=1) == 0).sum())
    if constant:
        msg = f"{source}: {constant} of {len(canvas)} images are constant and show nothing; remove or replace them"
        raise InputError(msg)
