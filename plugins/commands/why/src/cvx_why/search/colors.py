"""Colours: what a blamed place is made of, told apart from what surrounds it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_why.search.inpainting import widened

_BINS = 8
"""For each axis of colour; a picture of a few thousand pixels fills no more of them."""
_AXES = 3
_INSIDE, _OUTSIDE = 0.1, 0.05
"""Shares of the largest value from which on a pixel is of the place, and below which it is not."""


def by_colour(values: Tensor, picture: Tensor) -> Tensor:
    """Return a map that is lower where the picture has the colours of the surroundings.

    What was removed is wider than what is thin, or has holes: letters, lines, a ring. What shows
    between them has the colours that are around the place too. Each value is weighted by how
    likely a pixel of its colour is to be of the place rather than of an eighth of the shorter side
    around it, by two histograms of colour (Boykov and Jolly, "Interactive Graph Cuts", ICCV 2001).

    Parameters
    ----------
    values
        (H, W), 0 or more.
    picture
        (1, C, H, W), in any scale; of more than three channels the three principal axes count.

    Returns
    -------
    Tensor
        (H, W), each value times a weight of 0 to 1.
    """
    most = values.max().clamp_min(1e-12)
    reach = max(2, min(values.shape) // 8)
    near = (values > _INSIDE * most)[None, None].to(values)
    around = widened(near, reach)[0, 0]
    colours = _colours(picture.to(values))
    inside = _frequency(colours, values)
    outside = _frequency(colours, around * (values < _OUTSIDE * most))
    return values * inside / (inside + outside).clamp_min(1e-12)


def _colours(picture: Tensor) -> Tensor:
    """Return (H, W, 3) in [-1, 1]: the pixels along the axes in which they differ most."""
    pixels = picture[0].flatten(1).T
    apart = pixels - pixels.mean(0)
    axes = torch.linalg.eigh(apart.T @ apart / len(apart)).eigenvectors.flip(1)[:, :_AXES]
    along = apart @ axes
    low, high = along.aminmax(dim=0)
    scaled = (along - low) / (high - low).clamp_min(1e-12)
    scaled = F.pad(scaled, (0, _AXES - scaled.shape[1]))
    return (2 * scaled - 1).view(*picture.shape[2:], _AXES)


def _frequency(colours: Tensor, weights: Tensor) -> Tensor:
    """Return (H, W): the share of the weights that colours like a pixel's have."""
    bins = ((colours + 1) / 2 * _BINS).long().clamp(0, _BINS - 1)
    index = (bins[..., 2] * _BINS + bins[..., 1]) * _BINS + bins[..., 0]
    # Added up one by one, so that the sum does not depend on the order of a device's threads.
    counts = torch.bincount(index.flatten().cpu(), weights.flatten().cpu(), _BINS**_AXES)
    line = torch.tensor([0.25, 0.5, 0.25]).to(weights)
    near = (line[:, None, None] * line[:, None] * line)[None, None]
    grid = counts.to(weights).view(1, 1, _BINS, _BINS, _BINS)
    found = F.grid_sample(
        F.conv3d(grid, near, padding=1),
        colours[None, None],
        padding_mode="border",
        align_corners=False,
    )
    return found[0, 0, 0] / weights.sum().clamp_min(1e-12)
