"""Published checkpoints become safetensors files, after a comparison with their known layout; no code in them runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segqa import published, state_dicts
from segqa.errors import InputError
from segqa.tensor_files import write_tensors
from segqa.weights import Checkpoint, cache_dir, get_checkpoint, hash_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

HUGGING_FACE_EPSILON = 1e-12
"""Of the layer norms of EvanySeg's transformers; timm's are a million times as large."""


def import_checkpoint(path: Path, name: str, out: Path | None = None) -> Path:
    """Convert a published checkpoint to safetensors, after comparing it key by key with the known layout.

    EvanySeg's two become segqa's networks (`backbone.*` as timm names it, `heads.dice.*`); the others keep
    their names. The file records the source's SHA-256, the licence and the origin.

    Args:
        path: The `.pth`, `.pt` or `.safetensors` file as published.
        name: Name in the registry.
        out: The file to write; the cache's `<name>.safetensors` when `None`.

    Returns:
        The written file.

    Raises:
        InputError: Not that checkpoint (names the first keys that differ), NaN, code in a pickle, an existing
            file in the way.
        MissingExtraError: When torch is not installed.
    """
    known = get_checkpoint(name)
    target = out or cache_dir() / f"{name}.safetensors"
    if name not in published.IMPORTABLE:
        msg = f"{name} needs no import; importable: {', '.join(published.IMPORTABLE)}"
        raise InputError(msg)
    if target.exists():
        msg = f"{target}: exists already; remove it first or write elsewhere with --out"
        raise InputError(msg)
    state = state_dicts.read_state(path)
    state_dicts.check_shapes(state, published.expected_shapes(name, state), name=name, source=path)
    state_dicts.check_finite(state, source=path)
    metadata = _describe_source(known, path)
    if name in published.EVANYSEG_BACKBONES:
        state = published.convert_evanyseg(name, state)
        metadata |= _describe_evaluator(published.EVANYSEG_BACKBONES[name], state, known)
    _write(target, state, metadata)
    return target


def _describe_source(known: Checkpoint, path: Path) -> dict[str, str]:
    return {
        "name": known.name,
        "source_file": path.name,
        "source_sha256": hash_file(path),
        "licence": known.licence,
        "origin": known.origin,
        "paper": known.paper,
        "notice": known.notice,
    }


def _describe_evaluator(backbone: str, state: Mapping[str, torch.Tensor], known: Checkpoint) -> dict[str, str]:
    """Return what `segqa score --weights` needs to know: the paper's ψ, linear heads without bounds."""
    from segqa.quality.network import NetworkSpec
    from segqa.quality.preprocessing import EVANYSEG
    from segqa.quality.weights_file import metadata

    heads = tuple(dict.fromkeys(key.split(".")[1] for key in state if key.startswith("heads.")))
    spec = NetworkSpec(
        EVANYSEG, backbone=backbone, heads=heads, bounded=False, compare=False, norm_epsilon=HUGGING_FACE_EPSILON
    )
    return metadata(spec.to_dict(), {"licence": known.licence, "paper": known.paper})


def _write(target: Path, state: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save

    write_tensors(target, save({key: value.contiguous().clone() for key, value in state.items()}, metadata=metadata))
