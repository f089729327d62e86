"""Training data from real segmenters: images and references in, shards of records out (EvanySeg, section 3.3).

Per object: a record around its own box with the masks of the exact and the jittered box prompts and of the sources
without prompt, and a record around a wrong box. True metrics are measured on the whole image at full resolution;
the crops that the network learns from are at most `Settings.side` pixels.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from segqa.data.boxes import Box, place_box
from segqa.data.files import write_whole
from segqa.data.layouts.dataset import TrueObject, Truth
from segqa.data.types import Image, LabelMap, Mask, PromptBox
from segqa.errors import InputError
from segqa.quality.corruptions import corrupt
from segqa.quality.cropping import Proposal, make_record
from segqa.quality.prompting import centre_point, jitter_box, match_boxes, wrong_box
from segqa.quality.records import (
    CORRUPTION,
    EXACT,
    FILE,
    JITTERED,
    NO_PROMPT,
    OTSU,
    POINT,
    WRONG,
    Record,
    join_shards,
    read_inputs,
    read_rows,
    read_shard,
    read_skipped,
    write_shard,
)
from segqa.quality.targets import Skipped, Target, choose_targets, predicted_masks
from segqa.segmenters.base import Prompt, Segmenter
from segqa.workers import Workers

UNFINISHED = "unfinished"
"""Folder of the cases whose shard is not complete yet; gone at the end."""

UNREADABLE = "cannot be read"
"""Begins the reason of a case that was skipped because of its files."""

_APART = (WRONG, POINT)
"""Prompts whose masks may lie anywhere: each has a record of its own, lest it shrink the others'."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is made of each object; the values go into the shards' fingerprint."""

    side: int = 320
    """Longest side of a record, in pixels."""
    min_side: int = 16
    """Objects whose box is smaller in either direction are left out (EvanySeg's rule), and counted."""
    max_objects: int = 8
    """Objects taken from one image, drawn at random when there are more."""
    components: bool = False
    """Also take the large connected parts of a label as objects of their own."""
    jitters: tuple[float, ...] = (0.1, 0.25)
    """One jittered prompt each: edges move by up to this share of the side."""
    wrong: int = 1
    """Wrong boxes per object."""
    seed: int = 0
    points: bool = False
    """Also prompt with the object's centre point, for segmenters that take points."""
    corruptions: int = 0
    """Spoilt references per object, as a source of masks called `corruption`."""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with its reference and, by name, the masks of models without prompts."""

    case: str
    group: str
    dataset: str
    image: Image
    truth: LabelMap
    predictions: Mapping[str, LabelMap]
    objects: tuple[TrueObject, ...] = ()
    """The objects where they are known one by one and may overlap; else each label of `truth` is one."""
    boxes: tuple[PromptBox, ...] = ()
    """Prompt boxes of a user or of the data set."""
    label_names: Mapping[int, str] = field(default_factory=dict)
    """Name by class, for boxes that name a label."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was made of one image, and what was not."""

    records: list[Record]
    skipped: list[Skipped]


@dataclass(frozen=True, slots=True)
class _Request:
    target: Target
    kind: str
    prompt: Prompt


def prepare_image(item: LabelledImage, segmenters: Sequence[Segmenter], settings: Settings) -> Prepared:
    """Return the records of one image, and the reason for each object and prompt without one.

    The same input and seed give the same records, whatever came before.
    """
    stream = [settings.seed, _stable_hash(f"{item.dataset}/{item.case}")]
    rng = np.random.default_rng(stream)
    targets, reasons = choose_targets(
        Truth(item.truth, item.objects),
        min_side=settings.min_side,
        max_objects=settings.max_objects,
        components=settings.components,
        rng=rng,
    )
    skipped = [Skipped(item.case, item.group, reason, object=name) for name, reason in reasons.items()]
    if not targets and not reasons:
        skipped.append(Skipped(item.case, item.group, "no object in the reference"))
    requests = _requests(item, targets, settings, rng, skipped)
    proposals = _propose(item, requests, segmenters)
    predicted = {name: predicted_masks(labels, targets) for name, labels in item.predictions.items()}
    records = []
    for number, target in enumerate(targets, start=1):
        mine = [proposal for owner, proposal in proposals if owner is target]
        mine += [Proposal(name, NO_PROMPT, target.box, next(masks), None) for name, masks in predicted.items()]
        # A stream of its own: how many corruptions there are changes nothing else.
        mine += _generated(item, target, settings, np.random.default_rng([*stream, number]))
        near = [proposal for proposal in mine if proposal.prompt not in _APART]
        if near:
            records.append(make_record(item, target, target.box, near, settings.side))
        for prompt, box in dict.fromkeys((p.prompt, p.box) for p in mine if p.prompt in _APART):
            there = [p for p in mine if p.prompt == prompt and p.box == box]
            records.append(make_record(item, target, box if prompt == WRONG else target.box, there, settings.side))
    return Prepared(records, skipped)


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _requests(
    item: LabelledImage,
    targets: Sequence[Target],
    settings: Settings,
    rng: np.random.Generator,
    skipped: list[Skipped],
) -> list[_Request]:
    """Return all prompts of an image; those that cannot be made are added to `skipped`."""
    height, width = item.truth.shape
    given = _given_boxes(item, targets, skipped)
    requests: list[_Request] = []
    for target in targets:
        boxes = [(EXACT, target.box)]
        boxes += [(JITTERED, jitter_box(target.box, s, height=height, width=width, rng=rng)) for s in settings.jitters]
        for _ in range(settings.wrong):
            wrong = wrong_box(target.box, height=height, width=width, rng=rng)
            if wrong is None:
                skipped.append(_skipped(item, target, "no room for a wrong box in the image", WRONG))
            else:
                boxes.append((WRONG, wrong))
        if target.name in given:
            boxes.append((FILE, given[target.name]))
        requests += [_Request(target, kind, Prompt(box=box)) for kind, box in boxes]
        if settings.points:
            requests.append(_Request(target, POINT, Prompt(points=((*centre_point(target.truth), True),))))
    return requests


def _skipped(item: LabelledImage, target: Target, reason: str, prompt: str) -> Skipped:
    return Skipped(item.case, item.group, reason, object=target.name, label=target.label, prompt=prompt)


def _given_boxes(item: LabelledImage, targets: Sequence[Target], skipped: list[Skipped]) -> dict[str, Box]:
    """Return the box of each object that the user or the data set gave one, by the object's name."""
    if not item.boxes:
        return {}
    height, width = item.truth.shape
    inside = []
    for prompt in item.boxes:
        try:
            box, _ = place_box(prompt.box, height, width)
            inside.append(replace(prompt, box=box))
        except InputError as error:
            skipped.append(Skipped(item.case, item.group, str(error), prompt=FILE))
    labels = [{target.label, item.label_names.get(target.value, target.label)} for target in targets]
    found = match_boxes(inside, [target.box for target in targets], labels)
    pairs = list(zip(targets, found, strict=True))
    skipped += [_skipped(item, t, "none of the given boxes meets the object", FILE) for t, box in pairs if box is None]
    return {target.name: box for target, box in pairs if box is not None}


def _propose(
    item: LabelledImage, requests: Sequence[_Request], segmenters: Sequence[Segmenter]
) -> list[tuple[Target, Proposal]]:
    proposals = []
    for segmenter in segmenters if requests else ():
        mine = [request for request in requests if request.kind != POINT or segmenter.takes_points]
        result = segmenter.segment(item.image, [request.prompt for request in mine])
        for request, mask, own in zip(mine, result.masks, result.confidence, strict=True):
            confidence = None if np.isnan(own) else float(own)
            # The paper: a point has no box, so the mask's own decides about the crop.
            box = request.prompt.box or Box.around(mask)
            proposals.append((request.target, Proposal(segmenter.name, request.kind, box, mask, confidence)))
    return proposals


def _generated(item: LabelledImage, target: Target, settings: Settings, rng: np.random.Generator) -> list[Proposal]:
    """Return the masks of the sources that need no segmenter and no files."""
    found = [Proposal(OTSU, EXACT, target.box, otsu_mask(item.image, target.box), None)]
    for _ in range(settings.corruptions):
        found.append(Proposal(CORRUPTION, NO_PROMPT, target.box, corrupt(target.truth, rng), None))
    return found


def otsu_mask(image: Image, box: Box) -> Mask:
    """Return the brighter or darker part inside the box, whichever its middle belongs to (Otsu's threshold).

    Args:
        image: Shape `(H, W, 3)`.
        box: Inside the image.
    """
    crop = image[box.slices].mean(axis=2)
    counts = np.bincount(crop.astype(np.uint8).ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (sums[-1] * below / below[-1] - sums) ** 2 / (below * above)
    bright = crop > np.nanargmax(np.where(np.isfinite(between), between, -1))
    middle = bright[
        crop.shape[0] // 4 : -(crop.shape[0] // 4) or None, crop.shape[1] // 4 : -(crop.shape[1] // 4) or None
    ]
    mask = np.zeros(image.shape[:2], dtype=bool)
    mask[box.slices] = bright if middle.mean() >= bright.mean() else ~bright
    return mask


def prepare_shards(
    names: Sequence[str],
    load: Callable[[str], LabelledImage],
    segmenters: Sequence[Segmenter],
    out: Path,
    *,
    settings: Settings,
    cases_per_shard: int = 16,
    origin: Mapping[str, object] | None = None,
    inputs: Mapping[str, str] | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    workers: Workers | None = None,
) -> Iterator[int]:
    """Write the shards that are missing and yield, after each case, how many records it has.

    A case whose inputs changed, or that could not be read, is prepared anew.

    Args:
        names: Cases in order; the order decides which shard a case is in.
        load: Reads one of them.
        segmenters: Who proposes masks.
        out: Folder of the shards; made when missing.
        settings: What is made of each object.
        cases_per_shard: How many cases a file has; a killed run loses the one that it was at.
        origin: Whatever else the records depend on, for the fingerprint; JSON.
        inputs: By case, what tells its files from others.
        on_error: Whether a case that cannot be read ends the run or becomes a skipped row.
        workers: Who prepares the cases; by default this process, one after the other.

    Raises:
        InputError: When the folder cannot be written or holds the work of other settings, cases or segmenters, or a
            case cannot be read.
    """
    unfinished = out / UNFINISHED
    try:
        out.mkdir(parents=True, exist_ok=True)
        _check_fingerprint(out, names, [segmenter.name for segmenter in segmenters], settings, origin)
        unfinished.mkdir(exist_ok=True)  # only now: a call that is refused leaves a finished folder as it is
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror or error}); choose another --out"
        raise InputError(msg) from error
    shards = [
        _find_shard(out, number, names[start : start + cases_per_shard], inputs or {})
        for number, start in enumerate(range(0, len(names), cases_per_shard))
    ]
    work = partial(_prepare_named, load=load, segmenters=segmenters, settings=settings, on_error=on_error)
    missing = [name for shard in shards for name in shard.missing]
    made = map(work, missing) if workers is None else workers.map(work, missing)
    for shard in shards:
        yield from _finish_shard(shard, made)
    shutil.rmtree(unfinished)


