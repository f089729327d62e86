"""Masks of task models that few or many images taught."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from benchmarks import task_predictions
from benchmarks.task_predictions import SUPPORTS, split
from segqa import metrics
from segqa.data.groups import group_of
from segqa.phantoms import make_phantom


def _cases(*names: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    plane = np.zeros((2, 2), np.uint8)
    return dict.fromkeys(names, (plane, plane))


def test_halves_share_no_group() -> None:
    names = [f"patient{number:03d}_frame{frame}" for number in range(12) for frame in (1, 2)]
    first, second = split(_cases(*names))
    assert sorted([*first, *second]) == sorted(names)
    assert {group_of(case) for case in first}.isdisjoint(group_of(case) for case in second)


def test_a_single_group_is_split_by_case() -> None:
    first, second = split(_cases("p1_a", "p1_b", "p1_c"))
    assert (set(first), set(second)) == ({"p1_a", "p1_c"}, {"p1_b"})


def test_predicts_labels_at_the_size_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truths = _write_phantoms(tmp_path / "data", n=10)
    monkeypatch.setattr(sys, "argv", ["task_predictions", str(tmp_path / "data"), str(tmp_path / "out")])
    task_predictions.main()
    dice = {}
    for n_supports in SUPPORTS:
        masks = {case: iio.imread(tmp_path / "out" / f"task{n_supports}" / f"{case}.png") for case in truths}
        assert all(mask.shape == (96, 96) for mask in masks.values())
        dice[n_supports] = np.mean([metrics.dice(masks[case] == 1, truths[case] == 1) for case in truths])
    # Which blob is which organ depends on its place: learnt from some pictures, and never perfectly.
    assert 0.4 < dice[max(SUPPORTS)] < 0.99


def _write_phantoms(folder: Path, *, n: int) -> dict[str, np.ndarray]:
    truths = {}
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(n):
        phantom = make_phantom(np.random.default_rng(number), side=96)
        case = f"p{number}_slice"
        iio.imwrite(folder / "images" / f"{case}.png", phantom.image)
        iio.imwrite(folder / "masks" / f"{case}.png", phantom.truth.astype(np.uint8))
        truths[case] = phantom.truth
    return truths
