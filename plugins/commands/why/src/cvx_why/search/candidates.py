"""Candidate regions, proposed by signed maps of the margin at several layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core.recording import Layout
from cvx_why.search.inpainting import dilate, smooth
from cvx_why.search.perturbations import PerturbationRunner

MOST_LAYERS = 5
_FINE = 32
_SMALLEST_GRID = 4


@dataclass(frozen=True, eq=False)
class MarginMaps:
    """Maps of one margin at several layers, over the network's input.

    Attributes
    ----------
    layers
        Names of the layers.
    signed
        (H, W), their mean in logits per pixel: positive where a pixel supports the mistake. Each
        map sums to the contribution of its positions to the margin.
    positive
        (H, W), 0 or more, sum 1: the mean of their positive parts, each scaled to the sum 1, so
        that all layers have the same weight.
    """

    layers: tuple[str, ...]
    signed: Tensor
    positive: Tensor


def margin_maps(runner: PerturbationRunner, inputs: Tensor) -> MarginMaps:
    """Return activation times gradient of the margin with frozen gates, at input and layers.

    See `cvx_activation_error` for the method; one forward and one backward pass for all layers.
    At the input, the difference from the blurred input replaces the activation, because an even
    surface has a color but no feature.
    """
    names = layers(runner)
    size = runner.inputs.shape[2:]
    side = min(size)
    maps = []
    found = runner.gradients(inputs, ("input", *names), frozen=True)
    for name, (activation, gradient) in found.items():
        if name == "input":
            activation = activation - smooth(activation, side / 12)
        product = (activation * gradient).sum(1, keepdim=True).float()
        if min(product.shape[2:]) > _FINE:
            product = smooth(product, min(product.shape[2:]) / 28, density=True)
        cells = product.shape[2] * product.shape[3]
        upsampled = F.interpolate(product, size=size, mode="bilinear", align_corners=False)
        maps.append(upsampled[0, 0] * cells / (size[0] * size[1]))
    each = torch.stack(maps)
    rectified = each.clamp_min(0)
    shares = rectified / rectified.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return MarginMaps(("input", *names), each.mean(0), shares.mean(0))


def layers(runner: PerturbationRunner) -> tuple[str, ...]:
    """Return the last layer of each resolution, or a few over the depth if there is only one.

    The choice depends on shapes only and costs no pass.
    """
    by_grid: dict[tuple[int, int], str] = {}
    usable = []
    for layer in Layout.of(runner.model, runner.inputs).layers:
        if min(layer.grid) >= _SMALLEST_GRID:
            by_grid[layer.grid] = layer.name
            usable.append(layer.name)
    names = list(by_grid.values())
    if len(names) < 3:
        names += [usable[round(k * (len(usable) - 1) / 4)] for k in range(1, 4)] if usable else []
    return tuple(dict.fromkeys(names))[-MOST_LAYERS:]


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
