"""Masks of task models, from hopeless to good, as further mistakes to learn from.

    python -m benchmarks.task_predictions ../shared/data/stu-hospital predictions/stu-hospital
    segqa prepare ../shared/data/stu-hospital --out prepared/task/stu-hospital \\
        --segmenter none --box-jitter 0 --wrong-boxes 0 \\
        --predictions task4=predictions/stu-hospital/task4 --predictions task32=predictions/stu-hospital/task32

A model without prompts errs otherwise than one that is told a box: it finds too much, elsewhere, or only parts. Here it
is the readout engine of SPE, taught by few or many images of the other half of the groups; it costs seconds a data set.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from segqa.data.groups import group_of
from segqa.data.subsets import spread
from segqa.quality.library import group_share
from segqa.spe.cohorts import shrink_image
from segqa.spe.engines import SIDE, Engine, create_engine

SUPPORTS = (4, 32)
"""Numbers of images that teach: an early and a late checkpoint, as it were."""
MAX_LABELS = 8

Cases = Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Image `(SIDE, SIDE, 3)` and labels `(SIDE, SIDE)` by case."""


def read_cases(data: Path, max_cases: int) -> Cases:
    """Return evenly spaced cases of a data set, brought to the engine's size."""
    paths = {path.stem: path for path in sorted((data / "images").iterdir())}
    return {
        case: (_read_image(paths[case]), _read_labels(data / "masks" / f"{case}.png"))
        for case in spread(list(paths), max_cases)
    }


def _read_image(path: Path) -> NDArray[np.uint8]:
    with PillowImage.open(path) as picture:
        return shrink_image(np.asarray(picture.convert("RGB")))


def _read_labels(path: Path) -> NDArray[np.uint8]:
    with PillowImage.open(path) as picture:
        return np.asarray(picture.resize((SIDE, SIDE), PillowImage.Resampling.NEAREST))


def split(cases: Cases) -> tuple[Cases, Cases]:
    """Return two halves that share no group; of a data set that is one group, every other case."""
    first = {case for case in cases if group_share(group_of(case)) < 0.5}
    if not 0 < len(first) < len(cases):
        first = set(sorted(cases)[::2])
    return {c: v for c, v in cases.items() if c in first}, {c: v for c, v in cases.items() if c not in first}


def predict(engine: Engine, queries: Cases, teachers: Cases) -> NDArray[np.float32]:
    """Return the margin over the threshold of each label that the teachers show, shape `(labels, Q, SIDE, SIDE)`."""
    images = np.stack([image for image, _ in teachers.values()])
    labels = np.stack([labels for _, labels in teachers.values()])
    asked = np.stack([image for image, _ in queries.values()])
    margins = np.full((MAX_LABELS, *asked.shape[:3]), -1.0, dtype=np.float32)
    for label in range(1, MAX_LABELS + 1):
        if (labels == label).any():
            margins[label - 1] = engine.segment(asked, images, labels == label) - engine.threshold
    return margins


def write_prediction(margins: NDArray[np.float32], size: tuple[int, int], path: Path) -> None:
    """Write the label with the largest positive margin, at the image's own size (width, height)."""
    planes = [PillowImage.fromarray(plane).resize(size, PillowImage.Resampling.BILINEAR) for plane in margins]
    stack = np.stack([np.zeros((size[1], size[0]), np.float32), *(np.asarray(plane) for plane in planes)])
    PillowImage.fromarray(stack.argmax(axis=0).astype(np.uint8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of ../shared/data, with one value a label")
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-cases", type=int, default=400)
    asked = parser.parse_args()
    cases = read_cases(asked.data, asked.max_cases)
    halves = split(cases)
    engine, rng = create_engine("readout"), np.random.default_rng(0)
    for n_supports in SUPPORTS:
        folder = asked.out / f"task{n_supports}"
        folder.mkdir(parents=True, exist_ok=True)
        for queries, others in (halves, halves[::-1]):
            names = rng.permutation(sorted(others))[:n_supports]
            margins = predict(engine, queries, {str(name): others[str(name)] for name in names})
            for number, case in enumerate(queries):
                with PillowImage.open(asked.data / "masks" / f"{case}.png") as mask:
                    write_prediction(margins[:, number], mask.size, folder / f"{case}.png")
    print(f"{len(cases)} cases in {asked.out}")


if __name__ == "__main__":
    main()
