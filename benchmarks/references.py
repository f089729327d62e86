"""How much better masks are judged when a few labelled images of the same kind are given (`segqa score --reference`).

    python -m benchmarks.references prepared-test/* --images 8

Of each data set, half of the groups (patients, volumes) may teach: from them come `--images` images, of as many groups
as there are. The masks of the other half, those of `benchmarks.quality`, are judged without and with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks.quality.judging import judge
from benchmarks.quality.tables import BESIDE, LITEMEDSAM, by_set, compare, means, without_easy
from segqa.labelled import MIN_PIXELS
from segqa.quality.library import group_share, read_library
from segqa.quality.records import Record
from segqa.quality.sampling import is_wrong
from segqa.quality.scoring import Evaluator, load_evaluator
from segqa.references import Example, References, learn, show
from segqa.weights import DEFAULT_EVALUATOR, find_weights

ALONE = BESIDE + "without references"


def main(words: Sequence[str] | None = None) -> None:
    """Judge twice and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.references",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prepared", type=Path, nargs="+", help="folders, one a data set")
    parser.add_argument("--images", type=int, default=8, help="labelled images of each data set")
    parser.add_argument("--weights", default=DEFAULT_EVALUATOR)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(words)
    evaluator = load_evaluator(find_weights(arguments.weights), threads=1)
    parts = []
    for folder in arguments.prepared:
        teaching, judged = share(read_library([folder], validation_share=0.0).training, arguments.images)
        alone = judge(judged, evaluator, arguments.seed)
        both = judge(judged, evaluator, arguments.seed, references=teach(teaching, evaluator))
        parts.append(both.with_columns(alone["predicted"].alias(ALONE)))
    table = pl.concat(parts, how="diagonal")
    judges = {"with references": "predicted", "references alone": "reference", "without": ALONE}
    prompted = table.filter(pl.col("source").is_in(LITEMEDSAM))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True, float_precision=3):
        for title, part in (
            ("LiteMedSAM's masks and mistakes", without_easy(table)),
            ("exact and jittered boxes", prompted),
        ):
            compared = compare(part, judges)
            print(f"\nMeans of the sets: {title}\n{means(compared)}\n\nBy set: {title}\n{compared}")
        print(f"\nIntervals with references\n{by_set(table, intervals=True)}")


def share(records: Sequence[Record], n_images: int) -> tuple[list[Record], list[Record]]:
    """Return the records of the images that teach, and those that are judged; no group has both.

    Images are taken in turn from the groups of one half, so that they are of as many as possible.
    """
    groups = sorted({record.group for record in records}, key=group_share)
    of_group = {group: sorted({r.case for r in records if r.group == group}) for group in groups[: len(groups) // 2]}
    longest = max(map(len, of_group.values()), default=0)
    in_turn = [cases[turn] for turn in range(longest) for cases in of_group.values() if turn < len(cases)]
    chosen = set(in_turn[:n_images])
    teaching = [r for r in records if r.case in chosen and not is_wrong(r) and r.truth.sum() >= MIN_PIXELS]
    return teaching, [r for r in records if r.group not in of_group]


def teach(records: Sequence[Record], evaluator: Evaluator) -> References:
    """Return what the objects of records teach."""
    examples: dict[str, list[Example]] = {}
    for seed, record in enumerate(records):
        example = show(record.image, record.truth, evaluator, group=record.group, seed=seed)
        examples.setdefault(record.label, []).append(example)
    return learn(examples)


if __name__ == "__main__":
    main()
