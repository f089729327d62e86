"""nnU-Net's raw data: `dataset.json`, `imagesTr/CASE_0000.*`, `labelsTr/CASE.*`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from segqa.data.files import read_json
from segqa.data.layouts.dataset import Dataset, Finding, LabelledCase, Truth, find_labelled, label_names
from segqa.errors import InputError

IGNORE = "ignore"
"""Name of the label of pixels that nobody annotated."""


def recognise(images: Path, truth: Path | None) -> str | None:
    """Say why this is the layout; `None` when it is not."""
    root = _root(images, truth)
    if root is None or not any("_0000." in path.name for path in (root / "imagesTr").iterdir()):
        return None
    return "dataset.json, labelsTr/ and imagesTr/ with _0000"


def read(images: Path, truth: Path | None, finding: Finding) -> Dataset:
    """Return the training cases, first channel only; pixels of an `ignore` label count as background.

    Raises:
        InputError: A folder is missing, or files lack a partner.
    """
    root = _root(images, truth)
    if root is None:
        msg = f"{images}: no folder with dataset.json, imagesTr/ and labelsTr/; choose another --layout"
        raise InputError(msg)
    content = read_json(root / "dataset.json")
    names = label_names(content.get("labels") if isinstance(content, dict) else None)
    found = find_labelled(root / "imagesTr", root / "labelsTr", finding, name=root.resolve().name)
    ignored = [value for value, name in names.items() if name == IGNORE]
    if ignored:
        found = replace(found, cases=tuple(_ignoring(case, ignored[0]) for case in found.cases))
    return replace(found, labels={value: name for value, name in names.items() if name != IGNORE})


def _ignoring(case: LabelledCase, value: int) -> LabelledCase:
    return replace(case, read_truth=partial(_read_without, case, value))


def _read_without(case: LabelledCase, value: int) -> Truth:
    labels = case.read_truth().labels
    return Truth(np.where(labels == value, np.int32(0), labels))


def _root(images: Path, truth: Path | None) -> Path | None:
    root = images if truth is None else images.parent
    if truth is not None and (images.name, truth.name) != ("imagesTr", "labelsTr"):
        return None
    is_there = (root / "imagesTr").is_dir() and (root / "labelsTr").is_dir() and (root / "dataset.json").is_file()
    return root if is_there else None
