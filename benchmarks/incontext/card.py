"""Writes the card of the in-context network: data with licences, command, curve, Dice on the test sets.

    python -m benchmarks.incontext.card weights/incontext-w32.safetensors ../shared/data work

The test sets are measured on only: 64 supports drawn from the set itself, for this engine and for `readout` alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.card import data_table, markdown
from benchmarks.incontext.tasks import HELD_OUT, Task, find_sets, read_colour, read_tasks
from segqa.metrics import dice
from segqa.spe.engines import Engine, create_engine
from segqa.weights import hash_file, read_metadata

N_SUPPORT = 64
N_QUERIES = 12
COMMAND = Path(__file__).parents[2] / "weights" / "incontext.sh"

INTRODUCTION = """# {name}

An in-context segmentation network in UniverSeg's architecture, {width} features wide instead of 64, trained here.
It is what `--engine universeg` of `segqa spe-fit` uses where the published weights are not installed; they replace it.
It sees {side} x {side} pixels; canvases of 128 x 128 are averaged to that, probabilities brought back bilinearly and
cut at {threshold} (chosen on the held-out sets). Half precision, {megabytes:.1f} MB. SHA-256 of the file: `{sha256}`.

**Licence: CC BY-NC-SA 4.0, for research; not a medical device.** Several of the training sets allow non-commercial or
research use only. No published weights went into it.

Intended use: to compare engines, and the paper's kind of engine at once, without anything to bring. It was trained for
a short time on one CPU core: `readout` is the default of `segqa spe-fit` for a reason, which the table shows."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    asked = parser.parse_args()
    metadata = read_metadata(asked.weights)
    introduction = INTRODUCTION.format(
        name=asked.weights.name,
        width=asked.weights.stem.rpartition("-w")[2],
        side=metadata["side"],
        threshold=metadata["threshold"],
        megabytes=asked.weights.stat().st_size / 1e6,
        sha256=hash_file(asked.weights),
    )
    engines = [create_engine("universeg", weights=asked.weights), create_engine("readout")]
    names = find_sets(asked.data, "train")
    n_images = {name: len(list((asked.data / name / "images").iterdir())) for name in names if name not in HELD_OUT}
    parts = [
        introduction,
        f"## Dice on sets that were only measured on\n\n{N_SUPPORT} supports (fewer where a set has fewer of other "
        f"patients), {N_QUERIES} queries a label, the same draws for both; true masks as supports.",
        markdown(measure(engines, find_sets(asked.data, "test"), asked.data)),
        f"## How it was made\n\n```sh\n{COMMAND.read_text(encoding='utf-8').strip()}\n```",
        "### Curve\n\nMean Dice on the four held-out sets, with up to 16 and up to 64 supports, by the cut of the "
        "probabilities.\n\n" + markdown(read_curve(asked.work / "training.log")),
        "### Training data\n\nBeside generated tasks, which need none.\n\n"
        + markdown(data_table(n_images, asked.data)),
    ]
    asked.weights.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def measure(engines: list[Engine], names: list[str], data: Path) -> pl.DataFrame:
    """Return the mean Dice of each label (all labels as one left out) and engine on the very same draws."""
    rows = []
    for name in names:
        tasks = read_tasks(data, [name])
        colours = np.stack([read_colour(path) for path in sorted((data / name / "images").iterdir())])
        for task in tasks:
            if task.label != "all" or len(tasks) == 1:
                found = np.mean([_dice_of_draw(engines, task, colours, rng) for rng in _generators()], axis=0)
                by_engine = {f"Dice, {engine.name}": float(value) for engine, value in zip(engines, found, strict=True)}
                rows.append({"set": name, "label": task.label, **by_engine})
    frame = pl.DataFrame(rows)
    mean = frame.select(pl.lit("mean").alias("set"), pl.lit("").alias("label"), pl.col(pl.Float64).mean())
    return pl.concat([frame, mean])


def _generators() -> Iterator[np.random.Generator]:
    return (np.random.default_rng([1, query]) for query in range(N_QUERIES))


def _dice_of_draw(
    engines: list[Engine], task: Task, colours: NDArray[np.uint8], rng: np.random.Generator
) -> list[float]:
    rows = task.choose(N_SUPPORT, rng, replace=False)
    images, masks = colours[task.images[rows]], task.pairs.masks[rows] > 0
    return [dice(e.segment(images[:1], images[1:], masks[1:])[0] > e.threshold, masks[0]) for e in engines]


def read_curve(log: Path) -> pl.DataFrame:
    """Return the validation lines of a training log as a table."""
    rows: dict[str, dict[str, object]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[2] == "loss":
            loss = float(words[3])
        else:
            row = rows.setdefault(words[1], {"step": words[1], "training loss": loss})
            at_04, at_05 = (float(value) for value in words[5].split("/"))
            row |= {f"{words[3]} supports, > 0.4": at_04, f"{words[3]} supports, > 0.5": at_05}
    return pl.DataFrame(list(rows.values()))


if __name__ == "__main__":
    main()
