"""What every layout is read into: labelled cases, and what had to be left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from segqa.data.cases import find_cases
from segqa.data.checks import check_same_size
from segqa.data.files import list_some
from segqa.data.groups import group_of
from segqa.data.images import read_image_beside
from segqa.data.masks import read_mask
from segqa.data.reading import Reading
from segqa.data.types import Case, Image, LabelMap, Mask, PromptBox, Source
from segqa.errors import InputError

TRUTH = "truth"
"""Name of the reference where a finder of cases asks for a model's."""


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One object of a case whose layout knows instances; objects may overlap."""

    name: str
    value: int
    """Class, as predicted label maps have it."""
    mask: Mask


@dataclass(frozen=True, slots=True)
class Truth:
    """The reference of one case."""

    labels: LabelMap
    """Classes, or instances where `objects` is given; the smaller lies over the larger where they overlap."""
    objects: tuple[TrueObject, ...] = ()
    """The whole objects; empty where each label of the map is one."""

    @classmethod
    def of_objects(cls, objects: Sequence[TrueObject], *, height: int, width: int) -> Truth:
        """Return the reference of objects that may overlap."""
        labels = np.zeros((height, width), np.int32)
        order = sorted(range(len(objects)), key=lambda index: -int(objects[index].mask.sum()))
        for index in order:
            labels[objects[index].mask] = index + 1
        return cls(labels, tuple(objects))


@dataclass(frozen=True, slots=True)
class LabelledCase:
    """One image with its reference, not yet read."""

    name: str
    group: str
    """Patient, volume, or whatever must not be on both sides of a split."""
    image: Source
    read_truth: Callable[[], Truth]
    boxes: tuple[PromptBox, ...] = ()
    """Prompt boxes that the data set brings along."""
    truth_files: tuple[Path, ...] = ()
    """What `read_truth` reads."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is in the data set but not among its cases or records."""

    case: str
    reason: str
    object: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """All labelled cases of one data set, in order of name."""

    name: str
    cases: tuple[LabelledCase, ...]
    labels: Mapping[int, str] = field(default_factory=dict)
    """Name by class, as far as the data set tells."""
    split: str | None = None
    """`train`, `test` or another word of the data set's own description; binding."""
    has_instances: bool = False
    """Each label is one object already, whatever its parts."""
    left_out: tuple[LeftOut, ...] = ()
    empty_slices: int = 0
    """Slices of volumes without foreground; they are no cases."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An entry of a list of files."""

    case: str
    image: Path
    truth: Path | None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """How files are looked for."""

    axis: int = -1
    """Slicing axis of volumes."""
    allow_missing: bool = False
    """Whether files without a partner are left out instead of refused."""


def read_labelled(case: LabelledCase, reading: Reading | None = None) -> tuple[Image, Truth]:
    """Return image and reference of a case, of one size; of the reading, window and NaN count.

    An image that its EXIF orientation turns away from the reference is taken as it is stored.

    Raises:
        InputError: A file cannot be read, or the sizes differ.
    """
    chosen = reading or Reading()
    truth = case.read_truth()
    size = truth.labels.shape
    picture = read_image_beside(case.image, [size], window=chosen.window, nan=chosen.nan)
    check_same_size(picture.pixels.shape, size, case.image, _truth_source(case))
    return cast(Image, picture.pixels), truth


def _truth_source(case: LabelledCase) -> Source:
    """Return where the reference is read from, for messages."""
    return replace(case.image, path=case.truth_files[0] if case.truth_files else case.image.path)


def find_labelled(images: Path, truth: Path, finding: Finding, *, name: str) -> Dataset:
    """Return the data set of images and label maps that are paired by stem, volumes slice by slice.

    Args:
        images: A folder, or one file.
        truth: The same of the references.
        finding: How files are looked for.
        name: The data set's name.

    Raises:
        InputError: Files without partner (unless allowed), or unreadable volumes.
    """
    found = find_cases(images, {TRUTH: truth}, allow_missing=finding.allow_missing, axis=finding.axis)
    cases = [_labelled(case, case.masks[TRUTH]) for case in found]
    left_out = tuple(LeftOut(one.case, f"without partner: {one}") for one in found.skipped)
    return Dataset(name, tuple(cases), left_out=left_out, empty_slices=found.empty_slices)


def _labelled(case: Case, truth: Source) -> LabelledCase:
    read = partial(read_label_map, truth)
    return LabelledCase(case.name, group_of(case.name), case.image, read, truth_files=(truth.path,))


def find_pairs(pairs: Iterable[Pair], finding: Finding, *, name: str) -> Dataset:
    """Return the data set of a list of files.

    Raises:
        InputError: Files are missing (unless allowed; all in one line) or unreadable.
    """
    cases: list[LabelledCase] = []
    left_out: list[LeftOut] = []
    empty_slices = 0
    for pair in pairs:
        absent = [str(path) for path in (pair.image, pair.truth) if path is None or not path.exists()]
        if absent:
            reason = "no reference is named" if pair.truth is None else f"no such file: {', '.join(absent)}"
            left_out.append(LeftOut(pair.case, reason))
            continue
        found = find_pair(pair.image, cast(Path, pair.truth), finding, name=pair.case, group=pair.group)
        cases += found.cases
        empty_slices += found.empty_slices
    if left_out and not finding.allow_missing:
        some = list_some([f"{gone.case} ({gone.reason})" for gone in left_out], limit=3)
        msg = f"{name}: {len(left_out)} cases lack a file: {some}; correct the list or use --allow-missing"
        raise InputError(msg)
    return Dataset(name, tuple(cases), left_out=tuple(left_out), empty_slices=empty_slices)


def find_pair(image: Path, truth: Path, finding: Finding, *, name: str, group: str | None = None) -> Dataset:
    """Return the cases of one file and its reference, whatever their names: one, or the slices of a volume.

    Raises:
        InputError: A file is missing or unreadable.
    """
    found = find_labelled(image, truth, finding, name=name)
    cases = []
    for case in found.cases:
        part = case.name.rpartition(":")[2] if case.image.slice_index is not None else ""
        own = f"{name}:{part}" if part else name
        cases.append(replace(case, name=own, group=group or group_of(own)))
    return replace(found, cases=tuple(cases))


def read_label_map(source: Source) -> Truth:
    """Return the reference of a label map's file."""
    return Truth(cast(LabelMap, read_mask(source).pixels))


def find_root(images: Path, truth: Path | None, names: tuple[str, str]) -> Path | None:
    """Return the folder of a data set that was given itself, or as its folders of images and references.

    `None` where these have other names, or one of them or `dataset.json` is not there.
    """
    root = images if truth is None else images.parent
    if truth is not None and (images.name, truth.name) != names:
        return None
    is_there = all((root / name).is_dir() for name in names) and (root / "dataset.json").is_file()
    return root if is_there else None


def label_names(labels: Any) -> dict[int, str]:
    """Return name by number for `{"1": "liver"}` and for nnU-Net's `{"liver": 1}`; the background is left out.

    Regions (`{"whole": [1, 2]}`) and what is neither form are left out too: names are for reading only.
    """
    names: dict[int, str] = {}
    for key, value in labels.items() if isinstance(labels, dict) else ():
        if isinstance(value, int):
            names[value] = str(key)
        elif str(key).isdigit():
            names[int(key)] = str(value)
    return {number: name for number, name in sorted(names.items()) if number > 0}
