"""From records to training examples: choose a mask, spoil it or not, vary the picture, apply ψ.

Example number n depends on the seed and n only, so training can stop anywhere and go on exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from segqa import metrics
from segqa.data.boxes import Box
from segqa.data.types import Image, Mask
from segqa.errors import InputError
from segqa.quality.augmentation import apply_symmetry, random_symmetry, recolour_objects, turn_box, vary_picture
from segqa.quality.corruptions import corrupt, empty, fill_holes, follow_image, whole_box
from segqa.quality.nesting import nest
from segqa.quality.preprocessing import BELIEF_STRIDE, Input, Profile, build_input, view_of
from segqa.quality.prompting import jitter_box
from segqa.quality.records import CORRUPTION, EXACT, OTSU, OWN, WRONG, Record


@dataclass(frozen=True, slots=True)
class Mixture:
    """How often each kind of mask is shown; the rest is corrupted references."""

    predictions: float = 0.36
    """Masks of segmenters as they are."""
    spoilt_predictions: float = 0.08
    """Masks of segmenters, corrupted further."""
    wrong: float = 0.1
    """Masks of a wrong box."""
    swapped: float = 0.08
    """The mask of another object."""
    empty: float = 0.025
    whole_box: float = 0.025
    reference: float = 0.09
    """The reference itself: Dice 1."""
    follow_image: float = 0.5
    """Share of the corrupted references whose boundary follows the picture's edges instead of crossing them."""
    merged: float = 0.25
    """Share of the references with a neighbour that are taken together with it, as one object."""
    nested: float = 0.12
    """Share of the references that are parted, or given a wall, so that one object lies within another."""
    confused: float = 0.03
    """The object together with another one, or with its holes filled."""
    turn: bool = True
    """Quarter turns and mirrors."""
    vary: bool = True
    """Other looks of the picture."""
    recolour: float = 0.12
    """Share of examples whose objects get a brightness of their own."""
    without_box: float = 0.2
    """Share of the examples that are shown without a box: users without prompts score too."""
    size_power: float = 0.25
    """A data set of n records is drawn from with a weight of n to this power: none dominates."""
    exact_box_only: bool = False
    """The paper's recipe: exact prompts of segmenters and nothing else."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training example."""

    inputs: Input
    """ψ, shape `(channels, size, size)`."""
    targets: NDArray[np.float32]
    """One value per head, 0..1."""
    truth: NDArray[np.float32]
    """Share of the object in each pixel of the belief, shape `(1, size / 4, size / 4)`."""


_Labels = Sequence[Sequence[Record]]
"""The records of one data set, by label."""


