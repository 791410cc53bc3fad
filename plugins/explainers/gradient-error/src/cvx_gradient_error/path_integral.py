"""Path integral of gradients along the straight line from a baseline to the input.

The integrand jumps wherever a unit of the network switches, in real networks mostly near the
baseline, so a fixed number of equal steps can be wrong by half of the total. On every interval the
trapezoid of the gradients is compared with the true difference of the function, and the intervals
with the largest errors are halved until the residual is small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From points (n, C, H, W) to the scalars S (n,) and their gradients (n, C, H, W)."""

_START = 9
_AT_ONCE = 8


@dataclass(frozen=True)
class Integral:
    """An integrated gradient and its residual.

    Attributes
    ----------
    values
        (C, H, W): (x - x') * integral of the gradient.
    total
        S(x) - S(x'), what `values` should sum to.
    residual
        Difference of the sum from it, over the larger of the two magnitudes.
    points
        Number of gradients computed.
    """

    values: Tensor
    total: float
    residual: float
    points: int


def integrate(
    evaluate: Evaluate, x: Tensor, baseline: Tensor, *, tolerance: float, most: int
) -> Integral:
    """Integrate from `baseline` to `x`, both (C, H, W), until the residual is small enough.

    Sundararajan 2017, arXiv:1703.01365, eq. 1.

    Parameters
    ----------
    evaluate
        Gives the scalar and its gradient at a batch of points.
    tolerance
        Residual, relative to the total, at which to stop.
    most
        Limit of gradients.
    """
    line = x - baseline
    nodes: dict[float, tuple[float, float, Tensor]] = {}

    def visit(positions: list[float]) -> None:
        for start in range(0, len(positions), _AT_ONCE):
            some = positions[start : start + _AT_ONCE]
            steps = torch.tensor(some, dtype=x.dtype, device=x.device)[:, None, None, None]
            scalars, gradients = evaluate(baseline + steps * line)
            slopes = (gradients * line).double().sum(dim=(1, 2, 3))
            for t, scalar, slope, gradient in zip(
                some, scalars.tolist(), slopes.tolist(), gradients, strict=True
            ):
                nodes[t] = scalar, slope, gradient

    first = max(2, min(_START, most))
    visit([i / (first - 1) for i in range(first)])
    total = nodes[1.0][0] - nodes[0.0][0]
    while True:
        order = sorted(nodes)
        errors = [
            (nodes[b][0] - nodes[a][0]) - 0.5 * (b - a) * (nodes[a][1] + nodes[b][1])
            for a, b in pairwise(order)
        ]
        room = most - len(nodes)
        # Errors may cancel by chance, so each must be small as well, with a looser bound.
        small = abs(sum(errors)) <= tolerance * abs(total)
        if room <= 0 or (small and sum(map(abs, errors)) <= 10 * tolerance * abs(total)):
            break
        worst = sorted(range(len(errors)), key=lambda i: -abs(errors[i]))
        visit([(order[i] + order[i + 1]) / 2 for i in worst[: min(_AT_ONCE, room)]])
    integral, summed = torch.zeros_like(x), 0.0
    for a, b in pairwise(order):
        integral += 0.5 * (b - a) * (nodes[a][2] + nodes[b][2])
        # The sum of the values, from numbers that are already on the host.
        summed += 0.5 * (b - a) * (nodes[a][1] + nodes[b][1])
    values = line * integral
    largest = max(abs(total), abs(summed))
    gap = abs(total - summed)
    return Integral(values, total, gap / largest if largest > 0 else gap, len(nodes))
