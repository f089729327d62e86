"""Named ways to train: segqa's own and the paper's, so that both are one option away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from segqa.errors import InputError
from segqa.quality.network import NetworkSpec
from segqa.quality.preprocessing import EVANYSEG, SEGQA
from segqa.quality.sampling import Mixture
from segqa.quality.training import Plan

HEADS = ("dice", "hd95")


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
        name: `segqa`, or `evanyseg` for the paper's: its ψ, plain MSE, masks of exact prompts as they are.
        backbone: Any timm backbone; one without stages of falling resolution is used without a belief map.
        heads: Metrics to predict, `dice` first.
        size: Side of the input in pixels; the profile's own when `None`.

    Raises:
        InputError: Unknown heads.
    """
    if not heads or heads[0] != "dice" or not set(heads) <= set(HEADS) or len(set(heads)) != len(heads):
        msg = f"--heads {','.join(heads)}: dice, or dice,hd95 was expected"
        raise InputError(msg)
    if name == "evanyseg":
        profile = EVANYSEG if size is None else replace(EVANYSEG, size=size)
        spec = NetworkSpec(profile, backbone=backbone, heads=tuple(heads), compare=False)
        losses = {"ranking_weight": 0.0, "belief_weight": 0.0, "balance": False}
        return Recipe(spec, Mixture(exact_box_only=True, vary=False), losses)
    profile = SEGQA if size is None else replace(SEGQA, size=size)
    compare = not backbone.startswith(("vit_", "deit", "eva", "beit"))
    return Recipe(NetworkSpec(profile, backbone=backbone, heads=tuple(heads), compare=compare), Mixture(), {})
