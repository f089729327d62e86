"""Cases: an image with the masks of each model, found on disk and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segqa.data.box_lookup import Boxes, BoxLookup
from segqa.data.boxes import Box, asked_labels, label_number, place_box
from segqa.data.checks import check_cases, check_same_size
from segqa.data.files import list_some, show_name
from segqa.data.formats import FLAT_FORMATS, sniff
from segqa.data.grids import Grid, compare_affines
from segqa.data.images import read_image_beside
from segqa.data.masks import read_label_volume, read_mask
from segqa.data.objects import find_objects
from segqa.data.pairing import Pairs, pair_files
from segqa.data.reading import Reading
from segqa.data.types import Case, ObjectMask, Picture, PromptBox, Source
from segqa.data.volumes import read_grid, remember_at_least
from segqa.errors import InputError

__all__ = [
    "Cases",
    "LoadedCase",
    "Lonely",
    "check_cases",
    "check_same_size",
    "find_cases",
    "objects_of",
    "read_case",
    "slice_ranges",
]


@dataclass(frozen=True, slots=True)
class Lonely:
    """A file without partner, or an image or a volume of masks that cannot be opened."""

    case: str
    models: tuple[str, ...]
    """Whose mask has no image or no readable one, who have no mask of the image, or whose mask it is."""
    text: str
    """The file as it lies below the folder that was given, and what it lacks or is wrong with it."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases that were found, and what was left out."""

    cases: tuple[Case, ...]
    skipped: tuple[Lonely, ...] = ()
    """Files without a partner, left out because missing ones were allowed."""
    unreadable: tuple[Lonely, ...] = ()
    """Images that cannot be opened, and masks of volumes, left out because this was asked for."""
    ignored: tuple[str, ...] = ()
    """Visible files that are no pictures, or further channels."""
    unused_boxes: tuple[str, ...] = ()
    """Cases of the boxes that are not among the images."""
    unboxed: int = 0
    """Cases without a box, when boxes were given."""
    empty_slices: int = 0
    """Slices with neither box nor foreground (of the labels asked for) in any mask; they are no cases."""
    misplaced: tuple[str, ...] = ()
    """Masks of volumes whose affine differs from the image's, with the fact."""

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Case:
        return self.cases[index]

    def remarks(self) -> list[str]:
        """Return what is odd about boxes of which only some belong to an image and about places, a line each."""
        remarks = []
        if self.misplaced:
            fact = f"{len(self.misplaced)} masks lie elsewhere than their images: {list_some(self.misplaced, limit=2)}"
            remarks.append(f"{fact}; voxels are paired by index, so resample the masks unless only their headers err")
        if self.unused_boxes:
            remarks.append(remark_unused(self.unused_boxes))
        if self.unboxed:
            remarks.append(f"{self.unboxed} of {len(self)} cases have no box; their masks' own boxes are taken")
        return remarks


@dataclass(slots=True)
class LoadedCase:
    """The pixels of a case."""

    image: Picture
    masks: dict[str, Picture]
    """Label map by model."""
    boxes: tuple[PromptBox, ...]
    """Boxes of the case, inside the image."""
    remarks: Mapping[Box | None, list[str]] = field(default_factory=dict)
    """What is odd about a box, for the objects that have it."""


def remark_unused(names: Sequence[str]) -> str:
    """Return a line on boxes whose cases are not among the images."""
    fact = f"the boxes of {len(names)} cases belong to no image"
    return f"{fact}: {list_some(names, limit=3)}; the keys must be stems"


