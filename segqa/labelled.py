"""Labelled images that a user gives as references: found, checked, and the objects in them that shall teach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from segqa.data.boxes import asked_labels
from segqa.data.cases import Cases, check_cases, find_cases, read_case
from segqa.data.checks import refuse_images
from segqa.data.files import list_some, show_name
from segqa.data.groups import group_of
from segqa.data.masks import read_mask
from segqa.data.objects import find_objects
from segqa.data.reading import Reading
from segqa.data.subsets import spread
from segqa.data.types import LabelMap, ObjectMask, Source
from segqa.errors import InputError
from segqa.quality.scoring import Evaluator
from segqa.references import MAX_EXAMPLES, MIN_GROUPS, Example, show
from segqa.weights import hash_file

MIN_PIXELS = 10
"""A smaller object teaches nothing (as SPE has it for support masks)."""

_Chosen = Mapping[int, set[tuple[str, str]]]
"""Place of a case -> label and number of each of its objects that shall teach."""


def find_labelled(images: Path, masks: Path, *, scored: Cases, axis: int = -1) -> Cases:
    """Return labelled images with their true masks; only headers are read.

    Args:
        images: Folder or file.
        masks: Folder or file.
        scored: What they are references for.
        axis: Slicing axis of volumes.

    Raises:
        InputError: There are fewer than two images or volumes, files are without partner or cannot be read, there are
            several masks of an image, or a mask is an image or one of those that are scored.
    """
    with _about_references():
        cases = find_cases(images, masks, remedy="give each labelled image its mask", axis=axis)
        if len({group_of(case.name) for case in cases}) < MIN_GROUPS:
            msg = f"{show_name(images)}: one image or volume alone; what one teaches is tried on others, give more"
            raise InputError(msg)
        models = sorted({model for case in cases for model in case.masks})
        if len(models) > 1:
            msg = f"{show_name(masks)}: masks of {list_some(models, limit=3)}; each image needs one true mask"
            raise InputError(msg)
        refuse_images(cases)
        tested = {source.path.resolve() for case in scored for source in case.masks.values()}
        own = sorted({show_name(mask.path) for mask in _masks_of(cases) if mask.path.resolve() in tested})
        if own:
            msg = f"{list_some(own, limit=3)}: is scored itself; give true masks"
            raise InputError(msg)
        if problems := check_cases(cases):
            msg = f"{list_some(problems, limit=3)}; mend or remove them"
            raise InputError(msg)
    return cases


def read_examples(cases: Cases, evaluator: Evaluator, reading: Reading) -> dict[str, list[Example]]:
    """Return the objects to learn from by label, in order of its number; at most `MAX_EXAMPLES` of each.

    All masks are looked through, since a label may be in few of them; images are read where something was chosen.

    Args:
        cases: What `find_labelled` found.
        evaluator: Who will be the first judge.
        reading: How the cases that will be judged are read: these are read alike, but any error stops.

    Raises:
        InputError: A file cannot be read, or no object is large enough to learn from.
    """
    identify = cache(_identify)
    groups: dict[str, str] = {}
    examples: dict[str, list[Example]] = {}
    with _about_references():
        for place, names in _choose(cases, reading).items():
            case = cases[place]
            loaded = read_case(case, reading)
            (truth,) = loaded.masks.values()
            # A copy under another name is no independent evidence.
            group = groups.setdefault(identify(case.image.path), group_of(case.name))
            for one in _objects(truth.pixels, reading):
                if (one.label, one.object) in names:
                    example = show(loaded.image.pixels, one.mask, evaluator, group=group, seed=place)
                    examples.setdefault(one.label, []).append(example)
    return {label: examples[label] for label in sorted(examples, key=int)}


def _choose(cases: Cases, reading: Reading) -> _Chosen:
    """Return objects of each label from as many cases as may be, evenly spread over those that have it."""
    wanted = asked_labels(reading.labels, ())
    there: dict[str, dict[int, list[str]]] = {}
    for place, case in enumerate(cases):
        (source,) = case.masks.values()
        for one in _objects(read_mask(source, labels=wanted).pixels, reading):
            if one.mask.sum() >= MIN_PIXELS:
                there.setdefault(one.label, {}).setdefault(place, []).append(one.object)
    if not there:
        asked = "" if reading.labels is None else f" of the labels {', '.join(map(str, reading.labels))}"
        msg = f"{len(cases)} masks have no object{asked} of {MIN_PIXELS} pixels or more; give masks of what is scored"
        raise InputError(msg)
    chosen: dict[int, set[tuple[str, str]]] = {}
    for label, by_case in there.items():
        places = spread(list(by_case), MAX_EXAMPLES)
        at_once = -(-MAX_EXAMPLES // len(places))
        some = [(place, name) for place in places for name in spread(by_case[place], at_once)]
        for place, name in spread(some, MAX_EXAMPLES):
            chosen.setdefault(place, set()).add((label, name))
    return dict(sorted(chosen.items()))


def _objects(label_map: LabelMap, reading: Reading) -> Iterator[ObjectMask]:
    return find_objects(label_map, labels=reading.labels, objects=reading.objects)


def same_images(scored: Cases, labelled: Cases) -> frozenset[Path]:
    """Return the image files among the scored that are labelled ones, or copies of them."""
    known = {case.image.path for case in labelled}
    sizes = {path.stat().st_size for path in known if path.is_file()}
    alike = {path for path in {case.image.path for case in scored} if path.exists()}
    alike = {path for path in alike if path.is_dir() or path.stat().st_size in sizes}
    if not alike:
        return frozenset()
    contents = {_identify(path) for path in known}
    return frozenset(path for path in alike if _identify(path) in contents)


def _identify(path: Path) -> str:
    """Return what a file shares with its copies; for a folder of slices its place."""
    return str(path.resolve()) if path.is_dir() else hash_file(path)


def share_boxes(cases: Cases, labels: Sequence[str]) -> bool:
    """Tell whether boxes of a case part a label: several of one label, or without any where there is a sole label."""
    sole = labels[0] if len(labels) == 1 else None
    for case in cases:
        named = [sole if box.label is None else box.label for box in case.boxes]
        named = [label for label in named if label is not None]
        if len(set(named)) < len(named):
            return True
    return False


def _masks_of(cases: Cases) -> Iterator[Source]:
    return (mask for case in cases for mask in case.masks.values())


@contextmanager
def _about_references() -> Iterator[None]:
    """Say of an error that it is of the references: a file of that name may be scored as well."""
    try:
        yield
    except InputError as error:
        msg = f"references: {error}"
        raise InputError(msg) from error
