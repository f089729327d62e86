"""Training data from real segmenters: images and references in, shards of records out (EvanySeg, section 3.3).

Per object: a record around its own box with the masks of the exact and the jittered box prompts and of the sources
without prompt, and a record around a wrong box. True metrics are measured on the whole image at full resolution;
the crops that the network learns from are at most `Settings.side` pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import ndimage

from segqa import metrics
from segqa.data.boxes import Box
from segqa.data.types import Image, LabelMap, Mask
from segqa.quality.prompting import jitter_box, wrong_box
from segqa.errors import InputError
from segqa.quality.records import (
    OWN,
    Candidate,
    Record,
    drop_equal_channels,
    pack_masks,
    read_rows,
    write_shard,
)
from segqa.segmenters.base import Prompt, Segmenter

CONTEXT = 0.75
"""A record reaches this share of the box's longer side beyond the box, in both directions: ψ's view is square."""


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


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with its reference and, by name, the masks of models without prompts."""

    case: str
    group: str
    dataset: str
    image: Image
    truth: LabelMap
    predictions: Mapping[str, LabelMap]


@dataclass(frozen=True, slots=True)
class _Object:
    name: str
    label: str
    truth: Mask
    box: Box


@dataclass(frozen=True, slots=True)
class _Proposal:
    source: str
    prompt: str
    box: Box
    mask: Mask
    confidence: float | None


def prepare_case(item: LabelledImage, segmenters: Sequence[Segmenter], settings: Settings) -> list[Record]:
    """Return the records of one image; the same input and seed give the same records, whatever came before."""
    rng = np.random.default_rng([settings.seed, _stable_hash(f"{item.dataset}/{item.case}")])
    objects = _choose_objects(item.truth, settings, rng)
    height, width = item.truth.shape
    prompts: list[tuple[_Object, str, Box]] = []
    for thing in objects:
        prompts.append((thing, "exact", thing.box))
        for share in settings.jitters:
            box = jitter_box(thing.box, share, height=height, width=width, rng=rng)
            prompts.append((thing, "jittered", box))
        for _ in range(settings.wrong):
            wrong = wrong_box(thing.box, height=height, width=width, rng=rng)
            if wrong is not None:
                prompts.append((thing, "wrong", wrong))
    proposals = _propose(item, prompts, segmenters)
    records = []
    for thing in objects:
        mine = [p for owner, p in proposals if owner is thing]
        near = [p for p in mine if p.prompt != "wrong"]
        if near:
            records.append(_record(item, thing, thing.box, near, settings))
        for place in dict.fromkeys(p.box for p in mine if p.prompt == "wrong"):
            there = [p for p in mine if p.prompt == "wrong" and p.box == place]
            records.append(_record(item, thing, place, there, settings))
    return records


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _choose_objects(truth: LabelMap, settings: Settings, rng: np.random.Generator) -> list[_Object]:
    found = []
    for label in np.unique(truth[truth > 0]):
        mask = truth == label
        found.append((str(label), mask))
        if settings.components:
            parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
            areas = np.bincount(parts.ravel())[1:]
            large = np.flatnonzero(areas >= 0.1 * areas.max()) + 1
            if len(large) > 1:
                found.extend((f"{label}.{part}", parts == part) for part in large)
    objects = []
    for name, mask in found:
        box = Box.from_mask(mask)
        if box is not None and min(box.width, box.height) >= settings.min_side:
            objects.append(_Object(name, name.split(".")[0], mask, box))
    if len(objects) > settings.max_objects:
        chosen = np.sort(rng.choice(len(objects), size=settings.max_objects, replace=False))
        objects = [objects[int(index)] for index in chosen]
    return objects


def _propose(
    item: LabelledImage, prompts: Sequence[tuple[_Object, str, Box]], segmenters: Sequence[Segmenter]
) -> list[tuple[_Object, _Proposal]]:
    proposals = []
    for segmenter in segmenters if prompts else ():
        result = segmenter.segment(item.image, [Prompt(box=box) for _, _, box in prompts])
        for (thing, prompt, box), mask, own in zip(prompts, result.masks, result.confidence, strict=True):
            confidence = None if np.isnan(own) else float(own)
            proposals.append((thing, _Proposal(segmenter.name, prompt, box, mask, confidence)))
    for thing, prompt, box in prompts:
        if prompt == "exact":
            for name, prediction in item.predictions.items():
                mask = prediction == int(thing.label)
                proposals.append((thing, _Proposal(name, "none", box, mask, None)))
            proposals.append((thing, _Proposal("otsu", prompt, box, otsu_mask(item.image, box), None)))
    return proposals


def otsu_mask(image: Image, box: Box) -> Mask:
    """Return the brighter or darker part inside the box, whichever its middle belongs to (Otsu's threshold).

    Args:
        image: Shape `(H, W, 3)`.
        box: Inside the image.
    """
    crop = image[box.y0 : box.y1, box.x0 : box.x1].mean(axis=2)
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
    mask[box.y0 : box.y1, box.x0 : box.x1] = bright if middle.mean() >= bright.mean() else ~bright
    return mask


