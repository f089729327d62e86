"""Files of images and of masks, paired by stem."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from segqa.data.boxes import case_key
from segqa.data.files import files_below, is_hidden, list_some, show_name, visible_files
from segqa.data.formats import Format, sniff, split_name
from segqa.errors import InputError

_CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net: CASE_0000 is the first channel of CASE

Files = dict[str, Path]
"""Files by key: the relative path without ending, in NFC."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and the masks of each model under common keys."""

    images: Files
    masks: dict[str, Files]
    """Files by model."""
    aliases: dict[str, str]
    """Key as the image file has it, by case key, where they differ (nnU-Net)."""
    ignored: tuple[str, ...]
    """Files that are no pictures."""


def pair_files(images: Path, masks: Path | Mapping[str, Path]) -> Pairs:
    """Return the files of both sides under common keys; who lacks a partner is for the caller to judge.

    `masks` is a folder of masks (the model has the folder's name), a folder of such folders, one a model, or
    a path for each model. Two single files are a pair whatever their names.

    Raises:
        InputError: A path does not exist, holds no pictures, or two files have the same key.
    """
    for path in (images, *(masks.values() if isinstance(masks, Mapping) else (masks,))):
        if not path.exists():
            msg = f"{show_name(path)}: no such file or folder ({path}); give a path that exists"
            raise InputError(msg)
    is_series = images.is_dir() and isinstance(masks, Path) and masks.is_file()
    if images.is_file() or (is_series and _is_series(images)):
        image_files: Files = {case_key(images.name): images}
        ignored: list[str] = []
    else:
        image_files, ignored = list_pictures(images)
    models = _split_models(masks, image_files, ignored)
    if images.is_file():
        models = {name: _only(files, images) for name, files in models.items()}
    _collapse_series(image_files, images, {key for files in models.values() for key in _with_folders(files)})
    _refuse_mixed(image_files, images, {key for files in models.values() for key in files})
    for name, files in models.items():
        root = masks[name] if isinstance(masks, Mapping) else masks
        nested = root / name
        _collapse_series(files, nested if nested.is_dir() else root, image_files)
    aliases = _strip_channels(image_files, {key for files in models.values() for key in files}, ignored)
    return Pairs(image_files, models, aliases, tuple(ignored))


def list_pictures(folder: Path) -> tuple[Files, list[str]]:
    """Return the pictures below a folder by key, and the names of the other visible files.

    Raises:
        InputError: There is none, or two have the same key.
    """
    found: dict[str, list[Path]] = {}
    ignored: list[str] = []
    for path in sorted(files_below([folder])):
        relative = path.relative_to(folder)
        if any(is_hidden(part) for part in relative.parts):
            continue
        if split_name(path.name)[1] or _is_picture(path):
            found.setdefault(case_key(relative.as_posix()), []).append(path)
        elif not _has_header(path):
            ignored.append(show_name(path.name))
    twice = [" and ".join(show_name(path.name) for path in paths) for paths in found.values() if len(paths) > 1]
    if twice:
        msg = f"{show_name(folder)}: {len(twice)} stems are there twice: {list_some(twice)}; keep one file each"
        raise InputError(msg)
    if not found:
        msg = f"{show_name(folder)}: no pictures in {folder}; PNG, JPEG, TIFF, NIfTI, DICOM and .npy are read"
        raise InputError(msg)
    return {key: paths[0] for key, paths in found.items()}, ignored


def _is_picture(path: Path) -> bool:
    try:
        sniff(path)
    except InputError:
        return False
    return True


def _has_header(path: Path) -> bool:
    """Tell the voxels of an old NIfTI pair (`a.hdr`, `a.img`), which are read through their header."""
    header = path.with_suffix(".hdr")
    return path.suffix == ".img" and header.is_file() and _is_picture(header)


def _split_models(masks: Path | Mapping[str, Path], images: Collection[str], ignored: list[str]) -> dict[str, Files]:
    if isinstance(masks, Mapping):
        return {name: _files_of(path, images, ignored) for name, path in masks.items()}
    if masks.is_file():
        return {masks.resolve().parent.name: _files_of(masks, images, ignored)}
    files = _files_of(masks, images, ignored)
    known = {base for key in images for base in (key, _base(key))}
    inner = {key: key.partition("/") for key in files}
    is_split = all(rest for _, _, rest in inner.values()) and not known & _with_folders(files)
    if not is_split or not any(_has_image(rest, known) for _, _, rest in inner.values()):
        return {masks.resolve().name: files}
    models: dict[str, Files] = {}
    for key, (_, _, rest) in inner.items():
        # The folder's own spelling, not the key's NFC: the name is shown and looked up as it is on disk.
        name = files[key].relative_to(masks).parts[0]
        models.setdefault(name, {})[rest] = files[key]
    return models


def _has_image(key: str, known: Collection[str]) -> bool:
    return key in known or key.rpartition("/")[0] in known


def _files_of(path: Path, images: Collection[str], ignored: list[str]) -> Files:
    if path.is_file():
        key = case_key(path.name)
        sole = next(iter(images)) if len(images) == 1 else key
        return {key if key == _base(sole) else sole: path}
    files, others = list_pictures(path)
    ignored += others
    return files


def _only(files: Files, image: Path) -> Files:
    """Return the mask of a single image out of a folder of masks."""
    key = case_key(image.name)
    return {name: path for name, path in files.items() if name in (key, _base(key))}


def _base(key: str) -> str:
    match = _CHANNEL.fullmatch(key)
    return match[1] if match else key


def _strip_channels(images: Files, masks: Collection[str], ignored: list[str]) -> dict[str, str]:
    """Rename nnU-Net's CASE_0000 to CASE where the masks are named so; further channels are no cases."""
    aliases: dict[str, str] = {}
    for key in list(images):
        base = _base(key)
        if base == key or key in masks or base not in masks or base in images:
            if base in aliases and base != key:
                ignored.append(show_name(images.pop(key).name))
            continue
        if key.endswith("_0000"):
            aliases[base] = key
            images[base] = images.pop(key)
    return aliases


def _with_folders(files: Files) -> set[str]:
    """Return the keys and the folders they are in."""
    return {*files, *(key.rpartition("/")[0] for key in files)} - {""}


def _collapse_series(files: Files, root: Path, partners: Collection[str]) -> None:
    """Put a folder in the place of its files, where a partner has its name and the files are DICOM."""
    for folder in sorted({key.rpartition("/")[0] for key in files} & set(partners)):
        inside = {key for key in files if key.rpartition("/")[0] == folder}
        if _is_series(root / folder):
            for key in inside:
                del files[key]
            files[folder] = root / folder


def _is_series(folder: Path) -> bool:
    files = visible_files(folder)
    return bool(files) and all(_is_dicom(path) for path in files)


def _refuse_mixed(files: Files, root: Path, masks: Collection[str]) -> None:
    """Refuse a folder that would be a series, and of which there is a mask, but for a file among the DICOM files."""
    for folder in sorted({key.rpartition("/")[0] for key in files} & set(masks)):
        inside = visible_files(root / folder)
        others = [path.name for path in inside if not _is_dicom(path)]
        if len(others) < len(inside):
            fact = f"{list_some(others, limit=3)} among its DICOM files"
            msg = f"{show_name(root / folder)}: {fact} is none; keep nothing else in the folder of a series"
            raise InputError(msg)


def _is_dicom(path: Path) -> bool:
    try:
        return sniff(path) is Format.DICOM
    except (InputError, OSError):
        return False
