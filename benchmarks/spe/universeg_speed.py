"""Time and peak memory of UniverSeg here against a plain forward, on one thread, fp32.

    python -m benchmarks.spe.universeg_speed

The plain forward is the published network as it is written: every support pair is joined with the query and
goes through each block. The time is that of both in one process, in turns; each has a process of its own for
the memory. Random weights: they are as quick as trained ones.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segqa.spe.engines import SIDE
from segqa.spe.universeg import UniverSeg, universeg_shapes

SLOPE = 0.01
SIDES = ("nothing", "plain", "segqa")


class Plain:
    """The published forward without any saving."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def forward(self, query: Tensor, support: Tensor) -> Tensor:
        """Return logits of a query `(1, 1, H, W)` by support pairs `(S, 2, H, W)`."""
        skips = []
        for level in range(4):
            if level:
                query, support = functional.max_pool2d(query, 2), functional.max_pool2d(support, 2)
            query, support = self._cross(f"enc_blocks.{level}", query, support)
            if level < 3:
                skips.append((query, support))
        for level in range(3):
            above = skips.pop()
            query, support = (torch.cat([_double(a), b], 1) for a, b in zip((query, support), above, strict=True))
            query, support = self._cross(f"dec_blocks.{level}", query, support)
        return functional.conv2d(query, self.state["out_conv.conv.weight"], self.state["out_conv.conv.bias"])

    def _cross(self, block: str, query: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([query.expand(len(support), -1, -1, -1), support], dim=1)
        mixed = self._conv(f"{block}.cross.cross_conv", joined)
        query = functional.leaky_relu(self._conv(f"{block}.target.vmapped.conv", mixed.mean(0, keepdim=True)), SLOPE)
        return query, functional.leaky_relu(self._conv(f"{block}.support.vmapped.conv", mixed), SLOPE)

    def _conv(self, name: str, maps: Tensor) -> Tensor:
        return functional.conv2d(maps, self.state[f"{name}.weight"], self.state[f"{name}.bias"], padding=1)


def _double(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)


def make_state(width: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return random weights of the official layout, scaled so that maps neither grow nor vanish."""
    state = {}
    for name, shape in universeg_shapes(width).items():
        scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.05
        state[name] = torch.randn(shape, generator=generator) * scale
    return state


@torch.inference_mode()
def measure_memory(side: str, width: int, n_support: int) -> None:
    """Run one side once and print the peak of the process, in MB."""
    query, support, state = make_inputs(width, n_support)
    if side == "plain":
        Plain(state).forward(query, support)
    elif side == "segqa":
        network = UniverSeg(state)
        network.forward(query, network.prepare(support))
    # Not getrusage: a child inherits the peak of the process that started it.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak, "only Linux tells the peak memory this way"
    print(int(peak[1]) / 1024)


def make_inputs(width: int, n_support: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return a query, support pairs and weights."""
    generator = torch.Generator().manual_seed(0)
    support = torch.rand((n_support, 2, SIDE, SIDE), generator=generator)
    support[:, 1] = (support[:, 1] > 0.5).float()
    return torch.rand((1, 1, SIDE, SIDE), generator=generator), support, make_state(width, generator)


@torch.inference_mode()
def measure_time(width: int, n_support: int, n_rounds: int) -> tuple[float, float, float, float]:
    """Return the median CPU seconds of plain, of ours, of our preparation, and the largest difference of logits."""
    query, support, state = make_inputs(width, n_support)
    plain, network = Plain(state), UniverSeg(state)
    seconds: list[list[float]] = []
    for _ in range(n_rounds):
        marks = [time.process_time()]
        expected = plain.forward(query, support)
        marks.append(time.process_time())
        prepared = network.prepare(support)
        marks.append(time.process_time())
        found = network.forward(query, prepared)
        marks.append(time.process_time())
        seconds.append(np.diff(marks).tolist())
    plain_s, prepare_s, query_s = np.median(seconds, axis=0).tolist()
    return plain_s, query_s, prepare_s, float((expected - found).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--support", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", choices=SIDES, help="run this side alone and print its peak")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.memory:
        measure_memory(asked.memory, asked.width, asked.support)
        return
    plain, query, prepare, difference = measure_time(asked.width, asked.support, asked.rounds)
    print(f"one query, {asked.support} supports, {asked.width} channels, CPU seconds of one thread")
    print(
        f"plain {plain:.2f}, segqa {query:.2f}: {plain / query:.1f} times as fast; largest difference {difference:.1e}"
    )
    print(f"preparing the supports, once a support set: {prepare:.2f}; with it {plain / (query + prepare):.1f} times")
    command = [sys.executable, "-m", "benchmarks.spe.universeg_speed", "--width", str(asked.width)]
    peaks = [
        float(subprocess.check_output([*command, "--support", str(asked.support), "--memory", side])) for side in SIDES
    ]
    base, plain_peak, own_peak = peaks
    print(
        f"peak over imports and inputs ({base:.0f} MB): plain {plain_peak - base:.0f}, segqa {own_peak - base:.0f} MB"
    )
    print(f"segqa takes 1/{(plain_peak - base) / (own_peak - base):.1f} of the memory")


if __name__ == "__main__":
    main()
