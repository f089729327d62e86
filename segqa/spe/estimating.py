"""`spe-estimate`: what a model is worth on images without labels, from a bundle alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segqa.errors import InputError
from segqa.spe.agreement import measure_agreement
from segqa.spe.bundle import MEAN, Bundle
from segqa.spe.cohorts import Labelled, Predicted, Watch, read_predicted
from segqa.spe.engines import Canvas, Engine
from segqa.spe.fitting import count_groups, count_known, make_plan, measure_model, with_mean
from segqa.spe.mapping import SPE_METRICS, Estimate
from segqa.spe.novelty import USUAL_SHARE, Embedder, find_novel
from segqa.spe.pseudo import Pseudo, mean_defined
from segqa.spe.support import MIN_PIXELS

MODEL = "predictions"


@dataclass(frozen=True, slots=True)
class MetricEstimate:
    """The estimate of one metric for one task."""

    task: str
    metric: str
    estimate: Estimate
    pseudo: float
    agreement: float
    half_width: float
    """Half width of the pseudo metric's 95 % interval, from querying a part of the training images."""
    n: int
    """Training images that were queried, for each label."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """All estimates of one model on one set of images."""

    rows: list[MetricEstimate]
    n_images: int
    novel_share: float | None
    """Share of the images that are unlike the training images, 0..1; `None` when these are of one group."""
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return `{"metrics": ..., "warnings": ...}`; several labels are under `labels`, their mean first.

        What is undefined is `None`.
        """
        by_task: dict[str, dict[str, dict[str, float | None]]] = {}
        for row in self.rows:
            value, lower, upper, _ = row.estimate
            numbers = {
                name: number if math.isfinite(number) else None
                for name, number in {"estimate": value, "lower": lower, "upper": upper, "n": row.n}.items()
            }
            by_task.setdefault(row.task, {})[row.metric] = numbers
        main = by_task.pop(MEAN) if MEAN in by_task else by_task.pop(next(iter(by_task)))
        labels: dict[str, object] = {"labels": by_task} if by_task else {}
        counts = {"n_images": self.n_images, "novel_share": self.novel_share}
        return {"metrics": main, **labels, **counts, "warnings": self.warnings}


def estimate(
    bundle: Bundle,
    engine: Engine,
    images: Path,
    predictions: Path,
    *,
    embedder: Embedder,
    level: float = 0.9,
    watch: Watch,
) -> Estimates:
    """Estimate every metric of a model on unlabelled images.

    Args:
        bundle: Made by `fit_bundle`.
        engine: The engine that the bundle names.
        images: Folder of images.
        predictions: Folder of the model's masks of these images.
        embedder: Gives the vectors that novelty is measured on.
        level: Share of cases in which an interval should hold the true mean, 0..1.
        watch: Shows progress.

    Raises:
        InputError: For another engine or weights, unreadable files, or predictions without foreground.
    """
    settings = bundle.settings
    labels = [int(label) for label in settings.labels]
    found = read_predicted(images, {MODEL: predictions}, labels=labels, truth=None, watch=watch)
    n_usable = _count_usable(found, MODEL)
    if n_usable.min() == 0:
        msg = (
            f"{predictions}: no prediction of label {labels[int(n_usable.argmin())]} has {MIN_PIXELS} foreground "
            "pixels at 128 x 128; nothing can be estimated from that"
        )
        raise InputError(msg)
    rows = estimate_models(bundle, engine, found, level=level)[MODEL]
    shown = found.images[found.shown]
    novel = find_novel(embedder, shown, bundle.images, bundle.groups)
    warnings = _warn_labels(found.other_labels) + _warn_extrapolation(rows, bundle)
    warnings += _warn_images(shown, bundle.images, novel, n_groups=len(np.unique(bundle.groups)))
    warnings += _warn_size(int(n_usable.min()), settings.support_sizes)
    return Estimates(rows, len(found.images), None if novel is None else float(novel.mean()), warnings)


def estimate_models(
    bundle: Bundle, engine: Engine, found: Predicted, *, level: float = 0.9
) -> dict[str, list[MetricEstimate]]:
    """Return the estimates of several models on the same images, by model.

    Args:
        bundle: Made by `fit_bundle`.
        engine: The engine that the bundle names.
        found: The images and the models' predictions.
        level: Share of cases in which an interval should hold the true mean, 0..1.

    Raises:
        InputError: For another engine, or other weights of it.
    """
    settings = bundle.settings
    if engine.settings != settings.engine_settings:
        msg = f"the bundle was made with other weights of {settings.engine}; give that file, or fit again"
        raise InputError(msg)
    training = Labelled(bundle.images, bundle.masks, bundle.groups, [int(label) for label in settings.labels])
    most = max(settings.support_sizes)
    by_image = with_mean(measure_agreement(engine, training, found, support_size=most, seed=settings.seed))
    rows = {}
    for number, model in enumerate(found.masks):
        size = _choose_size(settings.support_sizes, int(_count_usable(found, model).min()))
        plan = make_plan(len(found.images), len(bundle.images), settings, settings.support_sizes[size])
        pseudo = measure_model(engine, training, found, model, plan=plan)
        rows[model] = _make_rows(bundle, size, pseudo, by_image[:, :, number], found.groups, level=level)
    return rows


