"""Fit and estimate of one data set's checkpoints, with what they cost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segqa.data.types import Case
from segqa.spe.bundle import MEAN, load_bundle, save_bundle
from segqa.spe.cohorts import read_predicted
from segqa.spe.engines import SIDE, Engine
from segqa.spe.estimating import estimate_models
from segqa.spe.fitting import FitOptions, fit_bundle, with_mean
from segqa.spe.mapping import SPE_METRICS
from segqa.spe.pseudo import mean_defined

Floats = NDArray[np.float64]


class Cost(NamedTuple):
    """What a fit took."""

    wall: float
    cpu: float
    """Both in seconds."""
    n_queries: int
    """Queries that the paper's protocol needs for it: every training image with each of six draws."""


@dataclass(frozen=True)
class Estimates:
    """Estimates of `K` checkpoints for `T` tasks, beside the truth."""

    tasks: list[str]
    values: Floats
    """Estimate, lower and upper end, shape `(T, K, 6, 3)`."""
    real: Floats
    """Shape `(T, K, 6)`."""


def fit(root: Path, engine: Engine, *, every_draw: bool) -> tuple[Path, Cost]:
    """Fit on the test part, unless that has been done; return the bundle and what it took."""
    stem = f"{engine.name}-every-draw" if every_draw else engine.name
    bundle, record = root / f"{stem}.bundle", root / f"{stem}.cost.json"
    if record.exists():
        return bundle, Cost(**json.loads(record.read_text()))
    start, cpu = time.monotonic(), time.process_time()
    fitted = fit_bundle(
        engine,
        (root / "train" / "images", root / "train" / "masks"),
        (root / "test" / "images", root / "test" / "masks"),
        root / "test" / "predictions",
        options=FitOptions(every_draw=every_draw),
        journal=root / f"{stem}.journal",
        resume=True,
        watch=_silent,
        count=lambda measured, _: measured,
        warn=print,
    )
    save_bundle(fitted, bundle)
    n_queries = 6 * len(fitted.images) * len(fitted.settings.models) * len(fitted.settings.labels)
    cost = Cost(time.monotonic() - start, time.process_time() - cpu, n_queries)
    record.write_text(json.dumps(cost._asdict()))
    return bundle, cost


def estimate_part(file: Path, part: str, engine: Engine, *, labels: list[int] | None = None) -> Estimates:
    """Return what a bundle says of a part's checkpoints; if labels are given, only of these, without their mean."""
    bundle, root = load_bundle(file), file.parent
    every = [int(label) for label in bundle.settings.labels]
    models, images = find_checkpoints(root / part / "predictions"), root / part / "images"
    measured = read_predicted(images, models, labels=labels or every, truth=root / part / "masks", watch=_silent)
    predicted = read_predicted(images, models, labels=every, truth=None, watch=_silent) if labels else measured
    real = mean_defined(measured.real).swapaxes(0, 1) if labels else mean_defined(with_mean(measured.real))
    tasks = [str(label) for label in labels] if labels else bundle.tasks
    values = np.empty((*real.shape, 3))
    for number, rows in enumerate(estimate_models(bundle, engine, predicted).values()):
        for row in rows:
            if row.task in tasks:
                values[tasks.index(row.task), number, SPE_METRICS.index(row.metric)] = row.estimate[:3]
    return Estimates(tasks, values, real)


def _silent(cases: Iterable[Case], _description: str, _total: int) -> Iterable[Case]:
    return cases


def find_checkpoints(predictions: Path) -> dict[str, Path]:
    """Return the folders of predictions by checkpoint, in the order of training."""
    return {path.name: path for path in sorted(predictions.iterdir())}


def main_task(found: Estimates) -> int:
    """Return the position of the mean of the labels, or of the only label."""
    return found.tasks.index(MEAN) if MEAN in found.tasks else 0


def time_universeg() -> float:
    """Return the CPU seconds of one query with 64 supports; random weights are as quick as trained ones."""
    import torch

    from segqa.spe.universeg import UniverSeg, universeg_shapes

    generator = torch.Generator().manual_seed(0)
    shapes = universeg_shapes(64).items()
    network = UniverSeg({name: torch.randn(shape, generator=generator) * 0.01 for name, shape in shapes})
    support = network.prepare(torch.rand((64, 2, SIDE, SIDE), generator=generator))
    start = time.process_time()
    network.forward(torch.rand((1, 1, SIDE, SIDE), generator=generator), support)
    return time.process_time() - start
