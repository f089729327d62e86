"""How commands hand over their results: the same checks before, the same files and tables after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segqa import console
from segqa.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from segqa.commands.options import Format

DEFAULT_SCORES = Path("segqa/scores.csv")
"""Where `segqa score` writes when nothing else is said."""

MAX_SHOWN = 50
"""Rows that a table for people shows; a file and the machine formats hold all."""


def check_output(output: Path | None, file_format: Format, *inputs: Path | None) -> None:
    """Refuse, before any work, an output that could not be written in the end, or would replace an input."""
    from segqa.output.tables import table_format

    spare_inputs(output, *inputs)
    if file_format == "parquet" and output is None:
        msg = "format parquet is binary and is not printed: name a file with --output flags.parquet"
        raise InputError(msg)
    if output is not None and table_format(output) != "parquet" == file_format:
        msg = f"--format parquet, but {output.name}: an extension tells the format; name a .parquet file"
        raise InputError(msg)


def spare_inputs(output: Path | None, *inputs: Path | None) -> None:
    """Refuse an output that is one of the files to read."""
    if output is not None and any(path is not None and path.resolve() == output.resolve() for path in inputs):
        msg = f"{output}: is read by this command and would be replaced; write to another file"
        raise InputError(msg)


def keep_apart(*files: Path | None, folder: Path | None = None) -> None:
    """Refuse, before any work, outputs of one call of which one would replace another, or stand in its way.

    Args:
        files: Files that will be written.
        folder: Folder that other files will be written into.
    """
    from segqa.data.files import is_stream

    named = [path for path in files if path is not None and not is_stream(path)]
    for number, path in enumerate(named):
        others = [*named[:number], *named[number + 1 :], *([] if folder is None else [folder])]
        if any(path.resolve() in (other.resolve(), *other.resolve().parents) for other in others):
            msg = f"{path}: this call would write something else there, too; give each output a place of its own"
            raise InputError(msg)


def hand_over(
    frame: pl.DataFrame,
    *,
    output: Path | None,
    file_format: Format,
    schema: str,
    title: str,
    shown: list[str] | None = None,
    quiet: bool = False,
) -> None:
    """Write the table to the output file, if there is one, and print it.

    Args:
        frame: The result.
        output: File for the whole table.
        file_format: What to print; with `parquet`, nothing.
        schema: Name of the table in JSON and Parquet.
        title: Heading of the table for people.
        shown: Columns of the table for people; all when `None`.
        quiet: Print nothing.
    """
    from segqa.output import tables

    if output is not None:
        tables.write_table(frame, output, schema=schema)
        console.note(f"{frame.height} rows written to {output}")
    if quiet or file_format == "parquet":
        return
    if file_format == "table":
        console.table(frame.select(shown or frame.columns), title=title, limit=MAX_SHOWN)
    else:
        console.result(tables.render(frame, file_format, schema=schema))


def join_truth(scores: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Return `decisions.agreement.join_truth`, and warn when objects of the truth have no score."""
    from segqa.decisions import agreement

    joined = agreement.join_truth(scores, truth)
    if remark := agreement.unscored_remark(scores, truth, joined):
        console.warn(remark)
    return joined


def check_weights_name(out: Path) -> None:
    """Refuse, before any work, a name that is not of a weights file."""
    if out.suffix != ".safetensors":
        msg = f"--out {out}: a name that ends in .safetensors was expected"
        raise InputError(msg)


def hand_over_weights(out: Path) -> None:
    """Write the card beside a weights file that is whole, and say what was written."""
    from segqa.data.files import write_whole
    from segqa.quality.cards import render_card
    from segqa.quality.weights_file import read_info

    page = render_card(read_info(out))
    write_whole(out.with_suffix(".md"), lambda file: file.write(page.encode()))
    console.result(f"{out}, its graph ({out.with_suffix('.onnx').name}) and card ({out.stem}.md) written")
