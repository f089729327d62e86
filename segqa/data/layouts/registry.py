"""The layouts by name, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segqa.data.layouts import coco, decathlon, described, folders, manifest, medsam_npz, nnunet, sa_med2d
from segqa.data.layouts.dataset import Dataset, Finding
from segqa.errors import InputError


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of data set lies on the disk."""

    recognise: Callable[[Path, Path | None], str | None]
    """Why the two paths are of this layout; `None` when they are not. Looks at names and small files only."""
    read: Callable[[Path, Path | None, Finding], Dataset]


LAYOUTS = {
    "manifest": Layout(manifest.recognise, manifest.read),
    "coco": Layout(coco.recognise, coco.read),
    "nnunet": Layout(nnunet.recognise, nnunet.read),
    "decathlon": Layout(decathlon.recognise, decathlon.read),
    "medsam-npz": Layout(medsam_npz.recognise, medsam_npz.read),
    "sa-med2d": Layout(sa_med2d.recognise, sa_med2d.read),
    "segqa": Layout(described.recognise, described.read),
    "folders": Layout(folders.recognise, folders.read),
}
"""In the order in which they are tried: the last is the one that takes any two folders."""


def choose_layout(images: Path, truth: Path | None, *, wanted: str = "auto") -> tuple[str, str]:
    """Return the layout's name and why it was chosen.

    Raises:
        InputError: A path is missing, the name is unknown, or no layout fits.
    """
    for path in (images, truth):
        if path is not None and not path.exists():
            msg = f"{path}: no such file or folder"
            raise InputError(msg)
    if wanted != "auto":
        if wanted not in LAYOUTS:
            msg = f"--layout {wanted}: choose one of auto, {', '.join(LAYOUTS)}"
            raise InputError(msg)
        return wanted, "as told"
    for name, layout in LAYOUTS.items():
        reason = layout.recognise(images, truth)
        if reason is not None:
            return name, reason
    msg = f"{images}: none of the layouts {', '.join(LAYOUTS)}; "
    raise InputError(msg + "give the data set's folder, or images and references as two folders")