class Sampler:
    """Draws examples from records; large data sets count more than small ones, but less than by their size.

    The labels of a data set count alike, however rare: each is another thing to know.
    """

    def __init__(
        self,
        records: Sequence[Record],
        profile: Profile,
        *,
        heads: Sequence[str],
        mixture: Mixture,
        seed: int,
    ) -> None:
        self.profile = profile
        self.heads = tuple(heads)
        self.mixture = mixture
        self.seed = seed
        self._near = _by_dataset(r for r in records if not is_wrong(r))
        self._wrong = _by_dataset(r for r in records if is_wrong(r))
        if mixture.exact_box_only and not any(_exact_masks(record) for record in records):
            names = ", ".join(sorted({record.dataset for record in records}))
            fact = f"{names}: no record has a segmenter's mask of an exact box"
            msg = f"{fact}, to learn from or to validate with; prepare the data with a segmenter for this recipe"
            raise InputError(msg)
        usable = _exact_masks if mixture.exact_box_only else _real_masks
        self._prompted = _by_dataset(r for r in records if not is_wrong(r) and usable(r))

    def draw(self, index: int) -> Example:
        """Return example number `index`."""
        rng = np.random.default_rng([self.seed, index])
        choice = self._choose(rng)
        image, labels, mask, box = choice.image, choice.labels, choice.mask, choice.box
        if self.mixture.turn:
            symmetry = random_symmetry(rng)
            height, width = labels.shape
            box = turn_box(box, symmetry, height=height, width=width) if box else None
            image, labels, mask = (apply_symmetry(plane, symmetry) for plane in (image, labels, mask))
        if self.mixture.vary:
            if rng.uniform() < self.mixture.recolour:
                image = recolour_objects(image, labels, rng)
            image = vary_picture(image, rng)
        return build_example(image, labels == OWN, mask, box, choice.outside, self.profile, self.heads)

    def _choose(self, rng: np.random.Generator) -> _Choice:
        mix = self.mixture
        if mix.exact_box_only:
            record = self._pick(self._prompted, rng)
            return _prediction(record, _exact_masks(record), rng)
        kind = rng.uniform()
        if self._wrong and kind < mix.wrong:
            return _any_prediction(self._pick(self._wrong, rng), rng)
        kind -= mix.wrong
        if self._prompted and 0 <= kind < mix.predictions + mix.spoilt_predictions:
            choice = _any_prediction(self._pick(self._prompted, rng), rng)
            spoilt = self._corrupt(choice.mask, choice.image, rng) if kind >= mix.predictions else choice.mask
            return replace(choice, mask=spoilt, box=self._shown_box(choice.box, rng))
        return self._synthetic(self._pick(self._near, rng), rng)

    def _synthetic(self, record: Record, rng: np.random.Generator) -> _Choice:
        mix = self.mixture
        image, labels = record.image, record.labels
        if rng.uniform() < mix.nested and not record.truth_outside:
            image, labels = nest(image, labels, rng)
        elif rng.uniform() < mix.merged:
            labels = _merge_neighbour(labels, rng)
        truth = labels == OWN
        box = _reference_box(truth, rng)
        kind = self._synthetic_kind(rng)
        others = np.unique(labels[labels > OWN])
        if kind == "swapped" and others.size:  # only a box tells which object was meant
            return _Choice(image, labels, labels == rng.choice(others), box, record.truth_outside)
        shown = self._shown_box(box, rng)
        if kind == "confused":
            mask = truth | (labels == rng.choice(others)) if others.size else fill_holes(truth, rng)
        elif kind in _MAKERS:
            mask = _MAKERS[kind](truth, rng)
        else:
            mask = self._corrupt(truth, image, rng)
        return _Choice(image, labels, mask, shown, record.truth_outside)

    def _synthetic_kind(self, rng: np.random.Generator) -> str:
        """Draw what is made of a reference; what the named kinds leave is `corrupted`."""
        mix = self.mixture
        place = rng.uniform() * (1 - mix.predictions - mix.spoilt_predictions - mix.wrong)
        names = ("swapped", "confused", "empty", "whole_box", "reference")
        ends = np.cumsum([getattr(mix, name) for name in names])
        return (*names, "corrupted")[int(np.searchsorted(ends, place, side="right"))]

    def _pick(self, groups: Sequence[_Labels], rng: np.random.Generator) -> Record:
        sizes = np.array([sum(len(records) for records in labels) for labels in groups])
        weights = sizes**self.mixture.size_power
        labels = groups[int(rng.choice(len(groups), p=weights / weights.sum()))]
        records = labels[int(rng.integers(len(labels)))]
        return records[int(rng.integers(len(records)))]

    def _shown_box(self, box: Box | None, rng: np.random.Generator) -> Box | None:
        return None if rng.uniform() < self.mixture.without_box else box

    def _corrupt(self, mask: Mask, image: Image, rng: np.random.Generator) -> Mask:
        if rng.uniform() >= self.mixture.follow_image:
            return corrupt(mask, rng)
        followed = follow_image(mask, image, rng)
        return corrupt(followed, rng) if rng.uniform() < 0.25 else followed


@dataclass(frozen=True, slots=True)
class _Choice:
    """A mask to judge, with the box to show."""

    image: Image
    """Of the record, or with parts of the object repainted."""
    labels: NDArray[np.uint8]
    """Of the record, or with a neighbour taken together with the object, or with the object parted."""
    mask: Mask
    box: Box | None
    outside: float
    """Area of object and mask beyond the record, in its pixels."""


