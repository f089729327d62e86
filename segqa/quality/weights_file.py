"""Weights files: one safetensors file holds the tensors and all that is needed to use them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from segqa.errors import InputError
from segqa.weights import hash_file

FORMAT = "segqa.quality"
VERSION = 2

CALIBRATION = "calibration."
"""Prefix of the tensors that are not the network's: see `segqa.quality.calibration`."""

KNOWN_HEADS = ("dice", "hd95")
"""Heads that tables show and calibrations know; EvanySeg's own second one (`hd`, in pixels of a crop) is neither."""


@dataclass(frozen=True)  # without slots, which leave no place to keep the digest
class CheckpointInfo:
    """What a weights file says about itself, read without its tensors."""

    path: Path
    spec: dict[str, Any]
    """`NetworkSpec.to_dict()`."""
    card: dict[str, Any]
    """How it was trained; licence."""
    folds: dict[str, dict[str, Any]]
    """Convolution weight -> `norm` and `epsilon` of the batch norm that the graph has folded into it."""

    @cached_property
    def sha256(self) -> str:
        """Return the digest of the file, as it was when it was first asked for."""
        return hash_file(self.path)


def metadata(spec: dict[str, Any], card: dict[str, Any], folds: dict[str, Any] | None = None) -> dict[str, str]:
    """Return the metadata block of a weights file."""
    blocks = {"spec": spec, "card": card, "folds": folds or {}}
    licence = {"licence": str(card.get("licence", "not stated"))}
    return (
        {"format": FORMAT, "version": str(VERSION)}
        | licence
        | {name: json.dumps(block) for name, block in blocks.items()}
    )


def read_info(path: Path) -> CheckpointInfo:
    """Read what a weights file says about itself.

    Raises:
        InputError: When the file is missing, damaged, or not segqa's.
    """
    if not path.is_file():
        msg = f"{path}: no such weights file; give a .safetensors file made by `segqa train` or `segqa weights import`"
        raise InputError(msg)
    try:
        with safe_open(path, framework="numpy") as file:
            values = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        msg = (
            f"{path}: not a whole safetensors file ({error}); pickled checkpoints (.pt, .pth) are never loaded "
            "for scoring, convert them once with `segqa weights import`"
        )
        raise InputError(msg) from error
    if values.get("format") != FORMAT or values.get("version") != str(VERSION):
        msg = (
            f"{path}: format {values.get('format')!r} version {values.get('version')!r}, expected {FORMAT!r} version "
            f"'{VERSION}'; these are not weights of a quality network of this segqa"
        )
        raise InputError(msg)
    try:
        return CheckpointInfo(path, *(json.loads(values[name]) for name in ("spec", "card", "folds")))
    except (KeyError, ValueError) as error:
        msg = f"{path}: does not say which network it holds ({error}); the file is damaged, get it again"
        raise InputError(msg) from error
