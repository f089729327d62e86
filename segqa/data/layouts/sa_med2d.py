"""SA-Med2D-20M: `images/{modality}--{dataset}--{case}--{slice}.png`, many masks an image.

A mask has the image's name and `--{class}_{instance}` behind it. Objects may overlap. Classes count from 0 there; a
label map has 0 for the background, so class 3 is value 4. Each source has classes of its own, which
`SAMed2D_v1_class_mapping_id.json` names: `{"AMOS": {"liver": "5"}}`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from segqa.data.files import list_some, read_json, show_name
from segqa.data.layouts.dataset import Dataset, Finding, LabelledCase, LeftOut, TrueObject, Truth
from segqa.data.masks import read_mask
from segqa.data.types import Source
from segqa.errors import InputError

_MAPPING = "SAMed2D_v1_class_mapping_id.json"
_NAMING = "MODALITY--DATASET--CASE--SLICE--CLASS_INSTANCE.png"
_MASK = re.compile(r"(?P<image>.+?--.+?--.+?--.+)--(?P<class>\d+)_(?P<instance>\d+)\.png")


def recognise(images: Path, truth: Path | None) -> str | None:
    """Say why this is the layout; `None` when it is not."""
    folder = images / "masks" if truth is None else truth
    if not folder.is_dir() or not (images / "images" if truth is None else images).is_dir():
        return None
    first = next((path.name for path in folder.iterdir() if path.suffix == ".png"), "")
    return f"masks named such as {first}" if _MASK.fullmatch(first) else None


def read(images: Path, truth: Path | None, finding: Finding) -> Dataset:
    """Return the data set; a group is one case (patient, volume) of one of its sources.

    Raises:
        InputError: A mask has another name, or files lack a partner.
    """
    root = images if truth is None else images.parent
    picture_folder, mask_folder = (images / "images", images / "masks") if truth is None else (images, truth)
    masks: dict[str, list[Path]] = defaultdict(list)
    sources: dict[int, set[str]] = defaultdict(set)
    for path in sorted(mask_folder.glob("*.png")):
        match = _MASK.fullmatch(path.name)
        if match is None:
            msg = (
                f"{show_name(path)}: not named MODALITY--DATASET--CASE--SLICE--CLASS_INSTANCE.png; rename or remove it"
            )
            raise InputError(msg)
        masks[match["image"]].append(path)
        sources[int(match["class"])].add(match["image"].split("--")[1])
    pictures = {path.stem: path for path in sorted(picture_folder.glob("*.png"))}
    lonely = [LeftOut(stem, "image without mask") for stem in pictures if stem not in masks]
    lonely += [LeftOut(stem, "mask without image") for stem in masks if stem not in pictures]
    if lonely and not finding.allow_missing:
        some = list_some([f"{gone.case} ({gone.reason})" for gone in lonely], limit=3)
        msg = f"{len(lonely)} files without partner: {some}; leave these files out with --allow-missing"
        raise InputError(msg)
    if not masks:
        msg = f"{show_name(mask_folder)}: no masks named {_NAMING} in {mask_folder}; choose another --layout"
        raise InputError(msg)
    cases = [_case(pictures[stem], masks[stem]) for stem in pictures if stem in masks]
    mapping = _read_mapping(root)
    labels = {number + 1: _name(number, sources[number], mapping) for number in sorted(sources)}
    return Dataset(root.resolve().name, tuple(cases), labels, has_instances=True, left_out=tuple(lonely))


def _read_mapping(root: Path) -> Mapping[str, Mapping[int, str]]:
    """Return name by class by source; empty where the data set's table of them is not there."""
    path = next((path for path in (root / _MAPPING, root / "annotations" / _MAPPING) if path.is_file()), None)
    content = {} if path is None else read_json(path)
    try:
        return {source: {int(number): name for name, number in names.items()} for source, names in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        msg = (
            f'{show_name(path or root)}: classes by source were expected, {{"AMOS": {{"liver": "5"}}}}; remove the file'
        )
        raise InputError(msg) from error


def _name(number: int, sources: Iterable[str], mapping: Mapping[str, Mapping[int, str]]) -> str:
    """Return what a class is called; by its number where nobody says it, or its sources differ."""
    names = {mapping.get(source, {}).get(number) for source in sources}
    name = names.pop() if len(names) == 1 else None
    return name or f"class {number:04d}"


def _case(picture: Path, masks: Sequence[Path]) -> LabelledCase:
    _, dataset, case = picture.stem.split("--")[:3]
    read = partial(_read_truth, tuple(masks))
    return LabelledCase(picture.stem, f"{dataset}--{case}", Source(picture), read, truth_files=tuple(masks))


def _read_truth(masks: Sequence[Path]) -> Truth:
    objects: list[TrueObject] = []
    for path in masks:
        name = path.stem.rpartition("--")[2]
        mask = read_mask(Source(path)).pixels > 0
        if objects and mask.shape != objects[0].mask.shape:
            msg = f"{show_name(path)}: not of the size of {masks[0].name}; save all masks in the size of the image"
            raise InputError(msg)
        objects.append(TrueObject(name, int(name.partition("_")[0]) + 1, mask))
    height, width = objects[0].mask.shape
    return Truth.of_objects(objects, height=height, width=width)
