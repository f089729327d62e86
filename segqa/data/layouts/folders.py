"""Plain folders: images and label maps with the same stems, flat or volumes."""

from __future__ import annotations

from pathlib import Path

from segqa.data.layouts.dataset import Dataset, Finding, find_labelled
from segqa.errors import InputError

_PLAIN_NAMES = frozenset({"images", "image", "imgs", "img"})


def recognise(images: Path, truth: Path | None) -> str | None:
    """Say why this is the layout; `None` when it is not."""
    if truth is not None:
        return "two paths of images and references, paired by stem"
    if (images / "images").is_dir() and (images / "masks").is_dir():
        return "a folder with images/ and masks/"
    return None


def read(images: Path, truth: Path | None, finding: Finding) -> Dataset:
    """Return the data set; its name is that of the images' folder, or of the one above a folder called `images`.

    Raises:
        InputError: No references were named, or files lack a partner.
    """
    if truth is None:
        if not (images / "masks").is_dir():
            msg = f"{images}: give the folder of the reference masks too, as second path"
            raise InputError(msg)
        images, truth = images / "images", images / "masks"
    folder = images.resolve() if images.is_dir() else images.resolve().parent
    name = folder.parent.name if folder.name.lower() in _PLAIN_NAMES else folder.name
    return find_labelled(images, truth, finding, name=name or "data")
