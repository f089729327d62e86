"""Segmenters by name; a model's own file, and torch with it, is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segqa.errors import InputError, require
from segqa.weights import find_weights

if TYPE_CHECKING:
    from pathlib import Path

    from segqa.segmenters.base import Segmenter
    from segqa.segmenters.prompted import PromptedModel

SEGMENTERS = {
    "litemedsam": "LiteMedSAM; boxes only; the default, works offline",
    "sam-vit-b": "SAM ViT-B",
    "sam-vit-l": "SAM ViT-L",
    "sam-vit-h": "SAM ViT-H",
    "medsam": "MedSAM with its own preprocessing",
    "medsam-as-sam": "MedSAM through SAM's preprocessing, as in the official EvanySeg release",
    "sam-med2d": "SAM-Med2D with adapters, 256 pixels",
    "random-walker": "Grady's random walker inside the box; boxes only; no weights, no torch",
}
"""What each name stands for."""

CLASSICAL = frozenset({"random-walker"})
"""Those without a checkpoint, which compute without torch."""

_WEIGHTS = {"medsam-as-sam": "medsam"}
"""Name of the checkpoint where it is not the segmenter's own."""


def segmenter_name(spec: str) -> str:
    """Return the name in `NAME` or `NAME=CHECKPOINT`.

    Raises:
        InputError: Unknown name.
    """
    name = spec.partition("=")[0]
    if name not in SEGMENTERS:
        msg = f"{name}: no such segmenter; choose one of {', '.join(SEGMENTERS)}, or NAME=CHECKPOINT"
        raise InputError(msg)
    return name


def segmenter_extra(spec: str) -> str:
    """Return the extra that brings everything a segmenter imports, torch included where it needs it.

    Raises:
        InputError: Unknown name.
    """
    name = segmenter_name(spec)
    if name in CLASSICAL:
        return "classical"
    return "litemedsam" if name == "litemedsam" else "sam"


def load_segmenter(spec: str, *, device: str = "cpu", bfloat16: bool = False) -> Segmenter:
    """Return a segmenter for `NAME` or `NAME=CHECKPOINT`.

    Without a checkpoint the file is looked for under its name, see `segqa.weights.find_weights`.

    Args:
        spec: For instance `litemedsam` or `sam-vit-b=checkpoints/sam_vit_b_01ec64.pth`.
        device: Where torch computes.
        bfloat16: Whether the encoder computes in bfloat16; classical methods do not ask.

    Raises:
        InputError: Unknown name, missing or wrong checkpoint.
        MissingExtraError: A package is missing; names the extra that brings it.
    """
    name, given = segmenter_name(spec), spec.partition("=")[2]
    if name in CLASSICAL:
        if given:
            msg = f"{spec}: {name} has no checkpoint; give the name alone"
            raise InputError(msg)
        from segqa.segmenters.random_walker import RandomWalker

        return RandomWalker()
    checkpoint = find_weights(given or _WEIGHTS.get(name, name))
    require("torch", name, extra=segmenter_extra(name))
    model = _load_model(name, checkpoint, device)
    if bfloat16:
        model.use_bfloat16()
    return model


def _load_model(name: str, checkpoint: Path, device: str) -> PromptedModel:
    if name == "litemedsam":
        from segqa.segmenters.litemedsam import LiteMedSam

        return LiteMedSam(checkpoint, device=device)
    if name == "medsam":
        from segqa.segmenters.medsam import MedSam

        return MedSam(checkpoint, device=device)
    if name == "sam-med2d":
        from segqa.segmenters.sam_med2d import SamMed2d

        return SamMed2d(checkpoint, device=device)
    from segqa.segmenters.sam import Sam

    encoder = "vit_b" if name == "medsam-as-sam" else name.removeprefix("sam-").replace("-", "_")
    return Sam(checkpoint, encoder=encoder, device=device, name=name)
