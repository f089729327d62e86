"""Trains the in-context network that ships as the default of `--engine universeg`.

    python -m benchmarks.incontext ../shared/data work --steps 7000 --small-steps 4000    # a killed run goes on

A log of the loss, and of Dice on the four data sets that are left out whole, is appended to `work/training.log`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.incontext.network import InContextNetwork
from benchmarks.incontext.tasks import HELD_OUT, Task, find_sets, read_tasks
from benchmarks.incontext.training import Settings, Training, train
from benchmarks.incontext.validation import SIZES, validate

VALIDATE_EVERY = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=Settings.n_steps)
    parser.add_argument("--small-steps", type=int, default=Settings.n_small, help="of these, at half the side")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.work.mkdir(parents=True, exist_ok=True)
    names = find_sets(asked.data, "train")
    training_tasks = read_tasks(asked.data, [name for name in names if name not in HELD_OUT], asked.work / "cache")
    training = Training(Settings(n_steps=asked.steps, n_small=asked.small_steps), training_tasks)
    watch = Watch(read_tasks(asked.data, HELD_OUT, asked.work / "cache"), asked.work / "training.log")
    train(training, asked.work / "checkpoint.pt", watch=watch)


class Watch:
    """Writes how far the training is."""

    def __init__(self, held_out: list[Task], log: Path) -> None:
        self.held_out, self.log, self.start = held_out, log, time.monotonic()

    def __call__(self, training: Training, loss: float) -> None:
        """Append a line with the loss, and from time to time one with what is reached on the held-out sets."""
        self._write(f"step {training.step} loss {loss:.4f} seconds {time.monotonic() - self.start:.0f}")
        if training.step % VALIDATE_EVERY == 0 or training.step == training.settings.n_steps:
            network = InContextNetwork(training.settings.width)
            network.load_state_dict(training.average)
            rows = validate(network, self.held_out, training.current_side)
            for size in SIZES:
                of_size = [row for row in rows if row.n_support == size]
                each = " ".join(f"{row.dataset} {row.dice[0]:.3f}/{row.dice[1]:.3f}" for row in of_size)
                mean = "/".join(f"{value:.4f}" for value in np.mean([row.dice for row in of_size], axis=0))
                self._write(f"step {training.step} supports {size} dice {mean} {each}")

    def _write(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
