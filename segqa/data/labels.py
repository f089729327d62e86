"""From the values found in a mask file to a label map: one documented rule for every format.

==========================================  ==========================================================
values                                      reading
==========================================  ==========================================================
true/false, 0 and 1                         label 1
0 and 255 (0 and 65535)                     label 1; 255 where that label is asked for
integers 0..k, also stored as floats        label map, one label a value; 255 beside few labels is
                                            remarked (`label-255`)
8 or 16 bits, soft edges (see `is_soft`)    label 1 above 127 or 32767, warning `non-binary`
fractions within 0..1                       label 1 from 0.5, warning `probability-map`
soft, but mostly grey                       error: an image
many values that differ from pixel to       error: an image, or a soft mask that stays dark
pixel
negative, other fractions, NaN              error
==========================================  ==========================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segqa.errors import InputError

MOST_GREY = 0.5
"""Share of the pixels of a soft mask that may be grey: a sixteenth of the largest value away from it and from 0.

A soft mask is mostly dark or bright, an image is not.
"""

_MANY_VALUES = 64  # fewer are no shades
_FEW_LABELS = 32  # beside so few labels 255 is rather "ignore" than the 255th class
_ROUNDING = 1e-6  # by which a probability may miss 0..1
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


def lone_white(values: NDArray[Any]) -> int:
    """Return 255 or 65535 where it is the only value besides 0; 0 otherwise."""
    top = int(values.max(initial=0)) if values.dtype.kind in "iuf" else 0
    return top if top in _WHITE and not ((values != 0) & (values != top)).any() else 0


def is_soft(values: NDArray[Any]) -> bool:
    """Tell a mask with soft edges (smoothed, resized, a probability, once a JPEG) from a map of many labels.

    Both are unsigned integers of 8 or 16 bits. A label fills areas, an edge does not: a mask is soft when it has
    values in the upper half of its type (above 127 or 32767), at least two different ones besides 0, and under
    half of the pixels that are neither 0 nor the largest value lie in a block of 2x2 equal pixels.
    """
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        return False
    top = values.max(initial=0)
    between = (values != 0) & (values != top)
    if top <= _half(values) or not between.any():
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
    if lone_white(values):
        return np.asarray(values != 0, np.uint8)
    if is_soft(values):
        return _cut_soft(values, source=source, warnings=warnings)
    if _is_graded(values):
        fact = f"values {least}..{top} that differ from pixel to pixel"
        msg = f"{source}: {fact}; is it an image, or a soft mask? Save labels, or 0 and 255"
        raise InputError(msg)
    if top in _WHITE and (most := int(values[values != top].max())) < _FEW_LABELS:
        warnings.append(f"label-{top}: beside labels up to {most}; if it means ignore, leave it out with --labels")
    return np.asarray(values, np.min_scalar_type(top))


def _half(values: NDArray[Any]) -> int:
    return int(np.iinfo(values.dtype).max) // 2


def _cut_soft(values: NDArray[Any], *, source: object, warnings: list[str]) -> NDArray[np.integer[Any]]:
    top = int(values.max())
    dark, bright = top // 16, top - top // 16
    grey = np.count_nonzero((values > dark) & (values < bright)) / values.size
    if grey > MOST_GREY:
        fact = f"{100 * grey:.0f} % of the pixels are grey, between {dark} and {bright}"
        msg = f"{source}: {fact}; is it an image, not a mask? Save the mask as 0 and {top}, or as labels"
        raise InputError(msg)
    count = int(((values != 0) & (values != top)).sum())
    warnings.append(f"non-binary: {count} pixels between 0 and {top}, cut at {_half(values)}")
    return np.asarray(values > _half(values), np.uint8)


def _is_graded(values: NDArray[Any]) -> bool:
    """Tell shades from labels: they are many, and most neighbours differ that are neither 0 nor both the largest."""
    top, pairs, differ = values.max(), 0, 0
    if top < _MANY_VALUES:
        return False
    for one, other in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1])):
        inside = (one != 0) & (other != 0) & ((one != top) | (other != top))
        pairs += int(np.count_nonzero(inside))
        differ += int(np.count_nonzero(inside & (one != other)))
    return 2 * differ > pairs and len(np.unique(values)) > _MANY_VALUES


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
    least, top = float(values.min()), float(values.max())
    if least < -_ROUNDING or top > 1 + _ROUNDING:
        fact = f"fractions from {least:.7g} to {top:.7g} where probabilities 0..1 were expected"
        msg = f"{source}: {fact}; save labels as whole numbers"
        raise InputError(msg)
    highest = f"; the largest is {top:.7g}" if top < 0.5 else ""
    warnings.append(f"probability-map: cut at 0.5{highest}")
    return np.asarray(values >= 0.5, np.uint8)
