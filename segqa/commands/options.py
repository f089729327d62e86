"""Options that several commands have: the same words, the same meaning; and texts of options as values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MasksOption = Annotated[
    list[str] | None, typer.Option(help="NAME=DIR, repeatable; or a folder with a sub-folder a model.")
]
BoxesOption = Annotated[Path | None, typer.Option(help="Prompt boxes: boxes.json, or COCO instances.json.")]
LabelsOption = Annotated[str | None, typer.Option(help="Labels to look at, such as 1,3.", show_default="all")]
ObjectsOption = Annotated[
    Literal["labels", "components"], typer.Option(help="What is an object where there are no boxes.")
]
WindowOption = Annotated[tuple[float, float] | None, typer.Option(help="Centre and width, for CT or 16 bit.")]
AxisOption = Annotated[int, typer.Option(help="Slicing axis of volumes.")]
NanOption = Annotated[Literal["error", "zero"], typer.Option(help="What to do with NaN pixels.")]
AllowMissingOption = Annotated[bool, typer.Option("--allow-missing", help="Leave out files without a partner.")]
WeightsOption = Annotated[str, typer.Option(help="A shipped evaluator by name, or a file.")]
CalibrationOption = Annotated[
    Path | None, typer.Option(help="Intervals of your own: calibration.json of `segqa calibrate`.")
]
ReferenceOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        metavar="<IMAGES MASKS>", help="Images like these, and their true masks: a few make the scores much better."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
RuntimeOption = Annotated[
    Literal["auto", "onnx", "torch"], typer.Option(help="auto: PyTorch on a GPU, else ONNX Runtime.")
]
WorkersOption = Annotated[
    int, typer.Option(min=0, help="Threads, or cases at a time of a cluster; 0: as many as there are cores.")
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="<address>", help="Work on a Ray cluster: auto, its address, or local."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything random.")]

Format = Literal["table", "csv", "json", "jsonl", "parquet"]

ScoresArgument = Annotated[Path, typer.Argument(help="Table that `segqa score` wrote.", show_default=True)]
OutputOption = Annotated[Path | None, typer.Option(help="Also write a .csv, .json, .jsonl or .parquet file.")]
FormatOption = Annotated[
    Format, typer.Option("--format", help="What to print; parquet needs --output and prints nothing.")
]


def parse_masks(texts: Sequence[str]) -> Path | Mapping[str, Path]:
    """Return the masks that one path, or one or more `NAME=DIR`, name: a path, or a path for each model.

    Raises:
        InputError: Two paths without names, or two of one name.
    """
    is_path = len(texts) == 1 and (Path(texts[0]).exists() or "=" not in texts[0])
    return Path(texts[0]) if is_path else parse_named(texts)


def parse_named(texts: Sequence[str]) -> dict[str, Path]:
    """Return the path of each model that `NAME=DIR` name.

    Raises:
        InputError: A path without a name, or two of one name.
    """
    masks: dict[str, Path] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not (name and path) or Path(text).exists():  # a path that exists is one, even with `=` in its name
            msg = f"{text}: these masks need a name, NAME=DIR, for instance unet={Path(text).name or 'masks'}"
            raise InputError(msg)
        if name in masks:
            msg = f"{text}: two masks are named {name}; give each model a name of its own"
            raise InputError(msg)
        masks[name] = Path(path)
    return masks


def paths_of(masks: Path | Mapping[str, Path] | None) -> tuple[Path, ...]:
    """Return the paths among the masks that `parse_masks` found; none for `None`."""
    if masks is None:
        return ()
    return (masks,) if isinstance(masks, Path) else tuple(masks.values())


def parse_labels(labels: str | None) -> tuple[int, ...] | None:
    """Return the numbers of `--labels 1,3`; `None` without the option.

    Raises:
        InputError: Anything but numbers and commas, or 0.
    """
    if labels is None:
        return None
    parts = [part.strip() for part in labels.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        msg = f"--labels {labels}: numbers such as 1,3 were expected"
        raise InputError(msg)
    numbers = tuple(int(part) for part in parts)
    if 0 in numbers:
        msg = f"--labels {labels}: 0 is the background; choose among the labels above it"
        raise InputError(msg)
    return numbers
