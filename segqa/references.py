"""Labelled images of the user as a second judge: what they show is looked for around each mask, and compared with it.

The evaluator knows many organs, but not which of two structures in a box was meant. A few labelled images say it. Views
around their objects teach SPE's readout engine one classifier of pixels a label, and its answer in the view of a mask
under test is a second segmentation, whose Dice with the mask is the second opinion (reverse classification, Valindria
et al. 2017, the other way round: the labelled images teach).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segqa import metrics
from segqa.data.boxes import Box
from segqa.data.subsets import spread
from segqa.data.types import Case, Image, Mask, ObjectMask
from segqa.quality.preprocessing import Profile, build_input
from segqa.quality.prompting import jitter_box
from segqa.quality.scoring import Evaluator, Opinion
from segqa.spe.engines import SIDE, Canvas, CanvasMasks
from segqa.spe.readout import Classifier, Readout

VIEW = Profile(size=SIDE)
"""The view of a mask that the engine gets: that of the shipped evaluators, in the engine's size."""

CONTRAST, MIDDLE = 50.0, 128.0
"""Grey levels of one standard deviation, and of the mean: the engine takes pictures of 8 bits."""

VIEWS, JITTER = 4, 0.15
"""Views of each object: its own box, and boxes of which each side is moved by up to this share of their size."""

MAX_EXAMPLES = 24
"""Objects of a label that are learnt from: more cost time only."""

MIN_GROUPS = 2
"""Labelled images or volumes that a label needs: what one teaches is tried on the others."""

MIN_FOUND = 0.1
"""What teaches to find less again, as a mean Dice, says nothing."""

View = tuple[NDArray[np.uint8], Mask]
"""What the engine sees: pixels `(SIDE, SIDE, 3)` and the mask in them `(SIDE, SIDE)`."""

Watch = Callable[[Iterable[str], str, int], Iterable[str]]
"""Passes labels on and shows how far it is: `(labels, description, total)`."""


class Example(NamedTuple):
    """An object to learn from."""

    group: str
    """Image or volume that it is in."""
    views: Sequence[View]
    """In its own box first."""
    scores: tuple[float, float]
    """The evaluator's scores of its true mask, shown with its box and without one, 0..1."""


class Lesson(NamedTuple):
    """What the examples of one label taught."""

    classifier: Classifier
    n_objects: int
    n_groups: int
    found: float
    """Mean Dice, 0..1, of each object's true mask with what the other images and volumes taught."""
    weights: tuple[float, float]
    """How much its opinion counts beside the evaluator's, of masks with a box and of those without one, 0..1."""


@dataclass(frozen=True)
class References:
    """What labelled images taught, ready to be compared with masks."""

    engine: Readout
    lessons: Mapping[str, Lesson]
    """By label."""
    left_out: Mapping[str, str]
    """Labels that taught nothing, and why."""
    held: frozenset[Path] = frozenset()
    """Images under test that are labelled ones: their masks are judged by their own answer."""

    def judge(self, image: Image, one: ObjectMask) -> Opinion | None:
        """Return the Dice of a mask with what the references say is there; `None` for a label they lack."""
        lesson = self.lessons.get(one.label)
        if lesson is None:
            return None
        pixels, mask = see(image, one.mask, one.box)
        answer = self.engine.classify(pixels, lesson.classifier) > self.engine.threshold
        with_box, without = lesson.weights
        return Opinion(_dice(mask, answer), without if one.box is None else with_box)

    def hold(self, case: Case) -> bool:
        """Tell whether the image of a case is one of the labelled ones, or another slice of their volumes."""
        return case.image.path in self.held

    def summary(self) -> list[str]:
        """Return a line on each label: what it was learnt from, and what came of it."""
        return [
            f"label {label}: {one.n_objects} objects of {one.n_groups} labelled images, found again with Dice "
            f"{one.found:.2f}; weight {one.weights[0]:.2f}, of masks without a box {one.weights[1]:.2f}"
            for label, one in self.lessons.items()
        ]

    def doubts(self) -> list[str]:
        """Return a line on each label that taught nothing."""
        return [f"label {label} of the references {why}" for label, why in self.left_out.items()]


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
    inputs = [build_input(image, mask, box, evaluator.profile) for box in (own, None)]
    with_box, without = np.clip(evaluator.judge(inputs)[:, evaluator.heads.index("dice")], 0, 1)
    return Example(group, [see(image, mask, box) for box in (own, *moved)], (float(with_box), float(without)))


def learn(
    examples: Mapping[str, Sequence[Example]],
    *,
    held: frozenset[Path] = frozenset(),
    watch: Watch = lambda labels, *_: labels,
) -> References:
    """Return what objects teach.

    Both judges are tried on the true masks of the examples, the second on those of each image or volume after learning
    from the others. As in any mean of two measurements, the weights are inverse to their squared errors.

    Args:
        examples: By label; of more than `MAX_EXAMPLES` some, evenly spread. Labels in fewer than `MIN_GROUPS` images or
            volumes, and those that are hardly found again (`MIN_FOUND`), teach nothing.
        held: Images under test that the examples come from.
        watch: Is handed the labels, since each takes some seconds.
    """
    engine = Readout()
    lessons, left_out = {}, {}
    for label in watch(examples, "labels learnt", len(examples)):
        some = spread(examples[label], MAX_EXAMPLES)
        groups = list(dict.fromkeys(one.group for one in some))
        if len(groups) < MIN_GROUPS:
            left_out[label] = f"is in fewer than {MIN_GROUPS} labelled images or volumes, give more of them"
            continue
        found = float(np.mean(_find_again(some, engine)))
        if found < MIN_FOUND:
            left_out[label] = f"is not found again (Dice {found:.2f}); are its parts meant (--objects components)?"
        else:
            with_box, without = np.mean([one.scores for one in some], axis=0).tolist()
            weights = _weigh(found, with_box), _weigh(found, without)
            lessons[label] = Lesson(engine.fit(*_stack(some)), len(some), len(groups), found, weights)
        engine.forget()
    return References(engine, lessons, left_out, held)


def _weigh(found: float, score: float) -> float:
    """Return the weight of the references beside an evaluator, of what both gave to masks that deserve 1."""
    own, other = (1 - found) ** 2, (1 - score) ** 2
    return other / (own + other) if own + other else 0.5


def _stack(examples: Iterable[Example]) -> tuple[Canvas, CanvasMasks]:
    pixels, masks = zip(*(view for one in examples for view in one.views), strict=True)
    return np.stack(pixels), np.stack(masks)


def _find_again(examples: Sequence[Example], engine: Readout) -> list[float]:
    """Return the Dice of each object, in its own box, with what those of other groups teach."""
    taught = engine.fit_others(*_stack(examples), [one.group for one in examples for _ in one.views])
    own = [(*one.views[0], taught[one.group]) for one in examples]
    return [_dice(mask, engine.find(pixels[None], others)[0] > engine.threshold) for pixels, mask, others in own]


def _dice(mask: Mask, answer: Mask) -> float:
    """Return the Dice of a mask with an answer; an empty mask misses what it was made for."""
    return metrics.dice(mask, answer) if mask.any() else 0.0
