from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segqa.spe.cohorts import measure_row
from segqa.spe.engines import create_engine
from segqa.spe.pseudo import QueryPlan, measure_pseudo
from segqa.spe.support import draw_orders
from segqa.statistics import pearson

HEART = 2


def spoil(mask, strength, rng):
    """Move the border in and out by noise of that strength, in pixels."""
    noise = ndimage.gaussian_filter(rng.normal(size=mask.shape), 4)
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return depth + strength * noise / noise.std() > 0


@pytest.mark.slow
def test_pseudo_dice_follows_the_true_dice_of_spoilt_hearts(shared_data):
    folder = shared_data / "jsrt-chest-xray"
    parts = json.loads((folder / "dataset.json").read_text())["subset"]
    named = {part: [stem for stem, its in parts.items() if its == part] for part in ("train", "extra")}

    def read(kind, stem):
        return np.asarray(Image.open(folder / kind / f"{stem}.png"))

    def load(stems):
        images = np.stack([np.repeat(read("images", stem)[..., None], 3, axis=2) for stem in stems])
        return images, np.stack([read("masks", stem) for stem in stems]) == HEART

    queries, (images, truths) = load(named["train"][::4]), load(named["extra"])
    engine, rng = create_engine("readout"), np.random.default_rng(0)
    plan = QueryPlan(draw_orders(len(images)), len(queries[0]), support_size=22)
    real, pseudo = [], []
    for strength in (0.5, 2, 4, 7, 11, 16):
        masks = np.stack([spoil(truth, strength, rng) for truth in truths])
        rows = [measure_row(a.astype(np.int32), b.astype(np.int32), [1]) for a, b in zip(masks, truths, strict=True)]
        real.append(np.mean([row[0, 0] for row in rows]))
        found = measure_pseudo(engine, queries, (images, masks), plan=plan, key="m")
        pseudo.append(found.mean[0])

    assert pseudo == sorted(pseudo, reverse=True)
    assert pearson(np.array(pseudo), np.array(real)) > 0.9