@dataclass(frozen=True, slots=True)
class _Shard:
    """One file of records, and what there is of it."""

    path: Path
    pieces: Mapping[str, Path]
    """Where each case is kept until all are there, by name."""
    inputs: Mapping[str, str]
    """What tells the files of each case from others."""
    missing: Sequence[str]
    """Cases to prepare."""


def _find_shard(out: Path, number: int, names: Sequence[str], inputs: Mapping[str, str]) -> _Shard:
    """Return a shard; one of which only some cases can stay is taken apart into their pieces."""
    path = out / f"shard-{number:05d}.safetensors"
    pieces = {name: out / UNFINISHED / f"{path.stem}-{place:03d}.safetensors" for place, name in enumerate(names)}
    known = {name: inputs.get(name, "") for name in names}
    if path.exists():
        valid = _valid_cases(path, known)
        if len(valid) == len(names):
            return _Shard(path, pieces, known, missing=())
        _take_apart(path, {name: pieces[name] for name in valid})
    missing = [name for name, piece in pieces.items() if not piece.exists() or not _valid_cases(piece, known)]
    return _Shard(path, pieces, known, missing)


def _finish_shard(shard: _Shard, made: Iterator[Prepared]) -> Iterator[int]:
    """Write a shard unless it was there, and yield the number of records of each case.

    What was prepared comes in the order of what was missing: a shard that another run wrote meanwhile takes its own.
    """
    if shard.path.exists() and not shard.missing:
        rows = read_rows(shard.path)
        yield from (sum(row["case"] == name for row in rows) for name in shard.pieces)
    else:
        for name, piece in shard.pieces.items():
            if name in shard.missing:
                prepared = next(made)
                skipped = [asdict(row) for row in prepared.skipped]
                write_shard(piece, prepared.records, skipped, {name: shard.inputs[name]})
            yield len(read_rows(piece))
        join_shards(list(shard.pieces.values()), shard.path)
    for piece in shard.pieces.values():
        piece.unlink(missing_ok=True)


