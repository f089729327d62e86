"""The chosen masks as files: one label map per case, each object from the model that was chosen for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from segqa.data.boxes import Box
from segqa.data.cases import find_cases
from segqa.data.masks import read_mask, write_mask
from segqa.data.objects import UNKNOWN_LABEL, find_objects
from segqa.data.types import PromptBox
from segqa.errors import InputError
from segqa.schema import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from segqa.data.types import Case, LabelMap, Mask

    Row = Mapping[str, Any]


def write_chosen(
    scores: pl.DataFrame,
    chosen: pl.DataFrame,
    cases: Iterable[Case],
    folder: Path,
    *,
    masks: Path | Mapping[str, Path] | None = None,
) -> int:
    """Write the mask of each case, composed of the chosen objects, as PNG; a slice is a case of its own.

    Objects that share a label in a case are told apart by their boxes in the scores. Where chosen objects of
    different models overlap, the later one is on top. A case in which no object was scored has no file.

    Args:
        scores: The scores that were ranked.
        chosen: `ranking.rank` of them.
        cases: The cases with the masks of each model, as they were scored or as `find_masks` finds them.
        folder: Where to write `<case>.png`; sub-folders of cases are kept.
        masks: What was given as the masks of the cases.

    Returns:
        The number of files written.

    Raises:
        InputError: As of `check_folder`; a case or a model has no mask there, a label is not a number, objects of one
            label have no boxes, or a file cannot be written.
    """
    known = {case.name: case for case in cases}
    check_folder(folder, known.values(), masks=masks)
    by_label = scores.partition_by("case", "label", "model", as_dict=True)
    groups = chosen.drop_nulls("model").partition_by("case", maintain_order=True)
    _check_masks(groups, known)
    for group in groups:
        case = known[group["case"][0]]
        write_mask(folder / f"{case.name.replace(':', '_')}.png", _compose(case, group, by_label))
    return len(groups)


def find_masks(scores: pl.DataFrame, masks: Path | Mapping[str, Path], *, axis: int = -1) -> list[Case]:
    """Return the cases that any model of the scores has a mask of; the mask of one model plays the image.

    Args:
        scores: The scores of these masks.
        masks: What was scored: a folder (with a sub-folder for each model, if they are several), or a path for
            each model.
        axis: Slicing axis of volumes.

    Raises:
        InputError: A model of the scores has no masks there, or they cannot be read.
    """
    models = {model: _model_path(masks, model) for model in sorted(scores["model"].unique()) if model}
    # A slice in which every model missed the object is a case because of its box.
    slices = scores.filter(pl.col("case").str.contains(":", literal=True)).drop_nulls(BOX_COLUMNS)
    boxes = {row["case"]: (PromptBox(_box(row)),) for row in slices.iter_rows(named=True)}
    found: dict[str, Case] = {}
    for path in models.values():
        for case in find_cases(path, models, boxes=boxes, allow_missing=True, axis=axis, skip_unreadable=True):
            found.setdefault(case.name, case)
    return list(found.values())


def _model_path(masks: Path | Mapping[str, Path], model: str) -> Path:
    path: Path | None
    if isinstance(masks, Path):
        nested = masks / model
        path = nested if nested.is_dir() or masks.resolve().name != model else masks
    else:
        path = masks.get(model)
    if path is None or not path.exists():
        where = masks if isinstance(masks, Path) else f"the masks of {', '.join(masks)}"
        msg = f"{where}: no masks of the model {model!r}, which the scores have; give the masks that were scored"
        raise InputError(msg)
    return path


def check_folder(folder: Path, cases: Iterable[Case], *, masks: Path | Mapping[str, Path] | None = None) -> None:
    """Refuse a folder in which masks that were scored would be overwritten, or the chosen ones taken for theirs.

    Raises:
        InputError: It is one of the folders of the masks, lies in one, or holds one; or it would be a model of its own
            the next time that `masks` is given.
    """
    target = folder.resolve()
    places: defaultdict[tuple[Path, str], set[Path]] = defaultdict(set)
    for case in cases:
        for model, mask in case.masks.items():
            # Above the sub-folders that are part of the case's name.
            above = list(mask.path.absolute().parents)
            places[above[min(case.name.count("/"), len(above) - 1)].resolve(), model].add(mask.path)
    for (place, _), files in sorted(places.items()):
        # A lone mask may have been given as a file, and what lies beside it is nobody's.
        lies_in = place in target.parents and len(files) > 1
        if target == place or lies_in or target in place.parents:
            msg = f"--copy-best {folder}: shares a folder with the masks that were scored ({place}); choose another"
            raise InputError(msg)
    if isinstance(masks, Path) and masks.resolve() in target.parents:
        msg = f"--copy-best {folder}: lies in {masks} and would be one of its models; choose a folder outside"
        raise InputError(msg)


def _check_masks(groups: Sequence[pl.DataFrame], known: Mapping[str, Case]) -> None:
    wanted = {(group["case"][0], model) for group in groups for model in group["model"]}
    missing = sorted(case for case, model in wanted if case not in known or model not in known[case].masks)
    if missing:
        msg = f"{len(missing)} cases of the scores have no mask of their chosen model: {', '.join(missing[:3])}; "
        raise InputError(msg + "give the masks that were scored")


def _compose(case: Case, group: pl.DataFrame, by_label: Mapping[tuple[Any, ...], pl.DataFrame]) -> LabelMap:
    labels = {_number(row) for row in group.iter_rows(named=True) if row["label"] != UNKNOWN_LABEL}
    maps = {model: read_mask(case.masks[model], labels=labels).pixels for model in set(group["model"])}
    composed = np.zeros_like(maps[group["model"][0]])
    for row in group.iter_rows(named=True):
        if row["label"] == UNKNOWN_LABEL:  # a box that the model missed: nothing to draw
            continue
        label_map, rows = maps[row["model"]], by_label[row["case"], row["label"], row["model"]].to_dicts()
        composed[_object_mask(label_map, row, rows)] = _number(row)
    return composed


def _object_mask(label_map: LabelMap, row: Row, rows: Sequence[Row]) -> Mask:
    """Return the object of a row, given all rows of its case, label and model."""
    label = _number(row)
    if row["object"].isdigit() and int(row["object"]) > len(rows):
        fact = f"case {row['case']}: object {row['object']} of label {row['label']} is one of {len(rows)} in the table"
        msg = f"{fact}; give the whole table, the other objects tell which pixels are its own"
        raise InputError(msg)
    if len(rows) == 1:
        return np.asarray(label_map == label)
    if any(one[corner] is None for one in rows for corner in BOX_COLUMNS):
        fact = f"case {row['case']}: label {row['label']} has no boxes to tell its {len(rows)} objects apart"
        msg = f"{fact}; use the table that `segqa score` wrote"
        raise InputError(msg)
    boxes = tuple(PromptBox(_box(one), str(label)) for one in rows)
    found = list(find_objects(label_map, boxes=boxes, labels=[label]))
    place = [one["object"] for one in rows].index(row["object"])
    return found[place].mask


def _box(row: Row) -> Box:
    return Box(*(row[name] for name in BOX_COLUMNS))


def _number(row: Row) -> int:
    if not row["label"].isdigit():
        msg = f"case {row['case']}: label {row['label']!r} is a name; masks are composed of labels given by number"
        raise InputError(msg)
    return int(row["label"])