def _as_it_is(mask: Mask, rng: np.random.Generator) -> Mask:
    del rng
    return mask


_MAKERS: Mapping[str, Callable[[Mask, np.random.Generator], Mask]] = {
    "empty": empty,
    "whole_box": whole_box,
    "reference": _as_it_is,
}


def is_wrong(record: Record) -> bool:
    """Tell whether a record is around a wrong box."""
    return any(candidate.prompt == WRONG for candidate in record.candidates)


def _real_masks(record: Record) -> list[int]:
    """Return the candidates that a segmenter made."""
    return [i for i, c in enumerate(record.candidates) if c.source not in (OTSU, CORRUPTION)]


def _exact_masks(record: Record) -> list[int]:
    """Return the candidates that a segmenter made from an exact box."""
    return [i for i in _real_masks(record) if record.candidates[i].prompt == EXACT]


def _by_dataset(records: Iterable[Record]) -> list[_Labels]:
    groups: defaultdict[str, defaultdict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        groups[record.dataset][record.label].append(record)
    return [list(groups[name].values()) for name in sorted(groups)]


def _any_prediction(record: Record, rng: np.random.Generator) -> _Choice:
    return _prediction(record, range(len(record.candidates)), rng)


def _prediction(record: Record, choices: Sequence[int], rng: np.random.Generator) -> _Choice:
    index = int(rng.choice(np.asarray(choices)))
    candidate = record.candidates[index]
    outside = record.truth_outside + candidate.outside
    return _Choice(record.image, record.labels, record.mask(index), candidate.box, outside)


def _merge_neighbour(labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the labels with one other object, if one lies whole within them, made part of the object."""
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    whole = np.setdiff1d(labels[labels > OWN], edge)
    if not whole.size:
        return labels
    return np.where(labels == rng.choice(whole), np.uint8(OWN), labels)


def _reference_box(truth: Mask, rng: np.random.Generator) -> Box:
    """Return the box that a user would have drawn for the object: mostly a little off."""
    height, width = truth.shape
    box = Box.around(truth)
    if rng.uniform() < 0.4:
        return box
    return jitter_box(box, rng.uniform(0.02, 0.3), height=height, width=width, rng=rng)


def build_example(
    image: NDArray[np.uint8],
    truth: Mask,
    mask: Mask,
    box: Box | None,
    outside: float,
    profile: Profile,
    heads: Sequence[str],
) -> Example:
    """Return ψ of the mask with the true values beside it.

    Args:
        image: Crop `(h, w, 3)`.
        truth: The object `(h, w)`.
        mask: The mask under test `(h, w)`.
        box: The box to show, in the crop; may reach over its edge.
        outside: Area of object and mask beyond the crop, in its pixels.
        profile: Which ψ.
        heads: Which targets.
    """
    if box is not None:
        box = box.clip(*mask.shape)
        box = box if box.area else None
    total = float(mask.sum()) + float(truth.sum()) + outside
    dice = 2.0 * float((mask & truth).sum()) / total if total else 1.0
    view = view_of(mask, box, profile)
    targets = {"dice": dice}
    if "hd95" in heads:
        distance = metrics.hd95(mask, truth) if mask.any() or truth.any() else 0.0  # two empty masks agree
        targets["hd95"] = min(distance / (np.sqrt(2) * view.width), 1.0)
    return Example(
        inputs=build_input(image, mask, box, profile),
        targets=np.array([targets[head] for head in heads], dtype=np.float32),
        truth=_truth_in_view(truth, view, profile.size // BELIEF_STRIDE),
    )


def _truth_in_view(truth: Mask, view: Box, side: int) -> NDArray[np.float32]:
    height, width = truth.shape
    canvas = np.zeros((view.height, view.width), dtype=np.uint8)
    seen = view.clip(height, width)
    canvas[seen.y0 - view.y0 : seen.y1 - view.y0, seen.x0 - view.x0 : seen.x1 - view.x0] = truth[seen.slices] * 255
    small = PillowImage.fromarray(canvas).resize((side, side), PillowImage.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32)[None] / np.float32(255)
