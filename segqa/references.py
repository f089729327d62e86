"""Labelled images of the user as a second judge: what they show is looked for around each mask, and compared with it.

The evaluator knows many organs, but not which of two structures in a box was meant. A few labelled images say it. Views
around their objects teach SPE's readout engine one classifier of pixels a label, and its answer in the view of a mask
under test is a second segmentation, whose Dice with the mask is the second opinion (reverse classification, Valindria
et al. 2017, the other way round: the labelled images teach).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segqa import metrics
from segqa.data.boxes import Box
from segqa.data.cases import Cases, check_cases, find_cases, read_case
from segqa.data.files import list_some, show_name
from segqa.data.groups import group_of
from segqa.data.objects import find_objects
from segqa.data.reading import Reading
from segqa.data.subsets import spread
from segqa.data.types import Case, Image, LabelMap, Mask, ObjectMask
from segqa.errors import InputError
from segqa.quality.preprocessing import Profile, build_input
from segqa.quality.prompting import jitter_box
from segqa.quality.scoring import Evaluator, Opinion, score_mask
from segqa.spe.engines import SIDE, Canvas, CanvasMasks
from segqa.spe.readout import Classifier, Readout

VIEW = Profile(size=SIDE)
"""The view of a mask that the engine gets: that of the shipped evaluators, in the engine's size."""

CONTRAST, MIDDLE = 50.0, 128.0
"""Grey levels of one standard deviation, and of the mean: the engine takes pictures of 8 bits."""

VIEWS, JITTER = 4, 0.15
"""Views of each object: its own box, and boxes of which each side is moved by up to this share of their size."""

MAX_CASES, MAX_EXAMPLES = 64, 24
"""Labelled images that are read, and objects of a label that are learnt from, evenly spread: more cost time only."""

MIN_GROUPS = 2
"""Labelled images or volumes that a label needs: what one teaches is tried on the others."""

MIN_PIXELS = 10
"""A smaller object teaches nothing (as SPE has it for support masks)."""

View = tuple[NDArray[np.uint8], Mask]
"""What the engine sees: pixels `(SIDE, SIDE, 3)` and the mask in them `(SIDE, SIDE)`."""


class Example(NamedTuple):
    """An object to learn from."""

    group: str
    """Image or volume that it is in."""
    views: Sequence[View]
    score: float
    """The evaluator's score of its true mask, 0..1."""


class Lesson(NamedTuple):
    """What the examples of one label taught."""

    classifier: Classifier
    n_objects: int
    n_groups: int
    found: float
    """Mean Dice, 0..1, of each object's true mask with what the other images and volumes taught."""
    weight: float
    """How much its opinion counts beside the evaluator's, 0..1."""


@dataclass(frozen=True)
class References:
    """What labelled images taught, ready to be compared with masks."""

    engine: Readout
    lessons: Mapping[str, Lesson]
    """By label."""
    images: frozenset[str] = frozenset()
    """What tells the files of the labelled images (`_identify`): masks of these are judged by their own answer."""

    def judge(self, image: Image, one: ObjectMask) -> Opinion | None:
        """Return the Dice of a mask with what the references say is there; `None` for a label they lack."""
        lesson = self.lessons.get(one.label)
        if lesson is None:
            return None
        pixels, mask = see(image, one.mask, one.box)
        answer = self.engine.classify(pixels, lesson.classifier) > self.engine.threshold
        return Opinion(_dice(mask, answer), lesson.weight)

    def hold(self, case: Case) -> bool:
        """Tell whether the image of a case is one of the labelled ones, or another slice of their volumes."""
        return bool(self.images) and _identify(case.image.path) in self.images

    def summary(self) -> str:
        """Return what was learnt from and what came of it, in a few words."""
        parts = [
            f"label {label} from {one.n_objects} objects of {one.n_groups} images, "
            f"found again with Dice {one.found:.2f}, weight {one.weight:.2f}"
            for label, one in self.lessons.items()
        ]
        return f"references: {'; '.join(parts)}"


def see(image: Image, mask: Mask, box: Box | None) -> View:
    """Return the view of a mask as the engine takes it."""
    planes = build_input(image, mask, box, VIEW)
    pixels = np.clip(planes[:3] * CONTRAST + MIDDLE, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)), planes[3] > 0.5


def show(image: Image, mask: Mask, evaluator: Evaluator, *, group: str, seed: int) -> Example:
    """Return an object to learn from, in several views: a mask under test seldom comes with exactly its box.

    Args:
        image: Pixels `(H, W, 3)`, 0..255.
        mask: The object `(H, W)`, not empty.
        evaluator: Who will be the first judge.
        group: Image or volume that it is in.
        seed: Of the moved boxes.
    """
    own, rng = Box.around(mask), np.random.default_rng(seed)
    height, width = mask.shape
    moved = (jitter_box(own, JITTER, height=height, width=width, rng=rng) for _ in range(VIEWS - 1))
    score = score_mask(image, mask, evaluator, box=own)
    return Example(group, [see(image, mask, box) for box in (own, *moved)], score)


