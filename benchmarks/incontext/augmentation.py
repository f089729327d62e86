"""What is done to the pairs of a task: some alike to all (a new task), some to each (more variety in it).

After UniverSeg (Butoi et al. 2023, table 5 of its appendix), on the canvas of 128 x 128 pixels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.incontext.generated import affine_grid, smooth_noise
from benchmarks.incontext.tasks import Pairs
from segqa.spe.engines import SIDE


def augment(pairs: Pairs, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return images in 0..1 and masks, each `(N, 1, SIDE, SIDE)` float32."""
    images = torch.from_numpy(pairs.images)[:, None].float() / 255
    masks = torch.from_numpy(pairs.masks)[:, None].float()
    images, masks = _warp(images, masks, rng)
    masks = _change_target(masks, rng)
    return _change_intensities(images, rng), masks


def shrink(images: Tensor, masks: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return both at the network's side by averaging; images are stretched to 0..1, masks become shares."""
    factor = SIDE // side
    images, masks = functional.avg_pool2d(images, factor), functional.avg_pool2d(masks, factor)
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-6), masks


def _warp(images: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    n = len(images)
    affine = _draw_affine(rng, turn=math.pi if rng.random() < 0.3 else 0.2, scale=0.2, shift=0.15, flip=True)
    own = np.stack([_draw_affine(rng, turn=0.15, scale=0.1, shift=0.08) for _ in range(n)])
    own[rng.random(n) < 0.3] = np.eye(3)
    matrices = torch.from_numpy((affine @ own)[:, :2].astype(np.float32))
    grid = affine_grid(matrices)
    if rng.random() < 0.3:
        grid = grid + 0.05 * smooth_noise(2, int(rng.integers(3, 7)), rng).permute(1, 2, 3, 0)
    if rng.random() < 0.5:
        shift = smooth_noise(2 * n, int(rng.integers(3, 7)), rng).view(n, 2, SIDE, SIDE).permute(0, 2, 3, 1)
        grid = grid + float(rng.uniform(0, 0.05)) * shift
    both = functional.grid_sample(torch.cat([images, masks], 1), grid, padding_mode="border", align_corners=False)
    warped = (both[:, 1:] > 0.5).float()
    # Whatever has pushed the object out of sight would teach an empty task.
    lost = warped.sum((1, 2, 3)) < 0.25 * masks.sum((1, 2, 3))
    keep = lost[:, None, None, None]
    return torch.where(keep, images, both[:, :1]), torch.where(keep, masks, warped)


def _draw_affine(
    rng: np.random.Generator, *, turn: float, scale: float, shift: float, flip: bool = False
) -> np.ndarray:
    angle, (sx, sy) = rng.uniform(-turn, turn), np.exp(rng.normal(0, scale / 2, 2) + rng.uniform(-scale, scale))
    if flip:
        sx, sy = sx * rng.choice([-1, 1]), sy * rng.choice([-1, 1])
    cos, sin = math.cos(angle), math.sin(angle)
    dx, dy = rng.uniform(-shift, shift, 2)
    matrix = np.array([[cos * sx, -sin * sy, dx], [sin * sx, cos * sy, dy], [0, 0, 1]])
    return matrix[[1, 0, 2]][:, [1, 0, 2]] if flip and rng.random() < 0.2 else matrix


def _change_target(masks: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the masks, or their edge, or what is outside: other questions to the same images."""
    chance = rng.random()
    if chance < 0.07:
        return functional.max_pool2d(masks, 5, 1, 2) - (1 - functional.max_pool2d(1 - masks, 5, 1, 2))
    return 1 - masks if chance < 0.14 else masks


def _change_intensities(images: Tensor, rng: np.random.Generator) -> Tensor:
    n = len(images)
    if rng.random() < 0.25:
        images = 1 - images
    if rng.random() < 0.5:
        images = images.clamp(0, 1) ** float(np.exp(rng.normal(0, 0.4)))
    gamma = torch.from_numpy(np.exp(rng.normal(0, 0.15, (n, 1, 1, 1)))).float()
    images = images.clamp(0, 1) ** gamma
    if rng.random() < 0.3:
        images = images + float(rng.uniform(0, 0.2)) * smooth_noise(n, int(rng.integers(2, 5)), rng)
    if rng.random() < 0.3:
        images = _blur(images, float(rng.uniform(0.5, 2.5)))
    if rng.random() < 0.4:
        images = images + float(rng.uniform(0, 0.1)) * smooth_noise(n, SIDE, rng)
    return images


def _blur(images: Tensor, sigma: float) -> Tensor:
    reach = torch.arange(-5, 6).float()
    kernel = torch.exp(-0.5 * (reach / sigma) ** 2)
    kernel = kernel / kernel.sum()
    rows = functional.conv2d(images, kernel.view(1, 1, 1, -1), padding=(0, 5))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(5, 0))
