"""Cases in, one row per object and model out: decoding, ψ and τ by workers, in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from segqa.data.boxes import Box
from segqa.data.cases import LoadedCase, objects_of, read_case
from segqa.data.objects import object_remarks
from segqa.data.reading import Reading
from segqa.data.types import Case, Image, ObjectMask
from segqa.errors import InputError
from segqa.quality.calibration import Calibration, read_calibration
from segqa.quality.novelty import NOVEL
from segqa.quality.preprocessing import Profile, build_input, view_of
from segqa.quality.runners import Runner, RuntimeName, load_runner
from segqa.quality.weights_file import KNOWN_HEADS, CheckpointInfo, read_info
from segqa.schema import (
    BOX_FROM_FILE,
    BOX_FROM_IMAGE,
    BOX_FROM_MASK,
    SCORE_COLUMNS,
    STATUS_ERROR,
    STATUS_OK,
    STATUS_WARNING,
)
from segqa.workers import Threads, Workers

Row = dict[str, Any]
"""One row of the table, by column of `schema.SCORE_SCHEMA`."""

INPUTS_AT_ONCE = 16
"""Inputs in one pass: enough for speed, bounded so that a crowded image does not cost memory."""

EMPTY_PREDICTION = "empty-prediction"
"""Remark on an object that the mask misses whole."""

NO_REFERENCE = "no-reference"
"""Remark on an object of which references tell nothing."""

LEAST = 0.001
"""Scores of two judges are averaged as if they were at least this."""

_DOUBT_KEYS = {"lower": "lower_dice", "upper": "upper_dice", "novelty": "novelty"}


@dataclass(frozen=True, slots=True)
class Evaluator:
    """A quality network ready to score."""

    info: CheckpointInfo
    runner: Runner
    profile: Profile
    heads: tuple[str, ...]
    calibration: Calibration | None = None

    def judge(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the scores `(N, heads)` of ψ inputs."""
        return self.look(inputs)[0]

    def look(self, inputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the scores `(N, heads)` and the embeddings `(N, features)` of ψ inputs."""
        blocks = [np.stack(inputs[i : i + INPUTS_AT_ONCE]) for i in range(0, len(inputs), INPUTS_AT_ONCE)]
        scores, embeddings = zip(*(self.runner.run(block) for block in blocks), strict=True)
        return np.concatenate(scores), np.concatenate(embeddings)


class Opinion(NamedTuple):
    """What a second judge says of a mask."""

    dice: float
    """0..1."""
    weight: float
    """Its say beside the evaluator's: 0 none, 1 all."""


class SecondJudge(Protocol):
    """One that knows the data at hand, and nothing of medical images in general: `references.References`."""

    def judge(self, image: Image, one: ObjectMask) -> Opinion | None:
        """Return its opinion of a mask; `None` where it has none."""
        ...

    def hold(self, case: Case) -> bool:
        """Tell whether it knows the true mask of the case, or of another slice of its volume."""
        ...


def load_evaluator(
    weights: Path, *, runtime: RuntimeName = "auto", device: str = "auto", threads: int | None = None
) -> Evaluator:
    """Return the evaluator of a weights file; arguments and errors as `runners.load_runner`."""
    info = read_info(weights)
    runner = load_runner(weights, runtime=runtime, device=device, threads=threads)
    profile, heads = Profile(**info.spec["profile"]), tuple(info.spec["heads"])
    return Evaluator(info, runner, profile, heads, read_calibration(weights))


def score_cases(
    cases: Iterable[Case],
    evaluator: Evaluator,
    *,
    reading: Reading | None = None,
    references: SecondJudge | None = None,
    workers: Workers | None = None,
) -> Iterator[list[Row]]:
    """Yield the rows of each case, in order.

    Args:
        cases: What to score; read as they are needed.
        evaluator: Who judges.
        reading: How to read and split them.
        references: A second judge: where it has an opinion, the score is the weighted geometric mean of both.
        workers: Who decodes and judges; by default one thread. The rows do not depend on it.

    Raises:
        InputError: A case cannot be read and errors stop the run.
    """
    work = partial(score_case, evaluator=evaluator, reading=reading or Reading(), references=references)
    yield from (workers or Threads()).map(work, cases)


def score_case(case: Case, evaluator: Evaluator, reading: Reading, references: SecondJudge | None = None) -> list[Row]:
    """Return the rows of one case, models in order of the case.

    Raises:
        InputError: The case cannot be read and errors stop the run.
    """
    try:
        loaded = read_case(case, reading)
    except InputError as error:
        if reading.on_error == "stop":
            raise
        if len(case.masks) == 1:
            return [error_row(case.name, model, str(error)) for model in case.masks]
        # One broken mask must not cost the other models their scores.
        alone = (replace(case, masks={model: source}) for model, source in case.masks.items())
        return [row for one in alone for row in score_case(one, evaluator, reading, references)]
    return _score_loaded(case, loaded, evaluator, reading, references)


def _score_loaded(
    case: Case, loaded: LoadedCase, evaluator: Evaluator, reading: Reading, references: SecondJudge | None
) -> list[Row]:
    seen = [*loaded.image.warnings, *(["constant-image"] if _is_constant(loaded.image.pixels) else [])]
    if references is not None and references.hold(case):
        seen.append("is-reference")
    found = (
        (model, one, [*seen, *loaded.masks[model].warnings, *loaded.remarks.get(one.box, ())])
        for model, one in objects_of(case, loaded, reading)
    )
    rows: list[Row] = []
    while some := list(islice(found, INPUTS_AT_ONCE)):
        rows += _score_some(case.name, loaded.image.pixels, some, evaluator, references)
    return rows


def _is_constant(image: Image) -> bool:
    return bool((image == image[0, 0]).all())


def _score_some(
    name: str,
    image: Image,
    found: Sequence[tuple[str, ObjectMask, list[str]]],
    evaluator: Evaluator,
    references: SecondJudge | None,
) -> list[Row]:
    """Return the rows of some objects with their models and remarks."""
    inputs = [build_input(image, one.mask, one.box, evaluator.profile) for _, one, _ in found]
    scores, embeddings = evaluator.look(inputs)
    seconds = [None if references is None else references.judge(image, one) for _, one, _ in found]
    combine(scores[:, evaluator.heads.index("dice")], seconds)
    doubts = doubt_columns(scores, embeddings, evaluator)
    rows = []
    for (model, one, remarks), score, doubt, second in zip(found, scores, doubts, seconds, strict=True):
        more = [*remarks, *object_remarks(one), *(["novel-input"] if doubt.get("novelty", 0.0) > NOVEL else [])]
        if references is not None and second is None:
            more.append(NO_REFERENCE)
        named = dict(zip(evaluator.heads, score, strict=True))
        row = _row(name, model, one, named, doubt, more, evaluator.profile)
        row["reference_dice"] = None if second is None else second.dice
        rows.append(row)
    return rows


def combine(scores: NDArray[np.float32], seconds: Sequence[Opinion | None]) -> None:
    """Replace scores, in place, by their weighted geometric mean with the second opinions, where there are any.

    It follows the lower of the two: who finds that a mask misses its object is mostly right. But no 0 wipes out what
    the other says, however small its weight (`LEAST`).
    """
    for place, second in enumerate(seconds):
        if second is not None:
            first = np.clip(scores[place], LEAST, 1)
            scores[place] = first ** (1 - second.weight) * max(second.dice, LEAST) ** second.weight


def doubt_columns(
    scores: NDArray[np.float32], embeddings: NDArray[np.float32], evaluator: Evaluator
) -> list[dict[str, float]]:
    """Return, for each object, `novelty` and the ends `lower_HEAD` and `upper_HEAD`, as far as the weights know."""
    calibration, columns = evaluator.calibration, {}
    if calibration is not None:
        novelty = None if calibration.novelty is None else calibration.novelty.of(embeddings)
        if novelty is not None:
            columns["novelty"] = novelty
        for head, interval in calibration.intervals.items():
            predicted = scores[:, evaluator.heads.index(head)].astype(np.float64)
            columns[f"lower_{head}"], columns[f"upper_{head}"] = interval.around(predicted, novelty)
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(len(scores))]


