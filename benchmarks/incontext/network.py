"""UniverSeg's architecture as a module that can be trained; its state dict has exactly the published layout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segqa.spe.universeg import N_DECODER, N_ENCODER, SLOPE, universeg_shapes


class InContextNetwork(nn.Module):
    """Segments a query by support pairs, each of B tasks with S of them.

    The cross convolution is cut into the query's and the support's half, as in `segqa.spe.universeg`: nothing
    but a sum lies between it and the mean over the support, so no `(B, S, 2C, H, W)` tensor is built, and the
    last block needs the mean support map only.
    """

    def __init__(self, width: int, *, seed: int = 0) -> None:
        super().__init__()
        self.width = width
        generator = torch.Generator().manual_seed(seed)
        for name, shape in universeg_shapes(width).items():
            _add_parameter(self, name.split("."), nn.Parameter(_initial(name, shape, generator)))
        self._named = dict(self.named_parameters())

    def forward(self, queries: Tensor, supports: Tensor) -> Tensor:
        """Return logits `(B, 1, H, W)` of queries `(B, 1, H, W)` by support pairs `(B, S, 2, H, W)`."""
        n_support = supports.shape[1]
        query, support = queries, supports.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        skips: list[tuple[Tensor, Tensor]] = []
        for depth in range(N_ENCODER):
            if depth:
                query, support = functional.max_pool2d(query, 2), functional.max_pool2d(support, 2)
            query, support = self._cross(f"enc_blocks.{depth}", query, support, n_support)
            skips.append((query, support))
        skips.pop()
        for depth in range(N_DECODER - 1):
            query_skip, support_skip = skips.pop()
            query = torch.cat([_double(query), query_skip], 1)
            support = torch.cat([_double(support), support_skip], 1)
            query, support = self._cross(f"dec_blocks.{depth}", query, support, n_support)
        query_skip, support_skip = skips.pop()
        query = torch.cat([_double(query), query_skip], 1)
        mean = torch.cat([_double(_mean(support, n_support)), _mean(support_skip, n_support)], 1)
        query = self._to_query(f"dec_blocks.{N_DECODER - 1}", query, mean)
        return functional.conv2d(query, self._named["out_conv.conv.weight"], self._named["out_conv.conv.bias"])

    def _cross(self, block: str, query: Tensor, support: Tensor, n_support: int) -> tuple[Tensor, Tensor]:
        mixed, own = self._halves(block, query, support)
        pairs = own.unflatten(0, (-1, n_support)) + mixed[:, None]
        target = self._conv(f"{block}.target.vmapped.conv", pairs.mean(1))
        return _activate(target), _activate(self._conv(f"{block}.support.vmapped.conv", pairs.flatten(0, 1)))

    def _to_query(self, block: str, query: Tensor, mean: Tensor) -> Tensor:
        mixed, own = self._halves(block, query, mean)
        return _activate(self._conv(f"{block}.target.vmapped.conv", mixed + own))

    def _halves(self, block: str, query: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
        weight = self._named[f"{block}.cross.cross_conv.weight"]
        n_query = query.shape[1]
        mixed = functional.conv2d(query, weight[:, :n_query], self._named[f"{block}.cross.cross_conv.bias"], padding=1)
        return mixed, functional.conv2d(support, weight[:, n_query:], padding=1)

    def _conv(self, name: str, maps: Tensor) -> Tensor:
        return functional.conv2d(maps, self._named[f"{name}.weight"], self._named[f"{name}.bias"], padding=1)


def _add_parameter(root: nn.Module, path: list[str], parameter: nn.Parameter) -> None:
    for part in path[:-1]:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = getattr(root, part)
    root.register_parameter(path[-1], parameter)


def _initial(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return weights that keep the variance of the maps: gain 1 where no nonlinearity follows, else sqrt 2."""
    if len(shape) == 1:
        return torch.zeros(shape)
    fan_in = shape[1] * shape[2] * shape[3]
    gain = 2.0 if "vmapped" in name else 1.0
    return torch.randn(shape, generator=generator) * (gain / fan_in) ** 0.5


def _activate(maps: Tensor) -> Tensor:
    return functional.leaky_relu(maps, SLOPE)


def _double(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)


def _mean(maps: Tensor, n_support: int) -> Tensor:
    return maps.unflatten(0, (-1, n_support)).mean(1)
