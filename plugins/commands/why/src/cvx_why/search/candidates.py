"""Where to look: signed maps of the margin at several depths, and regions that they propose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core.recording import Layout
from cvx_why.search.inpainting import smooth, widened
from cvx_why.search.perturbations import Trials

MOST_LAYERS = 5
_FINE = 32
_SMALLEST_GRID = 4


@dataclass(frozen=True, eq=False)
class MarginMaps:
    """Maps of one margin at several places of a network, over the network's input.

    Attributes
    ----------
    layers
        Names of the places.
    signed
        (H, W), their mean in logits per pixel: positive where something speaks for the wrong
        answer. Each map sums to what its cells carry of the margin.
    positive
        (H, W), 0 or more, sum 1: the mean of their positive parts, each brought to the sum 1, so
        that no depth outvotes the others.
    """

    layers: tuple[str, ...]
    signed: Tensor
    positive: Tensor


def margin_maps(trials: Trials, inputs: Tensor) -> MarginMaps:
    """Return activation times gradient of the margin with held gates, at the input and inside.

    See `cvx_activation_error` for the method; one forward and one backward pass for all places.
    At the input the difference to its blurred self takes the place of the activation, because an
    even surface has a colour, and no feature.
    """
    names = layers(trials)
    size = trials.inputs.shape[2:]
    side = min(size)
    maps = []
    found = trials.gradients(inputs, ("input", *names), frozen=True)
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


def layers(trials: Trials) -> tuple[str, ...]:
    """Return the last place of each resolution, or a few spread over the depth if it never changes.

    Decided by shapes alone, so that it costs no pass.
    """
    by_grid: dict[tuple[int, int], str] = {}
    usable = []
    for place in Layout.of(trials.model, trials.inputs).layers:
        if min(place.grid) >= _SMALLEST_GRID:
            by_grid[place.grid] = place.name
            usable.append(place.name)
    names = list(by_grid.values())
    if len(names) < 3:
        names += [usable[round(k * (len(usable) - 1) / 4)] for k in range(1, 4)] if usable else []
    return tuple(dict.fromkeys(names))[-MOST_LAYERS:]


def windows(positive: Tensor, side: int, count: int) -> list[Tensor]:
    """Return squares (H, W) that hold most of a map, each with what earlier ones left of it.

    What lies in a square counts a quarter for the next ones, so that they spread, and overlap
    where it pays. Of those that hold the same the one comes first in whose middle it is.
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


def edges(like: Tensor, thickness: int) -> list[Tensor]:
    """Return the strips (H, W) along the four edges, where no square fits well."""
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
    """Return the pixels (H, W) with the largest values above 0, as shares of all or a region."""
    inside = torch.ones_like(values, dtype=torch.bool) if within is None else within
    ranked = values[inside].sort(descending=True).values
    found = []
    for share in shares:
        least = ranked[min(len(ranked), max(1, round(share * len(ranked)))) - 1]
        # Where a map says nothing there is no level to speak of.
        found.append((values >= least) & (values > 0) & inside)
    return [mask for mask in found if mask.any()]


def rectangle(like: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Return a rectangle as a mask of the shape of `like`."""
    mask = torch.zeros_like(like, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def dilated(mask: Tensor, reach: int) -> Tensor:
    """Return a mask (H, W) grown by `reach` pixels on all sides."""
    return widened(mask[None, None].float(), reach)[0, 0] > 0
