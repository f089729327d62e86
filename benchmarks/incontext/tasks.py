"""Binary segmentation tasks for the in-context training: those of the training data sets, read once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segqa.spe.cohorts import shrink_image, shrink_mask
from segqa.spe.universeg import GREY

HELD_OUT = ("kidney-t2-mri-ukrin", "lung-tumour-ct-msd", "pancreas-t2-mri", "dental-caries-dc1000")
"""Training sets that no step sees: they choose, as for the shipped evaluator."""
MIN_PIXELS = 16
"""Masks of fewer pixels on the canvas of 128 x 128 have no shape."""
MIN_PAIRS = 8

Bytes = NDArray[np.uint8]


class Pairs(NamedTuple):
    """Grey images and masks of one task, each `(N, SIDE, SIDE)` bytes; the masks are 0 or 1."""

    images: Bytes
    masks: Bytes


@dataclass(frozen=True, slots=True)
class Task:
    """One label of one data set (or all its labels as one)."""

    dataset: str
    label: str
    pairs: Pairs
    groups: NDArray[np.int64]
    """Number of each pair's patient or volume: a query's supports come from others."""
    images: NDArray[np.int64]
    """Position of each pair among the images of the data set, sorted by name."""

    def draw(self, n_support: int, rng: np.random.Generator, *, replace: bool = True) -> Pairs:
        """Return a query, then its supports."""
        rows = self.choose(n_support, rng, replace=replace)
        return Pairs(self.pairs.images[rows], self.pairs.masks[rows])

    def choose(self, n_support: int, rng: np.random.Generator, *, replace: bool) -> NDArray[np.int64]:
        """Return the rows of a query and its supports; where there are too few, some twice or just these."""
        query = int(rng.integers(len(self.groups)))
        others = np.flatnonzero(self.groups != self.groups[query])
        too_few = len(others) < n_support
        chosen = others if too_few and not replace else rng.choice(others, n_support, replace=too_few)
        return np.append(query, chosen)


def read_tasks(data: Path, names: Iterable[str], cache: Path | None = None) -> list[Task]:
    """Return the tasks of some data sets, from a cache folder as far as they are there."""
    return [task for name in names for task in _cut_tasks(data / name, *_read_canvas(data / name, cache))]


def read_colour(path: Path) -> Bytes:
    """Return an image on the canvas, `(SIDE, SIDE, 3)`."""
    with Image.open(path) as picture:
        return shrink_image(np.asarray(picture.convert("RGB")))


def find_sets(data: Path, split: str) -> list[str]:
    """Return the names of all data sets of a split: `train` (the held-out ones too) or `test`."""
    described = {path.parent.name: json.loads(path.read_text()) for path in sorted(data.glob("*/dataset.json"))}
    return [name for name, facts in described.items() if facts.get("split") == split]


def choose_weights(tasks: list[Task]) -> NDArray[np.float64]:
    """Return how often each task is drawn: a set by the root of its size, its labels alike."""
    n_tasks = {task.dataset: sum(other.dataset == task.dataset for other in tasks) for task in tasks}
    largest = {task.dataset: max(len(t.groups) for t in tasks if t.dataset == task.dataset) for task in tasks}
    weights = np.array([largest[task.dataset] ** 0.5 / n_tasks[task.dataset] for task in tasks])
    return weights / weights.sum()


def _read_canvas(folder: Path, cache: Path | None) -> tuple[Bytes, Bytes]:
    """Return grey images `(N, SIDE, SIDE)` and masks `(N, L, SIDE, SIDE)` of every label and, last, of all."""
    kept = cache / f"{folder.name}.npz" if cache else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return arrays["images"], arrays["masks"]
    facts = json.loads((folder / "dataset.json").read_text())
    labels = [] if facts["mask_kind"] == "instance" else [int(label) for label in facts["labels"]]
    images, masks = [], []
    for path in sorted((folder / "images").iterdir()):
        images.append(np.rint(read_colour(path) @ GREY).astype(np.uint8))
        pixels = np.asarray(Image.open(folder / "masks" / f"{path.stem}.png"))
        masks.append(np.stack([shrink_mask(each) for each in (*(pixels == label for label in labels), pixels > 0)]))
    found = np.stack(images), np.stack(masks).astype(np.uint8)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, images=found[0], masks=found[1])
    return found


def _cut_tasks(folder: Path, images: Bytes, masks: Bytes) -> list[Task]:
    facts = json.loads((folder / "dataset.json").read_text())
    stems = sorted(path.stem for path in (folder / "images").iterdir())
    in_volumes = "up to" in facts["group_rule"]
    groups = np.unique([stem.split("_")[0] if in_volumes else stem for stem in stems], return_inverse=True)[1]
    names = [*facts["labels"].values(), "all"] if masks.shape[1] > 1 else ["all"]
    # With one label, it and "all labels" are the same task.
    chosen = range(masks.shape[1]) if masks.shape[1] != 2 else (0,)
    tasks = []
    for index in chosen:
        rows = np.flatnonzero(masks[:, index].sum((1, 2)) >= MIN_PIXELS)
        if len(rows) >= MIN_PAIRS and len(np.unique(groups[rows])) > 1:
            pairs = Pairs(images[rows], np.ascontiguousarray(masks[rows, index]))
            tasks.append(Task(folder.name, names[index], pairs, groups[rows], rows))
    return tasks
