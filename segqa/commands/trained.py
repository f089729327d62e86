"""How the commands that make weights hand them over."""

from __future__ import annotations

from pathlib import Path

from segqa import console
from segqa.errors import InputError


def check_weights_name(out: Path) -> None:
    """Refuse, before any work, a name that is not of a weights file."""
    if out.suffix != ".safetensors":
        msg = f"--out {out}: a name that ends in .safetensors was expected"
        raise InputError(msg)


def hand_over_weights(out: Path) -> None:
    """Write the card beside a weights file that is whole, and say what was written."""
    from segqa.data.files import write_whole
    from segqa.quality.cards import render_card
    from segqa.quality.checkpoints import read_info

    page = render_card(read_info(out))
    write_whole(out.with_suffix(".md"), lambda file: file.write(page.encode()))
    console.result(f"{out}, its graph ({out.with_suffix('.onnx').name}) and card ({out.stem}.md) written")
