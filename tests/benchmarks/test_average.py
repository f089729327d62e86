"""The mean of networks of one start."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.average import average_networks, measure_norms
from segqa.quality.network import NetworkSpec, QualityNetwork
from segqa.quality.preprocessing import Profile

SPEC = NetworkSpec(Profile(size=64))


def _network(seed: int) -> QualityNetwork:
    torch.manual_seed(seed)
    return QualityNetwork(SPEC).eval()


def test_every_tensor_is_the_mean() -> None:
    first, second = _network(0), _network(1)
    expected = {
        name: (tensor + second.state_dict()[name]) / 2
        for name, tensor in first.state_dict().items()
        if tensor.is_floating_point()
    }
    mean = average_networks([first, second]).state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(mean[name], tensor)


def test_norms_know_what_they_see() -> None:
    network = _network(0)
    batches = [torch.randn((4, 5, 64, 64), generator=torch.Generator().manual_seed(seed)) * 3 for seed in range(3)]
    seen: list[torch.Tensor] = []
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    measure_norms(network, iter(batches))
    hook.remove()
    means = torch.stack([maps.mean((0, 2, 3)) for maps in seen])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    assert not network.training
