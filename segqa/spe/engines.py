"""What SPE asks of an in-context segmenter, and the engines by name."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segqa.errors import InputError
from segqa.runtime import require_torch

SIDE = 128
"""Every engine sees squares of 128 pixels (Wu et al. 2025, section 3.1)."""

Canvas = NDArray[np.uint8]
"""Images of shape `(N, SIDE, SIDE, 3)`, 0..255."""

CanvasMasks = NDArray[np.bool_]
"""Masks of one label, shape `(N, SIDE, SIDE)`."""

ENGINES = ("readout", "universeg")
DEFAULT_ENGINE = "readout"


class Engine(Protocol):
    """Segments images by example: what the support set shows is what it looks for."""

    name: str
    threshold: float
    """A pixel is foreground when its probability is above it."""
    is_cheap: bool
    """A support set costs so little that it may be large, and that mappings for several sizes can be fitted."""
    settings: dict[str, str]
    """What a bundle must remember to make the same engine again."""
    notice: str
    """What the user should know of the weights; empty when there is nothing to say."""

    def segment(self, queries: Canvas, support_images: Canvas, support_masks: CanvasMasks) -> NDArray[np.float32]:
        """Return foreground probabilities `(Q, SIDE, SIDE)`, 0..1, for `Q` queries and `S` support pairs."""
        ...


def create_engine(name: str, *, weights: Path | None = None, precision: str = "fp32", device: str = "auto") -> Engine:
    """Return the engine of that name.

    Args:
        name: One of `ENGINES`.
        weights: A UniverSeg weights file; `None` takes the published one where it is installed, else segqa's own.
        precision: `fp32`, or `bf16` (UniverSeg only: faster, flips about 0.06 % of the pixels).
        device: Where UniverSeg computes (`devices.choose_device`); the readout engine is for the CPU.

    Raises:
        InputError: for an unknown name, a weights file that is missing or of another layout, a device that is not
            there, or when the readout engine is asked for what only UniverSeg has.
    """
    if name == "readout":
        given = {
            "--engine-weights": weights is not None,
            "--precision": precision != "fp32",
            "--device": device not in ("auto", "cpu"),
        }
        if any(given.values()):
            options = ", ".join(option for option, is_given in given.items() if is_given)
            msg = (
                f"{options}: for UniverSeg; the readout engine has weights of its own and computes in fp32 on the CPU; "
            )
            raise InputError(msg + "leave it out, or fit with --engine universeg")
        from segqa.spe.readout import Readout

        return Readout()
    if name == "universeg":
        require_torch("--engine universeg")
        from segqa.devices import choose_device
        from segqa.spe.universeg import UniverSeg, find_weights

        return UniverSeg.from_file(weights or find_weights(), precision=precision, device=choose_device(device))
    msg = f"--engine {name}: unknown; choose one of {', '.join(ENGINES)}"
    raise InputError(msg)
