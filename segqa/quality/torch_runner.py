"""The quality network in PyTorch: on a GPU, or for backbones without a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from segqa.devices import choose_device
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
