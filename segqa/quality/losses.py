"""What the quality network is trained to make small, and how its validation is summed up."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
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


def agreement(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> dict[str, float]:
    """Return Pearson correlation and mean absolute error."""
    return {
        "pearson": float(np.corrcoef(predicted, true)[0, 1]),
        "mae": float(np.abs(predicted - true).mean()),
    }


def overlap_loss(belief: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return one minus the mean soft Dice of belief logits and truth in 0..1, both `(N, 1, h, w)`."""
    chance = belief.sigmoid()
    common = (chance * truth).sum(dim=(1, 2, 3))
    return 1 - ((2 * common + 1) / ((chance + truth).sum(dim=(1, 2, 3)) + 1)).mean()
