import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from segqa.data.boxes import Box
from segqa.errors import InputError, MissingExtraError
from segqa.metrics import dice
from segqa.segmenters import random_walker
from segqa.segmenters.base import Prompt
from segqa.segmenters.registry import load_segmenter

pytest.importorskip("skimage")


@pytest.fixture
def walker():
    return load_segmenter("random-walker")


def _disc(height, width, middle, radius):
    rows, columns = np.mgrid[:height, :width]
    return (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 <= radius**2


@pytest.mark.parametrize("shade", [30, 220])
def test_a_disc_on_a_noisy_ground_is_found_bright_or_dark(walker, shade):
    disc = _disc(150, 180, (70, 90), 40)
    noise = np.random.default_rng(0).normal(0, 12, disc.shape)
    image = np.repeat(np.clip(np.where(disc, shade, 120) + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)

    # The box is too large by a fifth: its edges are not the object's.
    result = walker.segment(image, [Prompt(box=Box(42, 22, 139, 119))])

    assert dice(result.masks[0], disc) > 0.97
    assert np.isnan(result.confidence).all()


def test_the_walk_solves_the_diffusion_equation(walker, monkeypatch):
    """By an independent solver: a dense Laplacian with edge weights exp(-beta (difference / unit)^2), Grady's (3)."""
    rng = np.random.default_rng(3)
    image = np.repeat(rng.integers(0, 256, (9, 11, 1), dtype=np.uint8), 3, axis=2)

    mask = walker.segment(image, [Prompt(box=Box(0, 0, 11, 9))]).masks[0]

    framed = np.pad(image / 255, ((1, 1), (1, 1), (0, 0)), mode="edge")
    seeds = random_walker._seeds((9, 11))
    n = seeds.size
    where = np.arange(n).reshape(seeds.shape)
    laplacian = np.zeros((n, n))
    for axis in (0, 1):
        ahead = np.take(where, range(1, seeds.shape[axis]), axis).ravel()
        behind = np.take(where, range(seeds.shape[axis] - 1), axis).ravel()
        flat = framed.reshape(n, 3)
        squared = ((flat[ahead] - flat[behind]) ** 2).sum(axis=1)
        weight = np.exp(-random_walker.EDGE * squared / (10 * framed.std()) / 3**0.5) + 1e-10
        laplacian[ahead, behind] = laplacian[behind, ahead] = -weight
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    free, bound = np.flatnonzero(seeds == 0), np.flatnonzero(seeds)
    known = (seeds.ravel()[bound] == 1).astype(float)
    chance = (seeds == 1).astype(float).ravel()
    chance[free] = np.linalg.solve(laplacian[np.ix_(free, free)], -laplacian[np.ix_(free, bound)] @ known)
    assert np.array_equal(mask, chance.reshape(seeds.shape)[1:-1, 1:-1] > 0.5)


@example(seed=0, height=1, width=13, flat=True)  # the spread of equal numbers is not always 0
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_any_box_of_any_picture_gives_a_mask_within_it(seed, height, width, flat):
    rng = np.random.default_rng(seed)
    image = np.full((44, 45, 3), 7, np.uint8) if flat else rng.integers(0, 256, (44, 45, 3), dtype=np.uint8)
    x0, y0 = int(rng.integers(0, 46 - width)), int(rng.integers(0, 45 - height))

    mask = random_walker.RandomWalker().segment(image, [Prompt(box=Box(x0, y0, x0 + width, y0 + height))]).masks[0]

    assert mask.any()
    mask[y0 : y0 + height, x0 : x0 + width] = False
    assert not mask.any()


def test_masks_of_real_lesions_are_closer_than_their_boxes(walker, shared_data):
    folder = shared_data / "isic2017-subset"
    walked, filled = [], []
    for path in sorted((folder / "images").iterdir())[::12]:
        truth = np.asarray(Image.open(folder / "masks" / f"{path.stem}.png")) > 0
        box = Box.from_mask(truth)
        image = np.asarray(Image.open(path).convert("RGB"))
        walked.append(dice(walker.segment(image, [Prompt(box=box)]).masks[0], truth))
        whole = np.zeros_like(truth)
        whole[box.y0 : box.y1, box.x0 : box.x1] = True
        filled.append(dice(whole, truth))

    assert len(walked) > 5
    assert np.mean(walked) > np.mean(filled) + 0.02


def test_points_and_checkpoints_are_refused(walker):
    with pytest.raises(InputError, match="random-walker takes boxes only"):
        walker.segment(np.zeros((8, 8, 3), np.uint8), [Prompt(points=((3.0, 3.0, True),))])
    with pytest.raises(InputError, match="random-walker has no checkpoint"):
        load_segmenter("random-walker=some.pth")


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r"segqa\[classical\]"):
        load_segmenter("random-walker")


def test_no_torch_is_imported():
    code = "import sys; from segqa.segmenters.registry import load_segmenter as f; f('random-walker')"
    code += "; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
