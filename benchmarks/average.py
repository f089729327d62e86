"""The mean of networks that were trained from the same start on different examples.

    python -m benchmarks.average prepared first.safetensors second.safetensors --out weights/evaluator-lite0.safetensors

Weights of trainings that share their start lie in one valley of the loss; their mean often judges unseen data better
than each (Wortsman et al. 2022, "model soups"). The statistics of the batch norms are measured anew, since those of a
mean network are not the mean of theirs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from segqa.quality.checkpoints import read_info
from segqa.quality.library import read_library
from segqa.quality.network import QualityNetwork
from segqa.quality.records import Record
from segqa.quality.sampling import Mixture, Sampler
from segqa.quality.storage import load_network, save_network

BATCH = 16


def average_networks(networks: Sequence[QualityNetwork]) -> QualityNetwork:
    """Return the first network with the mean of all their tensors."""
    states = [network.state_dict() for network in networks]
    mean = networks[0].state_dict()
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([state[name] for state in states]).mean(0))
    return networks[0]


def batches(records: Sequence[Record], network: QualityNetwork, *, examples: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield inputs as training shows them, `(BATCH, channels, size, size)`."""
    sampler = Sampler(records, network.spec.profile, heads=network.spec.heads, mixture=Mixture(), seed=seed)
    for start in range(0, examples, BATCH):
        yield torch.stack([torch.from_numpy(sampler.draw(i).inputs) for i in range(start, start + BATCH)])


@torch.inference_mode()
def measure_norms(network: QualityNetwork, inputs: Iterator[torch.Tensor]) -> None:
    """Give every batch norm the mean and variance of what it sees over these inputs."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    for batch in inputs:
        network(batch.contiguous(memory_format=torch.channels_last))
    network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="folder of records they were trained on")
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--leave-out", action="append", default=[], help="data set that they were not trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    network = average_networks([load_network(path) for path in asked.weights])
    network.to(memory_format=torch.channels_last)
    records = read_library([asked.prepared], leave_out=asked.leave_out).training
    measure_norms(network, batches(records, network, examples=asked.examples, seed=asked.seed))
    cards = [read_info(path).card for path in asked.weights]
    # The card of the first, whose data hold those of the others; it keeps one curve and tells of all.
    card = cards[0] | {"averaged": [{"plan": c["plan"], "records": c["records"], "curve": c["curve"]} for c in cards]}
    save_network(network, asked.out, card)
    print(f"{asked.out}: mean of {len(cards)} networks")


if __name__ == "__main__":
    main()
