"""Dice of a network on whole data sets that it has not seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.incontext.augmentation import shrink
from benchmarks.incontext.network import InContextNetwork
from benchmarks.incontext.tasks import Task
from segqa.metrics import dice
from segqa.spe.engines import SIDE

SIZES = (16, 64)
THRESHOLDS = (0.4, 0.5)
N_QUERIES = 10
SEED = 1


class Validated(NamedTuple):
    """Mean Dice of one task."""

    dataset: str
    n_support: int
    """As asked; a small set gives as many as it has."""
    dice: tuple[float, ...]
    """By threshold."""


@torch.inference_mode()
def validate(network: InContextNetwork, tasks: list[Task], side: int, *, n_queries: int = N_QUERIES) -> list[Validated]:
    """Return what each task and support size reaches; the draws are the same in every call."""
    rows = []
    for task in tasks:
        for n_support in SIZES:
            rng = np.random.default_rng([SEED, n_support])
            found = [_dice_of_query(network, task, n_support, side, rng) for _ in range(n_queries)]
            rows.append(Validated(task.dataset, n_support, tuple(np.mean(found, axis=0).tolist())))
    return rows


def _dice_of_query(
    network: InContextNetwork, task: Task, n_support: int, side: int, rng: np.random.Generator
) -> list[float]:
    pairs = task.draw(n_support, rng, replace=False)
    images, masks = shrink(_as_maps(pairs.images) / 255, _as_maps(pairs.masks), side)
    both = torch.cat([images, masks], 1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(both[:1, :1], both[None, 1:]).float()
    found = functional.interpolate(torch.sigmoid(logits), size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0]
    return [dice(found.numpy() > threshold, pairs.masks[0] > 0) for threshold in THRESHOLDS]


def _as_maps(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels)[:, None].float()
