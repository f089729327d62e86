"""Foreign state dicts: read without running code, compared with what is expected key by key."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segqa.errors import InputError, require

if TYPE_CHECKING:
    import torch

Shapes = Mapping[str, tuple[int, ...]]
"""Shape by tensor name, of a whole state dict."""

_WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which training scripts put the state dict, beside optimizer and epoch."""

_SHOWN = 3
"""Differences of one kind that a message names."""


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a `.safetensors`, `.pth` or `.pt` file onto the CPU; code in a pickle never runs.

    Raises:
        InputError: Missing, damaged, holding code, or not a state dict.
        MissingExtraError: When torch is not installed.
    """
    require("torch", "Reading a checkpoint", extra="torch")
    import torch

    if not path.is_file():
        msg = f"{path}: no such file; give the path of a checkpoint"
        raise InputError(msg)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():  # remarks on the pickle's version; the result is checked below
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        msg = (
            f"{path.name}: refused, it is damaged or holds more than tensors, which could be code; "
            "ask its author for a plain state dict or a .safetensors file"
        )
        raise InputError(msg) from error
    except Exception as error:  # broken archives raise anything: RuntimeError, EOFError, SafetensorError
        msg = f"{path.name}: not a readable checkpoint ({_first_line(error)}); download it again"
        raise InputError(msg) from error
    return _unwrap(content, path)


def check_shapes(state: Mapping[str, Any], expected: Shapes, *, name: str, source: object) -> None:
    """Refuse a state dict whose names or shapes are not the expected ones.

    Args:
        state: Anything with `.shape` by name.
        expected: Shape by name.
        name: What was expected, for the message.
        source: Where the state dict came from, for the message.

    Raises:
        InputError: Names how many keys are missing, unexpected or of another shape, and the first of each.
    """
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    reshaped = [
        f"{key} is {_times(state[key].shape)} instead of {_times(shape)}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != tuple(shape)
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    facts = [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in kinds.items() if keys]
    if facts:
        msg = (
            f"{Path(str(source)).name}: not a checkpoint of {name} ({len(state)} tensors, {len(expected)} "
            f"expected): {'; '.join(facts)}; choose the model that the file was made for"
        )
        raise InputError(msg)


def load_into(network: Any, state: Mapping[str, torch.Tensor], *, name: str, source: object) -> None:
    """Fill a torch module with a state dict of exactly its names and shapes.

    Raises:
        InputError: When names or shapes differ.
    """
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_shapes(state, expected, name=name, source=source)
    network.load_state_dict(state)


def check_finite(state: Mapping[str, Any], *, source: object) -> None:
    """Refuse tensors with NaN or infinite values: a network with one gives nothing else.

    Args:
        state: Tensors of PyTorch, or arrays.
        source: Where they came from, for the message.

    Raises:
        InputError: Names the first such tensors.
    """
    broken = [key for key, value in state.items() if not ((value > -math.inf) & (value < math.inf)).all()]
    if broken:
        msg = f"{source}: {len(broken)} tensors hold NaN or infinite values ({_some(broken)}); get the file again"
        raise InputError(msg)


def _unwrap(content: object, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint, also when they stand beside an optimizer's state."""
    import torch

    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        msg = f"{path.name}: holds a {type(content).__name__}, not tensors by name; save model.state_dict()"
        raise InputError(msg)
    foreign = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        msg = f"{path.name}: not only tensors ({_some(foreign)}); save model.state_dict()"
        raise InputError(msg)
    return {str(key): value for key, value in content.items()}


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape) or "a single number"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
