"""What a weights file knows about its own errors: intervals and novelty, stored beside the network's tensors."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import load_file, save

from segqa.errors import InputError
from segqa.quality.intervals import Interval
from segqa.quality.novelty import Novelty, Reference
from segqa.quality.weights_file import CALIBRATION
from segqa.tensor_files import write_tensors

SCHEMA = "segqa.calibration"
VERSION = 1

_BLOCK = "calibration"


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores are off, and how unlike the training data an input is."""

    intervals: dict[str, Interval]
    """By head."""
    novelty: Novelty | None
    about: dict[str, Any]
    """On what it was made."""


def read_calibration(weights: Path) -> Calibration | None:
    """Return the calibration of a weights file, `None` when it has none.

    Raises:
        InputError: It is damaged.
    """
    with safe_open(weights, framework="numpy") as file:
        text = (file.metadata() or {}).get(_BLOCK)
        if text is None:
            return None
        try:
            block = json.loads(text)
            parts = {name: file.get_tensor(f"{CALIBRATION}{name}") for name in ("centre", "axes", "known")}
            intervals = {head: Interval(**values) for head, values in block["intervals"].items()}
            novelty = Novelty(Reference(parts["centre"], parts["axes"]), parts["known"])
            return Calibration(intervals, novelty, block["about"])
        except Exception as error:  # safetensors, JSON and missing fields have no common base
            msg = f"{weights}: its calibration cannot be read ({error}); run `segqa calibrate-weights` again"
            raise InputError(msg) from error


def write_calibration(weights: Path, calibration: Calibration, out: Path) -> None:
    """Write a weights file again, in one step, with this calibration; its network stays as it is.

    Args:
        weights: The file to take the network from; a calibration in it is left out.
        calibration: With its novelty.
        out: The file to write; may be the same.

    Raises:
        InputError: The file cannot be written.
    """
    assert calibration.novelty is not None
    tensors = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith(CALIBRATION)}
    reference = calibration.novelty.reference
    parts = {"centre": reference.centre, "axes": reference.axes, "known": calibration.novelty.known}
    tensors |= {f"{CALIBRATION}{name}": tensor for name, tensor in parts.items()}
    with safe_open(weights, framework="numpy") as file:
        metadata = dict(file.metadata() or {})
    metadata[_BLOCK] = json.dumps({"intervals": _plain(calibration.intervals), "about": calibration.about})
    write_tensors(out, save(tensors, metadata=metadata))


def _plain(intervals: dict[str, Interval]) -> dict[str, Any]:
    return {head: asdict(interval) for head, interval in intervals.items()}


def render_interval(interval: Interval, *, weights_sha256: str | None, about: dict[str, Any]) -> str:
    """Return the text of a user's own `calibration.json`."""
    content = {"schema": SCHEMA, "version": VERSION, "weights_sha256": weights_sha256, "about": about}
    return json.dumps(content | {"intervals": _plain({"dice": interval})}, indent=2) + "\n"


def use_interval(
    path: Path, calibration: Calibration | None, *, weights: str, with_references: bool = False
) -> Calibration:
    """Return the calibration with the Dice interval of a user's `calibration.json` in its place.

    Args:
        path: A file of `segqa calibrate`.
        calibration: That of the weights, which keeps its novelty.
        weights: SHA-256 of the weights that score.
        with_references: Whether they score beside references, which make other scores.

    Raises:
        InputError: The file is missing, not such a file, or made for the scores of other weights, or for scores with
            references where there are none, or the other way round.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        interval, made_for = Interval(**content["intervals"]["dice"]), content["weights_sha256"]
        known = content["schema"] == SCHEMA and content["version"] == VERSION
        about = dict(content.get("about", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Not `--out` with this file's name: it may be the scores themselves, given by mistake.
        msg = f"{path}: not a calibration ({error}); make one with "
        raise InputError(msg + "`segqa calibrate SCORES TRUTH --out calibration.json`") from error
    novelty = None if calibration is None else calibration.novelty
    if not known or (interval.widening and novelty is None) or made_for not in (None, weights):
        msg = (
            f"{path}: was made for the scores of other weights or another segqa; run `segqa calibrate` on these scores"
        )
        raise InputError(msg)
    if bool(about.get("references")) != with_references:
        made, now = ("with", "leave --reference in") if about.get("references") else ("without", "leave it out")
        msg = f"{path}: was made for scores {made} --reference; {now}, or run `segqa calibrate` on scores like these"
        raise InputError(msg)
    others = {} if calibration is None else calibration.intervals
    return Calibration(others | {"dice": interval}, novelty, about)
