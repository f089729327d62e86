"""Training of the quality network: one readable loop that can stop anywhere and go on exactly (EvanySeg, 3.5)."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, SequentialSampler, Subset

from segqa.data.files import write_whole
from segqa.errors import InputError
from segqa.quality.losses import overlap_loss, ranking_loss
from segqa.quality.network import NetworkSpec, Output, QualityNetwork
from segqa.quality.parallel import add_up, average_gradients, decided_by_first, local_device, place
from segqa.quality.pretrained import STARTS, start_backbone
from segqa.quality.records import Record, digest_records
from segqa.quality.sampling import Example, Mixture, Sampler
from segqa.quality.storage import load_network, save_network
from segqa.statistics import mae, pearson

DICE_BINS = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what is learnt, apart from the data."""

    examples: int = 100_000
    """Examples shown in all."""
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warm_up: float = 0.03
    """Share of the examples over which the rate rises; then it falls as a cosine."""
    belief_weight: float = 0.5
    """Weight of the pixelwise loss of the belief."""
    ranking_weight: float = 0.2
    """Weight of the pairwise ranking loss: the paper's relative accuracy (definition 3.2), made smooth."""
    balance: bool = True
    """Weigh examples so that each tenth of the Dice range counts alike."""
    ema_decay: float = 0.998
    patience: int = 0
    """End after so many validations in a row without a better correlation, and keep the best average; 0: never."""
    seed: int = 0
    workers: int = 1
    bfloat16: bool = False
    """Compute the network in it; faster where the device has instructions for it."""
    device: str = "cpu"


@dataclass(slots=True)
class Progress:
    """What the loop reports now and then."""

    examples: int
    loss: float
    seconds: float
    since_start: int
    """Examples of this process, for the time that is left."""
    validation: dict[str, float] | None = None

    def line(self, total: int) -> str:
        """Return one line for a log."""
        left = self.seconds / max(self.since_start, 1) * (total - self.examples)
        checks = "".join(f", validation {name} {value:.4f}" for name, value in (self.validation or {}).items())
        return f"{self.examples}/{total} examples, loss {self.loss:.4f}{checks}, about {left / 60:.0f} min left"


class _Examples(Dataset[Example]):
    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Example:
        return self._sampler.draw(index)


def _collate(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.from_numpy(np.stack([e.inputs for e in examples])),
        torch.from_numpy(np.stack([e.targets for e in examples])),
        torch.from_numpy(np.stack([e.truth for e in examples])),
    )


