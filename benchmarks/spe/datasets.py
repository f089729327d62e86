"""The five data sets of the benchmark, how each is cut into train, test and extra, and what they are shifted to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from segqa.quality.library import group_share

DATASETS = ("jsrt-chest-xray", "hc18-fetal-head", "ph2", "wbc-jiangxi", "acdc-cardiac-mri")
"""X-ray, ultrasound, dermoscopy, microscopy, MRI; the first with the split of the SPE authors."""


class Shift(NamedTuple):
    """The same objects from elsewhere."""

    folder: str
    labels: dict[int, int]
    """The value in these masks of each label that both sets have."""


SHIFTS = {
    "ph2": Shift("isic2017-subset", {1: 1}),
    "wbc-jiangxi": Shift("wbc-cellavision", {1: 1, 2: 2}),
    "acdc-cardiac-mri": Shift("congenital-heart-mri-hvsmr", {2: 1}),
}
"""Where a deployed model's error under domain shift is measured; of the two hearts only the myocardium is alike."""

PARTS = ("train", "test", "extra")
SHARES = (0.70, 0.90)
"""Upper ends of train and test on the unit interval; JSRT's 172 / 49 / 25 of 246 is 0.70 / 0.20 / 0.10."""


def read_split(folder: Path) -> dict[str, str]:
    """Return the part of each image id: the data set's own `subset`, else by a hash of its group."""
    subset: dict[str, str] = json.loads((folder / "dataset.json").read_text()).get("subset", {})
    return subset or {path.stem: _part_of(_group_of(folder, path.stem)) for path in _files(folder / "images")}


def lay_out(folder: Path, target: Path) -> None:
    """Copy a data set into `target/<part>/{images,masks}`, the layout that `segqa spe-fit` reads."""
    if (target / "layout.done").exists():
        return
    split = read_split(folder)
    for kind in ("images", "masks"):
        for part in PARTS:
            (target / part / kind).mkdir(parents=True, exist_ok=True)
        for path in _files(folder / kind):
            shutil.copyfile(path, target / split[path.stem] / kind / path.name)
    (target / "layout.done").touch()


def lay_out_shifted(data: Path, shift: Shift, target: Path) -> None:
    """Copy a whole data set into `target/shifted/{images,masks}`, its masks in the labels of the other."""
    for kind in ("images", "masks"):
        (target / "shifted" / kind).mkdir(parents=True, exist_ok=True)
    for path in _files(data / shift.folder / "images"):
        shutil.copyfile(path, target / "shifted" / "images" / path.name)
    for path in _files(data / shift.folder / "masks"):
        pixels = np.asarray(Image.open(path))
        renamed = np.zeros_like(pixels)
        for label, value in shift.labels.items():
            renamed[pixels == value] = label
        Image.fromarray(renamed).save(target / "shifted" / "masks" / path.name)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _group_of(folder: Path, stem: str) -> str:
    groups = folder / "groups.json"
    if groups.exists():
        return str(json.loads(groups.read_text())[stem])
    return stem.split("_")[0]


def _part_of(group: str) -> str:
    return PARTS[sum(group_share(group) >= share for share in SHARES)]
