"""How the commands on tables hand over their results: the same options, the same behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segqa import console
from segqa.errors import InputError

if TYPE_CHECKING:
    import polars as pl

DEFAULT_SCORES = Path("segqa/scores.csv")
"""Where `segqa score` writes when nothing else is said."""

MAX_SHOWN = 50
"""Rows that a table for people shows; a file and the machine formats hold all."""

Format = Literal["table", "csv", "json", "jsonl", "parquet"]

ScoresArgument = Annotated[Path, typer.Argument(help="Table that `segqa score` wrote.", show_default=True)]
OutputOption = Annotated[Path | None, typer.Option(help="Also write a .csv, .json, .jsonl or .parquet file.")]
FormatOption = Annotated[
    Format, typer.Option("--format", help="What to print; parquet needs --output and prints nothing.")
]


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