def _make_rows(
    bundle: Bundle,
    size: int,
    measured: list[Pseudo],
    by_image: NDArray[np.float64],
    groups: NDArray[np.int64],
    *,
    level: float,
) -> list[MetricEstimate]:
    """Return the estimate of every metric for every label, and for their mean when there are several.

    Args:
        bundle: Has the mappings.
        size: Position of the size of support set that was used.
        measured: Pseudo performance by label.
        by_image: Agreement of each image, shape `(N, T, 6)`.
        groups: Number of each image's group, shape `(N,)`.
        level: Of the intervals.
    """
    pseudo = with_mean(np.stack([label.mean for label in measured])[None, None])[0, :, 0]
    agreement, n_groups = mean_defined(by_image), count_groups(by_image, groups)
    half = np.stack([label.half_width for label in measured])
    if len(measured) > 1:
        half = np.concatenate([half, np.sqrt((half**2).sum(axis=0))[None] / len(measured)])
    rows = []
    for task, name in enumerate(bundle.tasks):
        for column, metric in enumerate(SPE_METRICS):
            inputs = float(pseudo[task, column]), float(agreement[task, column])
            mapping = bundle.mapping(size, task, column)
            found = mapping.estimate(np.array(inputs), n_groups=int(n_groups[task, column]), level=level)
            n = min(label.n for label in measured)
            rows.append(MetricEstimate(name, metric, found, *inputs, float(half[task, column]), n))
    return rows


def _count_usable(found: Predicted, model: str) -> NDArray[np.int64]:
    """Return for each label how many predictions can be support pairs."""
    n_labels = found.masks[model].shape[1]
    areas = np.stack([found.mask_of(model, label).sum(axis=(1, 2)) for label in range(n_labels)])
    return np.asarray((areas >= MIN_PIXELS).sum(axis=1))


def _choose_size(sizes: Sequence[int], n_usable: int) -> int:
    """Return the position of the largest size of support set that the predictions can fill."""
    return next((index for index, size in enumerate(sizes) if size <= n_usable), len(sizes) - 1)


def _warn_labels(others: Sequence[int]) -> list[str]:
    if not others:
        return []
    return [f"labels {', '.join(map(str, others))} of the predictions are not in the bundle: nothing is said of them"]


def _warn_size(n_usable: int, sizes: Sequence[int]) -> list[str]:
    if n_usable >= sizes[-1]:
        return []
    return [
        f"{n_usable} usable predictions where the mapping was fitted with support sets of {sizes[-1]}: "
        "the estimate tends to be too low; give more images"
    ]


def _warn_extrapolation(rows: Iterable[MetricEstimate], bundle: Bundle) -> list[str]:
    outside: dict[str, list[str]] = {}
    for row in rows:
        if row.estimate.extrapolates:
            outside.setdefault(row.task, []).append(row.metric)
    several = len(bundle.tasks) > 1
    return [
        (f"label {task}: " if several and task != MEAN else f"{task}: " if several else "")
        + f"{', '.join(names)} extrapolated: what was measured is outside the range of the fitted models"
        for task, names in outside.items()
    ]


def _warn_images(images: Canvas, training: Canvas, novel: NDArray[np.bool_] | None, *, n_groups: int) -> list[str]:
    warnings = []
    if n_known := count_known(images, training):
        warnings.append(f"{n_known} of {len(images)} images are training images: the estimate may be too good")
    if novel is None:
        return warnings
    n_novel, expected = int(novel.sum()), USUAL_SHARE
    # The share beyond a quantile that few groups told of varies as a beta variable does; a plain binomial test would
    # hold it to be known, and warn of every third new part of a small training set's own data.
    a, b = expected * (n_groups + 1), (1 - expected) * (n_groups + 1)
    if stats.betabinom.sf(n_novel - 1, len(images), a, b) < 0.001:
        warnings.append(
            f"{n_novel} of {len(images)} images are unlike the training images ({expected:.0%} would be usual): "
            "the mapping may not hold there"
        )
    return warnings
