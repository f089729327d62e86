"""From the values found in a mask file to a label map: one documented rule for every format.

==========================================  ==========================================================
values                                      reading
==========================================  ==========================================================
true/false, 0 and 1                         label 1
0 and 255 (0 and 65535)                     label 1
integers 0..k, also stored as floats        label map, one label a value
8-bit, soft edges (see `is_soft`)           label 1 above 127, warning `non-binary`
fractions within 0..1                       label 1 from 0.5, warning `probability-map`
negative, other fractions, NaN              error
==========================================  ==========================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segqa.data.files import list_some
from segqa.errors import InputError

SOFT_THRESHOLD = 127
_MOST_LABELS = 2**31 - 1
_WHITE = (255, 65535)
_MOST = 0.95  # of the frame; more foreground than that is rather an inverted mask


def to_labels(values: NDArray[Any], *, source: object, warnings: list[str]) -> NDArray[np.integer[Any]]:
    """Return labels (0 is background) of the smallest unsigned type for values of shape `(H, W)` or a volume.

    Raises:
        InputError: The values are no labels and no probabilities; names some of them.
    """
    if values.dtype == np.bool_:
        return np.asarray(values, np.uint8)
    if values.dtype.kind == "f":
        return _from_floats(values, source=source, warnings=warnings)
    return _from_integers(values, source=source, warnings=warnings)


def is_soft(values: NDArray[np.uint8]) -> bool:
    """Tell a mask with soft edges (smoothed, resized, once a JPEG) from a map of many labels; both are 8-bit.

    A label fills areas, an edge does not: a mask is soft when it has values above 127, at least two
    different ones besides 0, and under half of the pixels that are neither 0 nor the largest value lie in a
    block of 2x2 equal pixels.
    """
    top = values.max(initial=0)
    between = (values != 0) & (values != top)
    if top <= SOFT_THRESHOLD or not between.any():
        return False
    corner = values[:-1, :-1]
    block = (corner == values[1:, :-1]) & (corner == values[:-1, 1:]) & (corner == values[1:, 1:])
    filled = np.zeros(values.shape, bool)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            filled[rows, columns] |= block
    return bool((filled & between).sum() < 0.5 * between.sum())


def foreground_remark(labels: NDArray[Any]) -> str | None:
    """Return a remark when more than 95 % of the frame is foreground."""
    share = np.count_nonzero(labels) / labels.size
    if share <= _MOST:
        return None
    return f"mostly-foreground: {100 * share:.1f} % of the frame; is the mask inverted?"


def _from_integers(values: NDArray[Any], *, source: object, warnings: list[str]) -> NDArray[np.integer[Any]]:
    least, top = int(values.min()), int(values.max())
    if least < 0 or top > _MOST_LABELS:
        msg = f"{source}: values {least}..{top} where labels from 0 were expected; is it an image, not a mask?"
        raise InputError(msg)
    if top in _WHITE and not ((values != 0) & (values != top)).any():
        return np.asarray(values != 0, np.uint8)
    if values.dtype == np.uint8 and is_soft(values):
        count = int(((values != 0) & (values != top)).sum())
        warnings.append(f"non-binary: {count} pixels between 0 and {top}, cut at {SOFT_THRESHOLD}")
        return np.asarray(values > SOFT_THRESHOLD, np.uint8)
    return np.asarray(values, np.min_scalar_type(top))


def _from_floats(values: NDArray[Any], *, source: object, warnings: list[str]) -> NDArray[np.integer[Any]]:
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        msg = f"{source}: {bad} NaN or infinite pixels in a mask; write 0 for background"
        raise InputError(msg)
    if (values == np.rint(values)).all():
        if abs(values).max() > _MOST_LABELS:
            msg = f"{source}: values up to {abs(values).max():g} where labels were expected"
            raise InputError(msg)
        return _from_integers(values.astype(np.int64), source=source, warnings=warnings)
    if values.min() < 0 or values.max() > 1:
        odd = [f"{value:g}" for value in np.unique(values[values != np.rint(values)])[:6]]
        fact = f"fractions such as {list_some(odd, limit=4)} outside of probabilities 0..1"
        msg = f"{source}: {fact}; save labels as whole numbers"
        raise InputError(msg)
    warnings.append("probability-map: cut at 0.5")
    return np.asarray(values >= 0.5, np.uint8)
