"""What a prompt costs beside the encoding of its image, and what half precision saves and changes.

    python -m benchmarks.prompts litemedsam --bfloat16 --images 3
    python -m benchmarks.prompts sam-vit-b medsam sam-med2d --generated --repeats 1

Segments generated 512 x 512 images with one box and with several, in turns, on one thread; prints the medians. Times
are CPU times, so that a busy machine does not decide. `--generated` fills the published layout with random numbers
where no checkpoint is at hand: the speed is that of the real one, the masks are meaningless.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from segqa.data.boxes import Box
from segqa.data.types import Image
from segqa.phantoms import make_phantom
from segqa.published import expected_shapes
from segqa.quality.prompting import jitter_box
from segqa.segmenters.base import Prompt, Segmenter
from segqa.segmenters.registry import load_segmenter

SIDE = 512


def make_scene(seed: int, n_prompts: int) -> tuple[Image, list[Prompt]]:
    """Return an image and boxes around its objects, each a little off."""
    rng = np.random.default_rng(seed)
    phantom = make_phantom(rng, side=SIDE)
    boxes = [Box.from_mask(phantom.truth == 1 + number % 2) for number in range(n_prompts)]
    found = [jitter_box(box, 0.1, height=SIDE, width=SIDE, rng=rng) for box in boxes if box is not None]
    return phantom.image, [Prompt(box=box) for box in found]


def generate_checkpoint(name: str, folder: Path) -> Path:
    """Write random tensors of the published layout, small enough that nothing overflows."""
    rng = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in expected_shapes(name, {}).items():
        noise = torch.randn(shape, generator=rng)
        state[key] = 1 + 0.1 * noise if len(shape) == 1 and key.endswith("weight") else 0.06 * noise
    path = folder / f"{name}.pth"
    torch.save(state, path)
    return path


def measure_cost(
    segmenters: Sequence[Segmenter], scenes: Sequence[tuple[Image, list[Prompt]]], repeats: int
) -> tuple[NDArray[np.float64], list[list[NDArray[np.bool_]]]]:
    """Return milliseconds of shape `(segmenters, one or several prompts)`, and the masks of each segmenter."""
    times: list[list[list[float]]] = [[[], []] for _ in segmenters]
    masks: list[list[NDArray[np.bool_]]] = [[] for _ in segmenters]
    for segmenter in segmenters:
        segmenter.segment(scenes[0][0], scenes[0][1][:1])  # the first call allocates
    for repeat in range(repeats):
        for image, prompts in scenes:
            for place, segmenter in enumerate(segmenters):
                for several, asked in enumerate((prompts[:1], prompts)):
                    start = time.process_time()
                    result = segmenter.segment(image, asked)
                    times[place][several].append(1000 * (time.process_time() - start))
                    if several and not repeat:
                        masks[place].append(result.masks)
    return np.array([[median(values) for values in both] for both in times]), masks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("segmenters", nargs="+", help="NAME or NAME=CHECKPOINT")
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bfloat16", action="store_true", help="compare with the encoder in half precision")
    parser.add_argument("--generated", action="store_true", help="random tensors of the published layout")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    scenes = [make_scene(seed, arguments.prompts) for seed in range(arguments.images)]
    for spec in arguments.segmenters:
        with tempfile.TemporaryDirectory() as folder:
            chosen = f"{spec}={generate_checkpoint(spec, Path(folder))}" if arguments.generated else spec
            models: list[Segmenter] = [load_segmenter(chosen)]
            if arguments.bfloat16:
                models.append(load_segmenter(chosen, bfloat16=True))
        costs, masks = measure_cost(models, scenes, arguments.repeats)
        for kind, (one, several) in zip(("float32", "bfloat16"), costs, strict=False):
            print(
                f"{models[0].name} {kind}: {one:.0f} ms CPU for one prompt, {several:.0f} ms for {arguments.prompts}, "
                f"ratio {several / one:.2f}",
                flush=True,
            )
        if arguments.bfloat16:
            differing = sum(int((full != half).sum()) for full, half in zip(*masks, strict=True))
            area = sum(int(full.sum()) for full in masks[0])
            saved = ", ".join(f"{factor:.2f}" for factor in costs[0] / costs[1])
            print(
                f"{models[0].name} bfloat16 beside float32: {saved} times as fast with one and with "
                f"{arguments.prompts} prompts; {differing} pixels differ, {100 * differing / max(area, 1):.2f} % of "
                f"the masks' {area}"
            )


if __name__ == "__main__":
    main()
