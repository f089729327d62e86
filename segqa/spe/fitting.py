"""`spe-fit`: pseudo and real performance of several models on a labelled test set, and the mapping between."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segqa.errors import InputError
from segqa.journal import Journal
from segqa.spe import support
from segqa.spe.agreement import measure_agreement
from segqa.spe.bundle import Bundle, FitSettings
from segqa.spe.cohorts import TRUTH, Labelled, Predicted, Watch, read_predicted, read_training
from segqa.spe.engines import Canvas, Engine
from segqa.spe.mapping import AUTO, MIN_POINTS, SPE_METRICS
from segqa.spe.pseudo import Pseudo, QueryPlan, Values, mean_defined, measure_pseudo
from segqa.workers import Workers

Floats = NDArray[np.float64]
Unit = tuple[int, str, int]
"""Number and name of a model, and the position of a size of support set: what is measured at a time."""

Measured = tuple[list[Floats], dict[str, Values]]
"""Of a unit the mean of each metric by label; and by name the steps that are not in the journal yet."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How `fit_bundle` measures; all of it is remembered in the bundle."""

    support_size: int = support.SUPPORT_SIZE
    repeats: int = support.REPEATS
    every_draw: bool = False
    tolerance: float | None = None
    mapping: str = AUTO
    seed: int = 0


