"""The paper's Table 2 with segqa: mean absolute error and correlation of six metrics on an unseen set.

    python -m benchmarks.spe ../shared/data work                       # all five data sets
    python -m benchmarks.spe ../shared/data work --only jsrt-chest-xray

Each data set goes through training, prediction, fit and estimate; a step whose result is in the work folder
is not done again, so the command can be stopped and repeated. The estimates are always made: they are printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.spe import unet
from benchmarks.spe.datasets import DATASETS, SHIFTS, Shift, lay_out, lay_out_shifted
from benchmarks.spe.measuring import estimate_part, fit, time_universeg
from benchmarks.spe.printing import print_overall, print_result, print_shifted
from segqa.errors import InputError
from segqa.spe.engines import DEFAULT_ENGINE, ENGINES, Engine, create_engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", choices=DATASETS, action="append")
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--checkpoints", type=int, default=24)
    parser.add_argument("--every-draw", action="store_true")
    asked = parser.parse_args()
    for name in asked.only or DATASETS:
        make_predictions(asked.data, asked.work / name, n_checkpoints=asked.checkpoints, n_steps=asked.steps)
    second = time_universeg()
    for engine_name in asked.engine or [DEFAULT_ENGINE]:
        engine = create_engine(engine_name)
        results = {}
        for name in asked.only or DATASETS:
            root = asked.work / name
            bundle, cost = fit(root, engine, every_draw=asked.every_draw)
            results[name] = estimate_part(bundle, "extra", engine)
            print_result(name, results[name], cost, second)
            if name in SHIFTS:
                estimate_shifted(SHIFTS[name], bundle, engine)
        print_overall(engine_name, results)


def make_predictions(data: Path, root: Path, *, n_checkpoints: int, n_steps: int) -> None:
    """Train, and predict the parts that are estimated, as far as that has not been done."""
    lay_out(data / root.name, root)
    if not (root / "checkpoints" / "training.done").exists():
        unet.train(root, n_checkpoints=n_checkpoints, n_steps=n_steps)
    checkpoints = sorted((root / "checkpoints").glob("*.pt"))
    for part in ("test", "extra"):
        unet.predict(root, part, checkpoints)
    if root.name in SHIFTS:
        lay_out_shifted(data, SHIFTS[root.name], root)
        unet.predict(root, "shifted", checkpoints[-1:])  # the one that would be deployed


def estimate_shifted(shift: Shift, bundle: Path, engine: Engine) -> None:
    """Print what the deployed checkpoint is worth elsewhere, or why that cannot be estimated."""
    try:
        print_shifted(shift.folder, estimate_part(bundle, "shifted", engine, labels=list(shift.labels)))
    except InputError as error:
        print(f"{shift.folder}: {error}")


if __name__ == "__main__":
    main()