def find_cases(
    images: Path,
    masks: Path | Mapping[str, Path],
    *,
    boxes: Boxes | None = None,
    labels: Sequence[int] | None = None,
    allow_missing: bool = False,
    remedy: str = "leave these files out with --allow-missing",
    axis: int = -1,
    every_slice: bool = False,
    skip_unreadable: bool = False,
) -> Cases:
    """Pair images and masks by stem, or by relative path in nested folders.

    A volume becomes one case for each slice in which some mask has foreground or which has a box of its own,
    named `stem:007` (from 0, as wide as the depth asks for). Boxes are looked up by `stem:007`, then by
    `stem`; a box of a whole stem belongs to every slice with foreground. What no mask of a volume has at all is
    missed, not absent: it is looked for in the middle slice.

    Args:
        images: A folder, or one file.
        masks: A folder (its sub-folders may be models), one file, or a path for each model.
        boxes: Prompt boxes by case.
        labels: The labels that are looked at, in whose slices alone; all when `None`.
        allow_missing: Whether to leave out what has no partner instead of refusing it.
        remedy: What a user can do about files without partner.
        axis: Slicing axis of volumes; see `volumes.py` for the order of axes.
        every_slice: Whether slices with neither box nor foreground are cases, too.
        skip_unreadable: Whether to leave out images that cannot be opened, and masks of volumes, instead of refusing
            them; all other files are looked at by `check_cases` or when they are read.

    Returns:
        Cases in order of name. Files are checked by `check_cases`; here only volumes are opened.

    Raises:
        InputError: No such axis, files without partner, stems that are there twice, volumes that do not fit each
            other, or boxes of which none belongs to an image; all of a kind in one line.
    """
    if not -3 <= axis < 3:
        msg = f"axis {axis}: a volume has the axes 0, 1 and 2 (or -3, -2 and -1)"
        raise InputError(msg)
    pairs = pair_files(images, masks)
    remember_at_least(2 * (1 + len(pairs.masks)))  # of the case at hand and of the next, which another thread reads
    skipped = _find_lonely(pairs)
    if skipped and not allow_missing:
        fact = f"{len(skipped)} files without partner: {list_some([str(one) for one in skipped])}"
        msg = f"{fact}; stems must be equal; {remedy}"
        raise InputError(msg)
    lookup = BoxLookup(boxes or {}, pairs.images, pairs.aliases)
    finder = _Finder(pairs, lookup, axis, every_slice, labels, skip_unreadable)
    cases = [case for key in sorted(pairs.images) for case in finder.cases_of(key)]
    if finder.problems:
        msg = f"{len(finder.problems)} volumes cannot be read: {list_some(finder.problems)}"
        raise InputError(msg)
    if boxes and not lookup.used:
        fact = f"boxes for {list_some(lookup.unused, limit=3)}, images {list_some(sorted(pairs.images), limit=3)}"
        msg = f"no box belongs to an image: {fact}; the keys must be stems"
        raise InputError(msg)
    if not (cases or finder.n_empty or finder.unreadable):
        msg = f"{show_name(images)}: no image has a mask; stems must be equal"
        raise InputError(msg)
    unboxed = sum(not case.boxes for case in cases) if boxes is not None else 0
    return Cases(
        tuple(cases),
        skipped=tuple(skipped),
        unreadable=tuple(finder.unreadable),
        ignored=pairs.ignored,
        unused_boxes=lookup.unused,
        unboxed=unboxed,
        empty_slices=finder.n_empty,
        misplaced=tuple(finder.misplaced),
    )


def read_case(case: Case, reading: Reading | None = None) -> LoadedCase:
    """Decode image and masks of a case, as told, and hold them against each other.

    When the image is turned by its EXIF orientation and only the unturned size fits the masks, the unturned
    image is taken (`exif-ignored`). Boxes are clipped to the image (`box-clipped`, on the box); a label of theirs
    that is no number means none (`box-label-unknown`, on the image). A mask whose affine differs from
    the image's is remarked (`affine-mismatch`, on the mask).

    Raises:
        InputError: A file cannot be read, a mask differs in size, or a box lies outside.
    """
    chosen = reading or Reading()
    wanted = asked_labels(chosen.labels, case.boxes)
    masks = {model: read_mask(source, labels=wanted) for model, source in case.masks.items()}
    sizes = {mask.pixels.shape for mask in masks.values()}
    image = read_image_beside(case.image, sizes, window=chosen.window, nan=chosen.nan)
    for model, mask in masks.items():
        check_same_size(image.pixels.shape, mask.pixels.shape, case.image, case.masks[model])
        remark = compare_affines(image.affine, mask.affine, slice_ranges(case.image, image.pixels.shape[:2]))
        if remark is not None:
            mask.warnings.append(remark)
    return LoadedCase(image, masks, *_place_boxes(case, image))


