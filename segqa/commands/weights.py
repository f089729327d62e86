"""`segqa weights`: what checkpoints there are, whether a file is genuine, and the import of foreign ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segqa import console
from segqa import weights as registry
from segqa.commands.results import check_weights_name, hand_over_weights, spare_inputs
from segqa.errors import InputError

app = typer.Typer(
    no_args_is_help=True, help="List known checkpoints, verify files, import foreign ones as safetensors."
)


@app.command("list")
def list_known() -> None:
    """List every checkpoint that segqa knows by name, and whether it is here.

    Example: segqa weights list
    """
    import polars as pl

    rows = [
        {
            "name": known.name,
            "kind": known.kind,
            "here": _is_here(known.name),
            "MB": None if known.size is None else round(known.size / 1e6),
            "licence": known.licence,
            "file": known.file,
        }
        for known in registry.list_checkpoints()
    ]
    console.table(pl.DataFrame(rows))
    console.note(f"checkpoints of yours belong into {registry.cache_dir()}")


@app.command()
def info(name: Annotated[str, typer.Argument(help="A name from `segqa weights list`.")]) -> None:
    """Tell everything about one checkpoint: file, size, hash, licence, origin, paper.

    Example: segqa weights info sam-vit-b
    """
    known = registry.get_checkpoint(name)
    facts = {
        "name": known.name,
        "kind": known.kind,
        "file": known.file,
        "bytes": "not published" if known.size is None else str(known.size),
        "sha256": known.sha256 or "not published",
        "licence": known.licence,
        "notice": known.notice or "none",
        "origin": known.origin,
        "paper": known.paper,
        "place": str(registry.find_weights(name)) if _is_here(name) else "not here",
    }
    for key, value in facts.items():
        console.result(f"{key}: {value}")


@app.command()
def verify(
    which: Annotated[
        str | None, typer.Argument(metavar="[NAME|PATH]", help="A name, a file, or nothing for all here.")
    ] = None,
) -> None:
    """Compare the SHA-256 of checkpoints with the published one; exit code 2 when one differs.

    Example: segqa weights verify sam_vit_b_01ec64.pth
    """
    names = [which] if which else [known.name for known in registry.list_checkpoints() if _is_here(known.name)]
    if not names:
        msg = f"no checkpoint is here to verify; put one into {registry.cache_dir()} or give a path"
        raise InputError(msg)
    checked = [registry.verify_weights(name) for name in names]
    for verification in checked:
        console.result(f"{verification.path.name}: {verification.verdict} (sha256 {verification.sha256})")
    different = [verification for verification in checked if verification.verdict == "different"]
    if different:
        first = different[0]
        msg = f"{first.path.name}: sha256 is not the published {first.expected}; get the file again"
        raise InputError(msg)


@app.command("import")
def import_file(
    path: Annotated[Path, typer.Argument(help="The .pth, .pt or .safetensors file as published.")],
    name: Annotated[str, typer.Option("--as", help="What it is: a name from `segqa weights list`.")],
    out: Annotated[Path | None, typer.Option(help="File to write; default: into the cache, under its name.")] = None,
) -> None:
    """Convert a published checkpoint to safetensors, after comparing it key by key; never runs code in it.

    Example: segqa weights import ViT_base_bbox_dice.pth --as evanyseg-vit-b --out evanyseg.safetensors
    """
    from segqa.importing import import_checkpoint

    if out is not None:
        check_weights_name(out)
    notice = registry.get_checkpoint(name).notice
    written = import_checkpoint(path, name, out)
    if notice:
        console.warn(notice)
    console.result(str(written))


@app.command()
def average(
    files: Annotated[list[Path], typer.Argument(help="Weights files of `segqa train` that went on from one start.")],
    out: Annotated[Path, typer.Option(help="Weights file to write: NAME.safetensors.")],
    shares: Annotated[str | None, typer.Option(help="One number a file, as 0.7,0.3.", show_default="equal")] = None,
) -> None:
    """Write the mean of trained networks, which often judges better than each; calibrate it afterwards.

    Example: segqa weights average first.safetensors second.safetensors --out mean.safetensors
    """
    from segqa.runtime import require_training

    require_training("segqa weights average")
    check_weights_name(out)
    spare_inputs(out, *files)
    from segqa.quality.averaging import average_weights

    average_weights(files, out, _parse_shares(shares))
    hand_over_weights(out)


def _parse_shares(text: str | None) -> list[float] | None:
    """Return the numbers of `--shares`.

    Raises:
        InputError: Something is no number.
    """
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        msg = f"--shares {text}: numbers with commas between them were expected, as 0.7,0.3"
        raise InputError(msg) from None


def _is_here(name: str) -> bool:
    try:
        return registry.find_weights(name).is_file()
    except InputError:
        return False
