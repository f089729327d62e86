"""Where a network runs: ONNX Runtime on the CPU, PyTorch on a GPU, with one set of weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from segqa.errors import InputError, check_choice
from segqa.quality.weights_file import CALIBRATION, read_info
from segqa.runtime import has_gpu, require_torch
from segqa.state_dicts import check_finite

RuntimeName = Literal["auto", "onnx", "torch"]


class Runner(Protocol):
    """Runs a quality network on batches of ψ inputs."""

    name: str
    """What runs it and where, for the run record."""
    device: str
    """Where it runs, as torch names it."""

    def run(self, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores `(N, heads)` and embeddings `(N, features)` for inputs `(N, channels, size, size)`."""
        ...


def load_runner(
    weights: Path, *, runtime: RuntimeName = "auto", device: str = "auto", threads: int | None = None
) -> Runner:
    """Return what runs the network of a weights file.

    Args:
        weights: The safetensors file; its graph, if any, stands beside it with the suffix `.onnx`.
        runtime: `auto` takes PyTorch when a GPU is there, or when the file has no graph; else ONNX Runtime.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; anything but `auto` and `cpu` means PyTorch.
        threads: Threads inside one operation; by default what the runtime chooses.

    Raises:
        MissingExtraError: PyTorch is needed and not installed.
        InputError: The weights and the graph do not belong together, the runtime is unknown, or the device is not there
            or not the runtime's.
    """
    check_choice("runtime", runtime, get_args(RuntimeName))
    graph = weights.with_suffix(".onnx")
    if runtime == "auto":
        wants_gpu = device not in ("auto", "cpu") or (device == "auto" and has_gpu())
        runtime = "torch" if wants_gpu or not graph.is_file() else "onnx"
    if runtime == "onnx":
        if device not in ("auto", "cpu"):
            msg = f"--device {device}: ONNX Runtime computes on the CPU here; use --runtime torch, or --device cpu"
            raise InputError(msg)
        if not graph.is_file():
            msg = f"{graph}: no graph beside the weights; use --runtime torch, or train with this segqa to get one"
            raise InputError(msg)
        return OnnxRunner(weights, graph, threads=threads)
    require_torch(f"{weights.name} on PyTorch")
    from segqa.quality.torch_runner import TorchRunner

    return TorchRunner(weights, device=device, threads=threads)


class OnnxRunner:
    """The graph of a weights file in ONNX Runtime on the CPU."""

    device = "cpu"

    def __init__(self, weights: Path, graph: Path, *, threads: int | None = None) -> None:
        import onnxruntime
        from safetensors.numpy import load_file

        tensors = {n: _single(t) for n, t in load_file(weights).items() if not n.startswith(CALIBRATION)}
        check_finite(tensors, source=weights)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            tensors = fold_norms(tensors, read_info(weights).folds)
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in tensors.values()]
            options.add_external_initializers(list(tensors), values)
            self._session: Any = onnxruntime.InferenceSession(
                graph.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base but Exception
            msg = f"{graph}: does not fit {weights.name} ({' '.join(str(error).split())[:200]}); get both files again"
            raise InputError(msg) from error
        self.name = f"onnxruntime {onnxruntime.__version__} on cpu"
        self._again = partial(OnnxRunner, weights, graph, threads=threads)

    def __reduce__(self) -> tuple[Callable[[], OnnxRunner], tuple[()]]:
        """Travel to another process as the names of the files, which are opened there."""
        return self._again, ()

    def run(self, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and embeddings; see `Runner`."""
        scores, embedding = self._session.run(None, {"inputs": inputs})
        return scores, embedding


def _single(tensor: NDArray[Any]) -> NDArray[Any]:
    """Weights are stored in half precision and used in single."""
    return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor


def fold_norms(tensors: dict[str, NDArray[Any]], folds: dict[str, dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors with every batch norm multiplied into the convolution before it.

    Args:
        tensors: The network's state dict; a folded convolution has no bias of its own.
        folds: Convolution weight -> `norm` (prefix of the batch norm's tensors) and `epsilon`.
    """
    norms = tuple(f"{fold['norm']}." for fold in folds.values())
    folded = {name: tensor for name, tensor in tensors.items() if not name.startswith(norms)}
    for name, fold in folds.items():
        gain, shift, mean, variance = (
            tensors[f"{fold['norm']}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + np.float32(fold["epsilon"]))
        folded[name] = tensors[name] * scale.reshape(-1, 1, 1, 1)
        folded[f"{name}_bias"] = shift - mean * scale
    return folded