def objects_of(case: Case, loaded: LoadedCase, reading: Reading) -> Iterator[tuple[str, ObjectMask]]:
    """Yield the objects of a decoded case with their models, in order of the models, one at a time."""
    labels = case.labels or reading.labels
    for model, label_map in loaded.masks.items():
        for one in find_objects(label_map.pixels, boxes=loaded.boxes, labels=labels, objects=reading.objects):
            yield model, one


def slice_ranges(source: Source, size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return first and last index of a slice along each axis; files that tell their place are indexed (x, y, z)."""
    ranges = [(0, n - 1) for n in reversed(size)]
    index = source.slice_index or 0
    ranges.insert(source.axis % 3, (index, index))
    return ranges


def _place_boxes(case: Case, image: Picture) -> tuple[tuple[PromptBox, ...], dict[Box | None, list[str]]]:
    """Return the boxes of a case inside its image, and what is odd about some."""
    height, width = image.pixels.shape[:2]
    placed = []
    odd: dict[Box | None, list[str]] = {}
    for index, prompt in enumerate(case.boxes):
        box, remarks = place_box(prompt.box, height, width, name=f"case {case.name!r}, box {index}")
        if remarks:
            odd[box] = remarks
        placed.append(replace(prompt, box=box))
    words = [repr(box.label) for box in case.boxes if box.label is not None and label_number(box.label) is None]
    if words:
        some = list_some(list(dict.fromkeys(words)), limit=3)
        image.warnings.append(f"box-label-unknown: {some} is no value of a mask; taken as boxes without label")
    return tuple(placed), odd


def _find_lonely(pairs: Pairs) -> list[Lonely]:
    """Return every file without partner, in order of key; a model that lacks a mask counts."""
    lonely = []
    for key in sorted({*pairs.images, *(key for files in pairs.masks.values() for key in files)}):
        if key not in pairs.images:
            lonely += [
                Lonely(key, (model,), f"{_shown(key, files[key])} (mask of {model!r}, no image)")
                for model, files in pairs.masks.items()
                if key in files
            ]
            continue
        absent = tuple(model for model, files in pairs.masks.items() if key not in files)
        if absent:
            whose = list_some([repr(model) for model in absent], limit=3)
            lonely.append(Lonely(key, absent, f"{_shown(key, pairs.images[key])} (no mask of {whose})"))
    return lonely


def _shown(key: str, path: Path) -> str:
    """Return the file as it lies below the folder that was given."""
    return show_name(Path(key).with_name(path.name))


class _Finder:
    """Turns paired files into cases, and keeps count of what it met."""

    def __init__(
        self,
        pairs: Pairs,
        boxes: BoxLookup,
        axis: int,
        every_slice: bool,
        labels: Sequence[int] | None,
        skip_unreadable: bool,
    ) -> None:
        self.pairs = pairs
        self.boxes = boxes
        self.axis = axis
        self.every_slice = every_slice
        self.labels = None if labels is None else tuple(labels)
        self.skip_unreadable = skip_unreadable
        self.unreadable: list[Lonely] = []
        self.problems: list[str] = []
        self.misplaced: list[str] = []
        self.n_empty = 0

    def cases_of(self, key: str) -> list[Case]:
        """Return the case of a flat image, those of the slices of a volume, or none without a mask."""
        image = self.pairs.images[key]
        masks = {model: files[key] for model, files in self.pairs.masks.items() if key in files}
        if not masks:
            return []
        try:
            grid = self._volume_grid(image)
        except InputError as error:
            if self.skip_unreadable:  # else `check_cases` will complain of it
                self.unreadable.append(Lonely(key, tuple(masks), str(error)))
                return []
            grid = None
        if grid is not None:
            try:
                return self._slices_of(key, image, masks, grid)
            except InputError as error:
                self.problems.append(str(error))
                return []
        sources = {model: Source(path) for model, path in masks.items()}
        return [Case(key, Source(image), sources, self.boxes.of_image(key) or ())]

    def _volume_grid(self, path: Path) -> Grid | None:
        """Return the grid of a volume; `None` for a flat file.

        Raises:
            InputError: It is damaged, or of no format.
        """
        kind = sniff(path)
        if kind in FLAT_FORMATS:
            return None
        grid = read_grid(path, kind, "image")
        return grid if grid.depth() > 1 else None

    def _slices_of(self, key: str, image: Path, masks: dict[str, Path], grid: Grid) -> list[Case]:
        depth = grid.depth(self.axis)
        own = [self.boxes.of_slice(key, index) for index in range(depth)]
        whole = self.boxes.of_image(key) or ()
        is_there = np.stack([self._meant_by(boxes) for boxes in own], axis=1) | self.every_slice
        readable = {}
        for model, path in masks.items():
            try:
                is_there |= self._filled_slices(path, image, grid)
                readable[model] = path
            except InputError as error:
                if not self.skip_unreadable:
                    raise
                self.unreadable.append(Lonely(key, (model,), str(error)))
        if not readable:
            return []
        is_there[~is_there.any(axis=1), depth // 2] = True
        width = len(str(depth - 1))
        cases = []
        for index in range(depth):
            if not is_there[:, index].any():
                self.n_empty += 1
                continue
            boxes = own[index] or whole
            sources = {model: Source(path, index, self.axis) for model, path in readable.items()}
            labels = self._chosen(is_there[:, index] | self._meant_by(boxes))
            cases.append(Case(f"{key}:{index:0{width}d}", Source(image, index, self.axis), sources, boxes, labels))
        return cases

    def _meant_by(self, boxes: Sequence[PromptBox]) -> NDArray[np.bool_]:
        """Return which labels asked for boxes may mean, shape `(labels or 1,)`: one without label may mean any."""
        meant = {None if box.label is None else label_number(box.label) for box in boxes}
        every = None in meant or (self.labels is None and bool(meant))
        return np.array([every or label in meant for label in self.labels or (0,)])

    def _chosen(self, is_there: NDArray[np.bool_]) -> tuple[int, ...] | None:
        if self.labels is None:
            return None
        return tuple(label for label, there in zip(self.labels, is_there, strict=True) if there)

    def _filled_slices(self, path: Path, image: Path, grid: Grid) -> NDArray[np.bool_]:
        """Return which slices have each label asked for, or any foreground, shape `(labels or 1, slices)`."""
        kind = sniff(path)
        if kind in FLAT_FORMATS:
            msg = f"{show_name(path)}: one picture, but {show_name(image)} is a volume; save the mask as one too"
            raise InputError(msg)
        volume = read_label_volume(path, kind=kind)
        if volume.grid.shape != grid.shape:
            sizes = [" x ".join(map(str, one.shape)) for one in (volume.grid, grid)]
            msg = f"{show_name(path)}: mask {sizes[0]}, image {sizes[1]} ({show_name(image)}); resample the mask"
            raise InputError(msg)
        remark = compare_affines(grid.affine, volume.grid.affine, [(0, n - 1) for n in grid.shape])
        if remark is not None:
            self.misplaced.append(f"{show_name(path)} ({remark.partition(': ')[2]})")
        others = tuple(other for other in range(3) if other != self.axis % 3)
        if self.labels is None:
            return np.asarray(volume.labels.any(axis=others))[None]
        white = volume.white if volume.white in self.labels else 1  # as `read_mask` has it
        values = [int(label == white) if volume.white else label for label in self.labels]
        return np.stack([(volume.labels == value).any(axis=others) & (value > 0) for value in values])
