"""Objects without an annotator: regions of an image that stand out by their own edges, as a data set to train on.

    python -m benchmarks.regions ../shared/data/isic2017-subset regions/isic2017-subset
    segqa prepare regions/isic2017-subset --out prepared/regions/isic2017-subset --segmenter none

An evaluator that has only seen annotated objects learns what annotators like: the salient thing in the middle of a box.
Regions nest, enclose each other and have every shape, so of them it can only learn whether a mask follows the picture.
A region is a connected component of a threshold (as in MSER, Matas et al. 2004) whose boundary lies on strong
gradients.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import ndimage

SIDE = 320
"""Images are shrunk to this longest side, as records are."""
N_LEVELS = 10
"""Thresholds that are evenly spaced over the brightness, and as many over its quantiles."""
AREAS = (0.003, 0.3)
"""Share of the image that a region may cover."""
OVERLAP = 0.7
"""Of two regions that overlap more (intersection over union), the one with the stronger boundary is kept."""
MAX_REGIONS = 10

Plane = NDArray[np.float32]
Region = NDArray[np.bool_]


def find_regions(brightness: Plane, rng: np.random.Generator) -> list[Region]:
    """Return regions of a plane `(H, W)`, those with the strongest boundaries first."""
    smooth = ndimage.gaussian_filter(brightness, rng.uniform(0.7, 3.0))
    edges = ndimage.gaussian_gradient_magnitude(brightness, 1.5)
    edges /= edges.mean() + 1e-6
    found = sorted(_components(smooth, edges), key=lambda one: -one[0])
    kept: list[Region] = []
    for _, region in found:
        if all((region & other).sum() < OVERLAP * (region | other).sum() for other in kept):
            kept.append(region)
        if len(kept) == MAX_REGIONS:
            break
    return kept


def _components(plane: Plane, edges: Plane) -> Iterator[tuple[float, Region]]:
    """Yield each connected component of each threshold, with the strength of its boundary."""
    low, high = (share * plane.size for share in AREAS)
    quantiles = np.quantile(plane, np.linspace(0.06, 0.94, N_LEVELS))
    for level in np.unique([*quantiles, *np.linspace(*np.quantile(plane, (0.01, 0.99)), N_LEVELS + 2)[1:-1]]):
        for side in (plane > level, plane <= level):
            labels, _ = ndimage.label(side)
            areas = np.bincount(labels.ravel())
            pieces = ndimage.find_objects(labels)
            for value in np.flatnonzero((areas >= low) & (areas <= high)):
                if value:
                    yield _measure(labels, int(value), pieces[value - 1], edges)


def _measure(labels: NDArray[np.int32], value: int, window: tuple[slice, slice], edges: Plane) -> tuple[float, Region]:
    region = np.zeros(labels.shape, dtype=bool)
    inside = ndimage.binary_opening(np.pad(labels[window] == value, 1))
    boundary = (inside & ~ndimage.binary_erosion(inside))[1:-1, 1:-1]
    region[window] = inside[1:-1, 1:-1]
    strength = float(edges[window][boundary].mean()) if boundary.any() else 0.0
    return strength * float(inside.mean()) ** 0.5, region  # thin, winding ones come later


def draw_labels(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the regions of an image `(H, W, 3)` as labels 1, 2, ... `(H, W)`; a smaller one lies on a larger one."""
    mix = rng.dirichlet((1.0, 1.0, 1.0)).astype(np.float32)
    regions = find_regions(image.astype(np.float32) @ mix, rng)
    labels = np.zeros(image.shape[:2], dtype=np.uint8)
    for value, region in enumerate(sorted(regions, key=lambda one: -int(one.sum())), start=1):
        if rng.uniform() < 0.7:
            region = _fill_small_holes(region)
        if rng.uniform() < 0.6 or not labels[region].any():  # else its parent stays whole
            labels[region] = value
    return labels


def _fill_small_holes(region: Region) -> Region:
    holes, n_holes = ndimage.label(~region)
    areas = np.bincount(holes.ravel(), minlength=n_holes + 1)
    small = areas < 0.15 * region.sum()
    small[0] = False
    return region | small[holes]


def make_data_set(data: Path, out: Path, *, max_cases: int, seed: int = 0) -> int:
    """Write images and labels of a data set, and return how many."""
    for name in ("images", "masks"):
        (out / name).mkdir(parents=True, exist_ok=True)
    about = json.loads((data / "dataset.json").read_text())
    if about["split"] != "train":
        message = f"{data}: is a {about['split']} set"
        raise SystemExit(message)
    paths = sorted((data / "images").iterdir())
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, num=max_cases).round().astype(int))]
    for number, path in enumerate(chosen):
        with PillowImage.open(path) as file:
            picture = file.convert("RGB")
        picture.thumbnail((SIDE, SIDE), PillowImage.Resampling.BILINEAR)
        labels = draw_labels(np.asarray(picture), np.random.default_rng([seed, number]))
        picture.save(out / "images" / f"{path.stem}.png")
        PillowImage.fromarray(labels).save(out / "masks" / f"{path.stem}.png")
    kept = {key: about[key] for key in ("modality", "licence", "group_rule") if key in about}
    note = {"name": f"regions of {about['name']}", "mask_kind": "instance", "split": "train"}
    (out / "dataset.json").write_text(json.dumps(kept | note, indent=1))
    return len(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of ../shared/data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-cases", type=int, default=100)
    asked = parser.parse_args()
    print(f"{make_data_set(asked.data, asked.out, max_cases=asked.max_cases)} images in {asked.out}")


if __name__ == "__main__":
    main()
