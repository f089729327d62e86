"""Regions of an image that stand out by their own edges."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from benchmarks.regions import OVERLAP, draw_labels, find_regions, make_data_set
from segqa import metrics


def _discs(*radii_and_levels: tuple[int, int]) -> np.ndarray:
    """Return a noisy plane with discs of (radius, brightness) around its middle, one on the other."""
    rows, columns = np.mgrid[:96, :96] - 48
    plane = np.full((96, 96), 40.0)
    for radius, level in radii_and_levels:
        plane[rows**2 + columns**2 <= radius**2] = level
    return (plane + np.random.default_rng(0).normal(0, 4, plane.shape)).astype(np.float32)


def _disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:96, :96] - 48
    return np.asarray(rows**2 + columns**2 <= radius**2)


def test_finds_a_disc_and_the_disc_within_it() -> None:
    found = find_regions(_discs((24, 110), (16, 190)), np.random.default_rng(1))
    for radius in (24, 16):
        assert max(metrics.dice(region, _disc(radius)) for region in found) > 0.93


def test_regions_do_not_repeat_each_other() -> None:
    found = find_regions(_discs((24, 110), (16, 190)), np.random.default_rng(1))
    assert len(found) > 1
    for index, one in enumerate(found):
        for other in found[index + 1 :]:
            assert metrics.jaccard(one, other) < OVERLAP


def test_a_smaller_region_lies_on_the_larger_one() -> None:
    picture = np.repeat(_discs((24, 110), (16, 190)).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    drawn = [draw_labels(picture, np.random.default_rng(seed)) for seed in range(8)]
    middles = [labels[48, 48] for labels in drawn]
    rings = [labels[48, 48 + 20] for labels in drawn]
    assert any(middle > ring > 0 for middle, ring in zip(middles, rings, strict=True))  # nested: the ring is left
    assert any(set(range(1, labels.max())) - set(np.unique(labels)) for labels in drawn)  # now and then one is left out


def test_writes_a_data_set_of_instances(tmp_path: Path) -> None:
    source = _data_set(tmp_path / "source", split="train")
    assert make_data_set(source, tmp_path / "out", max_cases=2) == 2
    about = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (about["mask_kind"], about["split"], about["licence"]) == ("instance", "train", "CC0")
    image, labels = (iio.imread(tmp_path / "out" / part / "a.png") for part in ("images", "masks"))
    assert image.shape == (320, 320, 3)
    assert labels.shape == (320, 320)
    assert labels.max() > 0


def test_refuses_a_test_set(tmp_path: Path) -> None:
    source = _data_set(tmp_path / "source", split="test")
    with pytest.raises(SystemExit, match="is a test set"):
        make_data_set(source, tmp_path / "out", max_cases=2)
    assert not list((tmp_path / "out").rglob("*.png"))


def _data_set(folder: Path, *, split: str) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in ("a", "b", "c"):
        plane = _discs((24, 110), (16, 190)).clip(0, 255).astype(np.uint8)
        Image.fromarray(plane).resize((400, 400)).save(folder / "images" / f"{name}.png")
    (folder / "dataset.json").write_text(json.dumps({"name": "discs", "split": split, "licence": "CC0"}))
    return folder
