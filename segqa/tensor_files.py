"""Safetensors files whose bytes repeat."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from segqa.data.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

_LENGTH = 8
"""Bytes that tell the length of the header, which follows; its own length is a multiple of them."""


def write_tensors(path: Path, content: bytes) -> None:
    """Write what `safetensors` saved, with its metadata in order of name, in one step.

    The library writes several metadata entries in another order from run to run. Equal weights shall be equal files,
    since their hash is what calibrations and journals know them by.

    Args:
        path: The file.
        content: What `safetensors.numpy.save` or `safetensors.torch.save` returned.

    Raises:
        InputError: The file cannot be written.
    """
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    write_whole(
        path, lambda file: file.writelines((len(text).to_bytes(_LENGTH, "little"), text, memoryview(content)[end:]))
    )
