"""Intensities of more than 8 bits, brought to 0..255."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segqa.errors import InputError

NanPolicy = Literal["error", "zero"]
"""What to do with NaN and infinite pixels: refuse the file, or put 0 in their place."""

_SAMPLE = 2**22  # voxels that settle a percentile; more would only take longer


def window_limits(window: tuple[float, float]) -> tuple[float, float]:
    """Return the darkest and brightest intensity of a window of `(centre, width)`.

    Raises:
        InputError: No two numbers, or the width is not above 0.
    """
    try:
        centre, width = map(float, window)
    except (TypeError, ValueError):
        centre, width = np.nan, np.nan
    if not (np.isfinite(centre) and np.isfinite(width) and width > 0):
        shown = " ".join(map(str, window)) if isinstance(window, (tuple, list)) else repr(window)
        msg = f"window {shown}: a centre and a width above 0 were expected, such as 40 400"
        raise InputError(msg)
    return centre - width / 2, centre + width / 2


def value_limits(values: NDArray[Any], *, percentiles: tuple[float, float] | None) -> tuple[float, float]:
    """Return the range that a window-less array is shown in: its percentiles, or its extremes.

    NaN and infinite values do not count. Of a large array every n-th value is taken for the percentiles;
    when these coincide (a volume that is mostly background) the extremes are used.
    """
    flat = values.ravel(order="K")  # as it lies in memory: a copy in another order takes longer than the rest
    if np.issubdtype(flat.dtype, np.floating) and not np.isfinite(flat).all():
        flat = flat[np.isfinite(flat)]
    if flat.size == 0:
        return 0.0, 0.0
    if percentiles is not None:
        low, high = np.percentile(flat[:: max(1, flat.size // _SAMPLE)], percentiles)
        if high > low:
            return float(low), float(high)
    return float(flat.min()), float(flat.max())


def to_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map `low..high` to 0..255, clipped and rounded; a range without extent gives 0."""
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled: NDArray[Any] = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    scaled -= low
    scaled *= 255.0 / (high - low)
    np.clip(scaled, 0, 255, out=scaled)
    return np.asarray(np.rint(scaled, out=scaled), np.uint8)


def replace_nan(
    values: NDArray[np.generic], *, source: object, nan: NanPolicy, warnings: list[str]
) -> NDArray[np.generic]:
    """Return the values with every NaN and infinity at 0, and remark it.

    Raises:
        InputError: There are some and the policy is "error"; names the count and the first index.
    """
    if not np.issubdtype(values.dtype, np.floating):
        return values
    bad = ~np.isfinite(values)
    count = int(bad.sum())
    if count == 0:
        return values
    if nan == "error":
        first = tuple(int(index) for index in np.argwhere(bad)[0])
        fact = f"{count} NaN or infinite pixels, the first at {first}"
        msg = f"{source}: {fact}; repair the file, or put 0 in their place with --nan zero"
        raise InputError(msg)
    warnings.append(f"nan-zeroed: {count} pixels")
    return np.where(bad, values.dtype.type(0), values)