def find_models(predictions: Path) -> dict[str, Path]:
    """Return the sub-folders of predictions, one a model, by name.

    Raises:
        InputError: The folder is missing, or has fewer models than a mapping needs.
    """
    if not predictions.is_dir():
        msg = f"{predictions}: no such folder; it holds one sub-folder of masks for each checkpoint or model"
        raise InputError(msg)
    folders = sorted(path for path in predictions.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < MIN_POINTS:
        msg = (
            f"{predictions}: {len(folders)} sub-folders of predictions, a mapping needs at least {MIN_POINTS} "
            "models or checkpoints; save more of them during training"
        )
        raise InputError(msg)
    if any(folder.name == TRUTH for folder in folders):
        msg = f"{predictions / TRUTH}: a model cannot be called {TRUTH!r}; rename the folder"
        raise InputError(msg)
    return {folder.name: folder for folder in folders}


def fit_bundle(
    engine: Engine,
    train: tuple[Path, Path],
    test: tuple[Path, Path],
    predictions: Path,
    *,
    options: FitOptions,
    journal: Path,
    resume: bool = False,
    watch: Watch,
    count: Callable[[Iterable[Measured], int], Iterable[Measured]],
    warn: Callable[[str], object],
    workers: Workers | None = None,
) -> Bundle:
    """Measure every model on both sides and fit a mapping for each label and metric.

    Args:
        engine: Segments by example.
        train: Folders of the training images and of their true masks.
        test: The same of the test images.
        predictions: One sub-folder of masks of the test images for each model.
        options: How to measure.
        journal: File of finished steps; it stays until the caller has written the bundle.
        resume: Go on from the journal of a killed run.
        watch: Shows how far the reading is.
        count: Passes on what was measured, of so many, and shows how far it is.
        warn: Takes what the user should know of the files.
        workers: Who measures; by default this process, one model after the other. Of what others measure, the journal
            gets a model at a time instead of a step.

    Raises:
        InputError: For anything that is wrong with the call or the files.
    """
    models = find_models(predictions)
    training = read_training(*train, watch=watch)
    tested = read_predicted(test[0], models, labels=training.labels, truth=test[1], watch=watch)
    for doubt in _doubts(training, tested):
        warn(doubt)
    sizes = support.support_sizes(len(tested.images), limit=options.support_size, many=engine.is_cheap)
    plans = [make_plan(len(tested.images), len(training.images), options, size) for size in sizes]
    with Journal(journal, _fingerprint(engine, training, tested, options), resume=resume) as kept:
        pseudo = _measure_all(engine, training, tested, plans, journal=kept, count=count, workers=workers)
    seen = with_mean(measure_agreement(engine, training, tested, support_size=max(sizes), seed=options.seed))
    settings = _settings(engine, training, tested, sizes, options)
    real = with_mean(tested.real)
    means = with_mean(pseudo), mean_defined(seen), mean_defined(real)
    scatter = spread_left(real, seen, tested.groups), count_groups(real, tested.groups)
    unfitted = Bundle(settings, training.images, training.masks, training.groups, *means, *scatter, kinds=[])
    return replace(unfitted, kinds=choose_kinds(unfitted, options.mapping))


def _doubts(training: Labelled, tested: Predicted) -> list[str]:
    """Return a line on each thing that is odd about the test set."""
    doubts = []
    if tested.other_labels:
        others = ", ".join(map(str, tested.other_labels))
        doubts.append(f"labels {others} of the test set are in no training mask: the bundle will say nothing of them")
    if n_known := count_known(tested.images, training.images):
        fact = f"{n_known} of {len(tested.images)} test images are training images"
        doubts.append(f"{fact}: models are better there than elsewhere, and so will be the estimates")
    return doubts


def _measure_all(
    engine: Engine,
    training: Labelled,
    tested: Predicted,
    plans: list[QueryPlan],
    *,
    journal: Journal,
    count: Callable[[Iterable[Measured], int], Iterable[Measured]],
    workers: Workers | None,
) -> Floats:
    """Return the pseudo performance of all models by plan, shape `(Z, K, L, 6)`."""
    pseudo = np.empty((len(plans), len(tested.masks), len(training.labels), len(SPE_METRICS)))
    units = [(*model, index) for model in enumerate(tested.masks) for index in range(len(plans))]
    known: dict[str, Values] = {row["step"]: row["values"] for row in journal.rows}

    def keep(step: str, values: Values) -> None:
        journal.append([{"step": step, "values": values}])

    work = partial(_measure_unit, engine=engine, training=training, tested=tested, plans=plans, known=known)
    measured = map(partial(work, keep=keep), units) if workers is None else workers.map(work, units)
    for (number, _, index), (means, steps) in zip(units, count(measured, len(units)), strict=True):
        journal.append([{"step": step, "values": values} for step, values in steps.items()])
        pseudo[index, number] = means
    return pseudo


def _measure_unit(
    unit: Unit,
    *,
    engine: Engine,
    training: Labelled,
    tested: Predicted,
    plans: list[QueryPlan],
    known: Mapping[str, Values],
    keep: Callable[[str, Values], object] | None = None,
) -> Measured:
    """Return the mean of each metric by label, and the steps that are new, unless `keep` takes them at once."""
    _, name, index = unit
    new: dict[str, Values] = {}
    measured = measure_model(
        engine, training, tested, name, plan=plans[index], known=known, keep=keep or new.__setitem__
    )
    return [label.mean for label in measured], new


def count_known(images: Canvas, training: Canvas) -> int:
    """Return how many images are training images, to the byte."""
    known = {image.tobytes() for image in training}
    return sum(image.tobytes() in known for image in images)


def spread_left(real: Floats, agreement: Floats, groups: NDArray[np.int64]) -> Floats:
    """Return the spread over the groups of what agreement, image by image, leaves of the real metric.

    Images of one group err alike, so that a group is one piece of evidence: the result is the standard deviation of
    the mean over all images, by the sums of each group, times the root of the number of groups.

    Args:
        real: By image, shape `(N, ...)`; undefined values are left out.
        agreement: Of the same shape.
        groups: Number of each image's group from 0, shape `(N,)`.

    Returns:
        Shape `(...)`. Where there is one group only, the standard deviation over its images: groups differ at least
        as much.
    """
    left = _residuals(real, agreement)
    is_defined = np.isfinite(left)
    sums = np.zeros((groups.max() + 1, *left.shape[1:]))
    np.add.at(sums, groups, np.where(is_defined, left, 0))
    n_images, n_groups = np.maximum(is_defined.sum(axis=0), 1), count_groups(left, groups)
    of_mean = (sums**2).sum(axis=0) / n_images**2 * n_groups / np.maximum(n_groups - 1, 1)
    return np.sqrt(np.where(n_groups > 1, of_mean * n_groups, mean_defined(left**2)))


def count_groups(values: Floats, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return in how many groups some value of `(N, ...)` is defined, shape `(...)`."""
    is_there = np.zeros((groups.max() + 1, *values.shape[1:]), dtype=bool)
    np.logical_or.at(is_there, groups, np.isfinite(values))
    return np.asarray(is_there.sum(axis=0))


def _residuals(real: Floats, agreement: Floats) -> Floats:
    """Return what is left of the metric of each image around the line that predicts it from its agreement."""
    both = np.where(np.isfinite(real) & np.isfinite(agreement), 1, np.nan)
    y, x = (each * both - mean_defined(each * both) for each in (real, agreement))
    power = mean_defined(x * x)
    left: Floats = y - x * mean_defined(x * y) / np.where(power > 0, power, 1)
    return left


def _settings(
    engine: Engine, training: Labelled, tested: Predicted, sizes: list[int], options: FitOptions
) -> FitSettings:
    return FitSettings(
        engine=engine.name,
        engine_settings=engine.settings,
        labels=[str(label) for label in training.labels],
        models=list(tested.masks),
        n_test=len(tested.images),
        largest_distance=tested.diagonal,
        support_sizes=sizes,
        repeats=options.repeats,
        every_draw=options.every_draw,
        tolerance=options.tolerance,
        seed=options.seed,
    )


def choose_kinds(bundle: Bundle, kind: str) -> list[list[list[str]]]:
    """Return the kind of mapping for each size, task and metric.

    Raises:
        InputError: when the models do not give enough distinct points.
    """
    n_sizes, n_tasks, _, n_metrics = bundle.pseudo.shape
    return [
        [[bundle.fit(size, task, metric, kind).kind for metric in range(n_metrics)] for task in range(n_tasks)]
        for size in range(n_sizes)
    ]


def make_plan(n_support: int, n_queries: int, options: FitOptions | FitSettings, size: int) -> QueryPlan:
    """Return the plan of a measurement; fit and estimate make it the same way."""
    orders = support.draw_orders(n_support, repeats=options.repeats, seed=options.seed)
    return QueryPlan(orders, n_queries, options.every_draw, options.tolerance, size, options.seed)


def measure_model(
    engine: Engine,
    training: Labelled,
    predicted: Predicted,
    model: str,
    *,
    plan: QueryPlan,
    known: Mapping[str, Values] | None = None,
    keep: Callable[[str, Values], object] | None = None,
) -> list[Pseudo]:
    """Return the pseudo performance of one model for each label; arguments as `measure_pseudo`."""
    return [
        measure_pseudo(
            engine,
            (training.images, training.masks[:, position]),
            (predicted.images, predicted.mask_of(model, position)),
            plan=plan,
            key=f"{model}/{plan.support_size}/{label}",
            known=known,
            keep=keep,
        )
        for position, label in enumerate(training.labels)
    ]


def with_mean(values: Floats) -> Floats:
    """Return values `(A, K, L, M)` as tasks `(A, T, K, M)`: the labels, then their mean if there are several."""
    by_label = np.moveaxis(values, 2, 1)
    if by_label.shape[1] == 1:
        return by_label
    return np.concatenate([by_label, mean_defined(by_label, axis=1)[:, None]], axis=1)


def _fingerprint(engine: Engine, training: Labelled, tested: Predicted, options: FitOptions) -> str:
    digest = hashlib.sha256(repr((engine.name, engine.settings, training.labels)).encode())
    # The kind of mapping is chosen after everything has been measured.
    digest.update(repr((options.support_size, options.repeats, options.every_draw)).encode())
    digest.update(repr((options.tolerance, options.seed, list(tested.masks))).encode())
    for array in (training.images, training.masks, tested.images, *tested.masks.values()):
        digest.update(array.tobytes())
    return digest.hexdigest()


def mapping_table(bundle: Bundle) -> pl.DataFrame:
    """Return the mappings of the largest support size with their leave-one-out errors, one row each."""
    rows = []
    for task, name in enumerate(bundle.tasks):
        for column, metric in enumerate(SPE_METRICS):
            mapping = bundle.mapping(0, task, column)
            rows.append(
                {
                    "label": name,
                    "metric": metric,
                    "mapping": mapping.kind,
                    "mae": mapping.error,
                    "correlation": mapping.correlation,
                    "real_min": float(mapping.real.min()),
                    "real_max": float(mapping.real.max()),
                }
            )
    return pl.DataFrame(rows)
