"""Training examples on disk: compact crops around an object, with every candidate mask and its true metrics.

A shard is one safetensors file of many records: the pixels as tensors, the rest as JSON in its metadata. A shard is
written whole or not at all, so a killed preparation goes on at the first missing one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from segqa.data.boxes import Box
from segqa.data.files import write_whole
from segqa.data.types import Image, Mask
from segqa.errors import InputError

OWN = 1
"""Value of the object itself in a record's label map; other objects have higher values."""

EXACT, JITTERED, WRONG, FILE, POINT, NO_PROMPT = "exact", "jittered", "wrong", "file", "point", "none"
"""Kinds of prompts: the object's own box, boxes moved a little or put elsewhere, the user's, a point, or nothing."""

CORRUPTION = "corruption"
"""Source of a mask that was made by spoiling the reference."""

OTSU = "otsu"
"""Source of a mask that is a threshold inside the box."""

_SKIPPED, _INPUTS = "skipped", "inputs"
_PLAIN_FIELDS = ("case", "group", "dataset", "object", "label", "truth_outside")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mask that some source proposed for the object of a record."""

    source: str
    """Who made it: a segmenter's or model's name, `OTSU` or `CORRUPTION`."""
    prompt: str
    """Kind of the prompt: `EXACT` and so on."""
    box: Box
    """The prompt box, in pixels of the record; the mask's own for a point."""
    dice: float
    jaccard: float
    hd_px: float
    hd95_px: float
    confidence: float | None
    """The segmenter's own estimate, in its own scale."""
    outside: float
    """Area of the mask beyond the record, in pixels of the record."""
    image_box: Box
    """`box` in pixels of the stored image."""


@dataclass(frozen=True, slots=True)
class Record:
    """One object of one image, cropped with its surroundings.

    Distances of the candidates are in pixels of the stored image; boxes and areas in pixels of the record.
    """

    case: str
    group: str
    dataset: str
    object: str
    label: str
    pixels: NDArray[np.uint8]
    """Shape `(h, w, 3)`, or `(h, w, 1)` when grey."""
    labels: NDArray[np.uint8]
    """Shape `(h, w)`: 0 background, `OWN` the object, others above."""
    truth_outside: float
    """Area of the object beyond the record (a wrong box may see only a part), in pixels of the record."""
    candidates: tuple[Candidate, ...]
    packed_masks: NDArray[np.uint8]
    """One row of bits per candidate: thousands of records fit in memory."""

    @property
    def image(self) -> Image:
        """Return the crop, shape `(h, w, 3)`."""
        return np.ascontiguousarray(np.broadcast_to(self.pixels, (*self.labels.shape, 3)))

    @property
    def truth(self) -> Mask:
        """Return the object, shape `(h, w)`."""
        own: Mask = self.labels == OWN
        return own

    def mask(self, index: int) -> Mask:
        """Return the mask of a candidate, shape `(h, w)`."""
        bits = np.unpackbits(self.packed_masks[index], count=self.labels.size)
        mask: Mask = bits.astype(bool).reshape(self.labels.shape)
        return mask


def pack_masks(masks: Sequence[Mask]) -> NDArray[np.uint8]:
    """Return masks of one shape as rows of bits."""
    return np.packbits(np.array([mask.ravel() for mask in masks], dtype=bool), axis=1)


def drop_equal_channels(image: Image) -> NDArray[np.uint8]:
    """Return `(h, w, 1)` for a grey picture, else the picture."""
    grey = bool((image == image[..., :1]).all())
    return np.ascontiguousarray(image[..., :1] if grey else image)


