"""The quality network in PyTorch: on a GPU, or for backbones without a graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from segqa.devices import choose_device
from segqa.quality.storage import load_network


class TorchRunner:
    """A weights file in PyTorch; see `runners.Runner`."""

    def __init__(self, weights: Path, *, device: str = "auto", threads: int | None = None) -> None:
        self._device = choose_device(device)
        self.device = str(self._device)
        self._again = partial(TorchRunner, weights, device=self.device, threads=threads)
        self._limit: AbstractContextManager[object] = nullcontext() if threads is None else _Limit(threads)
        self._network = load_network(weights).to(self._device)
        self.name = f"torch {torch.__version__} on {self._device}"

    def __reduce__(self) -> tuple[Callable[[], TorchRunner], tuple[()]]:
        """Travel to another process as the name of the file, which is opened there."""
        return self._again, ()

    @torch.inference_mode()
    def run(self, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and embeddings."""
        with self._limit:
            output = self._network(torch.from_numpy(inputs).to(self._device))
            return output.scores.cpu().numpy(), output.embedding.cpu().numpy()


class _Limit:
    """Lets every thread inside compute with so many threads; when the last one leaves, the process has its own number.

    The number belongs partly to the thread that sets it and partly to the process, so each one sets it.
    """

    def __init__(self, threads: int) -> None:
        self._threads, self._own = threads, torch.get_num_threads()
        self._lock, self._inside = Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            torch.set_num_threads(self._threads)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.set_num_threads(self._own)
