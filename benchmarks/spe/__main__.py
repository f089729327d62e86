"""The paper's Table 2 with segqa: mean absolute error and correlation of six metrics on an unseen set.

    python -m benchmarks.spe ../shared/data work                       # all five data sets
    python -m benchmarks.spe ../shared/data work --only jsrt-chest-xray

Each data set goes through training, prediction, fit and estimate; a step whose result is in the work folder
is not done again, so the command can be stopped and repeated. The last step is always done: it prints.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.spe import unet
from benchmarks.spe.datasets import DATASETS, SHIFTED, lay_out, lay_out_shifted
from segqa.output.journal import Journal as DiskJournal
from segqa.spe.bundle import load_bundle, save_bundle
from segqa.spe.cohorts import read_predicted
from segqa.spe.engines import SIDE, Engine, create_engine
from segqa.spe.estimating import estimate
from segqa.spe.fitting import FitOptions, find_models, fit_bundle, with_mean
from segqa.spe.journal import Journal
from segqa.spe.mapping import METRICS, pearson
from segqa.spe.pseudo import mean_defined
from segqa.spe.readout import Readout

PAPER = {
    "jsrt-chest-xray": "0.013 0.997 23.23 0.797 0.014 0.998 0.015 0.602 0.016 0.998 0.013 0.998",
    "hc18-fetal-head": "0.031 0.998 1.386 0.994 0.034 0.997 0.016 0.498 0.033 0.998 0.010 0.999",
    "ph2": "0.013 0.969 4.632 0.921 0.012 0.987 0.019 0.599 0.013 0.983 0.013 0.987",
    "acdc-cardiac-mri": "0.025 0.999 1.349 0.999 0.042 0.998 0.029 0.778 0.044 0.999 0.041 0.999",
}
"""Table 2 in the order of METRICS, MAE and correlation; PH2 beside ISIC-2018 and ACDC beside SCD, its likes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", choices=DATASETS, action="append")
    parser.add_argument("--engine", default="readout")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--checkpoints", type=int, default=24)
    parser.add_argument("--every-draw", action="store_true")
    asked = parser.parse_args()
    for name in asked.only or DATASETS:
        root = asked.work / name
        lay_out(asked.data / name, root)
        if not (root / "checkpoints" / "training.done").exists():
            unet.train(root, n_checkpoints=asked.checkpoints, n_steps=asked.steps)
        for part in ("test", "extra"):
            unet.predict(root, part)
        engine = create_engine(asked.engine)
        seconds = fit(root, engine, every_draw=asked.every_draw)
        print_result(name, root, engine, seconds)
        if name in SHIFTED:
            print_shifted(asked.data / SHIFTED[name], root, engine)


def fit(root: Path, engine: Engine, *, every_draw: bool) -> dict[str, float]:
    """Fit on the test part; return the seconds of wall clock and of CPU that it took."""
    bundle, record = root / f"{engine.name}.bundle", root / f"{engine.name}.seconds.json"
    if record.exists():
        return dict(json.loads(record.read_text()))
    start, cpu = time.monotonic(), time.process_time()
    journals: list[DiskJournal] = []

    def open_journal(key: str) -> Journal:
        journals.append(DiskJournal(bundle.with_suffix(".journal"), key, resume=True))
        return Journal(journals[0].rows, record=journals[0].append)

    fitted = fit_bundle(
        engine,
        (root / "train" / "images", root / "train" / "masks"),
        (root / "test" / "images", root / "test" / "masks"),
        root / "test" / "predictions",
        options=FitOptions(every_draw=every_draw),
        open_journal=open_journal,
        watch=lambda cases, _description, _total: cases,
        count=lambda units: units,
    )
    save_bundle(fitted, bundle)
    seconds = {"wall": time.monotonic() - start, "cpu": time.process_time() - cpu}
    record.write_text(json.dumps(seconds))
    return seconds


