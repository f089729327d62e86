"""A datalist as in the Medical Segmentation Decathlon and MONAI: JSON with `training: [{image, label}, ...]`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from segqa.data.boxes import case_key
from segqa.data.files import read_json, show_name
from segqa.data.layouts.dataset import Dataset, Finding, Pair, find_pairs, label_names
from segqa.errors import InputError


def recognise(images: Path, truth: Path | None) -> str | None:
    """Say why this is the layout; `None` when it is not."""
    path = _list_file(images)
    if truth is not None or path is None:
        return None
    content = read_json(path)
    is_list = isinstance(content, dict) and isinstance(content.get("training"), list)
    return f"{path.name} with a list called training" if is_list else None


def read(images: Path, truth: Path | None, finding: Finding) -> Dataset:
    """Return the training part of the list; paths are relative to it, of several channels the first is taken.

    Raises:
        InputError: No such list, or files are missing.
    """
    del truth
    path = _list_file(images)
    content = read_json(path) if path is not None else None
    if path is None or not isinstance(content, dict) or not isinstance(content.get("training"), list):
        msg = f"{show_name(images)}: no JSON with a list called training; choose another --layout"
        raise InputError(msg)
    pairs = [_pair(entry, path, number) for number, entry in enumerate(content["training"])]
    found = find_pairs(pairs, finding, name=path.resolve().parent.name)
    return replace(found, labels=label_names(content.get("labels")))


def _pair(entry: Any, path: Path, number: int) -> Pair:
    image = entry.get("image") if isinstance(entry, dict) else None
    if isinstance(image, list) and image:
        image = image[0]
    if not isinstance(image, str):
        msg = f'{show_name(path)}: training entry {number} names no image; write {{"image": ..., "label": ...}}'
        raise InputError(msg)
    label = entry.get("label")
    truth = path.parent / label if isinstance(label, str) else None
    return Pair(case_key(Path(image).name), path.parent / image, truth)


def _list_file(images: Path) -> Path | None:
    if images.is_file():
        return images if images.suffix.lower() == ".json" else None
    path = images / "dataset.json"
    return path if path.is_file() else None
