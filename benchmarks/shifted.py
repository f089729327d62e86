"""Does the score fall when good masks are displaced? Scores references as they are and shifted, as `segqa score` does.

    python -m benchmarks.shifted ../shared/data/ph2

Each object is moved sideways by a share of its width, towards the middle of the image, so that nothing leaves it. No
boxes are given: the evaluator has to see by itself where the object is.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import segqa
from segqa import metrics
from segqa.data.boxes import Box
from segqa.data.masks import read_mask, write_mask
from segqa.data.types import Mask, Source
from segqa.weights import DEFAULT_EVALUATOR


def shift(mask: Mask, share: float) -> Mask:
    """Return the mask moved by a share of its width towards the middle."""
    box = Box.from_mask(mask)
    if box is None:
        return mask
    distance = round(box.width * share)
    return np.roll(mask, distance if box.x0 + box.x1 < mask.shape[1] else -distance, axis=1)


def main() -> None:
    """Score both and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder with images/ and masks/ of one object an image")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--weights", default=DEFAULT_EVALUATOR)
    arguments = parser.parse_args()
    true = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((arguments.dataset / "masks").iterdir()):
            mask = read_mask(Source(path)).pixels > 0
            moved = shift(mask, arguments.share)
            true.append(metrics.dice(mask, moved))
            (Path(folder) / "shifted").mkdir(exist_ok=True)
            (Path(folder) / "reference").mkdir(exist_ok=True)
            write_mask(Path(folder) / "reference" / path.name, mask.astype(np.int32))
            write_mask(Path(folder) / "shifted" / path.name, moved.astype(np.int32))
        scores = segqa.score(arguments.dataset / "images", folder, weights=arguments.weights).to_polars()
    means = scores.group_by("model").agg(pl.len(), pl.col("predicted_dice").mean()).sort("model")
    by_model = dict(zip(means["model"], means["predicted_dice"], strict=True))
    print(means)
    fall = by_model["reference"] - by_model["shifted"]
    print(f"the mean score falls by {fall:.3f}, the Dice by {1 - np.mean(true):.3f}")


if __name__ == "__main__":
    main()