def write_shard(
    path: Path,
    records: Sequence[Record],
    skipped: Sequence[Mapping[str, str]] = (),
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write records to one file, in one step.

    Args:
        path: The file.
        records: Of some cases.
        skipped: What was skipped in the same cases, and why.
        inputs: By case, what tells its files from others.

    Raises:
        InputError: When it cannot be written, for instance because the disk is full.
    """
    tensors: dict[str, NDArray[Any]] = {}
    rows = []
    for index, record in enumerate(records):
        tensors[f"{index}.pixels"] = record.pixels
        tensors[f"{index}.labels"] = record.labels
        tensors[f"{index}.masks"] = record.packed_masks
        row = {name: getattr(record, name) for name in _PLAIN_FIELDS}
        rows.append(row | {"candidates": [asdict(candidate) for candidate in record.candidates]})
    for name, block in ((_SKIPPED, list(skipped)), (_INPUTS, dict(inputs or {}))):
        if block:
            # A tensor, because safetensors writes several metadata entries in random order: the bytes would differ.
            tensors[name] = np.frombuffer(json.dumps(block).encode(), dtype=np.uint8)
    content = save(tensors, metadata={"records": json.dumps(rows)})
    write_whole(path, lambda file: file.write(content))


def digest_records(records: Iterable[Record]) -> str:
    """Return a hash of which records these are, and with which masks; the order counts within each data set only."""
    digest = hashlib.sha256()
    for one in sorted(records, key=lambda record: record.dataset):
        masks = [(mask.source, mask.prompt, mask.dice) for mask in one.candidates]
        digest.update(repr((one.dataset, one.group, one.case, one.object, one.label, masks)).encode())
    return digest.hexdigest()


def join_shards(parts: Sequence[Path], path: Path) -> None:
    """Write what several shards hold as one.

    Raises:
        InputError: When a part is not a whole shard.
    """
    records = [record for part in parts for record in read_shard(part)]
    skipped = [row for part in parts for row in read_skipped(part)]
    write_shard(path, records, skipped, {case: text for part in parts for case, text in read_inputs(part).items()})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the metadata of a shard's records, without their pixels.

    Raises:
        InputError: When the file is not a whole shard.
    """
    try:
        with safe_open(path, framework="numpy") as shard:
            rows: list[dict[str, Any]] = json.loads((shard.metadata() or {})["records"])
            return rows
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        msg = f"{path}: not a whole shard of `segqa prepare` ({error}); delete it and run prepare again"
        raise InputError(msg) from error


def read_skipped(path: Path) -> list[dict[str, str]]:
    """Return what was skipped in the cases of a whole shard."""
    return _read_block(path, _SKIPPED) or []


def read_inputs(path: Path) -> dict[str, str]:
    """Return, by case of a whole shard, what tells its files from others."""
    return _read_block(path, _INPUTS) or {}


def _read_block(path: Path, name: str) -> Any:
    """Return a block of JSON of a shard; `None` when it has none."""
    with safe_open(path, framework="numpy") as shard:
        there = name in shard.keys()  # noqa: SIM118 (a safetensors file is no container)
        return json.loads(shard.get_tensor(name).tobytes()) if there else None


def read_shard(path: Path) -> list[Record]:
    """Return all records of a shard.

    Raises:
        InputError: When the file is not a whole shard.
    """
    rows = read_rows(path)
    if any("image_box" not in candidate for row in rows for candidate in row["candidates"]):
        msg = f"{path}: of an earlier version of segqa; run `segqa prepare` into a new folder"
        raise InputError(msg)
    with safe_open(path, framework="numpy") as shard:
        return [_read_record(shard, index, row) for index, row in enumerate(rows)]


def _read_record(shard: Any, index: int, row: dict[str, Any]) -> Record:
    return Record(
        **{name: row[name] for name in _PLAIN_FIELDS},
        pixels=shard.get_tensor(f"{index}.pixels"),
        labels=shard.get_tensor(f"{index}.labels"),
        candidates=tuple(_read_candidate(c) for c in row["candidates"]),
        packed_masks=shard.get_tensor(f"{index}.masks"),
    )


def _read_candidate(row: dict[str, Any]) -> Candidate:
    return Candidate(**row | {name: Box(**row[name]) for name in ("box", "image_box")})
