"""ONNX Runtime and PyTorch on one CPU thread, in turn in one process: speed and agreement.

python -m benchmarks.runtimes --weights evaluator-lite2
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

from segqa.phantoms import make_phantom
from segqa.quality.preprocessing import build_input
from segqa.quality.scoring import load_evaluator
from segqa.weights import DEFAULT_EVALUATOR, find_weights

BATCH = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=DEFAULT_EVALUATOR)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    path = find_weights(arguments.weights)
    judges = {name: load_evaluator(path, runtime=name, device="cpu", threads=1) for name in ("onnx", "torch")}
    phantoms = [make_phantom(np.random.default_rng(seed)) for seed in range(BATCH)]
    profile = judges["onnx"].profile
    inputs = np.stack([build_input(p.image, p.truth == 1 + i % 3, None, profile) for i, p in enumerate(phantoms)])
    scores = {name: judge.runner.run(inputs)[0] for name, judge in judges.items()}
    rates: dict[str, list[float]] = {name: [] for name in judges}
    for _ in range(arguments.rounds):
        for name, judge in judges.items():
            start = time.process_time()
            judge.runner.run(inputs)
            rates[name].append(BATCH / (time.process_time() - start))
    for name, judge in judges.items():
        print(f"{judge.runner.name}: {median(rates[name]):.0f} inputs of {profile.size} pixels a CPU second")
    print(f"ratio {median(rates['onnx']) / median(rates['torch']):.1f}, ", end="")
    print(f"largest difference of a score {np.abs(scores['onnx'] - scores['torch']).max():.1e}")


if __name__ == "__main__":
    main()
