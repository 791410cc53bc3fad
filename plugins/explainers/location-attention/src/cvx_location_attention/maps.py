"""The class-agnostic maps: a layer's energy and the rollout of attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def energy(activation: Tensor, power: float) -> Tensor:
    """Return sum_k |A_k|^p for each cell (Zagoruyko and Komodakis 2017, arXiv:1612.03928).

    Parameters
    ----------
    activation
        (B, C, h, w).
    power
        p > 0.

    Returns
    -------
    torch.Tensor
        (B, h, w), not negative.
    """
    return activation.abs().pow(power).sum(dim=1)


def rollout(attention: Sequence[Tensor]) -> Tensor:
    """Return the product of 1/2 I + 1/2 mean_heads(A) over layers (Abnar and Zuidema 2020).

    Parameters
    ----------
    attention
        One tensor (B, heads, N, N) for each layer, first layer first.

    Returns
    -------
    torch.Tensor
        (B, N, N): row i tells how much of each input token has reached output token i. No value is
        negative and every row sums to 1 (arXiv:2005.00928).
    """
    joint: Tensor | None = None
    for layer in attention:
        mean = layer.mean(dim=1)
        eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
        mixed = 0.5 * mean + 0.5 * eye
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        joint = mixed if joint is None else mixed @ joint
    assert joint is not None
    return joint