def _record(
    item: LabelledImage, thing: _Object, place: Box, proposals: Sequence[_Proposal], settings: Settings
) -> Record:
    height, width = item.truth.shape
    window = place
    for proposal in proposals:
        window = window.union(proposal.box)
    window = _with_context(window).clip(height, width)
    scale = min(1.0, settings.side / max(window.width, window.height))
    size = (max(round(window.width * scale), 1), max(round(window.height * scale), 1))
    labels = np.zeros((window.height, window.width), dtype=np.uint8)
    crop = item.truth[window.y0 : window.y1, window.x0 : window.x1]
    others = [label for label in np.unique(crop[crop > 0]) if str(label) != thing.label][:250]
    for value, label in enumerate(others, start=OWN + 1):
        labels[crop == label] = value
    own = thing.truth[window.y0 : window.y1, window.x0 : window.x1]
    labels[own] = OWN
    picture = PillowImage.fromarray(np.ascontiguousarray(item.image[window.y0 : window.y1, window.x0 : window.x1]))
    small = np.asarray(picture.resize(size, PillowImage.Resampling.BILINEAR))
    masks = [p.mask[window.y0 : window.y1, window.x0 : window.x1] for p in proposals]
    return Record(
        case=item.case,
        group=item.group,
        dataset=item.dataset,
        object=thing.name,
        label=thing.label,
        pixels=drop_equal_channels(small),
        labels=_resize_labels(labels, size),
        truth_outside=float(thing.truth.sum() - own.sum()) * scale**2,
        candidates=tuple(_candidate(p, inner, thing, window, scale) for p, inner in zip(proposals, masks, strict=True)),
        packed_masks=pack_masks([_resize_labels(mask.astype(np.uint8), size) > 0 for mask in masks]),
    )


def _with_context(box: Box) -> Box:
    reach = (1 + 2 * CONTEXT) * max(box.width, box.height)
    dx, dy = round((reach - box.width) / 2), round((reach - box.height) / 2)
    return Box(box.x0 - dx, box.y0 - dy, box.x1 + dx, box.y1 + dy)


def _resize_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(PillowImage.fromarray(labels).resize(size, PillowImage.Resampling.NEAREST))


def _candidate(proposal: _Proposal, inner: Mask, thing: _Object, window: Box, scale: float) -> Candidate:
    true = metrics.all_metrics(proposal.mask, thing.truth)
    box = proposal.box
    return Candidate(
        source=proposal.source,
        prompt=proposal.prompt,
        box=Box(
            round((box.x0 - window.x0) * scale),
            round((box.y0 - window.y0) * scale),
            max(round((box.x1 - window.x0) * scale), round((box.x0 - window.x0) * scale) + 1),
            max(round((box.y1 - window.y0) * scale), round((box.y0 - window.y0) * scale) + 1),
        ),
        dice=true["dice"],
        jaccard=true["jaccard"],
        hd_px=metrics.finite_distance(true["hd"], thing.truth.shape),
        hd95_px=metrics.finite_distance(true["hd95"], thing.truth.shape),
        confidence=proposal.confidence,
        outside=float(proposal.mask.sum() - inner.sum()) * scale**2,
    )


def prepare_shards(
    names: Sequence[str],
    load: Callable[[str], LabelledImage],
    segmenters: Sequence[Segmenter],
    out: Path,
    *,
    settings: Settings,
    cases_per_shard: int = 16,
) -> Iterator[int]:
    """Write the shards that are missing and yield, after each case, how many records it has.

    Args:
        names: Cases in order; the order decides which shard a case is in.
        load: Reads one of them.
        segmenters: Who proposes masks.
        out: Folder of the shards; made when missing.
        settings: What is made of each object.
        cases_per_shard: A killed run loses at most this many cases.

    Raises:
        InputError: When the folder holds the work of other settings, cases or segmenters.
    """
    out.mkdir(parents=True, exist_ok=True)
    _check_fingerprint(out, names, [segmenter.name for segmenter in segmenters], settings)
    for start in range(0, len(names), cases_per_shard):
        path = out / f"shard-{start // cases_per_shard:05d}.safetensors"
        block = names[start : start + cases_per_shard]
        if path.exists():
            rows = read_rows(path)
            yield from (sum(row["case"] == name for row in rows) for name in block)
            continue
        records: list[Record] = []
        for name in block:
            mine = prepare_case(load(name), segmenters, settings)
            records.extend(mine)
            yield len(mine)
        write_shard(path, records)


def _check_fingerprint(out: Path, names: Sequence[str], segmenters: Sequence[str], settings: Settings) -> None:
    """Keep a resumed run from mixing two preparations in one folder."""
    text = json.dumps({"cases": list(names), "segmenters": list(segmenters), "settings": asdict(settings)})
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    path = out / "fingerprint.txt"
    if not path.exists():
        path.write_text(fingerprint + "\n")
    elif path.read_text().strip() != fingerprint:
        msg = f"{out}: was prepared from other cases, segmenters or settings; choose another --out or delete it"
        raise InputError(msg)
