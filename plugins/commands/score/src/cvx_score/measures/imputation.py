"""Noisy linear imputation: what ROAD puts in the place of removed pixels.

Rong et al. 2022 (arXiv:2202.00449): each removed pixel is the weighted mean of its eight
neighbours, one sixth for those beside it and one twelfth for those at its corners, removed
neighbours included. That is a sparse system of linear equations, symmetric and positive definite,
here solved for many images at once by conjugate gradients, preconditioned by one multigrid cycle.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import MethodError

_ITERATIONS = 500
_DAMPING = 0.8
_COARSEST = 4
_TOGETHER = 2


def impute(images: Tensor, removed: Tensor, *, tolerance: float = 1e-4) -> Tensor:
    """Return images whose removed pixels are the weighted mean of their neighbours.

    Parameters
    ----------
    images
        (n, C, H, W), floating point.
    removed
        (n, H, W), true where pixels are to be replaced.
    tolerance
        Norm of what is left of the equations over that of their right-hand side, for each channel.

    Returns
    -------
    torch.Tensor
        (n, C, H, W); pixels that are not removed are as they were. No noise is added here.

    Raises
    ------
    MethodError
        If all pixels of an image are removed, or the equations could not be solved.
    """
    if bool(removed.flatten(1).all(1).any()):
        raise MethodError(
            "All pixels of an image are removed, so that nothing says what they were.",
            "Remove a share below 1.",
        )
    # Half precision can't hold the sums, and double is kept.
    exact = images if images.dtype == torch.float64 else images.float()
    # A processor's caches are full with a few images, and then it waits for memory.
    most = len(images) if images.is_cuda else _TOGETHER
    pieces = zip(torch.split(exact, most), torch.split(removed, most), strict=True)
    found = torch.cat([_solved(*piece, tolerance) for piece in pieces])
    return torch.where(removed[:, None], found.to(images), images)


def _solved(exact: Tensor, removed: Tensor, tolerance: float) -> Tensor:
    """Return the removed pixels' values, and zero elsewhere: preconditioned conjugate gradients."""
    levels = _levels(removed[:, None].to(exact))
    inside, diagonal = levels[0]
    right = _neighbours(exact * (1 - inside)) * inside
    wanted = tolerance * right.flatten(2).norm(dim=2)
    found = torch.zeros_like(exact)
    rest = right
    direction = step = _cycle(levels, rest)
    slope = _dot(rest, step)
    for _ in range(_ITERATIONS):
        if bool((rest.flatten(2).norm(dim=2) <= wanted).all()):
            return found
        curved = _apply(direction, inside, diagonal)
        length = _ratio(slope, _dot(direction, curved))
        found.addcmul_(length, direction)
        rest = rest - length * curved
        step = _cycle(levels, rest)
        before, slope = slope, _dot(rest, step)
        direction = step + _ratio(slope, before) * direction
    raise MethodError(
        f"The imputation did not reach {tolerance:g} in {_ITERATIONS} iterations.",
        "Raise the tolerance, or use a model in float32 or float64.",
    )


def _neighbours(x: Tensor) -> Tensor:
    """Return the weighted sum of each pixel's eight neighbours; beyond the edge there are none."""
    # 1 2 1 across, then down, holds the centre four times: diagonals 1, sides 2, all over 12.
    # In place, because the time goes into memory: three times as fast as a convolution.
    padded = F.pad(x, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    rows.add_(padded[..., 1:-1, :], alpha=2)
    both = rows[..., :-2] + rows[..., 2:]
    return both.add_(rows[..., 1:-1], alpha=2).sub_(x, alpha=4).div_(12)


def _apply(x: Tensor, inside: Tensor, diagonal: Tensor) -> Tensor:
    return (diagonal * x).sub_(_neighbours(x)).mul_(inside)


def _levels(inside: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the unknown cells (n, 1, h, w) and the diagonal, from the finest grid to the coarsest.

    A coarse cell is unknown where all of its cells are; next to what is known the finer grids do.
    """
    levels = []
    while True:
        levels.append((inside, _neighbours(torch.ones_like(inside[:1]))))
        if min(inside.shape[2:]) <= _COARSEST or not bool(inside.any()):
            return levels
        inside = (F.avg_pool2d(_even(inside, 1.0), 2) == 1).to(inside)


def _cycle(levels: list[tuple[Tensor, Tensor]], right: Tensor) -> Tensor:
    """Return about what solves the equations: one cycle, symmetric as its use in here asks."""
    inside, diagonal = levels[0]
    weight = _DAMPING * inside / diagonal
    x = weight * right
    if len(levels) > 1:
        rest = right - _apply(x, inside, diagonal)
        below = levels[1]
        coarse = _cycle(levels[1:], 4 * F.avg_pool2d(_even(rest, 0.0), 2) * below[0])
        fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = x + fine[..., : x.shape[2], : x.shape[3]] * inside
    return x + weight * (right - _apply(x, inside, diagonal))


def _even(x: Tensor, value: float) -> Tensor:
    return F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=value)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(2, 3), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    # A channel that is solved has nothing left to divide.
    return torch.where(b > 0, a / b, torch.zeros_like(a))
