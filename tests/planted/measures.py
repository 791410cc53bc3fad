"""How well a map shows a cause whose place is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hit(values: Tensor, cause: Tensor, tolerance: int = 0) -> bool:
    """Whether the map's peak lies in the cause, or up to `tolerance` pixels from it.

    The pointing game (Zhang 2016, arXiv:1608.00507). A map that is positive nowhere blames nothing.
    """
    if not bool((values > 0).any()):
        return False
    if tolerance:
        grown = F.max_pool2d(cause[None, None].float(), 2 * tolerance + 1, 1, tolerance)
        cause = grown[0, 0] > 0
    return bool(cause.flatten()[values.argmax()])


def relevance_mass(values: Tensor, cause: Tensor) -> float:
    """Share of the positive relevance that lies in the cause (Arras 2022, arXiv:2003.07258)."""
    positive = values.clamp_min(0).double()
    return float((positive * cause).sum() / positive.sum().clamp_min(1e-300))


def rank_accuracy(values: Tensor, cause: Tensor) -> float:
    """Share of the K largest values that lie in the cause of K pixels (Arras 2022).

    Among equal values chance decides, always in the same way.
    """
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(0))
    largest = order[
        values.flatten()[order].argsort(descending=True, stable=True)[: int(cause.sum())]
    ]
    return float(cause.flatten()[largest].float().mean())


def top(values: Tensor, share: float) -> Tensor:
    """Return the pixels (H, W) with the largest values, a share of all."""
    chosen = torch.zeros(values.numel(), dtype=torch.bool)
    chosen[values.flatten().topk(round(share * values.numel())).indices] = True
    return chosen.view_as(values)
