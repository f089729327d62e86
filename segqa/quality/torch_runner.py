"""The quality network in PyTorch: on a GPU, or for backbones without a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from segqa.errors import InputError
from segqa.quality.storage import load_network


class TorchRunner:
    """A weights file in PyTorch; see `segqa.runtime.Runner`."""

    def __init__(self, weights: Path, *, device: str = "auto", threads: int | None = None) -> None:
        self._device = choose_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        self._network = load_network(weights).to(self._device)
        self.name = f"torch {torch.__version__} on {self._device}"

    @torch.inference_mode()
    def run(self, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and embeddings."""
        output = self._network(torch.from_numpy(inputs).to(self._device))
        return output.scores.cpu().numpy(), output.embedding.cpu().numpy()


def choose_device(wanted: str) -> torch.device:
    """Return the device to compute on.

    Args:
        wanted: `auto` takes CUDA, then MPS, then the CPU; else a device as torch names it.

    Raises:
        InputError: When the device is unknown or not on this machine.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        msg = f"--device {wanted}: not available here ({str(error).splitlines()[0]}); use auto or cpu"
        raise InputError(msg) from error
    return device


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16; emulated, it is far slower than single precision."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # The public `torch.cpu.get_capabilities` is newer than the oldest torch that segqa runs on.
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
