"""Which of many are taken, when only some shall be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """Return `count` items evenly spaced from the first to the last; all when there are not more."""
    if count is None or count >= len(items):
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, count).round()]
