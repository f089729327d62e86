"""Sets of images on the engines' canvas: read, checked, shrunk to 128 x 128."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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


class _Row(NamedTuple):
    """What is kept of one image: its pixels and masks on the canvas, and what was measured at its own size."""

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.uint8]]
    """Packed masks `(L, SIDE, SIDE / 8)` by model: many models of many images are kept at a time."""
    real: NDArray[np.float64]
    """True metrics `(K, L, 6)`, `nan` where undefined or without truth."""
    is_true: NDArray[np.bool_]
    """Which labels the true mask has, shape `(L,)`."""
    present: set[int]
    """Labels of any of the masks."""
    is_shown: bool
    group: str
    diagonal: float


@dataclass(frozen=True)
class Labelled:
    """Images with true masks, `(N, SIDE, SIDE, 3)` and `(N, L, SIDE, SIDE)`."""

    images: Canvas
    masks: NDArray[np.bool_]
    groups: NDArray[np.int64]
    """Shape `(N,)`: as those of `Predicted`."""
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
    groups: list[str] = []
    maps: list[dict[int, NDArray[np.bool_]]] = []
    for case in watch(cases, "reading training images", len(cases)):
        loaded = read_case(case)
        label_map = loaded.masks[TRUTH].pixels
        if not _is_too_empty(case, label_map):
            found.append(shrink_image(loaded.image.pixels))
            groups.append(group_of(case.name))
            maps.append({label: shrink_mask(label_map == label) for label in present_labels(label_map)})
    labels = sorted({label for row in maps for label in row})
    if not labels:
        msg = f"{masks}: no foreground in any training mask; give the masks that belong to {images}"
        raise InputError(msg)
    blank = np.zeros((SIDE, SIDE), dtype=bool)
    stack = np.stack([np.stack([row.get(label, blank) for label in labels]) for row in maps])
    canvas = np.stack(found)
    _check_content(canvas, images)
    return Labelled(canvas, stack, _number_groups(groups), labels)


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
    seen = watch(cases, f"reading {images.parent.name or images.name} images", len(cases))
    rows = [row for case in seen if (row := _read_row(case, labels, list(predictions))) is not None]
    if not rows:
        msg = f"{images}: every slice is constant and shows nothing; give the images that belong to the predictions"
        raise InputError(msg)
    if truth is not None:
        _check_truth(labels, np.any([row.is_true for row in rows], axis=0), images, truth)
    canvas = np.stack([row.image for row in rows])
    _check_content(canvas, images)
    packed = {model: np.stack([row.masks[model] for row in rows]) for model in predictions}
    present = set().union(*(row.present for row in rows))
    _check_predictions(labels, packed, present, images)
    return Predicted(
        canvas,
        packed,
        real=np.array([row.real for row in rows]) if truth is not None else np.empty(0),
        groups=_number_groups([row.group for row in rows]),
        diagonal=max(row.diagonal for row in rows),
        shown=np.array([row.is_shown for row in rows]),
        other_labels=sorted(present - set(labels)),
    )


def _check_truth(labels: Sequence[int], is_there: NDArray[np.bool_], images: Path, truth: Path) -> None:
    if not is_there.any():
        msg = f"{images}: no slice has {MIN_SLICE_PIXELS} labelled pixels; give the masks that belong to these images"
        raise InputError(msg)
    lacking = [str(label) for label, found in zip(labels, is_there, strict=True) if not found]
    if lacking:
        msg = f"{truth}: no test mask has label {list_some(lacking)}, which the training masks have; add cases with it"
        raise InputError(msg)


def _check_predictions(
    labels: Sequence[int], packed: Mapping[str, NDArray[np.uint8]], present: set[int], images: Path
) -> None:
    for position, label in enumerate(labels):
        if not any(masks[:, position].any() for masks in packed.values()):
            fact = f"labels {', '.join(map(str, labels))} were expected, the masks have {sorted(present) or 'none'}"
            msg = f"label {label}: no foreground in any prediction for {images}, so nothing can be estimated; {fact}"
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


def _read_row(case: Case, labels: Sequence[int], models: Sequence[str]) -> _Row | None:
    """Return what is kept of a case; `None` of a slice that is constant."""
    loaded = read_case(case)
    image = shrink_image(loaded.image.pixels)
    is_slice = case.image.slice_index is not None
    if is_slice and np.ptp(image) == 0:
        return None
    maps = {model: picture.pixels.astype(np.int32) for model, picture in loaded.masks.items()}
    masks = {model: np.packbits([shrink_mask(maps[model] == label) for label in labels], axis=-1) for model in models}
    real, is_true = np.full((len(models), len(labels), len(SPE_METRICS)), np.nan), np.zeros(len(labels), dtype=bool)
    truth = maps.get(TRUTH)
    if truth is not None and not _is_too_empty(case, truth):
        real[:] = [measure_row(maps[model], truth, labels) for model in models]
        is_true[:] = [(truth == label).any() for label in labels]
    present = set().union(*(present_labels(label_map) for label_map in maps.values()))
    diagonal = metrics.image_diagonal(loaded.image.pixels.shape[:2])
    return _Row(image, masks, real, is_true, present, not is_slice or bool(present), group_of(case.name), diagonal)


def _number_groups(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1]


def _is_too_empty(case: Case, label_map: NDArray[np.generic]) -> bool:
    return case.image.slice_index is not None and int(np.count_nonzero(label_map)) < MIN_SLICE_PIXELS


def _check_content(canvas: Canvas, source: Path) -> None:
    constant = int((np.ptp(canvas.reshape(len(canvas), -1), axis=1) == 0).sum())
    if constant:
        msg = f"{source}: {constant} of {len(canvas)} images are constant and show nothing; remove or replace them"
        raise InputError(msg)
