"""Noisy linear imputation of removed pixels, as in ROAD.

Rong et al. 2022 (arXiv:2202.00449): each removed pixel is the weighted mean of its eight
neighbors, with weights of 1/6 at the sides and 1/12 at the corners, removed neighbors included.
This is a sparse system of linear equations, symmetric and positive definite, solved for many
images at once by conjugate gradients, preconditioned by one multigrid cycle.
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
    """Return images whose removed pixels are the weighted mean of their neighbors.

    Parameters
    ----------
    images
        (n, C, H, W), floating point.
    removed
        (n, H, W), true at removed pixels.
    tolerance
        Norm of the residual over the norm of the right-hand side, for each channel.

    Returns
    -------
    torch.Tensor
        (n, C, H, W); other pixels are unchanged. No noise is added.

    Raises
    ------
    MethodError
        If all pixels of an image are removed, or the solver does not converge.
    """
    if bool(removed.flatten(1).all(1).any()):
        raise MethodError(
            "All pixels of an image are removed.",
            "Remove a share below 1.",
        )
    # Half precision is too coarse for the sums.
    exact = images if images.dtype == torch.float64 else images.float()
    # On a CPU, more images exceed the caches.
    most = len(images) if images.is_cuda else _TOGETHER
    pieces = zip(torch.split(exact, most), torch.split(removed, most), strict=True)
    found = torch.cat([_solved(*piece, tolerance) for piece in pieces])
    return torch.where(removed[:, None], found.to(images), images)


def _solved(exact: Tensor, removed: Tensor, tolerance: float) -> Tensor:
    """Return the removed pixels' values, zero elsewhere, by preconditioned conjugate gradients."""
    levels = _levels(removed[:, None].to(exact))
    inside, diagonal = levels[0]
    right = _neighbors(exact * (1 - inside)) * inside
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
        f"The imputation did not converge to {tolerance:g} in {_ITERATIONS} iterations.",
        "Raise the tolerance, or use a model in float32 or float64.",
    )


def _neighbors(x: Tensor) -> Tensor:
    """Return the weighted sum of the eight neighbors of each pixel; zero beyond the edge."""
    # The kernel 1 2 1 in both directions counts the center four times, sides 2, corners 1, over 12.
    # Memory-bound: in place it is three times as fast as a convolution.
    padded = F.pad(x, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    rows.add_(padded[..., 1:-1, :], alpha=2)
    both = rows[..., :-2] + rows[..., 2:]
    return both.add_(rows[..., 1:-1], alpha=2).sub_(x, alpha=4).div_(12)


def _apply(x: Tensor, inside: Tensor, diagonal: Tensor) -> Tensor:
    return (diagonal * x).sub_(_neighbors(x)).mul_(inside)


def _levels(inside: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the unknowns (n, 1, h, w) and the diagonal, from the finest to the coarsest grid.

    A coarse pixel is unknown if all of its pixels are; finer grids treat the border.
    """
    levels = []
    while True:
        levels.append((inside, _neighbors(torch.ones_like(inside[:1]))))
        if min(inside.shape[2:]) <= _COARSEST or not bool(inside.any()):
            return levels
        inside = (F.avg_pool2d(_even(inside, 1.0), 2) == 1).to(inside)


def _cycle(levels: list[tuple[Tensor, Tensor]], right: Tensor) -> Tensor:
    """Return an approximate solution by one multigrid cycle, which must be symmetric."""
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
    # A converged channel has zero in both.
    return torch.where(b > 0, a / b, torch.zeros_like(a))
