"""MedSAM's files: one `.npz` a case with `imgs`, `gts` and perhaps `boxes`."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from segqa.data.boxes import Box
from segqa.data.files import decoding, show_name
from segqa.data.layouts.dataset import Dataset, Finding, LabelledCase, LeftOut, find_pair
from segqa.data.types import PromptBox
from segqa.errors import InputError


def recognise(images: Path, truth: Path | None) -> str | None:
    """Say why this is the layout; `None` when it is not."""
    files = _files(images) if truth is None else []
    is_own = bool(files) and zipfile.is_zipfile(files[0]) and "imgs" in _keys(files[0])
    return ".npz files with imgs" if is_own else None


def read(images: Path, truth: Path | None, finding: Finding) -> Dataset:
    """Return the data set; a volume becomes its slices with foreground, boxes of flat images become prompts.

    Raises:
        InputError: There is no such file, or one is damaged.
    """
    del truth
    files = _files(images)
    if not files:
        msg = f"{images}: no .npz file in it; choose another --layout"
        raise InputError(msg)
    cases: list[LabelledCase] = []
    left_out: list[LeftOut] = []
    empty_slices = 0
    for path in files:
        if "gts" not in _keys(path):
            left_out.append(LeftOut(path.stem, "without reference: no array called gts"))
            continue
        found = find_pair(path, path, finding, name=path.stem)
        boxes, reason = _boxes(path, is_flat=len(found.cases) == 1 and found.cases[0].image.slice_index is None)
        if reason:
            left_out.append(LeftOut(path.stem, reason))
        cases += [replace(case, boxes=boxes) for case in found.cases]
        empty_slices += found.empty_slices
    folder = images if images.is_dir() else images.parent
    return Dataset(folder.resolve().name, tuple(cases), left_out=tuple(left_out), empty_slices=empty_slices)


def _files(images: Path) -> list[Path]:
    if images.is_file():
        return [images] if images.suffix == ".npz" else []
    return sorted(images.glob("*.npz"))


def _keys(path: Path) -> list[str]:
    with decoding(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _boxes(path: Path, *, is_flat: bool) -> tuple[tuple[PromptBox, ...], str]:
    """Return the file's boxes (xyxy), or why they are not used."""
    if "boxes" not in _keys(path):
        return (), ""
    with decoding(path), np.load(path, allow_pickle=False) as arrays:
        values = np.asarray(arrays["boxes"])
    if not is_flat or values.ndim != 2 or values.shape[1] != 4:
        return (), f"boxes of shape {values.shape} are not used: only those of flat images are, (N, 4)"
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        msg = f"{show_name(path)}: boxes that are no numbers; correct or remove them"
        raise InputError(msg)
    corners = np.rint(values).astype(int).tolist()
    return tuple(PromptBox(Box(*four)) for four in corners), ""
