"""Integrated gradients along the straight line from a baseline to the input.

The integrand jumps wherever a unit of the network switches, in real networks mostly near the
baseline, so a fixed number of equal steps can be wrong by half of the total. Here the function's
own values tell where: on every interval the trapezoid of the gradients is compared with the true
difference, and the intervals that miss most are halved until the whole residual is small.
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
    """An integrated gradient and how good it is.

    Attributes
    ----------
    values
        (C, H, W): (x - x') * integral of the gradient.
    total
        S(x) - S(x'), what `values` should sum to.
    residual
        How far the sum is from it, over the larger of the two magnitudes.
    points
        Gradients that were taken.
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
        Gradients to take at most.
    """
    line = x - baseline
    nodes: dict[float, tuple[float, float, Tensor]] = {}

    def visit(places: list[float]) -> None:
        for start in range(0, len(places), _AT_ONCE):
            some = places[start : start + _AT_ONCE]
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
        misses = [
            (nodes[b][0] - nodes[a][0]) - 0.5 * (b - a) * (nodes[a][1] + nodes[b][1])
            for a, b in pairwise(order)
        ]
        room = most - len(nodes)
        # Misses may cancel by luck, so each must be small too, if not quite as small.
        small = abs(sum(misses)) <= tolerance * abs(total)
        if room <= 0 or (small and sum(map(abs, misses)) <= 10 * tolerance * abs(total)):
            break
        worst = sorted(range(len(misses)), key=lambda i: -abs(misses[i]))
        visit([(order[i] + order[i + 1]) / 2 for i in worst[: min(_AT_ONCE, room)]])
    integral = torch.zeros_like(x)
    for a, b in pairwise(order):
        integral += 0.5 * (b - a) * (nodes[a][2] + nodes[b][2])
    values = line * integral
    summed = float(values.double().sum())
    largest = max(abs(total), abs(summed))
    gap = abs(total - summed)
    return Integral(values, total, gap / largest if largest > 0 else gap, len(nodes))
