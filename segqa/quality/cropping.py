"""Crops around an object, with the masks that were proposed for it and their true metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from segqa import metrics
from segqa.data.boxes import Box
from segqa.data.types import Mask
from segqa.quality.records import OWN, Candidate, Record, drop_equal_channels, pack_masks
from segqa.quality.targets import Target

if TYPE_CHECKING:
    from segqa.quality.preparation import LabelledImage

CONTEXT = 0.75
"""A record reaches this share of the box's longer side beyond the box, in both directions: ψ's view is square."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mask that a source proposes for an object."""

    source: str
    prompt: str
    box: Box
    """The prompt box in pixels of the image; the mask's own for a point."""
    mask: Mask
    """At the size of the image."""
    confidence: float | None


def make_record(item: LabelledImage, thing: Target, place: Box, proposals: Sequence[Proposal], side: int) -> Record:
    """Return the crop around a place and all proposals' boxes, with the proposed masks and their true metrics.

    Args:
        item: The image.
        thing: The object that the masks are for.
        place: The box that the crop is about.
        proposals: Masks of the size of the image.
        side: Longest side of the record, in pixels.
    """
    height, width = item.truth.shape
    window = place
    for proposal in proposals:
        window = window.union(proposal.box)
    window = _with_context(window).clip(height, width)
    scale = min(1.0, side / max(window.width, window.height))
    size = (max(round(window.width * scale), 1), max(round(window.height * scale), 1))
    labels = np.zeros((window.height, window.width), dtype=np.uint8)
    crop = item.truth[window.slices]
    mine = None if item.objects else thing.value  # a part of a label is no other object than the label
    others = [label for label in np.unique(crop[crop > 0]) if label != mine][:250]
    for value, label in enumerate(others, start=OWN + 1):
        labels[crop == label] = value
    own = thing.truth[window.slices]
    labels[own] = OWN
    picture = PillowImage.fromarray(np.ascontiguousarray(item.image[window.slices]))
    small = np.asarray(picture.resize(size, PillowImage.Resampling.BILINEAR))
    masks = [p.mask[window.slices] for p in proposals]
    return Record(
        case=item.case,
        group=item.group,
        dataset=item.dataset,
        object=thing.name,
        label=thing.label,
        pixels=drop_equal_channels(small),
        labels=_resize_labels(labels, size),
        truth_outside=float(thing.truth.sum() - own.sum()) * scale**2,
        candidates=tuple(_candidate(p, inner, thing, window, scale) for p, inner in zip(proposals, masks, strict=True)),
        packed_masks=pack_masks([_resize_labels(mask.astype(np.uint8), size) > 0 for mask in masks]),
    )


def _with_context(box: Box) -> Box:
    reach = (1 + 2 * CONTEXT) * max(box.width, box.height)
    dx, dy = round((reach - box.width) / 2), round((reach - box.height) / 2)
    return Box(box.x0 - dx, box.y0 - dy, box.x1 + dx, box.y1 + dy)


def _resize_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(PillowImage.fromarray(labels).resize(size, PillowImage.Resampling.NEAREST))


def _candidate(proposal: Proposal, inner: Mask, thing: Target, window: Box, scale: float) -> Candidate:
    true = metrics.all_metrics(proposal.mask, thing.truth)
    box = proposal.box
    return Candidate(
        source=proposal.source,
        prompt=proposal.prompt,
        image_box=box,
        box=Box(
            round((box.x0 - window.x0) * scale),
            round((box.y0 - window.y0) * scale),
            max(round((box.x1 - window.x0) * scale), round((box.x0 - window.x0) * scale) + 1),
            max(round((box.y1 - window.y0) * scale), round((box.y0 - window.y0) * scale) + 1),
        ),
        dice=true["dice"],
        jaccard=true["jaccard"],
        hd_px=metrics.finite_distance(true["hd"], thing.truth.shape),
        hd95_px=metrics.finite_distance(true["hd95"], thing.truth.shape),
        confidence=proposal.confidence,
        outside=float(proposal.mask.sum() - inner.sum()) * scale**2,
    )
