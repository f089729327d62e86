"""A CSV of files: columns `image` and `mask`, optionally `case` and `group`; others are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from segqa.data.boxes import case_key
from segqa.data.files import show_name
from segqa.data.layouts.dataset import Dataset, Finding, Pair, find_pairs
from segqa.errors import InputError


def recognise(images: Path, truth: Path | None) -> str | None:
    """Say why this is the layout; `None` when it is not."""
    is_table = truth is None and images.is_file() and images.suffix.lower() == ".csv"
    return "one CSV file" if is_table else None


def read(images: Path, truth: Path | None, finding: Finding) -> Dataset:
    """Return the data set; paths are relative to the CSV's folder, and its stem is the name.

    Raises:
        InputError: No readable CSV, a column or file is missing.
    """
    del truth
    try:
        table = pl.read_csv(images, infer_schema=False)
    except (PolarsError, OSError, UnicodeError) as error:
        fact = (str(error).strip().splitlines() or ["empty file"])[0]
        msg = f"{show_name(images)}: not a readable CSV ({fact}); give columns image,mask and optionally case,group"
        raise InputError(msg) from error
    missing = [column for column in ("image", "mask") if column not in table.columns]
    if missing:
        msg = f"{show_name(images)}: no column {', '.join(missing)} (found {', '.join(table.columns[:6])}); add it"
        raise InputError(msg)
    rows = table.iter_rows(named=True)
    return find_pairs([_pair(row, images.parent) for row in rows if row["image"]], finding, name=images.stem)


def _pair(row: Mapping[str, str | None], folder: Path) -> Pair:
    image = folder / (row["image"] or "")
    truth = folder / row["mask"] if row["mask"] else None
    return Pair(row.get("case") or case_key(image.name), image, truth, row.get("group"))
