"""Generated pictures with known truth, so that everything can be tried offline, without anybody's data.

A phantom is a slice of a body that does not exist: a body outline, two organs with soft edges, vessels, a lesion,
shading and noise. Masks of three pretended segmentation models are made from the truth by corruptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from segqa.data.boxes import Box, write_boxes
from segqa.data.files import write_whole
from segqa.data.masks import write_mask
from segqa.data.types import Image, LabelMap, PromptBox
from segqa.quality.corruptions import blur_mask, corrupt, smooth_noise
from segqa.quality.prompting import jitter_box

MODELS = {"careful": 0.1, "average": 0.45, "careless": 0.9}
"""Pretended model -> chance that it spoils an object."""

SIDE = 256


@dataclass(frozen=True, slots=True)
class Phantom:
    """One picture with its truth."""

    image: Image
    truth: LabelMap
    """1 and 2 the organs, 3 the lesion."""


def make_phantom(rng: np.random.Generator, *, side: int = SIDE) -> Phantom:
    """Return a random phantom of `side` by `side` pixels."""
    canvas = np.full((side, side), 20.0)
    body = _blob(side, (0.5, 0.5), (0.42, 0.36), rng)
    canvas += 60 * body
    truth = np.zeros((side, side), dtype=np.int32)
    for label, centre in ((1, (0.34, 0.5)), (2, (0.67, 0.5))):
        place = (centre[0] + rng.uniform(-0.03, 0.03), centre[1] + rng.uniform(-0.08, 0.08))
        organ = _blob(side, place, (rng.uniform(0.08, 0.13), rng.uniform(0.1, 0.17)), rng)
        canvas += organ * rng.uniform(35, 80)
        truth[organ > 0.5] = label
    lesion = _blob(side, (rng.uniform(0.45, 0.55), rng.uniform(0.25, 0.75)), (0.045, 0.045), rng)
    canvas += lesion * rng.uniform(60, 110)
    truth[lesion > 0.5] = 3
    for _ in range(6):  # vessels, which are nobody's object
        spot = _blob(side, rng.uniform(0.2, 0.8, size=2), (0.012, 0.012), rng)
        canvas += spot * body * rng.uniform(30, 90)
    shade = 1 + 0.15 * smooth_noise(canvas.shape, 3, rng)
    texture = 6 * smooth_noise(canvas.shape, 64, rng) + rng.normal(0, 5, size=(side, side))
    grey = (canvas * shade + texture).clip(0, 255).astype(np.uint8)
    return Phantom(np.repeat(grey[..., None], 3, axis=2), truth)


def _blob(
    side: int, centre: tuple[float, float] | NDArray[np.float64], radii: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a soft-edged ellipse with a wandering outline, 0..1; places and radii are shares of the side."""
    rows, columns = np.mgrid[:side, :side] / side
    dx, dy = (columns - centre[0]) / radii[0], (rows - centre[1]) / radii[1]
    angle, phases = np.arctan2(dy, dx), rng.uniform(0, 2 * np.pi, size=4)
    outline = 1 + sum(0.07 / (k + 1) * np.sin((k + 2) * angle + phases[k]) for k in range(4))
    return blur_mask(np.hypot(dx, dy) < outline, 1.2)


def spoil(truth: LabelMap, chance: float, rng: np.random.Generator) -> LabelMap:
    """Return the label map of a pretended model: each object is corrupted with that chance."""
    result = np.zeros_like(truth)
    for label in np.unique(truth[truth > 0]):
        mask = truth == label
        if rng.uniform() < chance:
            mask = corrupt(mask, rng)
        result[mask] = label
    return result


def write_demo(folder: Path, *, n_cases: int = 8, seed: int = 0) -> None:
    """Write `images/`, `truth/`, `masks/<model>/` and `boxes.json` of generated cases.

    Args:
        folder: Made when missing.
        n_cases: Number of pictures.
        seed: The same seed gives the same bytes.

    Raises:
        InputError: A file cannot be written.
    """
    boxes = {}
    for index in range(n_cases):
        rng = np.random.default_rng([seed, index])
        phantom, stem = make_phantom(rng), f"phantom_{index + 1:02d}"
        _write_picture(folder / "images" / f"{stem}.png", PillowImage.fromarray(phantom.image[..., 0]))
        write_mask(folder / "truth" / f"{stem}.png", phantom.truth)
        for model, chance in MODELS.items():
            write_mask(folder / "masks" / model / f"{stem}.png", spoil(phantom.truth, chance, rng))
        boxes[stem] = [_prompt(phantom.truth, label, rng) for label in (1, 2, 3)]
    write_boxes(folder / "boxes.json", boxes)


def _write_picture(path: Path, picture: PillowImage.Image) -> None:
    write_whole(path, lambda file: picture.save(file, format="PNG"))


def _prompt(truth: LabelMap, label: int, rng: np.random.Generator) -> PromptBox:
    box = Box.around(truth == label)
    return PromptBox(jitter_box(box, 0.08, height=truth.shape[0], width=truth.shape[1], rng=rng), str(label))
