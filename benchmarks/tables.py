"""How long the commands on tables take for a million rows, and how much memory, each as a process of its own.

    python -m benchmarks.tables --rows 1000000

Writes a table of scores of four models, and one of true metrics, to a temporary folder and prints for each command
wall seconds, CPU seconds (of all threads) and peak memory. On a busy machine only the CPU seconds mean something.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.processes import measure
from segqa.output.tables import write_table
from segqa.schema import SCORE_SCHEMA, TRUTH_SCHEMA

MODELS = ("medsam", "nnunet", "sam", "unet")
OBJECTS_PER_CASE = 5
COMMANDS = {
    "flag": ["flag", "scores.csv"],
    "flag --junit": ["flag", "scores.csv", "--junit", "flags.xml"],
    "rank": ["rank", "scores.csv", "--output", "selection.csv"],
    "rank --truth": ["rank", "scores.csv", "--truth", "evaluation.csv"],
    "benchmark": ["benchmark", "scores.csv"],
    "benchmark --truth": ["benchmark", "scores.csv", "--truth", "evaluation.csv"],
    "report": ["report", "scores.csv", "--output", "report.html"],
}


def write_tables(folder: Path, n_rows: int, *, seed: int = 0) -> None:
    """Write `scores.csv` and `evaluation.csv` of at least so many rows."""
    rng = np.random.default_rng(seed)
    n_objects = -(-n_rows // len(MODELS))
    index = np.arange(n_objects * len(MODELS)) // len(MODELS)
    true = rng.beta(5, 1.5, n_objects)[index].clip(0, 1)
    predicted = (true + rng.normal(0, 0.1, true.size)).clip(0, 1)
    corner = rng.integers(0, 200, (2, true.size))
    keys = {
        "case": pl.format("patient_{}", pl.Series(index // OBJECTS_PER_CASE)),
        "object": pl.Series(index % OBJECTS_PER_CASE + 1).cast(pl.String),
        "label": pl.lit("1"),
        "model": pl.Series(np.tile(MODELS, n_objects)),
        "status": pl.lit("ok"),
    }
    scores = pl.select(
        **keys,
        predicted_dice=predicted,
        lower=(predicted - 0.15).clip(0),
        upper=(predicted + 0.15).clip(None, 1),
        novelty=rng.random(true.size),
        x0=corner[0],
        y0=corner[1],
        x1=corner[0] + 50,
        y1=corner[1] + 60,
        box_source=pl.lit("file"),
    )
    truth = pl.select(**keys, **{name: true for name in TRUTH_SCHEMA if name.startswith("true_")})
    for frame, schema, name in ((scores, SCORE_SCHEMA, "scores"), (truth, TRUTH_SCHEMA, "evaluation")):
        absent = [pl.lit(None, dtype).alias(column) for column, dtype in schema.items() if column not in frame.columns]
        write_table(frame.with_columns(absent).select(*schema), folder / f"{name}.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tables(folder, options.rows)
        print(f"| {options.rows:,} rows | wall s | CPU s | peak MB |\n|---|---|---|---|")
        for name in options.only:
            wall, cpu, megabytes = measure(COMMANDS[name], folder)
            print(f"| {name} | {wall:.1f} | {cpu:.1f} | {megabytes:.0f} |", flush=True)


if __name__ == "__main__":
    main()
