"""Pictures without a photograph: stripes of four directions, learned in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def pictures(held_out: bool, side: int, chance: torch.Generator) -> Iterator[tuple[Tensor, int]]:
    """Yield grey stripes in noise, (3, side, side) in [0, 1], with their direction 0 to 3.

    All are drawn by chance, so that none is seen twice.
    """
    rows, columns = torch.arange(side)[:, None] / side, torch.arange(side)[None] / side
    while True:
        for direction in range(4):
            angle = direction * math.pi / 4
            across = rows * math.cos(angle) + columns * math.sin(angle)
            phase = float(torch.rand((), generator=chance))
            waves = 0.5 + 0.15 * torch.sin(2 * math.pi * (5 * across + phase))
            noise = 0.1 * torch.randn(3, side, side, generator=chance)
            yield (waves + noise).clamp(0, 1), direction
