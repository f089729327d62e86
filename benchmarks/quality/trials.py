"""The masks that are judged: those of the prepared records, and mistakes made from the references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segqa import metrics
from segqa.data.boxes import Box
from segqa.data.types import Mask
from segqa.quality.corruptions import corrupt
from segqa.quality.prompting import jitter_box
from segqa.quality.records import CORRUPTION, OWN, Record
from segqa.quality.sampling import is_wrong

CORRUPTIONS = 3
"""Corrupted references for each object."""

SPOILT = (CORRUPTION, "empty", "whole box", "other object")
"""Masks made from the reference by a mistake."""

REFERENCE = "reference"
"""The reference itself as a mask under test."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One mask to judge."""

    source: str
    mask: Mask
    """Shape `(h, w)` of its record."""
    box: Box
    """The prompt box in pixels of the record."""
    dice: float
    confidence: float | None = None
    """The segmenter's own estimate, in its own scale."""


def all_trials(records: Sequence[Record], seed: int) -> Iterator[tuple[Record, list[Trial]]]:
    """Yield each record with its masks; the same seed gives the same masks."""
    for number, record in enumerate(records):
        yield record, list(trials_of(record, np.random.default_rng([seed, number])))


def trials_of(record: Record, rng: np.random.Generator) -> Iterator[Trial]:
    """Yield the masks of a record; synthetic ones only for records around the object's own box."""
    for index, candidate in enumerate(record.candidates):
        name = f"{candidate.source} {candidate.prompt}"
        box = candidate.box.clip(*record.labels.shape)
        yield Trial(name, record.mask(index), box, candidate.dice, candidate.confidence)
    if is_wrong(record):
        return
    truth = record.truth
    height, width = truth.shape
    own = Box.around(truth)
    box = jitter_box(own, 0.1, height=height, width=width, rng=rng)
    filled = np.zeros_like(truth)
    filled[box.slices] = True
    masks = [(CORRUPTION, corrupt(truth, rng)) for _ in range(CORRUPTIONS)]
    masks += [("empty", np.zeros_like(truth)), ("whole box", filled), (REFERENCE, truth)]
    others = int(record.labels.max()) - OWN
    if others:
        masks.append(("other object", record.labels == OWN + 1 + rng.integers(others)))
    for name, mask in masks:
        yield Trial(name, mask, box, metrics.dice(mask, truth))
