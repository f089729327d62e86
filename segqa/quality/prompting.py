"""Boxes as a user would draw them: exact, a little off, and on the wrong place."""

from __future__ import annotations

import numpy as np

from segqa.data.boxes import Box

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
