"""How well an evaluator judges masks on data sets it was not trained on, beside simple baselines.

    segqa prepare ../shared/data/ph2 --out prepared-test/ph2 --side 2048 --max-cases 24 --max-objects 4
    python -m benchmarks.quality prepared-test --weights evaluator-lite2 --data ../shared/data

Every mask of the prepared records is judged with the box that prompted it (exact, jittered or wrong); to these come,
for each object, corruptions of the reference, an empty mask, the filled box, the reference itself and, where there is
one, the mask of another object, judged with a jittered box of the object. Records made at `--side 2048` are not
shrunk, so the input is that of `segqa score`.

With `--data`, `own box` is the agreement (Dice) of the mask with LiteMedSAM's mask for the mask's own box on the whole
image, and `segqa + own box` the mean of both; what was computed is kept in a file in the prepared folder. `--beside`
judges the same masks with other weights, for instance those of the paper's recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks.quality.judging import judge
from benchmarks.quality.own_box import Memory, agreement_with_own_box
from benchmarks.quality.tables import BESIDE, OWN_BOX, report
from segqa.quality.library import read_library
from segqa.quality.scoring import load_evaluator
from segqa.segmenters.registry import load_segmenter
from segqa.weights import DEFAULT_EVALUATOR, find_weights

AGREEMENTS = "agreement-litemedsam.json"


def main(words: Sequence[str] | None = None) -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prepared", type=Path, nargs="+")
    parser.add_argument("--weights", default=DEFAULT_EVALUATOR)
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=WEIGHTS", help="repeatable")
    parser.add_argument("--data", type=Path, help="folder of the data sets; for the agreement with the mask's own box")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the rows as CSV")
    arguments = parser.parse_args(words)
    others = dict(named_weights(parser, text) for text in arguments.beside)
    records = read_library(arguments.prepared, validation_share=0.0).training

    def judged_by(weights: str) -> pl.DataFrame:
        evaluator = load_evaluator(find_weights(weights), runtime=arguments.runtime, threads=1)
        return judge(records, evaluator, arguments.seed)

    table = judged_by(arguments.weights)
    table = table.with_columns(judged_by(weights)["predicted"].alias(BESIDE + name) for name, weights in others.items())
    if arguments.data:
        agreements = agreement_with_own_box(
            records,
            arguments.seed,
            data=arguments.data,
            memory=Memory.read(arguments.prepared[0] / AGREEMENTS),
            load=lambda: load_segmenter("litemedsam"),
        )
        table = table.with_columns(pl.Series(OWN_BOX, agreements))
    if arguments.out:
        table.write_csv(arguments.out)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True, float_precision=3):
        for title, frame in report(table):
            print(f"\n{title}\n{frame}")


def named_weights(parser: argparse.ArgumentParser, text: str) -> tuple[str, str]:
    """Return name and weights of `NAME=WEIGHTS`; anything else ends the program with a line."""
    name, _, weights = text.partition("=")
    if not name or not weights:
        parser.error(f"--beside {text}: NAME=WEIGHTS was expected, for instance paper=paper.safetensors")
    return name, weights


if __name__ == "__main__":
    main()
