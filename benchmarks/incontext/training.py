"""The training loop: the tasks of a step depend on the seed and its number only, so a killed run goes on exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.incontext.augmentation import augment, shrink
from benchmarks.incontext.generated import generate_task
from benchmarks.incontext.network import InContextNetwork
from benchmarks.incontext.tasks import Task, choose_weights
from segqa.quality.losses import overlap_loss

SUPPORT_SIZES = (2, 4, 8, 16)
"""The mean over the support lets a network that has seen 16 use 64."""

State = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """All that a training depends on besides its data."""

    width: int = 32
    side: int = 64
    """Pixels; canvases of 128 are averaged to it. At 128 a query would cost four times as much."""
    n_steps: int = 10_000
    n_small: int = 4_000
    """First steps, at half the side: what a support set is for is learnt there at a quarter of the cost."""
    pairs_per_step: int = 32
    """Support pairs: with S in each task there are 32 / S tasks, so every step costs about the same."""
    learning_rate: float = 1e-3
    n_warm_up: int = 200
    share_decay: float = 0.35
    """Last part of the steps, over which the rate falls; before it, the number of steps may still be changed."""
    share_generated: float = 0.25
    average: float = 0.999
    """Of the moving average of the weights; it is what is validated and shipped."""
    bfloat16: bool = True
    seed: int = 0


class Training:
    """Network, optimiser, moving average and the number of the next step."""

    def __init__(self, settings: Settings, tasks: list[Task]) -> None:
        self.settings, self.tasks, self.step = settings, tasks, 0
        self.weights = choose_weights(tasks)
        self.network = InContextNetwork(settings.width, seed=settings.seed).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98))
        self.average: State = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def take_step(self) -> float:
        """Train on the tasks of one step and return their mean loss."""
        queries, supports, targets = draw_step(self.settings, self.tasks, self.weights, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * _schedule(self.step, self.settings)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.bfloat16):
            logits = self.network(queries, supports)
        loss = measure_loss(logits.float(), targets)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        keep = min(self.settings.average, (1 + self.step) / (10 + self.step))
        for name, tensor in self.network.state_dict().items():
            self.average[name].lerp_(tensor, 1 - keep)
        self.step += 1
        return float(loss.detach())

    @property
    def current_side(self) -> int:
        """Return the side of the last step."""
        return side_at(max(0, self.step - 1), self.settings)

    def save(self, path: Path) -> None:
        """Write everything that the next step needs, in one go."""
        content = {
            "settings": json.dumps(asdict(self.settings)),
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
        }
        part = path.with_name(f"{path.name}.part")
        torch.save(content, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Go on where `save` was called; with settings under which that would have looked otherwise, refuse."""
        content = torch.load(path, weights_only=True)
        made_with = Settings(**json.loads(content["settings"]))
        if not _are_alike_up_to(content["step"], made_with, self.settings):
            msg = f"{path}: made with other settings ({content['settings']}); use another work folder"
            raise SystemExit(msg)
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.average, self.step = content["average"], content["step"]


def draw_step(
    settings: Settings, tasks: list[Task], weights: NDArray[np.float64], step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries `(B, 1, H, W)`, supports `(B, S, 2, H, W)` and targets `(B, 1, H, W)` of a step."""
    rng = np.random.default_rng([settings.seed, step])
    n_support = int(rng.choice(SUPPORT_SIZES))
    drawn = []
    for _ in range(max(1, settings.pairs_per_step // n_support)):
        if rng.random() < settings.share_generated:
            pairs = generate_task(n_support + 1, rng)
        else:
            pairs = tasks[int(rng.choice(len(tasks), p=weights))].draw(n_support, rng)
        drawn.append(torch.cat(shrink(*augment(pairs, rng), side_at(step, settings)), 1))
    both = torch.stack(drawn)
    return both[:, 0, :1], both[:, 1:], both[:, 0, 1:]


def measure_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return soft Dice loss plus cross-entropy, the mean over queries."""
    return overlap_loss(logits, targets) + functional.binary_cross_entropy_with_logits(logits, targets)


def train(training: Training, checkpoint: Path, *, watch: Callable[[Training, float], None], every: int = 500) -> None:
    """Run to the last step; every so many of them save, and tell `watch` the mean loss since the last time."""
    if checkpoint.exists():
        training.load(checkpoint)
    losses: list[float] = []
    while training.step < training.settings.n_steps:
        losses.append(training.take_step())
        if training.step % every == 0 or training.step == training.settings.n_steps:
            training.save(checkpoint)
            watch(training, float(np.mean(losses)))
            losses = []


def side_at(step: int, settings: Settings) -> int:
    """Return the side of the images of a step."""
    return settings.side // 2 if step < settings.n_small else settings.side


def _are_alike_up_to(step: int, one: Settings, other: Settings) -> bool:
    """Tell whether both give the same training so far: its length may be decided on the way."""
    same_plan = replace(one, n_steps=other.n_steps, n_small=other.n_small) == other
    done = range(step)
    rates, sides = (all(of(s, one) == of(s, other) for s in done) for of in (_schedule, side_at))
    return same_plan and rates and sides


def _schedule(step: int, settings: Settings) -> float:
    """Return the share of the learning rate: a warm-up, a plateau, half a cosine down to nothing."""
    start = settings.n_steps - round(settings.share_decay * settings.n_steps)
    done = max(0.0, (step - start) / (settings.n_steps - start))
    return min(1.0, (step + 1) / settings.n_warm_up) * 0.5 * (1 + math.cos(math.pi * done))