class Trainer:
    """Holds the network, its moving average and the optimiser; `run` advances them.

    Args:
        records: What to learn from.
        validation: Records of groups or data sets that are not learnt from; may be empty.
        spec: Which network.
        plan: How to train.
        mixture: Which masks to show.
        initial: Weights file to start from; otherwise published ones for a backbone of `STARTS`, else random.
    """

    def __init__(
        self,
        records: Sequence[Record],
        validation: Sequence[Record],
        spec: NetworkSpec,
        plan: Plan,
        *,
        mixture: Mixture,
        initial: Path | None = None,
    ) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.spec, self.mixture = plan, spec, mixture
        self.rank, self.n_processes = place()
        if plan.batch_size % self.n_processes:
            msg = f"--batch-size {plan.batch_size}: a multiple of the {self.n_processes} processes was expected"
            raise InputError(msg)
        if plan.examples < plan.batch_size:
            msg = f"--examples {plan.examples}: one batch of {plan.batch_size} or more was expected (--batch-size)"
            raise InputError(msg)
        self.device = local_device(torch.device(plan.device))
        network = QualityNetwork(spec)
        if initial is not None:
            network = load_network(initial, spec)
        elif spec.backbone in STARTS:
            start_backbone(network)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(requires_grad=False)
        if plan.bfloat16 and self.device.type == "cpu":
            _keep_depthwise_single(self.network)
        self.optimiser = torch.optim.AdamW(_groups(self.network, plan.weight_decay), lr=plan.learning_rate)
        self._data = [digest_records(records), digest_records(validation)]
        self.sampler = Sampler(records, spec.profile, heads=spec.heads, mixture=mixture, seed=plan.seed)
        still = replace(mixture, turn=False, vary=False)
        self.validation = (
            Sampler(validation, spec.profile, heads=spec.heads, mixture=still, seed=plan.seed + 1)
            if validation
            else None
        )
        self.done = 0
        self.best = -math.inf
        self.best_average: dict[str, torch.Tensor] = {}
        self.checks_since_best = 0
        self.histogram = torch.ones(DICE_BINS)
        self.curve: list[dict[str, Any]] = []

    def run(
        self, *, report_every: int = 2048, validate_every: int = 20_000, stop_after: int | None = None
    ) -> Iterator[Progress]:
        """Train until the plan is done, or so many examples, and yield how it goes; the caller saves when it likes.

        Raises:
            InputError: The loss is not finite any more; the network is that of the step before.
        """
        end = min(stop_after or self.plan.examples, self.plan.examples)
        start, first, since, total, n_batches = time.monotonic(), self.done, self.done, 0.0, 0
        for inputs, targets, truth in self._batches(end):
            total += self._step(inputs, targets, truth)
            n_batches += 1
            self.done += len(inputs) * self.n_processes
            finished = end - self.done < self.plan.batch_size
            if _passes(since, self.done, report_every) or finished:
                due = self.rank == 0 and (_passes(since, self.done, validate_every) or finished)
                checks = self.validate() if due else None
                since = self.done
                progress = Progress(self.done, total / n_batches, time.monotonic() - start, self.done - first, checks)
                self.curve.append({"examples": self.done, "loss": progress.loss} | (checks or {}))
                total, n_batches = 0.0, 0
                self._remember(checks)
                yield progress
                if self.plan.patience and decided_by_first(decision=self.checks_since_best >= self.plan.patience):
                    return

    def _remember(self, checks: dict[str, float] | None) -> None:
        """Keep the average that validated best, when the plan may end early."""
        if not checks or not self.plan.patience:
            return
        self.checks_since_best += 1
        if checks["pearson"] > self.best:
            self.best, self.checks_since_best = checks["pearson"], 0
            self.best_average = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}

    def _batches(self, end: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        whole = (end - self.done) // self.plan.batch_size * self.plan.batch_size  # every process makes as many steps
        indices = range(self.done + self.rank, self.done + whole, self.n_processes)
        data = Subset(_Examples(self.sampler), indices)
        yield from DataLoader(
            data,
            batch_size=self.plan.batch_size // self.n_processes,
            sampler=SequentialSampler(data),
            num_workers=self.plan.workers,
            collate_fn=_collate,
            prefetch_factor=4 if self.plan.workers else None,
        )

    def _step(self, inputs: torch.Tensor, targets: torch.Tensor, truth: torch.Tensor) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        inputs = inputs.to(self.device, memory_format=torch.channels_last)
        targets, truth = targets.to(self.device), truth.to(self.device)
        self.network.train()
        # Dropout depends on the step and the process only, so a resumed training goes on exactly.
        torch.manual_seed(((self.plan.seed << 40) + (self.done << 8) + self.rank) % 2**63)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.bfloat16):
            output = self.network(inputs)
        loss = self._loss(output, targets, truth)
        if not torch.isfinite(loss):
            fact = f"the loss is {float(loss.detach())} after {self.done} examples"
            msg = f"{fact}; train anew with less than --learning-rate {self.plan.learning_rate:g}"
            raise InputError(msg)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self._update_average()
        return float(loss.detach())

    def _rate(self) -> float:
        share = self.done / self.plan.examples
        if share < self.plan.warm_up:
            return self.plan.learning_rate * (share / self.plan.warm_up + 0.01)
        rest = (share - self.plan.warm_up) / (1 - self.plan.warm_up)
        return self.plan.learning_rate * (0.5 * (1 + math.cos(math.pi * rest)) + 0.002)

    def _loss(self, output: Output, targets: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        scores = output.scores.float()
        weights = self._weights(targets[:, 0]) if self.plan.balance else torch.ones_like(targets[:, 0])
        loss = 5.0 * (weights[:, None] * (scores - targets) ** 2).mean()
        if self.spec.compare and self.plan.belief_weight:
            belief = output.belief.float()
            pixels = functional.binary_cross_entropy_with_logits(belief, truth)
            loss = loss + self.plan.belief_weight * (pixels + 0.5 * overlap_loss(belief, truth))
        if self.plan.ranking_weight:
            loss = loss + self.plan.ranking_weight * ranking_loss(scores[:, 0], targets[:, 0])
        return loss

    def _weights(self, dice: torch.Tensor) -> torch.Tensor:
        """Return weights that make rare tenths of the Dice range count more, from a running histogram."""
        bins = (dice * DICE_BINS).long().clamp(0, DICE_BINS - 1).cpu()
        # One histogram for all processes: the first one's state is all that is kept.
        self.histogram = 0.995 * self.histogram + add_up(torch.bincount(bins, minlength=DICE_BINS))
        share = self.histogram / self.histogram.sum()
        weights = (1 / (DICE_BINS * share)).clamp(0.4, 3.0)[bins]
        return (weights / weights.mean()).to(dice.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short memory at first: the start is soon forgotten.
        decay = min(
            self.plan.ema_decay,
            (1 + self.done / self.plan.batch_size) / (10 + self.done / self.plan.batch_size),
        )
        theirs = self.network.state_dict()
        for name, mine in self.average.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - decay)
            else:
                mine.copy_(theirs[name])

    def validate(self, n_examples: int = 768) -> dict[str, float]:
        """Return Pearson correlation and mean absolute error of the averaged network on the validation records."""
        if self.validation is None:
            return {}
        self.average.eval()  # some of timm's attention remembers, until told anew, what it made of older weights
        predictions, targets = [], []
        for start in range(0, n_examples, self.plan.batch_size):
            block = range(start, min(start + self.plan.batch_size, n_examples))
            inputs, wanted, _ = _collate([self.validation.draw(index) for index in block])
            predictions.append(self.predict(inputs)[:, 0])
            targets.append(wanted[:, 0].numpy())
        predicted, true = np.concatenate(predictions), np.concatenate(targets)
        return {"pearson": pearson(predicted, true), "mae": mae(predicted, true)}

    @torch.inference_mode()
    def predict(self, inputs: torch.Tensor) -> NDArray[np.float32]:
        """Return the averaged network's scores `(N, heads)` for ψ inputs."""
        inputs = inputs.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.bfloat16):
            scores: NDArray[np.float32] = self.average(inputs).scores.float().cpu().numpy()
        return scores

    def save_weights(self, path: Path, card: dict[str, Any]) -> None:
        """Write the averaged network for use (the best one with `patience`): half precision, its graph beside it."""
        if self.best_average:
            self.average.load_state_dict(self.best_average)
        save_network(self.average, path, card)

    def save_state(self, path: Path) -> None:
        """Write all that `load_state` needs to go on exactly, in one step."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "histogram": self.histogram,
            "best": self.best,
            "best_average": self.best_average,
            "checks_since_best": self.checks_since_best,
            "done": self.done,
            "curve": json.dumps(self.curve),
            "training": self.digest(),
        }
        write_whole(path, lambda file: torch.save(state, file))

    def digest(self) -> str:
        """Return a hash of all that decides what is learnt: data, plan without workers, masks shown, network."""
        decisive = {name: value for name, value in asdict(self.plan).items() if name != "workers"}
        text = json.dumps([decisive, asdict(self.mixture), self.spec.to_dict(), self._data], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load_state(self, path: Path) -> None:
        """Go on where `save_state` was called."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what its zip reader and unpickler raise
            msg = f"{path}: not a whole training state; delete it and train anew without --resume"
            raise InputError(msg) from error
        if state.get("training") != self.digest():
            msg = f"{path}: is of a training with other data, another plan or network; repeat its call, or delete it"
            raise InputError(msg)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.histogram = state["histogram"]
        self.best, self.best_average = state["best"], state["best_average"]
        self.checks_since_best = state["checks_since_best"]
        self.done = state["done"]
        self.curve = json.loads(state["curve"])


def _keep_depthwise_single(network: QualityNetwork) -> None:
    """Compute large and strided depthwise convolutions in single precision.

    Their backward pass in bfloat16 is 3 to 5 times as slow on CPUs (measured, torch 2.14): there is no kernel for it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and (module.kernel_size[0] > 3 or module.stride[0] > 1):
            module.forward = partial(_in_single, module.forward)  # type: ignore[method-assign]


def _in_single(forward: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    with torch.autocast(inputs.device.type, enabled=False):
        return forward(inputs.float())


def _passes(before: int, after: int, every: int) -> bool:
    return after // every > before // every


def _groups(network: QualityNetwork, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and norms are not decayed."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
