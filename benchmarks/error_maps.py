"""How well error maps find the pixels that are wrong: average precision beside a boundary band and chance.

Run it on records that the evaluator has not learnt from, one folder of `segqa prepare` a data set:

    python -m benchmarks.error_maps weights/evaluator-lite2.safetensors prepared/test/* --masks 200

The masks are those of segmenters, drawn at random; every mask counts once, and every data set. Only pixels that the
network sees are asked for. Masks without a wrong pixel there, or with nothing else, are left out and counted. With
`--flips N` the gradient is also held against flipping N pixels of each of the first masks one by one (theorem 3.2).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from segqa.data.boxes import Box
from segqa.data.types import Mask
from segqa.quality.error_map import Method, error_map
from segqa.quality.network import QualityNetwork
from segqa.quality.preprocessing import build_input, view_of
from segqa.quality.records import Record, read_shard
from segqa.quality.storage import load_network

FLIPS = "Spearman of gradient and flips"
FLIPPED_MASKS = 3
"""Masks of each set that pixels are flipped in."""


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


@dataclass
class Judge:
    """Measures the maps of one network."""

    network: QualityNetwork
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def methods(self) -> list[Method]:
        """Return the maps that the network has."""
        return ["belief", "gradient"] if self.network.spec.compare else ["gradient"]

    def precisions(self, record: Record, index: int) -> list[float] | None:
        """Return the average precision of each map and baseline; `None` where it is not defined."""
        mask, box = record.mask(index), record.candidates[index].box
        window = self.window(mask, box)
        wrong = (mask != record.truth)[window]
        if not wrong.any() or wrong.all():
            return None
        maps = [error_map(record.image, mask, box, self.network, method=method) for method in self.methods()]
        rivals = [boundary_band(mask), self.rng.random(mask.shape)]
        return [float(average_precision_score(wrong.ravel(), one[window].ravel())) for one in [*maps, *rivals]]

    def agreement(self, record: Record, index: int, n_pixels: int) -> float:
        """Return Spearman's correlation of the gradient with what flipping each of so many pixels alone gives."""
        mask, box = record.mask(index), record.candidates[index].box
        window = self.window(mask, box)
        seen = np.argwhere(np.ones_like(mask[window])) + np.array([window[0].start, window[1].start])
        pixels = seen[self.rng.permutation(len(seen))[:n_pixels]]
        gains = error_map(record.image, mask, box, self.network, method="gradient")[tuple(pixels.T)]
        literal = flipped(record, mask, box, self.network, pixels)
        return float(spearmanr(gains, literal).statistic)

    def window(self, mask: Mask, box: Box) -> tuple[slice, slice]:
        """Return the part of the record that the network sees."""
        return view_of(mask, box, self.network.spec.profile).clip(*mask.shape).slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("records", type=Path, nargs="+", help="folders of `segqa prepare`, one a data set")
    parser.add_argument("--masks", type=int, default=200, help="masks of each folder")
    parser.add_argument("--flips", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network = load_network(options.weights)
    names = [*Judge(network).methods(), "boundary band", "random", *([FLIPS] if options.flips else [])]
    print(f"| set | n | left out | {' | '.join(names)} |\n|---|---|---|{'---|' * len(names)}")
    means = []
    for folder in options.records:
        judge = Judge(network, np.random.default_rng(options.seed))  # a set's row does not depend on the other sets
        drawn = candidates(folder, options.masks, judge.rng)
        found = [judge.precisions(record, index) for record, index in drawn]
        values = [one for one in found if one is not None]
        mean = list(np.mean(values, axis=0)) if values else [np.nan] * (len(judge.methods()) + 2)
        if options.flips:
            mean.append(np.nanmean([judge.agreement(*one, options.flips) for one in drawn[:FLIPPED_MASKS]]))
        means.append(mean)
        print(_line(f"{folder.name} | {len(values)} | {len(found) - len(values)}", mean), flush=True)
    print(_line("mean of sets | | ", np.nanmean(means, axis=0)))


def _line(head: str, values: Sequence[float]) -> str:
    return f"| {head} | {' | '.join(f'{value:.3f}' for value in values)} |"


if __name__ == "__main__":
    main()
