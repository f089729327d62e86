"""How well error maps find the pixels that are wrong: average precision beside a boundary band and chance.

Run it on records that the evaluator has not learnt from:

    python -m benchmarks.error_maps weights/evaluator-lite0.safetensors prepared/test --masks 200

Every mask counts once; masks without a wrong pixel in view, or with nothing else, are left out and counted. With
`--flips N` the gradient is also held against flipping N pixels of each of the first masks one by one (theorem 3.2).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from segqa.data.boxes import Box
from segqa.data.types import Mask
from segqa.quality.error_map import error_map
from segqa.quality.network import QualityNetwork
from segqa.quality.preprocessing import build_input, view_of
from segqa.quality.records import Record, read_shard
from segqa.quality.training import load_network

FLIPPED_MASKS = 5


def boundary_band(mask: Mask) -> NDArray[np.float32]:
    """Return the nearness of the mask's edge, where every segmenter is wrong most: the baseline to beat."""
    if not mask.any() or mask.all():
        return np.zeros(mask.shape, np.float32)
    distance = ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)
    return -distance.astype(np.float32)


def candidates(folder: Path, n_masks: int, rng: np.random.Generator) -> list[tuple[Record, int]]:
    """Return masks drawn at random from all records below a folder."""
    records = [record for shard in sorted(folder.rglob("shard-*.safetensors")) for record in read_shard(shard)]
    everyone = [(record, index) for record in records for index in range(len(record.candidates))]
    chosen = rng.permutation(len(everyone))[:n_masks]
    return [everyone[index] for index in chosen]


def flipped(record: Record, mask: Mask, box: Box, network: QualityNetwork, pixels: NDArray[np.int64]) -> list[float]:
    """Return the predicted Dice with each of the pixels flipped alone."""
    scores = []
    for y, x in pixels:
        other = mask.copy()
        other[y, x] ^= True
        inputs = torch.from_numpy(build_input(record.image, other, box, network.spec.profile))[None]
        with torch.inference_mode():
            scores.append(float(network(inputs).scores[0, network.spec.heads.index("dice")]))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("records", type=Path, nargs="+", help="folders of `segqa prepare`, one a data set")
    parser.add_argument("--masks", type=int, default=200, help="masks of each folder")
    parser.add_argument("--flips", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network = load_network(options.weights)
    methods = ["gradient", *(["belief"] if network.spec.compare else [])]
    names = [*methods, "boundary band", "random"]
    print("data set".ljust(28), *(name.rjust(14) for name in names), "n".rjust(6), "left out".rjust(9))
    means = []
    for folder in options.records:
        rng = np.random.default_rng(options.seed)
        values, agreements, left_out = [], [], 0
        for record, index in candidates(folder, options.masks, rng):
            mask, box = record.mask(index), record.candidates[index].box
            seen = view_of(mask, box, network.spec.profile).clip(*mask.shape)
            window = (slice(seen.y0, seen.y1), slice(seen.x0, seen.x1))
            wrong = (mask != record.truth)[window]
            if not wrong.any() or wrong.all():
                left_out += 1
                continue
            maps = [error_map(record.image, mask, box, network, method=method) for method in methods]
            rivals = [boundary_band(mask), rng.random(mask.shape)]
            values.append([average_precision_score(wrong.ravel(), one[window].ravel()) for one in [*maps, *rivals]])
            if options.flips and len(agreements) < FLIPPED_MASKS:
                inside = np.argwhere(np.ones(wrong.shape, bool)) + np.array([seen.y0, seen.x0])
                pixels = inside[rng.permutation(len(inside))[: options.flips]]
                literal = flipped(record, mask, box, network, pixels)
                agreements.append(spearmanr(maps[0][tuple(pixels.T)], literal).statistic)
        mean = np.mean(values, axis=0) if values else np.full(len(names), np.nan)
        means.append(mean)
        print(folder.name.ljust(28), *(f"{value:14.4f}" for value in mean), f"{len(values):6d} {left_out:9d}")
        if agreements:
            print(f"  gradient against flipping pixels: Spearman {np.mean(agreements):.3f} on {len(agreements)} masks")
    print("mean".ljust(28), *(f"{value:14.4f}" for value in np.nanmean(means, axis=0)))


if __name__ == "__main__":
    main()
