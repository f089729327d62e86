"""Generated tasks: random label maps, painted with random textures, deformed from pair to pair.

As the synthetic tasks of UniverSeg (Butoi et al. 2023, section 4.1) and SynthMorph: what a label looks like and
roughly where it lies is the same over a task, the details are not.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.incontext.tasks import MIN_PIXELS, Pairs
from segqa.spe.engines import SIDE


def generate_task(n_pairs: int, rng: np.random.Generator) -> Pairs:
    """Return pairs of a new task, of which no mask is empty."""
    while True:
        maps = generate_maps(n_pairs, rng)
        masks = maps == int(rng.integers(1, max(1, int(maps.max())) + 1))
        if masks.sum((1, 2)).min() >= MIN_PIXELS:
            return Pairs(paint(maps, rng), masks.astype(np.uint8))


def generate_maps(n_pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Return the label maps `(n, SIDE, SIDE)` of a new task; some may be empty."""
    return _grow_regions(n_pairs, rng) if rng.random() < 0.5 else _place_blobs(n_pairs, rng)


def smooth_noise(n: int, n_cells: int, rng: np.random.Generator) -> Tensor:
    """Return `(n, 1, SIDE, SIDE)` noise of deviation near 1 with `n_cells` features along each side."""
    coarse = torch.from_numpy(rng.standard_normal((n, 1, n_cells, n_cells), dtype=np.float32))
    return coarse if n_cells >= SIDE else _bicubic(n_cells) @ coarse @ _bicubic(n_cells).T


@cache
def _bicubic(n_cells: int) -> Tensor:
    """Return bicubic interpolation as a matrix `(SIDE, n_cells)`: products are much faster than interpolating."""
    columns = torch.eye(n_cells).view(1, n_cells, n_cells, 1)
    wide = functional.interpolate(columns, size=(SIDE, 1), mode="bicubic", align_corners=True)
    return wide[0, :, :, 0].T.contiguous()


def _grow_regions(n_pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Return label maps `(n, SIDE, SIDE)`: the largest of some noises, warped anew for each pair."""
    n_labels, n_cells = int(rng.integers(3, 7)), int(rng.integers(3, 9))
    template = smooth_noise(n_labels, n_cells, rng).swapaxes(0, 1)
    template = template + 0.3 * smooth_noise(n_labels, 2 * n_cells, rng).swapaxes(0, 1)
    strength = float(rng.uniform(0.02, 0.15))
    shift = strength * smooth_noise(2 * n_pairs, int(rng.integers(3, 7)), rng).view(n_pairs, 2, SIDE, SIDE)
    grid = affine_grid(torch.eye(2, 3)[None]) + shift.permute(0, 2, 3, 1)
    warped = functional.grid_sample(
        template.expand(n_pairs, -1, -1, -1), grid, padding_mode="reflection", align_corners=False
    )
    return _find_largest(warped.numpy())


def _find_largest(channels: np.ndarray) -> np.ndarray:
    """Return `channels.argmax(1)`, many times as fast where the channels are few and far apart."""
    best, largest = channels[:, 0].copy(), np.zeros(channels[:, 0].shape, np.int64)
    for index in range(1, channels.shape[1]):
        is_larger = channels[:, index] > best
        largest[is_larger] = index
        np.maximum(best, channels[:, index], out=best)
    return largest


def _place_blobs(n_pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Return label maps of star-shaped objects; a kind has its size, outline and usual place."""
    maps = np.zeros((n_pairs, SIDE, SIDE), np.int64)
    n_kinds = int(rng.integers(1, 5))
    scatter = float(rng.choice([0.1, 0.3, 0.8]))
    for kind in range(1, n_kinds + 1):
        radius, n_objects = float(np.exp(rng.uniform(np.log(0.06), np.log(0.5)))), int(rng.integers(1, 4))
        if radius < 0.15:
            n_objects *= int(rng.integers(1, 6))
        home = rng.uniform(-0.7, 0.7, (n_objects, 2))
        outline = rng.normal(0, 0.5, (2, 5)) / np.arange(1, 6) * rng.uniform(0, 1)
        stretch = np.exp(rng.normal(0, 0.35, 2))
        for pair in range(n_pairs):
            for centre in home + rng.normal(0, scatter, home.shape):
                own = outline + rng.normal(0, 0.06, outline.shape)
                _draw_star(maps[pair], kind, centre, radius * np.exp(rng.normal(0, 0.15)) * stretch, own, rng)
    return maps


def _draw_star(
    label_map: np.ndarray,
    label: int,
    centre: np.ndarray,
    radii: np.ndarray,
    outline: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Fill a star-shaped object, `centre` as (y, x); `outline` holds the Fourier coefficients of its radius."""
    turn = rng.normal(0, 0.3)
    reach = radii.max() * (1 + np.abs(outline).sum())
    rows, columns = (slice(*np.searchsorted(_AXIS, (at - reach, at + reach))) for at in centre)
    y, x = _AXIS[rows, None] - centre[0], _AXIS[columns] - centre[1]
    u = (np.cos(turn) * x + np.sin(turn) * y) / radii[0]
    v = (np.cos(turn) * y - np.sin(turn) * x) / radii[1]
    angle = np.arctan2(v, u)
    edge = np.ones_like(angle)
    for order, (a, b) in enumerate(outline.T, start=1):
        edge += a * np.cos(order * angle) + b * np.sin(order * angle)
    label_map[rows, columns][np.hypot(u, v) < np.maximum(edge, 0.2)] = label


def paint(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return grey images: each label has its brightness and texture; a bias field and a blur lie over all."""
    n, n_labels = len(maps), int(maps.max()) + 1
    brightness = rng.uniform(0, 1, n_labels) + rng.normal(0, 0.04, (n, n_labels))
    contrast = rng.uniform(0, 0.2, n_labels)
    coarse, fine = (smooth_noise(n, int(cells), rng)[:, 0].numpy() for cells in (rng.integers(8, 40), SIDE))
    mixture = rng.uniform(0, 1, n_labels)[maps]
    pixels = np.take_along_axis(brightness, maps.reshape(n, -1), 1).reshape(maps.shape)
    pixels = pixels + contrast[maps] * (mixture * coarse + (1 - mixture) * fine)
    pixels += rng.uniform(0, 0.3) * smooth_noise(n, int(rng.integers(2, 5)), rng)[:, 0].numpy()
    low, high = pixels.min((1, 2), keepdims=True), pixels.max((1, 2), keepdims=True)
    return np.rint((pixels - low) / (high - low) * 255).astype(np.uint8)


def affine_grid(matrices: Tensor) -> Tensor:
    """Return where each pixel is sampled, `(N, SIDE, SIDE, 2)` as (x, y) in -1..1, by matrices `(N, 2, 3)`."""
    axis = torch.from_numpy(_AXIS)
    by_x, by_y, shift = (matrices[:, :, index, None, None] for index in range(3))
    return (by_x * axis + by_y * axis[:, None] + shift).permute(0, 2, 3, 1)


_AXIS = ((np.arange(SIDE) * 2 + 1) / SIDE - 1).astype(np.float32)
