"""The chosen masks as files: one label map per case, each object from the model that was chosen for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segqa.data.boxes import Box
from segqa.data.cases import find_cases
from segqa.data.masks import read_mask, write_mask
from segqa.data.objects import find_objects
from segqa.data.pairing import pair_files
from segqa.data.types import PromptBox
from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from segqa.data.types import Case, LabelMap, Mask

    Row = Mapping[str, Any]


def write_chosen(scores: pl.DataFrame, chosen: pl.DataFrame, masks: Path, folder: Path) -> int:
    """Write the mask of each case, composed of the chosen objects, as PNG; a slice is a case of its own.

    Objects that share a label in a case are told apart by their boxes in the scores. Where chosen objects of
    different models overlap, the later one is on top.

    Args:
        scores: The scores that were ranked.
        chosen: `ranking.rank` of them.
        masks: The masks that were scored: a folder with a sub-folder for each model.
        folder: Where to write `<case>.png`; sub-folders of cases are kept.

    Returns:
        The number of files written.

    Raises:
        InputError: A case has no masks there, or a label is not a number.
    """
    cases = _find_all(masks)
    missing = [name for name in chosen["case"].unique(maintain_order=True) if name not in cases]
    if missing:
        msg = f"{len(missing)} cases of the scores have no mask in {masks}: {', '.join(missing[:3])}; "
        raise InputError(msg + "give the folder that was scored")
    by_label = scores.partition_by("case", "label", "model", as_dict=True)
    groups = chosen.partition_by("case", maintain_order=True)
    for group in groups:
        case = cases[group["case"][0]]
        path = folder / f"{case.name.replace(':', '_')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, _compose(case, group, by_label))
    return len(groups)


def _find_all(masks: Path) -> dict[str, Case]:
    """Return the cases that any model has a mask of; the mask of one model plays the image."""
    root = next((path for path in sorted(masks.iterdir()) if path.is_dir()), masks) if masks.is_dir() else masks
    models = {model: masks / model for model in pair_files(root, masks).masks}
    if not all(path.is_dir() for path in models.values()):
        msg = f"{masks}: no sub-folder for each model; give the folder that holds one folder a model"
        raise InputError(msg)
    found: dict[str, Case] = {}
    for path in models.values():
        for case in find_cases(path, models, allow_missing=True):
            found.setdefault(case.name, case)
    return found


def _compose(case: Case, group: pl.DataFrame, by_label: Mapping[tuple[Any, ...], pl.DataFrame]) -> LabelMap:
    maps: dict[str, LabelMap] = {}
    composed: LabelMap | None = None
    for row in group.iter_rows(named=True):
        model = row["model"]
        if model is None:
            continue
        if model not in maps:
            maps[model] = read_mask(case.masks[model]).pixels.astype(np.int32, copy=False)
        if composed is None:
            composed = np.zeros_like(maps[model])
        rows = by_label[row["case"], row["label"], model].to_dicts()
        composed[_object_mask(maps[model], row, rows)] = _number(row)
    if composed is None:
        first = next(iter(case.masks.values()))
        return np.zeros(read_mask(first).pixels.shape, np.int32)
    return composed


def _object_mask(label_map: LabelMap, row: Row, rows: Sequence[Row]) -> Mask:
    """Return the object of a row, given all rows of its case, label and model."""
    label = _number(row)
    if len(rows) == 1:
        return np.asarray(label_map == label)
    boxes = tuple(PromptBox(Box(*(one[name] for name in ("x0", "y0", "x1", "y1"))), str(label)) for one in rows)
    found = find_objects(label_map, boxes=boxes, labels=[label])
    place = [one["object"] for one in rows].index(row["object"])
    return found[place].mask


def _number(row: Row) -> int:
    if not row["label"].isdigit():
        msg = f"case {row['case']}: label {row['label']!r} is a name; masks are composed of labels given by number"
        raise InputError(msg)
    return int(row["label"])
