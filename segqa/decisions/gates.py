"""Quality gates: a limit on the number or the share of flagged objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segqa.errors import GateError

if TYPE_CHECKING:
    import polars as pl

NAMED = 5
"""So many cases are named in the message; the table holds all."""


def check_gate(
    flags: pl.DataFrame, n_objects: int, *, above_count: int | None = None, above_share: float | None = None
) -> None:
    """Do nothing when the flags are within the limits.

    Args:
        flags: The flagged rows, worst first (`flagging.flag`).
        n_objects: Number of objects that were looked at.
        above_count: The gate fails when more objects than this are flagged.
        above_share: The gate fails when more than this share is flagged, 0..1.

    Raises:
        GateError: A limit is exceeded; the text names the worst cases.
    """
    limits = []
    if above_count is not None and flags.height > above_count:
        limits.append(f"more than {above_count}")
    # Divided: 29 / 100 is rounded as the typed 0.29 was, while 0.29 * 100 is less than 29.
    if above_share is not None and flags.height / max(n_objects, 1) > above_share:
        limits.append(f"more than a share of {above_share:g}")
    if limits:
        msg = f"{flags.height} of {n_objects} objects are flagged, {' and '.join(limits)}: {_named(flags)}"
        raise GateError(msg)


def _named(flags: pl.DataFrame) -> str:
    rows = flags.head(NAMED).iter_rows(named=True)
    texts = [
        f"{row['case']} (object {row['object']}, label {row['label']}, {row['model'] or 'no model'}: {row['why']})"
        for row in rows
    ]
    rest = flags.height - len(texts)
    return "; ".join(texts) + (f"; and {rest} more" if rest else "")
