"""Quality networks on disk: half precision, spec and card in one file, the graph beside it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from segqa.errors import InputError
from segqa.quality.export import export_graph
from segqa.quality.network import NetworkSpec, QualityNetwork
from segqa.quality.weights_file import CALIBRATION, metadata, read_info
from segqa.state_dicts import check_finite
from segqa.tensor_files import write_tensors


def save_network(network: QualityNetwork, path: Path, card: dict[str, Any]) -> None:
    """Write a network with its spec and card, and its graph for ONNX Runtime beside it.

    Tensors are in half precision; one with a value beyond its range (65,504) is in single.

    Raises:
        InputError: A file cannot be written.
    """
    network = copy.deepcopy(network).cpu().eval().to(memory_format=torch.contiguous_format)
    state = {
        name: (_halve(tensor) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    folds = export_graph(network, path.with_suffix(".onnx"))
    write_tensors(path, save(state, metadata=metadata(network.spec.to_dict(), card, folds)))


def _halve(tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor


def load_network(path: Path, spec: NetworkSpec | None = None) -> QualityNetwork:
    """Return the network of a weights file in single precision, in evaluation mode.

    Args:
        path: A file of `segqa train` or `segqa weights import`.
        spec: Refuse a file of another layout; by default what the file says.

    Raises:
        InputError: When the file is damaged, or its tensors do not fit or are not finite.
    """
    info = read_info(path)
    network = QualityNetwork(spec or NetworkSpec.from_dict(info.spec))
    state = {name: tensor.float() for name, tensor in load_file(path).items() if not name.startswith(CALIBRATION)}
    kept = {name: t for name, t in network.state_dict().items() if name.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(state | kept)
    except RuntimeError as error:
        msg = f"{path}: its tensors do not fit {network.spec.backbone}: {' '.join(str(error).split())[:300]}"
        raise InputError(msg) from error
    check_finite(state, source=path)
    return network.eval()
