"""Masks that another program has made already: a folder of label maps, one file a case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from segqa.data.boxes import case_key
from segqa.data.files import list_some
from segqa.data.formats import split_name
from segqa.data.masks import read_mask
from segqa.data.types import LabelMap, Source
from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class PredictionFolder:
    """The predictions of one model, found by the stem of their file names."""

    name: str
    folder: Path
    files: Mapping[str, Path]
    """Mask file by case."""

    def check_complete(self, cases: Iterable[str]) -> None:
        """Refuse a folder that lacks the prediction of a case.

        Raises:
            InputError: Says how many are missing and names the first.
        """
        missing = [case for case in cases if case not in self.files]
        if missing:
            msg = f"{self.name}: {len(missing)} cases have no prediction: {list_some(missing, limit=3)}"
            raise InputError(msg)

    def read(self, case: str, *, size: tuple[int, int]) -> LabelMap:
        """Return the predicted label map of a case, int32 of shape `(H, W)`.

        Args:
            case: Stem of the image's file name.
            size: Height and width of the image.

        Raises:
            InputError: No such prediction, not a mask, or not of that size.
        """
        self.check_complete([case])
        path = self.files[case]
        labels = cast(LabelMap, read_mask(Source(path)).pixels)
        if labels.shape != size:
            found, expected = f"{labels.shape[1]}x{labels.shape[0]}", f"{size[1]}x{size[0]}"
            msg = f"{path.name}: {found} pixels, its image has {expected}; predict at the image's size"
            raise InputError(msg)
        return labels.astype(np.int32, copy=False)


def open_predictions(name: str, folder: Path) -> PredictionFolder:
    """Return the predictions of a model in a folder.

    Raises:
        InputError: No folder, no files, or two files of one stem.
    """
    if not folder.is_dir():
        msg = f"{folder}: no such folder; give the folder that holds the predictions of {name}"
        raise InputError(msg)
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not split_name(path.name)[1] or path.name.startswith("."):
            continue
        stem = case_key(path.name)
        if stem in files:
            msg = f"{folder}: {files[stem].name} and {path.name} are both the prediction of {stem}; keep one"
            raise InputError(msg)
        files[stem] = path
    if not files:
        msg = f"{folder}: no masks in it; give the folder that holds one mask a case"
        raise InputError(msg)
    return PredictionFolder(name, folder, files)
