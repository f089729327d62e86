"""`segqa demo`: generated images, masks and boxes to try everything on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segqa import console
from segqa.errors import InputError


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist, or be empty.")] = Path("segqa-demo"),
    cases: Annotated[int, typer.Option(min=1, help="Number of images.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
) -> None:
    """Write generated images with masks of three models of known, varied quality, their truth, and boxes.

    For example:

    segqa demo --out demo

    segqa score demo/images demo/masks --boxes demo/boxes.json
    """
    from segqa.phantoms import MODELS, write_demo

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"{out}: exists and is not an empty folder; choose another --out"
        raise InputError(msg)
    write_demo(out, n_cases=cases, seed=seed)
    console.note(f"{cases} generated cases, masks of {len(MODELS)} models, truth and boxes in {out}")
    console.note(f"next: segqa score {out / 'images'} {out / 'masks'} --boxes {out / 'boxes.json'}")
    console.result(str(out))
