"""Training in several processes, on one machine or many, as `torchrun` starts them.

    torchrun --nproc-per-node 2 -m segqa train prepared --out weights/mine.safetensors

Each process computes its share of every batch; gradients are averaged, so all hold the same network. The first one
validates, reports and writes. On a CPU two processes of one thread each beat one process of two threads.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable

import torch
from torch import distributed


def join() -> int:
    """Meet the other processes when `torchrun` started this one among several; return this one's number."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group()  # without a name: one backend for each kind of device, chosen by the tensor
        atexit.register(distributed.destroy_process_group)  # threads that still run at the end would abort the process
    return place()[0]


def place() -> tuple[int, int]:
    """Return this process's number and how many there are: `(0, 1)` when alone."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def local_device(device: torch.device) -> torch.device:
    """Return the device of this process: its own of the machine's, where there are several."""
    if device.type == "cuda" and device.index is None and distributed.is_initialized():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def average_gradients(parameters: Iterable[torch.Tensor]) -> None:
    """Replace each gradient by its mean over the processes, in one message."""
    _, n_processes = place()
    if n_processes == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= n_processes
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def add_up(counts: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over the processes."""
    if place()[1] > 1:
        distributed.all_reduce(counts)
    return counts


def decided_by_first(*, decision: bool) -> bool:
    """Return what the first process decided."""
    if place()[1] == 1:
        return decision
    flag = torch.tensor([float(decision)])
    distributed.broadcast(flag, src=0)
    return bool(flag.item())
