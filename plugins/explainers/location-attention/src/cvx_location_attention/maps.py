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
    # Half precision holds the activations, but not the sum of their squares.
    half = activation.dtype in (torch.float16, torch.bfloat16)
    return (activation.float() if half else activation).abs().pow(power).sum(dim=1)


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


def leading(activation: Tensor, *, centred: bool = False) -> tuple[Tensor, Tensor]:
    """Project a layer's cells onto the first right singular vector (Muhammad 2020).

    With A (cells x channels) = U S V^T the projection is A v_1 = s_1 u_1. Of the two products of A
    with itself the smaller one is decomposed, never A (arXiv:2008.00299).

    Parameters
    ----------
    activation
        (B, C, h, w).
    centred
        Subtract each channel's mean over the cells first.

    Returns
    -------
    torch.Tensor
        (B, h, w), with a sum that is not negative (of a centred map, whose sum is zero: with a
        largest absolute value that is positive).
    torch.Tensor
        (B,): the share s_1^2 / sum s_i^2, 0 where the activations are all zero.
    """
    cells = activation.detach().flatten(2).transpose(1, 2).double()
    if centred:
        cells = cells - cells.mean(dim=1, keepdim=True)
    by_cell = cells.shape[1] <= cells.shape[2]
    gram = cells @ cells.mT if by_cell else cells.mT @ cells
    squares, vectors = torch.linalg.eigh(gram)
    square, vector = squares[:, -1].clamp_min(0), vectors[:, :, -1]
    if by_cell:
        projected = square.sqrt()[:, None] * vector
    else:
        projected = (cells @ vector[:, :, None])[:, :, 0]
    largest = projected.gather(1, projected.abs().argmax(dim=1, keepdim=True))[:, 0]
    sign = (largest if centred else projected.sum(dim=1)).sign()
    values = torch.where(sign < 0, -1.0, 1.0)[:, None] * projected
    total = cells.square().sum(dim=(1, 2))
    share = torch.where(total > 0, square / total, 0.0)
    return values.reshape(-1, *activation.shape[2:]), share
