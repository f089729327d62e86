"""Which format a file has, told by its first bytes rather than by its name."""

from __future__ import annotations

import gzip
import zlib
from enum import StrEnum
from pathlib import Path

from segqa.data.files import show_name
from segqa.errors import InputError

MAX_PIXELS = 2**28
"""Default limit on the pixels of a picture or the voxels of a volume, checked before they are allocated."""

HEAD_BYTES = 540
"""The longest header that tells a format (NIfTI-2)."""


class Format(StrEnum):
    """The formats that can be read."""

    PNG = "PNG"
    JPEG = "JPEG"
    BMP = "BMP"
    TIFF = "TIFF"
    NIFTI = "NIfTI"
    DICOM = "DICOM"
    SERIES = "DICOM series"
    NPY = "npy"
    NPZ = "npz"


FLAT_FORMATS = frozenset({Format.PNG, Format.JPEG, Format.BMP, Format.TIFF})
"""Formats that hold one picture; the others may hold a volume."""

SUFFIXES = (
    *(".nii.gz", ".nii", ".png", ".jpeg", ".jpg", ".bmp", ".tiff", ".tif", ".dicom", ".dcm", ".npy", ".npz"),
    *(".gif", ".webp", ".jp2", ".mha", ".mhd", ".nrrd"),
)
"""Endings that are not part of a stem; `.nii.gz` is one ending. The second line is known but not readable."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"\xff\xd8\xff", Format.JPEG),
    (b"BM", Format.BMP),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0", Format.TIFF),
    (b"MM\0+", Format.TIFF),
    (b"\x93NUMPY", Format.NPY),
    (b"PK\x03\x04", Format.NPZ),
)
_FOREIGN = (
    (b"GIF8", "a GIF"),
    (b"RIFF", "a WebP"),
    (b"\0\0\0\x0cjP", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"ObjectType", "a MetaImage"),
    (b"NRRD", "an NRRD"),
)


def split_name(name: str) -> tuple[str, str]:
    """Return stem and ending of a file name; an ending that is no known format stays in the stem."""
    lower = name.lower()
    for suffix in SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    return name, ""


def sniff(path: Path) -> Format:
    """Return the format of a file, or of a folder that holds a DICOM series.

    Raises:
        InputError: The file is missing, empty, a stand-in (Git LFS, HTML), or of no supported format.
    """
    if path.is_dir():
        return Format.SERIES
    head = _read_head(path)
    found = _match(head)
    if head[:2] == b"\x1f\x8b":
        if not path.name.lower().endswith(".gz"):
            msg = f"{show_name(path)}: compressed with gzip, but not named .gz; rename it to .nii.gz"
            raise InputError(msg)
        found = _match(unzip_head(path))
    elif found is Format.NIFTI and path.name.lower().endswith(".gz"):
        msg = f"{show_name(path)}: named .gz, but not gzip; rename it to .nii"
        raise InputError(msg)
    if found is None:
        msg = f"{show_name(path)}: {_explain(head)}"
        raise InputError(msg)
    return found


def unzip_head(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Return the first bytes inside a gzip file.

    Raises:
        InputError: It is cut short or damaged.
    """
    try:
        with gzip.open(path) as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{show_name(path)}: truncated or damaged gzip file; copy it again"
        raise InputError(msg) from error


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        msg = f"{show_name(path)}: no such file in {path.parent}"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"{show_name(path)}: cannot be opened ({error.strerror or error})"
        raise InputError(msg) from error


def _match(head: bytes) -> Format | None:
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head[128:132] == b"DICM":
        return Format.DICOM
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return Format.NIFTI
    return None


def _explain(head: bytes) -> str:
    if not head:
        return "empty file (0 bytes), not an image; copy or export it again"
    if head.startswith(b"version https://git-lfs"):
        return "Git LFS pointer, not an image; fetch the content with `git lfs pull`"
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html", b"<?xml"):
        return "HTML or XML text, not an image; was an error page saved in its place?"
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            return f"{name} file cannot be read; convert it to PNG, or to NIfTI for a volume"
    return (
        "not an image: no PNG, JPEG, BMP, TIFF, NIfTI, DICOM (with its DICM marker), .npy or .npz; "
        "export it in one of these formats"
    )
