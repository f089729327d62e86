"""Groups: cases of one patient or volume, which are no independent evidence and stay on one side of a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from segqa.data.files import list_some, read_json, show_name
from segqa.errors import InputError

_SLICE = re.compile(r"(.+)_s\d+")


def group_of(case: str) -> str:
    """Return the group that a case's name tells: slices of one volume belong together.

    `volume:007` is of `volume`. An id that ends in `_s` and digits (`patient001_frame01_s06`, `case_12_s03`) is of what
    it begins with, up to its first number (`patient001`, `case_12`); where only a folder has a number, up to the slice
    (`p1/a_s03` is of `p1/a`). Any other case is a group of its own, also one without another number (`brats_s001` is a
    subject, not a slice).
    """
    stem, colon, _ = case.rpartition(":")
    if colon:
        return stem
    folder, slash, name = case.rpartition("/")
    match = _SLICE.fullmatch(name)
    if match is None:
        return case
    parts = match[1].split("_")
    first = next((place for place, part in enumerate(parts, start=1) if _has_digit(part)), None)
    if first is None and not _has_digit(folder):
        return case
    return folder + slash + "_".join(parts[:first])


def _has_digit(text: str) -> bool:
    return any(sign.isdigit() for sign in text)


def read_groups(path: Path, cases: Sequence[str]) -> list[str]:
    """Return the group of each case, from a JSON object of case (or `group_of` it, such as its volume) -> group.

    Raises:
        InputError: A case is not in it: a guess could put look-alikes on both sides of a split.
    """
    groups = read_json(path)
    if not isinstance(groups, dict):
        msg = f"{show_name(path)}: a JSON {type(groups).__name__} where an object of case: group was expected"
        raise InputError(msg)
    keys = [case if case in groups else group_of(case) for case in cases]
    missing = list(dict.fromkeys(case for case, key in zip(cases, keys, strict=True) if key not in groups))
    if missing:
        msg = f"{show_name(path)}: {len(missing)} cases have no group: {list_some(missing, limit=3)}; add them"
        raise InputError(msg)
    return [str(groups[key]) for key in keys]