def learn(examples: Mapping[str, Sequence[Example]], *, images: Iterable[Path] = ()) -> References:
    """Return what objects teach; labels in fewer than `MIN_GROUPS` images or volumes teach nothing.

    Both judges are tried on the true masks of the examples, the second on those of each image or volume after learning
    from the others. As in any mean of two measurements, the weights are inverse to their squared errors.

    Args:
        examples: By label; of more than `MAX_EXAMPLES` some, evenly spread.
        images: The files that they come from.
    """
    engine = Readout()
    lessons = {}
    for label, all_of_it in examples.items():
        some = spread(all_of_it, MAX_EXAMPLES)
        groups = list(dict.fromkeys(one.group for one in some))
        if len(groups) < MIN_GROUPS:
            continue
        found = float(np.mean([dice for group in groups for dice in _find_again(some, group, engine)]))
        error, evaluators_error = 1 - found, 1 - float(np.mean([one.score for one in some]))
        both = error**2 + evaluators_error**2
        weight = evaluators_error**2 / both if both else 0.5
        lessons[label] = Lesson(engine.fit(*_stack(some)), len(some), len(groups), found, weight)
        engine.forget()
    return References(engine, lessons, frozenset(_identify(path) for path in images))


def _stack(examples: Iterable[Example]) -> tuple[Canvas, CanvasMasks]:
    pixels, masks = zip(*(view for one in examples for view in one.views), strict=True)
    return np.stack(pixels), np.stack(masks)


def _find_again(examples: Sequence[Example], group: str, engine: Readout) -> list[float]:
    """Return the Dice of each view of a group's objects with what the others teach."""
    queries, masks = _stack(one for one in examples if one.group == group)
    found = engine.segment(queries, *_stack(one for one in examples if one.group != group)) > engine.threshold
    return [_dice(mask, answer) for mask, answer in zip(masks, found, strict=True)]


def _dice(mask: Mask, answer: Mask) -> float:
    """Return the Dice of a mask with an answer; an empty mask misses what it was made for."""
    return metrics.dice(mask, answer) if mask.any() else 0.0


@lru_cache(maxsize=1024)
def _identify(path: Path) -> str:
    """Return what a file shares with its copies; for a folder of slices its place."""
    return str(path.resolve()) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def read_references(images: Path, masks: Path, evaluator: Evaluator, *, reading: Reading, axis: int = -1) -> References:
    """Read labelled images, and learn from them.

    Args:
        images: Folder or file.
        masks: Folder or file of their true masks, with the labels of the masks that will be judged.
        evaluator: Who will be the first judge.
        reading: How the cases that will be judged are read: these are read alike, but any error stops.
        axis: Slicing axis of volumes.

    Raises:
        InputError: Files are missing, without partner or cannot be read, there are several masks of an image, no object
            is large enough to learn from, or no label is in two images or volumes.
    """
    cases = find_cases(images, masks, remedy="references are images with their masks", axis=axis)
    _check(cases, masks)
    some = spread(cases.cases, MAX_CASES)
    examples: dict[str, list[Example]] = {}
    for seed, case in enumerate(some):
        loaded = read_case(case, reading)
        (truth,) = loaded.masks.values()
        for one in _some_objects(truth.pixels, reading, -(-MAX_EXAMPLES // len(some))):
            example = show(loaded.image.pixels, one.mask, evaluator, group=group_of(case.name), seed=seed)
            examples.setdefault(one.label, []).append(example)
    if not examples:
        asked = "" if reading.labels is None else f" of the labels {', '.join(map(str, reading.labels))}"
        msg = f"{show_name(masks)}: no object{asked} of {MIN_PIXELS} pixels or more; give masks of what shall be found"
        raise InputError(msg)
    in_order = {label: examples[label] for label in sorted(examples, key=int)}
    taught = learn(in_order, images={case.image.path for case in cases})
    if not taught.lessons:
        fact = f"label {list_some(list(in_order), limit=3)} in fewer than {MIN_GROUPS} images or volumes"
        msg = f"{show_name(masks)}: {fact}; what one teaches is tried on the others, so give more of them"
        raise InputError(msg)
    return taught


def _some_objects(label_map: LabelMap, reading: Reading, count: int) -> Iterator[ObjectMask]:
    """Yield at most `count` objects of each label, evenly spread: thousands of masks would fill the memory."""

    def find() -> Iterator[tuple[int, ObjectMask]]:
        return enumerate(find_objects(label_map, labels=reading.labels, objects=reading.objects))

    places: dict[str, list[int]] = {}
    for place, one in find():
        if one.mask.sum() >= MIN_PIXELS:
            places.setdefault(one.label, []).append(place)
    chosen = {place for all_of_it in places.values() for place in spread(all_of_it, count)}
    yield from (one for place, one in find() if place in chosen)


def _check(cases: Cases, masks: Path) -> None:
    models = sorted({model for case in cases for model in case.masks})
    if len(models) > 1:
        msg = f"{show_name(masks)}: masks of {list_some(models, limit=3)}; references have one true mask an image"
        raise InputError(msg)
    if problems := check_cases(cases):
        msg = f"{len(problems)} references cannot be read: {list_some(problems, limit=3)}; mend or remove them"
        raise InputError(msg)
