"""True metrics of predicted masks, object by object, where reference masks are at hand.

The objects of a prediction are those that `segqa score` scores, with the same numbers, so that both tables join.
The reference is cut into objects by the same rule (`data.objects.find_objects`), and its objects are given to
those of the prediction in this order:

1. the same label and the same prompt box; a box without a label takes any;
2. within a label, one to one by the largest sum of IoU. A whole label always has its partner; components have
   one only if they overlap.

What the prediction lacks follows as further rows, with Dice 0 and the next numbers; what the reference lacks
has Dice 0 too. Where both are empty nothing is defined: the row says so and has no metrics.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from segqa.data.boxes import asked_labels
from segqa.data.cases import Cases, check_same_size, find_cases, slice_ranges
from segqa.data.files import list_some
from segqa.data.grids import compare_affines
from segqa.data.masks import read_mask
from segqa.data.objects import UNKNOWN_LABEL, find_objects
from segqa.data.pairing import pair_files
from segqa.metrics import OVERLAP_METRICS, all_metrics, finite_distance
from segqa.schema import STATUS_OK, STATUS_WARNING, TRUTH_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from segqa.data.boxes import Box
    from segqa.data.objects import Splitting
    from segqa.data.types import Case, LabelMap, Mask, ObjectMask, PromptBox

TRUTH = "\0truth"
"""Name of the reference among the masks of a case; no folder can have it."""

UNDEFINED = "nothing predicted, nothing there: no metric is defined"
MISSED = "nothing predicted where the reference has an object"
INVENTED = "the reference has no object there"


def find_evaluated(
    pred: Path | Mapping[str, Path],
    truth: Path,
    *,
    boxes: Mapping[str, tuple[PromptBox, ...]] | None = None,
    labels: Sequence[int] | None = None,
    allow_missing: bool = False,
    axis: int = -1,
) -> Cases:
    """Pair predicted with reference masks as `find_cases` pairs masks with images.

    The reference also stands among the masks of each case (as `TRUTH`), so that a slice of a volume in which
    only the reference has foreground is a case: what was missed counts.

    Args:
        pred: Predicted masks, as `find_cases` takes them.
        truth: Reference masks.
        boxes: Prompt boxes by case.
        labels: The labels to look at; all when `None`.
        allow_missing: Leave out files without partner.
        axis: Slicing axis of volumes.

    Raises:
        InputError: As `find_cases`.
    """
    if isinstance(pred, Path):
        models = {model: pred / model for model in pair_files(truth, pred).masks}
        pred = {model: path if path.is_dir() else pred for model, path in models.items()}
    masks = {**pred, TRUTH: truth}
    return find_cases(truth, masks, boxes=boxes, labels=labels, allow_missing=allow_missing, axis=axis)


def lonely_remark(found: Cases) -> list[str]:
    """Return a line on files without partner that were left out, if there are any."""
    some = list_some([str(one) for one in found.skipped], limit=3)
    return [f"{len(found.skipped)} files without partner are left out: {some}"] if found.skipped else []


def evaluate_cases(
    cases: Iterable[Case], *, labels: Sequence[int] | None = None, objects: Splitting = "labels"
) -> pl.DataFrame:
    """Return one row of true metrics per case, object and model (`schema.TRUTH_SCHEMA`).

    Args:
        cases: What `find_evaluated` found.
        labels: The labels to look at; all when `None`.
        objects: What is an object where there are no boxes, as for `segqa score`.

    Raises:
        InputError: A mask cannot be read, or differs in size from its reference.
    """
    rows = [row for case in cases for row in _evaluate_case(case, labels, objects)]
    return pl.DataFrame(rows, schema=TRUTH_SCHEMA)


def evaluate_masks(
    pred: LabelMap,
    truth: LabelMap,
    *,
    boxes: tuple[PromptBox, ...] = (),
    labels: Sequence[int] | None = None,
    objects: Splitting = "labels",
    spacing: tuple[float, float] | None = None,
) -> list[dict[str, object]]:
    """Return object, label and true metrics of one predicted label map against its reference.

    Args:
        pred: Predicted labels, int32 of shape `(H, W)`.
        truth: Reference labels, same shape.
        boxes: Prompt boxes of the case.
        labels: The labels to look at; all when `None`.
        objects: What is an object where there are no boxes.
        spacing: Height and width of a pixel in mm, where the file tells.

    Returns:
        Rows of the predicted objects in their order, then of the missed ones. Distances are in pixels and, given the
        spacing, in mm; the image diagonal stands for infinity.
    """
    ours, theirs = (
        _Objects(find_objects(each, boxes=boxes, labels=labels, objects=objects), each.shape) for each in (pred, truth)
    )
    partner = _match(ours, theirs, objects)
    empty = np.zeros(pred.shape, bool)
    rows = []
    for index, found in enumerate(ours.all):
        reference = theirs.mask(partner[index]) if index in partner else empty
        rows.append(_row(found.object, found.label, ours.mask(index), reference, spacing))
    taken = set(partner.values())
    count = Counter(found.label for found in ours.all)
    for index, one in enumerate(theirs.all):
        if index not in taken and one.area:
            count[one.label] += 1
            rows.append(_row(str(count[one.label]), one.label, empty, theirs.mask(index), spacing))
    return rows


def _evaluate_case(case: Case, labels: Sequence[int] | None, objects: Splitting) -> Iterator[dict[str, object]]:
    wanted = asked_labels(labels, case.boxes)
    reference = read_mask(case.image, labels=wanted)
    truth = reference.pixels.astype(np.int32, copy=False)
    for model, source in case.masks.items():
        if model == TRUTH:
            continue
        picture = read_mask(source, labels=wanted)
        pred = picture.pixels.astype(np.int32, copy=False)
        check_same_size(truth.shape, pred.shape, case.image, source)
        remark = compare_affines(reference.affine, picture.affine, slice_ranges(case.image, truth.shape))
        for row in evaluate_masks(
            pred, truth, boxes=case.boxes, labels=case.labels or labels, objects=objects, spacing=reference.spacing
        ):
            if remark is not None:
                reason = remark if row["reason"] is None else f"{row['reason']}; {remark}"
                row |= {"status": STATUS_WARNING, "reason": reason}
            yield {"case": case.name, "model": model} | row


def _row(number: str, label: str, pred: Mask, truth: Mask, spacing: tuple[float, float] | None) -> dict[str, object]:
    found = all_metrics(pred, truth)
    values: dict[str, float | None] = {f"true_{name}": found[name] for name in OVERLAP_METRICS}
    values |= {f"true_{name}_px": finite_distance(found[name], pred.shape) for name in ("hd", "hd95")}
    values |= _distances_in_mm(found, pred, truth, spacing)
    has_pred, has_truth = bool(pred.any()), bool(truth.any())
    reason = None
    if not has_pred:
        reason = MISSED if has_truth else UNDEFINED
    elif not has_truth:
        reason = INVENTED
    if reason == UNDEFINED:
        values = dict.fromkeys(values)
    status = STATUS_OK if reason is None else STATUS_WARNING
    return {"object": number, "label": label, **values, "status": status, "reason": reason}


def _distances_in_mm(
    in_pixels: Mapping[str, float], pred: Mask, truth: Mask, spacing: tuple[float, float] | None
) -> dict[str, float | None]:
    if spacing is None:
        return dict.fromkeys(("true_hd_mm", "true_hd95_mm"))
    height, width = spacing
    if height == width:  # mostly: the search for the nearest pixels need not be repeated
        found = {name: in_pixels[name] * height for name in ("hd", "hd95")}
    else:
        found = all_metrics(pred, truth, spacing=spacing)
    return {f"true_{name}_mm": finite_distance(found[name], pred.shape, spacing) for name in ("hd", "hd95")}


class _Object(NamedTuple):
    """An object without its mask: there may be thousands, and each mask is as large as the image."""

    object: str
    label: str
    box: Box | None
    area: int


class _Objects:
    """The objects of one label map; as no two share a pixel, one image of their numbers holds all masks."""

    def __init__(self, found: Iterable[ObjectMask], shape: tuple[int, ...]) -> None:
        self.all: list[_Object] = []
        self.numbers = np.zeros(shape, np.int32)
        for number, one in enumerate(found, start=1):
            self.all.append(_Object(one.object, one.label, one.box, int(one.mask.sum())))
            self.numbers[one.mask] = number

    def mask(self, index: int) -> Mask:
        return np.asarray(self.numbers == index + 1)

    def by_label(self, without: Container[int]) -> dict[str, list[int]]:
        """Return the indices of the objects of each label."""
        found: dict[str, list[int]] = {}
        for index, one in enumerate(self.all):
            if index not in without:
                found.setdefault(one.label, []).append(index)
        return found


def _match(ours: _Objects, theirs: _Objects, objects: Splitting) -> dict[int, int]:
    """Return the index of the reference object of each predicted one that has one."""
    partner = _match_boxes(ours.all, theirs.all)
    free = theirs.by_label(set(partner.values()))
    shared = _shared_areas(ours, theirs)
    areas, true_areas = (np.array([one.area for one in side.all], np.int64) for side in (ours, theirs))
    for label, mine in ours.by_label(partner).items():
        others = free.get(label, [])
        common = shared[mine][:, others].toarray()
        union = areas[mine][:, None] + true_areas[others] - common
        overlap = common / np.maximum(union, 1)  # two empty masks have no IoU, and are no pair
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] > 0 or objects == "labels":
                partner[mine[row]] = others[column]
    return partner


def _shared_areas(ours: _Objects, theirs: _Objects) -> csr_array:
    """Return the joint histogram of both images of numbers: how many pixels each pair of objects shares."""
    both = (ours.numbers > 0) & (theirs.numbers > 0)
    pairs = (ours.numbers[both] - 1, theirs.numbers[both] - 1)
    shape = (len(ours.all), len(theirs.all))
    return csr_array((np.ones(pairs[0].size, np.int64), pairs), shape=shape)


def _match_boxes(ours: Sequence[_Object], theirs: Sequence[_Object]) -> dict[int, int]:
    """Return the index of the reference object with the prompt box of a predicted one."""
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for index, one in enumerate(ours):
        for other_index, other in enumerate(theirs):
            is_free = other_index not in taken
            if is_free and one.box is not None and one.box == other.box and _same_label(one, other):
                partner[index] = other_index
                taken.add(other_index)
                break
    return partner


def _same_label(one: _Object, other: _Object) -> bool:
    return one.label == other.label or UNKNOWN_LABEL in (one.label, other.label)
