"""What the quality network is trained to make small."""

from __future__ import annotations

import torch
from torch.nn import functional


def ranking_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return how badly pairs of a batch are ordered, pairs weighted by how far apart they truly are.

    Args:
        scores: Predicted, shape `(N,)`.
        targets: True, shape `(N,)`.
    """
    gap = targets[:, None] - targets[None]
    wanted = gap.clamp(min=0)
    return (wanted * functional.softplus(-10 * (scores[:, None] - scores[None]))).sum() / wanted.sum().clamp(min=1e-6)


def overlap_loss(belief: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return one minus the mean soft Dice of belief logits and truth in 0..1, both `(N, 1, h, w)`."""
    chance = belief.sigmoid()
    common = (chance * truth).sum(dim=(1, 2, 3))
    return 1 - ((2 * common + 1) / ((chance + truth).sum(dim=(1, 2, 3)) + 1)).mean()
