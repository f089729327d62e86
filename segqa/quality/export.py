"""The network as an ONNX graph without weights, so that scoring needs no torch.

The weights live once, in safetensors; the graph beside them takes its initializers from there
(`segqa.quality.runners.OnnxRunner`).
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch

from segqa.data.files import write_whole
from segqa.errors import require
from segqa.quality.network import QualityNetwork
from segqa.runtime import EXPORTERS

PREFIX = "network."
"""The wrapper's attribute, which the exporter puts before every tensor's name."""


class _ScoresAndEmbedding(torch.nn.Module):
    """What scoring needs of the output."""

    def __init__(self, network: QualityNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.network(inputs)
        return output.scores, output.embedding


def export_graph(network: QualityNetwork, path: Path) -> dict[str, dict[str, Any]]:
    """Write the network's graph with named, empty initializers.

    Args:
        network: Any quality network; its weights are not written.
        path: Where the `.onnx` file goes.

    Returns:
        Which batch norm was folded into which convolution; the weights file keeps this for `runners`.

    Raises:
        InputError: The file cannot be written.
        MissingExtraError: When onnx or onnxscript is not installed.
    """
    for package in EXPORTERS:
        require(package, "exporting a network", extra="train")
    network = _with_distinct_tensors(network)
    program = _trace(network)
    folds = _find_folds(program.model_proto)
    weights = {f"{PREFIX}{name}" for name in network.state_dict()}
    _optimise(program, weights, folds)
    model = program.model_proto
    _empty(model, weights | {f"{name}_bias" for name in folds})
    content = model.SerializeToString(deterministic=True)
    write_whole(path, lambda file: file.write(content))
    return {name.removeprefix(PREFIX): fold for name, fold in folds.items()}


def _with_distinct_tensors(network: QualityNetwork) -> QualityNetwork:
    """Return a copy with random values, which are not written: the optimiser would merge tensors that are equal."""
    network = copy.deepcopy(network).cpu()
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network


def _trace(network: QualityNetwork) -> Any:
    """Return the exporter's program of a network, for batches of any size."""
    profile = network.spec.profile
    example = torch.zeros(2, profile.channels, profile.size, profile.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter speaks of its own internals
        program = torch.onnx.export(
            _ScoresAndEmbedding(network).eval(),
            (example,),
            input_names=["inputs"],
            output_names=["scores", "embedding"],
            dynamic_shapes={"inputs": {0: torch.export.Dim("batch", min=1, max=4096)}},
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None  # only `dynamo=False` returns nothing
    return program


def _empty(model: Any, given: set[str]) -> None:
    """Take the content of the given tensors out of a graph, and all that tells of where it was made."""
    import onnx

    for tensor in model.graph.initializer:
        if tensor.name in given:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="given by the safetensors file")
            tensor.name = tensor.name.removeprefix(PREFIX)
    for node in model.graph.node:
        node.input[:] = [name.removeprefix(PREFIX) if name in given else name for name in node.input]
        del node.metadata_props[:]
        node.ClearField("doc_string")
    del model.graph.value_info[:]
    del model.metadata_props[:]


def _optimise(program: Any, weights: set[str], folds: dict[str, dict[str, Any]]) -> None:
    """Simplify the graph without computing anything from the weights but what is folded.

    The others are handed to the optimiser as inputs, whose values nobody knows; else it would put, for instance,
    transposed weights into the graph.
    """
    norms = {fold["norm"] for fold in folds.values()}
    graph = program.model.graph
    unknown = {}
    for name in weights.intersection(graph.initializers):
        if name not in folds and name.removeprefix(PREFIX).rpartition(".")[0] not in norms:
            value = graph.initializers.pop(name)
            unknown[name], value.const_value = (value, value.const_value), None
            graph.inputs.append(value)
    program.optimize()
    for value, content in unknown.values():
        graph.inputs.remove(value)
        value.const_value = content
        graph.initializers.add(value)


def _find_folds(model: Any) -> dict[str, dict[str, Any]]:
    """Return, by convolution weight, the batch norm that follows it: the optimiser folds the two into one."""
    convolutions = {node.output[0]: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    folds = {}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and node.input[0] in convolutions:
            epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
            norm = node.input[1].removeprefix(PREFIX).removesuffix(".weight")
            folds[convolutions[node.input[0]]] = {"norm": norm, "epsilon": epsilon}
    return folds
