"""Prompts as a user would give them: boxes exact, a little off, on the wrong place or from a file; centre points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from segqa.data.boxes import Box
from segqa.data.types import Mask, PromptBox

WRONG_IOU = 0.3
"""A box that overlaps the object's own less than this is a wrong box."""


def jitter_box(box: Box, share: float, *, height: int, width: int, rng: np.random.Generator) -> Box:
    """Return the box with each edge moved by up to `share` of its side, inside the image, at least 2 pixels wide."""
    dx = rng.uniform(-share, share, size=2) * box.width
    dy = rng.uniform(-share, share, size=2) * box.height
    moved = Box(round(box.x0 + dx[0]), round(box.y0 + dy[0]), round(box.x1 + dx[1]), round(box.y1 + dy[1])).clip(
        height, width
    )
    return moved if moved.width >= 2 and moved.height >= 2 else box


def wrong_box(box: Box, *, height: int, width: int, rng: np.random.Generator) -> Box | None:
    """Return a box of similar size somewhere else, `None` when the image has no room for one."""
    for _ in range(20):
        grow = np.exp(rng.uniform(-0.5, 0.5, size=2))
        w, h = max(round(box.width * grow[0]), 4), max(round(box.height * grow[1]), 4)
        # Half of the time near by, where a careless click lands, else anywhere.
        if rng.uniform() < 0.5:
            x = box.x0 + rng.uniform(-1.2, 1.2) * box.width
            y = box.y0 + rng.uniform(-1.2, 1.2) * box.height
        else:
            x, y = rng.uniform(0, width), rng.uniform(0, height)
        candidate = Box(round(x), round(y), round(x) + w, round(y) + h).clip(height, width)
        if candidate.area >= box.area / 8 and candidate.iou(box) < WRONG_IOU:
            return candidate
    return None


def centre_point(mask: Mask) -> tuple[float, float]:
    """Return `(x, y)` in the middle of the object's pixel that is nearest to its centroid; never beside the object.

    Args:
        mask: Not empty, shape `(H, W)`.
    """
    rows, columns = np.nonzero(mask)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5


def match_boxes(prompts: Sequence[PromptBox], boxes: Sequence[Box], labels: Sequence[set[str]]) -> list[Box | None]:
    """Return the prompt box of each object, one to one with the largest sum of overlaps; `None` where none is left.

    Args:
        prompts: Boxes of the case from a file; one with a label goes to an object of that label only.
        boxes: Tight box of each object.
        labels: What each object's label may be called: number and name.
    """
    overlap = np.zeros((len(boxes), len(prompts)))
    for row, (box, names) in enumerate(zip(boxes, labels, strict=True)):
        for column, prompt in enumerate(prompts):
            if prompt.label is None or names & {prompt.label, prompt.name}:
                overlap[row, column] = box.iou(prompt.box)
    found: list[Box | None] = [None] * len(boxes)
    for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
        if overlap[row, column] > 0:
            found[row] = prompts[column].box
    return found
