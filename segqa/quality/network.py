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

N_OVERLAPS = 17

N_JUDGED = 64
"""Units between what the network sees and its heads: they weigh one sign in the light of another."""


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
    norm_epsilon: float | None = None
    """What layer norms add to a variance; by default what timm has."""

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


def set_epsilon(network: nn.Module, epsilon: float) -> None:
    """Let all layer norms of a network add so much to a variance."""
    for norm in network.modules():
        if isinstance(norm, nn.LayerNorm):
            norm.eps = epsilon


class QualityNetwork(nn.Module):
    """Backbone, belief and heads; input as built by ψ, shape `(N, channels, size, size)`."""

    backbone: Any  # timm's models share no typed base class

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = timm.create_model(
            spec.backbone, pretrained=False, num_classes=0, in_chans=spec.profile.channels
        )
        if spec.norm_epsilon is not None:
            set_epsilon(self.backbone, spec.norm_epsilon)
        features = self.backbone.num_features
        if spec.compare:
            stages = belief_stages(self.backbone)
            self._stages = [i for i, _ in stages]
            self.belief = Belief([stage["num_chs"] for _, stage in stages])
            self.judged = nn.Sequential(nn.Linear(features + N_OVERLAPS, N_JUDGED), nn.ReLU())
            features = N_JUDGED + N_OVERLAPS
        self.heads = nn.ModuleDict({name: nn.Linear(features, 1) for name in spec.heads})
        self.dropout = nn.Dropout(0.2 if spec.compare else 0.0)

    def forward(self, inputs: torch.Tensor) -> Output:
        """Return scores, embedding and belief for a batch."""
        if self.spec.compare:
            final, stages = self.backbone.forward_intermediates(inputs)
            embedding = self.backbone.forward_head(final, pre_logits=True)
            mask = functional.avg_pool2d(inputs[:, 3:], BELIEF_STRIDE)
            belief = self.belief([stages[i] for i in self._stages], mask)
            signs = overlaps(belief, mask[:, :1], mask[:, 1:])
            seen = torch.cat([self.judged(torch.cat([self.dropout(embedding), signs], dim=1)), signs], dim=1)
        else:
            embedding = self.backbone(inputs)
            belief = inputs.new_zeros((inputs.shape[0], 0))
            seen = embedding
        scores = torch.cat([head(seen) for head in self.heads.values()], dim=1)
        return Output(scores.sigmoid() if self.spec.bounded else scores, embedding, belief)


def belief_stages(backbone: Any) -> list[tuple[int, dict[str, Any]]]:
    """Return index and timm's description of the stages that a belief is made of; none where timm knows no stages."""
    stages = enumerate(getattr(backbone, "feature_info", []))
    return [(i, stage) for i, stage in stages if stage["reduction"] >= BELIEF_STRIDE]


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


def overlaps(belief: torch.Tensor, mask: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Return, per input, how mask and box `(N, 1, h, w)` in 0..1 agree with the belief (logits): `(N, 17)`.

    Soft Dice, precision and recall, as they are and as logits (the head ends in a sigmoid: with them "the score is the
    soft Dice" is one weight away), both areas, and how undecided the belief is. Then whether there is a box, how much
    of it the mask fills, how much of mask and belief lies in it, and how the extents of mask and belief agree with it:
    a mask that does not reach the sides of its box is of another object.
    """
    belief, mask, box = belief.float(), mask.float(), box.float()
    chance = belief.sigmoid()
    common = (chance * mask).sum(dim=(1, 2, 3))
    believed = chance.sum(dim=(1, 2, 3))
    masked = mask.sum(dim=(1, 2, 3))
    undecided = (chance * (1 - chance)).sum(dim=(1, 2, 3))
    one = 1.0  # a pixel at stride 4: keeps empty masks finite
    pixels = float(mask.shape[2] * mask.shape[3])
    ratios = [2 * common / (believed + masked + one), common / (masked + one), common / (believed + one)]
    boxed = box.sum(dim=(1, 2, 3))
    inside = (mask * box).sum(dim=(1, 2, 3))
    return torch.stack(
        [
            *ratios,
            *(ratio.clamp(0.01, 0.99).logit() for ratio in ratios),
            believed / pixels,
            masked / pixels,
            undecided / (believed + one),
            (boxed > 0).float(),
            inside / (boxed + one),
            inside / (masked + one),
            (chance * box).sum(dim=(1, 2, 3)) / (believed + one),
            *(_extent_agreement(plane, box, across) for plane in (mask, chance) for across in (2, 3)),
        ],
        dim=1,
    )


def _extent_agreement(plane: torch.Tensor, box: torch.Tensor, across: int) -> torch.Tensor:
    """Return the overlap over union of the rows (`across` 3) or columns (2) that a plane and the box take up."""
    taken, wanted = plane.amax(dim=across), box.amax(dim=across)
    union = torch.maximum(taken, wanted).sum(dim=(1, 2))
    return torch.minimum(taken, wanted).sum(dim=(1, 2)) / (union + 1.0)
