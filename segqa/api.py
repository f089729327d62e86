"""The commands as functions of the same names and options: `segqa.score`, `.flag`, `.rank`, `.benchmark`, `.evaluate`.

Each returns a small object around its table. Nothing here imports PyTorch by itself.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import polars as pl

from segqa.errors import InputError
from segqa.schema import TableName
from segqa.weights import DEFAULT_EVALUATOR

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from segqa.data.intensities import NanPolicy
    from segqa.data.objects import Splitting
    from segqa.data.reading import ErrorPolicy
    from segqa.data.types import Case
    from segqa.quality.runners import RuntimeName

MAX_SHOWN = 20
"""Rows that a notebook shows."""


@dataclass(frozen=True, repr=False)
class Result:
    """A table, in the form that the caller likes."""

    frame: pl.DataFrame

    schema_name = TableName.SCORES

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self)} rows\n{self.frame}"

    def _repr_html_(self) -> str:
        """Return the first rows as HTML, for notebooks; names are escaped."""
        with pl.Config(tbl_rows=MAX_SHOWN):
            return self.frame._repr_html_()

    def to_polars(self) -> pl.DataFrame:
        """Return the table as polars has it."""
        return self.frame

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as pandas has it; `InputError` without it."""
        try:
            import pandas as pd
        except ImportError as error:
            msg = "to_pandas needs pandas: pip install pandas, or use to_polars"
            raise InputError(msg) from error
        return pd.DataFrame(self.frame.to_dict(as_series=False))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows."""
        return self.frame.to_dicts()

    def to_csv(self, path: str | Path) -> Path:
        """Write the table as CSV, whole or not at all, and return where."""
        from segqa.output.tables import write_table

        write_table(self.frame, Path(path), file_format="csv", schema=self.schema_name)
        return Path(path)


@dataclass(frozen=True, repr=False)
class Scores(Result):
    """What `score` found: one row per case, object and model."""

    cases: tuple[Case, ...] = ()
    """What was scored, when this comes from `score` itself."""

    def flag(self, **options: Any) -> Flags:
        """Return what to look at; see `segqa.flag`."""
        return flag(self, **options)

    def rank(self, **options: Any) -> Selection:
        """Return the best mask of each object; see `segqa.rank`."""
        return rank(self, **options)

    def benchmark(self, **options: Any) -> Comparison:
        """Return the models compared; see `segqa.benchmark`."""
        return benchmark(self, **options)

    def plot(self) -> Figure:
        """Return histograms of the predicted Dice; needs the extra `report`."""
        from segqa.output.plots import score_histogram

        return score_histogram(self.frame)


@dataclass(frozen=True, repr=False)
class Flags(Result):
    """What `flag` found: rows to look at, worst first, and why."""

    schema_name = TableName.FLAGS


@dataclass(frozen=True, repr=False)
class Selection(Result):
    """What `rank` found: the best mask of each object."""

    quality: pl.DataFrame | None = None
    """How good the choice is against an oracle, one model and chance, when the truth was given."""

    schema_name = TableName.SELECTION


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """What `benchmark` found: models, best first."""

    differences: pl.DataFrame
    """Paired differences of models."""
    agreement: pl.DataFrame | None = None
    """How well predicted and true scores agree, when the truth was given."""
    order_curve: pl.DataFrame | None = None
    """Share of pairs in the right order by their difference β, when the truth was given."""
    scores: pl.DataFrame = field(default_factory=pl.DataFrame)
    """What was compared, with `true_dice` when the truth was given."""

    schema_name = TableName.BENCHMARK

    def plots(self) -> Mapping[str, Figure]:
        """Return the figures by name: the histogram, and those against the truth when it was given."""
        from segqa.output.plots import draw

        return draw(self.scores)


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """What `evaluate` found: true metrics, one row per case, object and model."""

    agreement: pl.DataFrame | None = None
    """How well predicted and true Dice agree, when the scores were given."""

    schema_name = TableName.EVALUATION


Table = Result | pl.DataFrame | str | Path
"""A result, a polars table, or the path of a table; what `score` did not return itself is checked as files are."""

Masks = str | Path | Mapping[str, str | Path]
"""A folder of masks, whose sub-folders may be models, or a path for each model."""


def score(
    images: str | Path,
    masks: Masks,
    boxes: str | Path | None = None,
    *,
    weights: str | Path = DEFAULT_EVALUATOR,
    calibration: str | Path | None = None,
    reference: tuple[str | Path, str | Path] | None = None,
    labels: Iterable[int] | None = None,
    objects: Splitting = "labels",
    window: tuple[float, float] | None = None,
    nan: NanPolicy = "error",
    on_error: ErrorPolicy = "stop",
    axis: int = -1,
    allow_missing: bool = False,
    runtime: RuntimeName = "auto",
    device: str = "auto",
    workers: int = 0,
    ray: str | None = None,
) -> Scores:
    """Predict the Dice of every mask, as `segqa score` does, with its options; errors as `scores.plan_score`.

    Warns (`UserWarning`) of what the command warns of on stderr: boxes that belong to no image, images without a box,
    masks that lie elsewhere than their images, objects with remarks or unlike what the evaluator knows.
    """
    from segqa.data.reading import Reading
    from segqa.data.volumes import forget
    from segqa.scores import doubts_of, learn_references, plan_score, reference_doubts, run_score, to_table

    plan = plan_score(
        Path(images),
        _masks(masks),
        None if boxes is None else Path(boxes),
        weights=weights,
        calibration=None if calibration is None else Path(calibration),
        reference=_pair(reference),
        reading=Reading(cast("tuple[int, ...] | None", labels), objects, window, nan, on_error),
        axis=axis,
        allow_missing=allow_missing,
        runtime=runtime,
        device=device,
        workers=workers,
        ray=ray,
    )
    for remark in plan.cases.remarks():
        _warn(remark)
    try:
        plan = learn_references(plan)
        for doubt in reference_doubts(plan):
            _warn(doubt)
        table = to_table(run_score(plan))
    finally:
        forget()
    for doubt in doubts_of(table):
        _warn(doubt)
    return Scores(table, plan.cases.cases)


def flag(
    scores: Table,
    *,
    percentile: float | None = None,
    threshold: float | None = None,
    use: Literal["predicted", "lower"] = "predicted",
    per: Literal["model", "label"] | None = None,
) -> Flags:
    """Return the rows to look at, worst first, as `segqa flag` does; options and errors as `flagging.flag`."""
    from segqa.decisions import flagging

    frame = _scores(scores)
    return Flags(flagging.flag(frame, percentile=percentile, threshold=threshold, use=use, per=per))


def rank(
    scores: Table,
    *,
    masks: Masks | None = None,
    truth: Table | None = None,
    copy_best: str | Path | None = None,
    axis: int = -1,
    **scoring: Any,
) -> Selection:
    """Return the best mask of each object, as `segqa rank` does.

    Args:
        scores: Scores of one or more models; or the path of images, which are scored first.
        masks: The masks of the images, or those that `copy_best` takes from.
        truth: Table of `segqa evaluate`; tells how good the choice is.
        copy_best: Folder for a mask per case, each object from its best model.
        axis: Slicing axis of volumes.
        scoring: For images: the other options of `score`, such as `boxes` and `weights`.

    Raises:
        InputError: A table, an image or a mask cannot be read, scores and truth do not belong together, or masks
            are needed and not given.
    """
    from segqa.decisions import composing, ranking
    from segqa.output.tables import is_table

    found: Table
    if isinstance(scores, (str, Path)) and not is_table(Path(scores)):
        found = score(scores, _needed(masks, "to score images"), axis=axis, **scoring)
    elif scoring:
        msg = f"{', '.join(scoring)}: for images that are scored first; a table of scores is ranked as it is"
        raise InputError(msg)
    elif masks is not None and copy_best is None:
        msg = "masks: for images that are scored first, or for copy_best; a table of scores is ranked as it is"
        raise InputError(msg)
    else:
        found = scores
    frame = _scores(found)
    quality = None if truth is None else ranking.selection_table(_join(frame, truth))
    chosen = ranking.rank(frame)
    if copy_best is not None:
        cases: Iterable[Case] = found.cases if isinstance(found, Scores) else ()
        cases = cases or composing.find_masks(frame, _masks(_needed(masks, "to copy the best")), axis=axis)
        given = None if masks is None else _masks(masks)
        composing.write_chosen(frame, chosen, cases, Path(copy_best), masks=given)
    return Selection(chosen, quality)


def benchmark(
    scores: Table, *, truth: Table | None = None, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Comparison:
    """Compare models by their mean predicted Dice, as `segqa benchmark` does.

    Args:
        scores: Scores of one or more models.
        truth: Table of `segqa evaluate`; adds how well the scores agree with it.
        level: Level of each interval, 0..1.
        draws: Bootstrap draws of whole cases.
        seed: Seed of the draws.

    Raises:
        InputError: A table is empty or cannot be read, a number is out of range, or scores and truth do not belong
            together.
    """
    from segqa.decisions import agreement, benchmarking

    frame = _scores(scores)
    joined = frame if truth is None else _join(frame, truth)
    found = benchmarking.benchmark(frame, level=level, n_draws=draws, seed=seed)
    if remark := benchmarking.overlap_remark(found):
        _warn(remark)
    agrees, curve = (
        (None, None) if truth is None else (agreement.agreement_table(joined), agreement.order_curve(joined))
    )
    return Comparison(found.models, found.differences, agrees, curve, joined)


def evaluate(
    pred: Masks,
    truth: str | Path,
    boxes: str | Path | None = None,
    *,
    scores: Table | None = None,
    labels: Iterable[int] | None = None,
    objects: Splitting = "labels",
    axis: int = -1,
    allow_missing: bool = False,
) -> Evaluation:
    """Return true metrics of masks against reference masks, as `segqa evaluate` does.

    Args:
        pred: Predicted masks: a folder, whose sub-folders may be models, or a path for each model.
        truth: Reference masks with the same stems.
        boxes: Those that `score` was given, as the other options: the objects of both tables are then the same.
        scores: Scores of these masks; adds how well they agree with the truth.
        labels: The labels to look at; all when `None`.
        objects: What is an object where there are no boxes.
        axis: Slicing axis of volumes.
        allow_missing: Leave out files without partner.

    Raises:
        InputError: A mask cannot be read or lacks a partner, or scores and truth do not belong together.
    """
    from segqa.data.boxes import read_boxes
    from segqa.data.reading import Reading
    from segqa.data.volumes import forget
    from segqa.decisions import agreement
    from segqa.decisions.evaluation import evaluate_cases, find_evaluated, lonely_remark

    reading = Reading(cast("tuple[int, ...] | None", labels), objects)
    known = None if scores is None else _scores(scores)
    found = find_evaluated(
        _masks(pred),
        Path(truth),
        boxes=None if boxes is None else read_boxes(Path(boxes)),
        labels=reading.labels,
        allow_missing=allow_missing,
        axis=axis,
    )
    for remark in (*lonely_remark(found), *found.remarks()):
        _warn(remark)
    try:
        table = evaluate_cases(found, labels=reading.labels, objects=objects)
    finally:
        forget()
    return Evaluation(table, None if known is None else agreement.agreement_table(_join(known, table)))


def _warn(text: str) -> None:
    """Warn of something at the caller's line, however many functions here are between."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def _needed(masks: Masks | None, purpose: str) -> Masks:
    if masks is None:
        msg = f"{purpose}, say where their masks are: masks=folder, or masks={{'unet': folder}}"
        raise InputError(msg)
    return masks