def _row(
    name: str,
    model: str,
    one: ObjectMask,
    score: dict[str, np.float32],
    doubt: dict[str, float],
    remarks: list[str],
    profile: Profile,
) -> Row:
    box, source = _used_box(one)
    if not one.mask.any():
        remarks.append(EMPTY_PREDICTION)
    broken = not all(np.isfinite(value) for value in score.values())
    if broken:
        remarks = ["the network gave no finite score", *remarks]
    elif not all(0 <= score[head] <= 1 for head in KNOWN_HEADS if head in score):
        remarks.append("score-clipped")
    row: Row = dict.fromkeys(SCORE_COLUMNS)
    row |= {"case": name, "object": one.object, "label": one.label, "model": model, "box_source": source}
    row |= {"x0": box.x0, "y0": box.y0, "x1": box.x1, "y1": box.y1, "reason": "; ".join(dict.fromkeys(remarks)) or None}
    row["status"] = STATUS_ERROR if broken else STATUS_WARNING if remarks else STATUS_OK
    if not broken:
        row["predicted_dice"] = _bounded(score["dice"])
        row |= {column: doubt.get(key) for column, key in _DOUBT_KEYS.items()}
        if "hd95" in score:
            diagonal = np.sqrt(2) * view_of(one.mask, one.box, profile).width
            row["predicted_hd95_px"] = _bounded(score["hd95"]) * diagonal
            for end in ("lower", "upper"):
                if f"{end}_hd95" in doubt:
                    row[f"{end}_hd95_px"] = doubt[f"{end}_hd95"] * diagonal
    return row


def _bounded(score: np.float32) -> float:
    """Return a score within 0..1, as its interval is: linear heads, such as EvanySeg's, know no bounds."""
    return float(np.clip(score, 0, 1))


def _used_box(one: ObjectMask) -> tuple[Box, str]:
    if one.box is not None:
        return one.box, BOX_FROM_FILE
    own = Box.from_mask(one.mask)
    if own is not None:
        return own, BOX_FROM_MASK
    return Box(0, 0, one.mask.shape[1], one.mask.shape[0]), BOX_FROM_IMAGE


def error_row(case: str, model: str, reason: str) -> Row:
    """Return the row of something that could not be scored."""
    row: Row = dict.fromkeys(SCORE_COLUMNS)
    return row | {"case": case, "object": "", "label": "", "model": model, "status": STATUS_ERROR, "reason": reason}


def score_mask(image: Image, mask: NDArray[np.bool_], evaluator: Evaluator, *, box: Box | None = None) -> float:
    """Return the predicted Dice of one mask, 0..1.

    Args:
        image: Pixels `(H, W, 3)`, 0..255.
        mask: Predicted mask `(H, W)`.
        evaluator: Who judges.
        box: Prompt box inside the image, when there was one.
    """
    return _bounded(evaluator.judge([build_input(image, mask, box, evaluator.profile)])[0, 0])
