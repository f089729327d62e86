from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from segqa.quality.weights_file import metadata, read_info


@pytest.fixture
def rewrite(tiny_weights: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny weights and their graph again after a change to the tensors: `rewrite(change)` is their path."""

    def write(change: Callable[[dict[str, Any]], object] = lambda tensors: None) -> Path:
        info, tensors, path = read_info(tiny_weights), load_file(tiny_weights), tmp_path / "a.safetensors"
        change(tensors)
        save_file(tensors, path, metadata=metadata(info.spec, info.card, info.folds))
        path.with_suffix(".onnx").write_bytes(tiny_weights.with_suffix(".onnx").read_bytes())
        return path

    return write
