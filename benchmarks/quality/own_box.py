"""Agreement with a segmenter that is prompted by the box of the mask under test (SQA-SAM's idea).

The segmenter sees the whole image, as it does in use; records are crops, so the image is looked up by its case's name
in the folder of the data sets. What a mask has beyond its record is not known and is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.quality.trials import all_trials
from segqa import metrics
from segqa.data.boxes import Box
from segqa.data.files import write_whole
from segqa.data.layouts.dataset import LabelledCase, read_labelled
from segqa.data.reading import Reading
from segqa.data.types import Image, Mask
from segqa.errors import InputError
from segqa.prepared import plan_prepare
from segqa.quality.preparation import Settings
from segqa.quality.records import Record, pack_masks
from segqa.segmenters.base import Prompt, Segmenter

WHOLE = "2048"
"""A `--side` of `segqa prepare` that leaves records of most images as they are."""


@dataclass(frozen=True, slots=True)
class PlacedMask:
    """A mask of a record, and where the record lies in its image."""

    mask: Mask
    window: Box
    """The record in pixels of the image; of the mask's size."""

    def in_image(self, height: int, width: int) -> Mask:
        """Return the mask at the size of the image."""
        whole = np.zeros((height, width), dtype=bool)
        whole[self.window.slices] = self.mask
        return whole


@dataclass
class Memory:
    """Agreements that were computed before, by what they depend on; kept in a JSON file."""

    path: Path
    values: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Memory:
        """Return what the file holds; nothing when there is none."""
        return cls(path, json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})

    def write(self) -> None:
        """Replace the file in one step."""
        write_whole(self.path, lambda file: file.write(json.dumps(self.values).encode()))


def agreement_with_own_box(
    records: Sequence[Record], seed: int, *, data: Path, memory: Memory, load: Callable[[], Segmenter]
) -> list[float]:
    """Return, for each mask in the order of `judge`, the Dice between it and the segmenter's mask for its own box.

    Args:
        records: Crops of `segqa prepare` that were not shrunk.
        seed: As given to `judge`.
        data: Folder with a folder for each data set of the records.
        memory: Where agreements are kept; it is written after each image.
        load: Makes the segmenter; called when an agreement is not in the memory.

    Returns:
        0..1; 0 for an empty mask.

    Raises:
        InputError: A data set or case is not in the folder, or its image is not the record's.
    """
    segmenter, cases = cache(load), cache(lambda dataset: find_cases(data, dataset))
    found = []
    for (dataset, case), group in groupby(all_trials(records, seed), key=lambda one: (one[0].dataset, one[0].case)):
        crops = list(group)
        keyed = [
            (key_of(record, trial.mask), PlacedMask(trial.mask, window_of(record)))
            for record, trials in crops
            for trial in trials
        ]
        missing = {key: placed for key, placed in keyed if key not in memory.values}
        if missing:
            image = read_image_of(case, dataset, cases(dataset))
            for record, _ in crops:
                check_crop(record, image)
            memory.values |= measure(image, missing, segmenter())
            memory.write()
        found += [memory.values[key] for key, _ in keyed]
    return found


def measure(image: Image, masks: Mapping[str, PlacedMask], segmenter: Segmenter) -> dict[str, float]:
    """Return the agreement of each mask with what the segmenter makes of its box, all on one image `(H, W, 3)`."""
    whole = {key: placed.in_image(*image.shape[:2]) for key, placed in masks.items()}
    boxes = {key: box for key, mask in whole.items() if (box := Box.from_mask(mask)) is not None}
    agreements = dict.fromkeys(masks, 0.0)
    if boxes:
        answers = segmenter.segment(image, [Prompt(box=box) for box in boxes.values()]).masks
        agreements |= {key: metrics.dice(answer, whole[key]) for key, answer in zip(boxes, answers, strict=True)}
    return agreements


def window_of(record: Record) -> Box:
    """Return where the record lies in its image.

    Raises:
        InputError: The record was shrunk, or is of a version that did not keep its place.
    """
    height, width = record.labels.shape
    for candidate in record.candidates:
        box, place = candidate.box, candidate.image_box
        if place is not None and (box.width, box.height) == (place.width, place.height):
            x0, y0 = place.x0 - box.x0, place.y0 - box.y0
            return Box(x0, y0, x0 + width, y0 + height)
    msg = f"{record.dataset}/{record.case}: its record is shrunk or old; prepare again with --side {WHOLE}"
    raise InputError(msg)


def check_crop(record: Record, image: Image) -> None:
    """Refuse an image that the record is no part of.

    Raises:
        InputError: The pixels differ.
    """
    window = window_of(record)
    if not np.array_equal(image[window.slices], record.image):
        msg = f"{record.dataset}/{record.case}: its record has other pixels than the image in --data; "
        raise InputError(msg + f"prepare again from that folder with --side {WHOLE} and without --window")


def key_of(record: Record, mask: Mask) -> str:
    """Return what an agreement depends on, as a short text: image, place and mask."""
    digest = hashlib.sha256(f"{record.dataset}/{record.case}/{window_of(record)}".encode())
    digest.update(record.pixels.tobytes())
    digest.update(pack_masks([mask]).tobytes())
    return digest.hexdigest()[:32]


def find_cases(data: Path, dataset: str) -> Mapping[str, LabelledCase]:
    """Return the cases of a data set by name.

    Raises:
        InputError: There is no such folder, or no layout fits it.
    """
    folder = data / dataset
    if not folder.is_dir():
        msg = f"{folder}: no such folder; --data must hold a folder for each data set, named as in the records"
        raise InputError(msg)
    return plan_prepare(folder, None, settings=Settings(), reading=Reading()).cases


def read_image_of(case: str, dataset: str, cases: Mapping[str, LabelledCase]) -> Image:
    """Return the image `(H, W, 3)` of a case of a data set.

    Raises:
        InputError: There is no such case, or it cannot be read.
    """
    if case not in cases:
        msg = f"{dataset}: no case {case} in --data; was it prepared from another version of the data set?"
        raise InputError(msg)
    return read_labelled(cases[case])[0]