def _valid_cases(path: Path, inputs: Mapping[str, str]) -> list[str]:
    """Return the cases of a shard that could be read, and whose files are the same still."""
    read_rows(path)  # says it when the shard is damaged
    unread = {row["case"] for row in read_skipped(path) if row["reason"].startswith(UNREADABLE)}
    return [case for case, text in read_inputs(path).items() if text == inputs.get(case) and case not in unread]


def _take_apart(path: Path, pieces: Mapping[str, Path]) -> None:
    """Replace a shard by the pieces of some of its cases."""
    records, skipped, inputs = read_shard(path), read_skipped(path), read_inputs(path)
    for name, piece in pieces.items():
        mine = [record for record in records if record.case == name]
        write_shard(piece, mine, [row for row in skipped if row["case"] == name], {name: inputs[name]})
    path.unlink()


def _prepare_named(
    name: str,
    load: Callable[[str], LabelledImage],
    segmenters: Sequence[Segmenter],
    settings: Settings,
    on_error: Literal["stop", "skip"],
) -> Prepared:
    try:
        item = load(name)
    except InputError as error:
        if on_error == "stop":
            raise
        return Prepared([], [Skipped(name, "", f"{UNREADABLE}: {error}")])
    return prepare_image(item, segmenters, settings)


def _check_fingerprint(
    out: Path,
    names: Sequence[str],
    segmenters: Sequence[str],
    settings: Settings,
    origin: Mapping[str, object] | None,
) -> None:
    """Keep a resumed run from mixing two preparations in one folder."""
    content = {"cases": list(names), "segmenters": list(segmenters), "settings": asdict(settings)}
    text = json.dumps(content | ({"origin": origin} if origin else {}))
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    path = out / "fingerprint.txt"
    if not path.exists():
        write_whole(path, lambda file: file.write(fingerprint.encode() + b"\n"))
    elif path.read_text().strip() != fingerprint:
        msg = f"{out}: was prepared from other cases, segmenters or settings, or by an earlier segqa; "
        raise InputError(msg + "choose another --out or delete it")
