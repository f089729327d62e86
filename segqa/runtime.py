"""What there is to compute with: whether PyTorch is installed, and whether it may see a GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from segqa.errors import require

EXPORTERS = ("onnx", "onnxscript")
"""What writes a network's graph; torch's exporter needs the second and says so late."""


def require_torch(feature: str, *, extra: str = "torch") -> None:
    """Refuse to go on without PyTorch and timm.

    Raises:
        MissingExtraError: Names what needs them, and the extra that brings them.
    """
    for package in ("torch", "timm"):
        require(package, feature, extra=extra)


def require_training(feature: str) -> None:
    """Refuse to go on without what computing new weights and writing their graph needs.

    Asked before the first step: the graph is written last, after hours.

    Raises:
        MissingExtraError: Names what needs it, and the extra that brings it.
    """
    for package in ("torch", "timm", *EXPORTERS):
        require(package, feature, extra="train")


def has_gpu() -> bool:
    """Tell whether torch is installed and sees a GPU; a light installation never pays for the import."""
    if importlib.util.find_spec("torch") is None or not _may_have_gpu():
        return False
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def _may_have_gpu() -> bool:
    """Rule a GPU out cheaply: importing torch to ask costs seconds and hundreds of megabytes."""
    import platform

    on_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, and Windows' own below WSL
    return on_apple or platform.system() == "Windows" or any(Path(driver).exists() for driver in drivers)
