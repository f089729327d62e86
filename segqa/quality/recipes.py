"""Named ways to train: segqa's own and the paper's, so that both are one option away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch

from segqa.errors import InputError
from segqa.quality.network import NetworkSpec, belief_stages
from segqa.quality.preprocessing import BELIEF_STRIDE, EVANYSEG, SEGQA
from segqa.quality.sampling import Mixture
from segqa.quality.training import Plan
from segqa.quality.weights_file import KNOWN_HEADS


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which network, which masks, which losses."""

    spec: NetworkSpec
    mixture: Mixture
    losses: dict[str, Any]

    def plan(self, **values: Any) -> Plan:
        """Return the plan with the recipe's losses."""
        return Plan(**values, **self.losses)


def make_recipe(name: str, *, backbone: str, heads: Sequence[str], size: int | None = None) -> Recipe:
    """Return a recipe.

    Args:
        name: `segqa`; `corruptions`, the same without masks of segmenters, but for those of wrong boxes; or
            `evanyseg` for the paper's: its ψ, plain MSE, masks of exact prompts as they are.
        backbone: Any timm backbone; one without stages of falling resolution is used without a belief map.
        heads: Metrics to predict, `dice` first.
        size: Side of the input in pixels; when `None` the backbone's, if it takes one size only, or the profile's own.

    Raises:
        InputError: Unknown heads or backbone, or a size that the network does not take.
    """
    if not timm.is_model(backbone):
        near = ", ".join(timm.list_models(f"*{backbone.split('_')[0]}*")[:5]) or "none has such a name"
        msg = f"--backbone {backbone}: timm knows no such model; near: {near}"
        raise InputError(msg)
    if not heads or heads[0] != "dice" or not set(heads) <= set(KNOWN_HEADS) or len(set(heads)) != len(heads):
        msg = f"--heads {','.join(heads)}: dice, or dice,hd95 was expected"
        raise InputError(msg)
    only = _only_size(backbone)
    if only is not None and size not in (None, only):
        msg = f"--size {size}: {backbone} takes inputs of {only} pixels only; leave the option out"
        raise InputError(msg)
    size = only or size
    if name == "evanyseg":
        profile = EVANYSEG if size is None else replace(EVANYSEG, size=size)
        spec = NetworkSpec(profile, backbone=backbone, heads=tuple(heads), compare=False)
        losses = {"ranking_weight": 0.0, "belief_weight": 0.0, "balance": False}
        return Recipe(spec, Mixture(exact_box_only=True, vary=False), losses)
    profile = SEGQA if size is None else replace(SEGQA, size=size)
    mixture = Mixture(predictions=0.0, spoilt_predictions=0.0) if name == "corruptions" else Mixture()
    compare = _halves_by_stages(backbone)
    if compare and profile.size % 32:
        msg = f"--size {profile.size}: a multiple of 32 was expected, the network halves its input five times"
        raise InputError(msg)
    return Recipe(NetworkSpec(profile, backbone=backbone, heads=tuple(heads), compare=compare), mixture, {})


def _only_size(backbone: str) -> int | None:
    """Return the side of the only input that a backbone takes; most transformers know their positions by number."""
    about = timm.get_pretrained_cfg(backbone)
    return about.input_size[1] if about is not None and about.fixed_input_size else None


def _halves_by_stages(backbone: str) -> bool:
    """Return whether a backbone has features at a quarter of the input's resolution, and at halves from there on."""
    with torch.device("meta"):  # its shape alone, no weights
        stages = belief_stages(timm.create_model(backbone, pretrained=False))
    reductions = [stage["reduction"] for _, stage in stages]
    return len(reductions) > 1 and reductions == [BELIEF_STRIDE * 2**i for i in range(len(reductions))]
