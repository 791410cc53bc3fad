"""Candidate regions, proposed by a signed map of the margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import get_explainer
from cvx_why.search.inpainting import dilate, smooth
from cvx_why.search.perturbations import PerturbationRunner

_FINEST = 28
"""Share of the shorter side, as its inverse, over which a map is smoothed."""


@dataclass(frozen=True, eq=False)
class MarginMap:
    """Map of the margin over the network's input.

    Attributes
    ----------
    signed
        (H, W), in logits per pixel: positive where a pixel supports the mistake.
    positive
        (H, W), 0 or more: the positive part of the smoothed map.
    """

    signed: Tensor
    positive: Tensor


def margin_map(runner: PerturbationRunner, inputs: Tensor) -> MarginMap:
    """Return the activation error of the margin at the input, in one forward and backward pass."""
    explainer = get_explainer("activation-error", sigma=0)  # regions sum up what neighbors cancel
    [found] = explainer.explain(runner.model, inputs, runner.mistake.target)
    runner.passes.backward_passes += 1
    signed = torch.tensor(found.values, device=inputs.device)
    smoothed = smooth(signed[None, None], min(signed.shape) / _FINEST, density=True)
    return MarginMap(signed, smoothed[0, 0].clamp_min(0))


def windows(positive: Tensor, side: int, count: int) -> list[Tensor]:
    """Return the squares (H, W) with the largest sums of a map.

    Values inside a square count a quarter for the next ones, so that squares spread but may
    overlap. Among equal sums, the square whose center has the largest values comes first.
    """
    height, width = positive.shape
    rest, found = smooth(positive[None, None], side / 4, density=True)[0, 0], []
    rows, columns = _steps(height, side), _steps(width, side)
    for _ in range(count):
        total = F.pad(rest.cumsum(0).cumsum(1), (1, 0, 1, 0))
        inside = (
            total[rows[:, None] + side, columns[None] + side]
            - total[rows[:, None], columns[None] + side]
            - total[rows[:, None] + side, columns[None]]
            + total[rows[:, None], columns[None]]
        )
        k = int(inside.argmax())
        top, left = int(rows[k // len(columns)]), int(columns[k % len(columns)])
        found.append(rectangle(positive, top, left, side, side))
        rest[top : top + side, left : left + side] *= 0.25
    return found


def _steps(length: int, side: int) -> Tensor:
    return torch.tensor(sorted({*range(0, length - side + 1, max(1, side // 4)), length - side}))


def edge_strips(like: Tensor, thickness: int) -> list[Tensor]:
    """Return the strips (H, W) along the four edges, which squares cover badly."""
    height, width = like.shape
    return [
        rectangle(like, 0, 0, thickness, width),
        rectangle(like, height - thickness, 0, thickness, width),
        rectangle(like, 0, 0, height, thickness),
        rectangle(like, 0, width - thickness, height, thickness),
    ]


def level_sets(
    values: Tensor, shares: Sequence[float], within: Tensor | None = None
) -> list[Tensor]:
    """Return masks (H, W) of the largest values above 0, by shares of all pixels or a region."""
    inside = torch.ones_like(values, dtype=torch.bool) if within is None else within
    ranked = values[inside].sort(descending=True).values
    found = []
    for share in shares:
        least = ranked[min(len(ranked), max(1, round(share * len(ranked)))) - 1]
        # A map of zeros has no level sets.
        found.append((values >= least) & (values > 0) & inside)
    return [mask for mask in found if mask.any()]


def rectangle(like: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Return a rectangle as a mask of the shape of `like`."""
    mask = torch.zeros_like(like, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def dilate_mask(mask: Tensor, reach: int) -> Tensor:
    """Return a mask (H, W) grown by `reach` pixels on all sides."""
    return dilate(mask[None, None].float(), reach)[0, 0] > 0