def estimate_all(root: Path, part: str, engine: Engine) -> tuple[list[str], Any, Any]:
    """Return tasks, estimates `(T, K, M, 3)` with their intervals, and the truth `(T, K, M)`."""
    bundle = load_bundle(root / f"{engine.name}.bundle")
    models = find_models(root / part / "predictions")
    labels = [int(label) for label in bundle.settings.labels]
    folder = root / part / "images"
    found = read_predicted(folder, models, labels=labels, truth=root / part / "masks", watch=lambda c, *_: c)
    real = mean_defined(with_mean(found.real))
    embedder = engine if isinstance(engine, Readout) else Readout()
    values = np.empty((*real.shape, 3))
    for number, path in enumerate(models.values()):
        result = estimate(bundle, engine, folder, path, embedder=embedder, watch=lambda cases, *_: cases)
        for position, row in enumerate(result.rows):
            values[position // len(METRICS), number, position % len(METRICS)] = row.estimate[:3]
    return bundle.tasks, values, real


def print_result(name: str, root: Path, engine: Engine, seconds: dict[str, float]) -> None:
    tasks, values, real = estimate_all(root, "extra", engine)
    n_models = real.shape[1]
    print(f"\n{name}, {engine.name}, {n_models} checkpoints; fit {seconds['wall']:.0f} s ({seconds['cpu']:.0f} s CPU)")
    print(f"{'':22}" + "".join(f"{metric:>18}" for metric in METRICS))
    for task, label in enumerate(tasks):
        good = np.argsort(real[task, :, 0], kind="stable")[n_models // 2 :]
        for title, rows in ((f"label {label}", np.arange(n_models)), ("  its good half", good)):
            cells = [_cell(values[task, rows, m, 0], real[task, rows, m]) for m in range(len(METRICS))]
            print(f"{title:22}" + "".join(f"{cell:>18}" for cell in cells))
        inside = (values[task, :, :, 1] <= real[task]) & (real[task] <= values[task, :, :, 2])
        print(f"{'  in 90 % interval':22}" + "".join(f"{share:>18.2f}" for share in inside.mean(axis=0)))
    if name in PAPER:
        numbers = PAPER[name].split()
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        print(f"{'paper':22}" + "".join(f"{f'{mae} / {r}':>18}" for mae, r in pairs))
    if engine.name == "readout":
        n_queries = n_models * 6 * len(list((root / "train" / "images").iterdir()))
        print(
            f"UniverSeg, {n_queries} queries of 64 supports: about {n_queries * time_universeg() / 3600:.1f} CPU hours"
        )


def print_shifted(source: Path, root: Path, engine: Engine) -> None:
    """Print the error of the last checkpoint, the deployed one, on images from elsewhere."""
    lay_out_shifted(source, root)
    unet.predict(root, "shifted")
    tasks, values, real = estimate_all(root, "shifted", engine)
    for task, label in enumerate(tasks):
        text = ", ".join(
            f"{metric} {values[task, -1, m, 0]:.3f} (true {real[task, -1, m]:.3f})" for m, metric in enumerate(METRICS)
        )
        print(f"shifted to {source.name}, label {label}: {text}")


def time_universeg() -> float:
    """Return the CPU seconds of one query with 64 supports; random weights are as quick as trained ones."""
    import torch

    from segqa.spe.universeg import UniverSeg, expected_shapes

    generator = torch.Generator().manual_seed(0)
    shapes = expected_shapes(64).items()
    network = UniverSeg({name: torch.randn(shape, generator=generator) * 0.01 for name, shape in shapes})
    support = network.prepare(torch.rand((64, 2, SIDE, SIDE), generator=generator))
    start = time.process_time()
    network.forward(torch.rand((1, 1, SIDE, SIDE), generator=generator), support)
    return time.process_time() - start


def _cell(estimated: Any, real: Any) -> str:
    return f"{np.abs(estimated - real).mean():.3f} / {pearson(estimated, real):.3f}"


if __name__ == "__main__":
    main()