def _pair(reference: tuple[str | Path, str | Path] | None) -> tuple[Path, Path] | None:
    if reference is None:
        return None
    if isinstance(reference, (str, Path)) or len(reference) != 2:
        msg = f"reference={reference!r}: two paths were expected, those of the images and of their masks"
        raise InputError(msg)
    return Path(reference[0]), Path(reference[1])


def _masks(masks: Masks) -> Path | dict[str, Path]:
    return {name: Path(path) for name, path in masks.items()} if isinstance(masks, Mapping) else Path(masks)


def _join(scores: pl.DataFrame, truth: Table) -> pl.DataFrame:
    from segqa.decisions.agreement import join_truth, unscored_remark
    from segqa.output.tables import check_truth, read_truth

    true = read_truth(Path(truth)) if isinstance(truth, (str, Path)) else check_truth(_frame(truth))
    joined = join_truth(scores, true)
    if remark := unscored_remark(scores, true, joined):
        _warn(remark)
    return joined


def _scores(table: Table) -> pl.DataFrame:
    from segqa.output.tables import check_scores, read_scores

    if isinstance(table, Scores):
        return table.frame
    return read_scores(Path(table)) if isinstance(table, (str, Path)) else check_scores(_frame(table))


def _frame(table: Result | pl.DataFrame) -> pl.DataFrame:
    frame = table.frame if isinstance(table, Result) else table
    if not isinstance(frame, pl.DataFrame):
        kind = f"{type(frame).__module__}.{type(frame).__qualname__}".removeprefix("builtins.")
        msg = f"{kind} where a table was expected: a result of segqa, a polars.DataFrame, or a path"
        raise InputError(msg)
    return frame
