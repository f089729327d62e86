"""Writes the moving average of a finished training as the weights file that ships.

    python -m benchmarks.incontext.export work ../shared/data weights/incontext-w32.safetensors

Half precision; the same training gives the same bytes. The cut of the probabilities is chosen on the data sets
that were left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from benchmarks.incontext.network import InContextNetwork
from benchmarks.incontext.tasks import HELD_OUT, read_tasks
from benchmarks.incontext.training import Settings, State
from benchmarks.incontext.validation import SIZES, THRESHOLDS, validate
from segqa.tensor_files import write_tensors

LICENCE = "CC BY-NC-SA 4.0, research only"
PAPER = "architecture: Butoi et al. 2023, arXiv:2304.06131; trained by segqa"
N_QUERIES = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    content = torch.load(asked.work / "checkpoint.pt", weights_only=True)
    settings = Settings(**json.loads(content["settings"]))
    state = {name: tensor.half() for name, tensor in content["average"].items()}
    threshold = choose_threshold(state, settings, asked.data, asked.work / "cache")
    write(asked.out, state, describe(settings, int(content["step"]), threshold))


def choose_threshold(state: State, settings: Settings, data: Path, cache: Path) -> float:
    """Return the threshold of the highest mean Dice on the held-out sets with the largest support sets."""
    network = InContextNetwork(settings.width)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    rows = validate(network, read_tasks(data, HELD_OUT, cache), settings.side, n_queries=N_QUERIES)
    means = np.mean([row.dice for row in rows if row.n_support == SIZES[-1]], axis=0)
    for threshold, mean in zip(THRESHOLDS, means, strict=True):
        print(f"threshold {threshold}: mean Dice {mean:.4f} on the held-out sets")
    return THRESHOLDS[int(means.argmax())]


def describe(settings: Settings, step: int, threshold: float) -> dict[str, str]:
    """Return what the file says about itself; `side` and `threshold` are read by the engine."""
    return {
        "kind": "in-context engine",
        "licence": LICENCE,
        "paper": PAPER,
        "side": str(settings.side),
        "step": str(step),
        "threshold": str(threshold),
    }


def write(path: Path, state: State, metadata: dict[str, str]) -> None:
    """Write a safetensors file of a state and what it says of itself."""
    write_tensors(path, save({name: tensor.contiguous() for name, tensor in sorted(state.items())}, metadata=metadata))


if __name__ == "__main__":
    main()
