"""segqa's own layout: `images/`, `masks/`, `dataset.json` and, where present, `groups.json` (id -> group).

Volumes may lie beside their dataset.json instead: it then has a list `volumes` of `id`, `image` and `mask`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from segqa.data.files import read_json
from segqa.data.groups import read_groups
from segqa.data.layouts.dataset import Dataset, Finding, Pair, find_labelled, find_pairs, label_names
from segqa.errors import InputError


def recognise(images: Path, truth: Path | None) -> str | None:
    """Say why this is the layout; `None` when it is not."""
    root = _root(images, truth)
    if root is None:
        return "dataset.json with a list called volumes" if truth is None and _volumes(images) else None
    content = read_json(root / "dataset.json")
    is_own = isinstance(content, dict) and ("mask_kind" in content or "split" in content)
    return "images/, masks/ and a dataset.json with mask_kind or split" if is_own else None


def read(images: Path, truth: Path | None, finding: Finding) -> Dataset:
    """Return the data set; its name is the folder's.

    Raises:
        InputError: A folder is missing, files lack a partner, or a case lacks a group.
    """
    root = _root(images, truth)
    if root is None and truth is None and _volumes(images):
        return _read_volumes(images, finding)
    if root is None:
        msg = f"{images}: no folder with images/, masks/ and dataset.json; choose another --layout"
        raise InputError(msg)
    about = read_json(root / "dataset.json")
    if not isinstance(about, dict):
        msg = f"{root / 'dataset.json'}: a JSON {type(about).__name__} where an object was expected; correct it"
        raise InputError(msg)
    name = root.resolve().name
    found = find_labelled(root / "images", root / "masks", finding, name=name)
    if (root / "groups.json").is_file():
        found = with_groups(found, root / "groups.json")
    return replace(
        found,
        labels=label_names(about.get("labels")),
        split=None if about.get("split") is None else str(about["split"]),
        has_instances=about.get("mask_kind") == "instance",
    )


def with_groups(dataset: Dataset, path: Path) -> Dataset:
    """Return the data set with the groups of a file: a JSON object of case (or volume) -> group.

    Raises:
        InputError: As of `read_groups`.
    """
    groups = read_groups(path, [case.name for case in dataset.cases])
    pairs = zip(dataset.cases, groups, strict=True)
    return replace(dataset, cases=tuple(replace(case, group=group) for case, group in pairs))


def _volumes(folder: Path) -> list[Any]:
    """Return the list of volumes that a folder's dataset.json may have."""
    path = folder / "dataset.json"
    content = read_json(path) if path.is_file() else None
    volumes = content.get("volumes") if isinstance(content, dict) else None
    return volumes if isinstance(volumes, list) else []


def _read_volumes(folder: Path, finding: Finding) -> Dataset:
    pairs = []
    for number, entry in enumerate(_volumes(folder)):
        try:
            name, image, mask = (str(entry[key]) for key in ("id", "image", "mask"))
        except (KeyError, TypeError) as error:
            msg = f"{folder / 'dataset.json'}: volume {number} needs id, image and mask; add them"
            raise InputError(msg) from error
        pairs.append(Pair(name, folder / image, folder / mask, name))
    split = read_json(folder / "dataset.json").get("split")
    return replace(find_pairs(pairs, finding, name=folder.resolve().name), split=None if split is None else str(split))


def _root(images: Path, truth: Path | None) -> Path | None:
    """Return the data set's folder: given itself, or as its `images` and `masks`."""
    root = images if truth is None else images.parent
    if truth is not None and (images.name, truth.name) != ("images", "masks"):
        return None
    is_there = (root / "images").is_dir() and (root / "masks").is_dir() and (root / "dataset.json").is_file()
    return root if is_there else None
