"""Color statistics that separate a region from its surroundings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_why.search.inpainting import dilate

_BINS = 8
"""Bins for each color axis; a few thousand pixels fill no more."""
_AXES = 3
_INSIDE, _OUTSIDE = 0.1, 0.05
"""Shares of the largest value above which a pixel is inside, and below which it is outside."""


def weight_by_color(values: Tensor, image: Tensor) -> Tensor:
    """Reduce a map where the image has the colors of the surroundings.

    A perturbed region is wider than thin objects (letters, lines, a ring), and the gaps show the
    colors of the surroundings. Each value is weighted by the probability that a pixel of its color
    is inside rather than in a margin of an eighth of the shorter side, from two color histograms
    (Boykov and Jolly, "Interactive Graph Cuts", ICCV 2001).

    Parameters
    ----------
    values
        (H, W), 0 or more.
    image
        (1, C, H, W), in any scale; more than three channels are reduced to three principal axes.

    Returns
    -------
    Tensor
        (H, W), each value times a weight of 0 to 1.
    """
    most = values.max().clamp_min(1e-12)
    reach = max(2, min(values.shape) // 8)
    near = (values > _INSIDE * most)[None, None].to(values)
    around = dilate(near, reach)[0, 0]
    colors = _colors(image.to(values))
    inside = _frequency(colors, values)
    outside = _frequency(colors, around * (values < _OUTSIDE * most))
    return values * inside / (inside + outside).clamp_min(1e-12)


def _colors(image: Tensor) -> Tensor:
    """Return (H, W, 3) in [-1, 1]: the pixels along their principal axes."""
    pixels = image[0].flatten(1).T
    apart = pixels - pixels.mean(0)
    axes = torch.linalg.eigh(apart.T @ apart / len(apart)).eigenvectors.flip(1)[:, :_AXES]
    along = apart @ axes
    low, high = along.aminmax(dim=0)
    scaled = (along - low) / (high - low).clamp_min(1e-12)
    scaled = F.pad(scaled, (0, _AXES - scaled.shape[1]))
    return (2 * scaled - 1).view(*image.shape[2:], _AXES)


def _frequency(colors: Tensor, weights: Tensor) -> Tensor:
    """Return (H, W): the share of the weights in the bins of a pixel's color."""
    bins = ((colors + 1) / 2 * _BINS).long().clamp(0, _BINS - 1)
    index = (bins[..., 2] * _BINS + bins[..., 1]) * _BINS + bins[..., 0]
    # On the CPU, because the order of a GPU's atomic additions varies.
    counts = torch.bincount(index.flatten().cpu(), weights.flatten().cpu(), _BINS**_AXES)
    line = torch.tensor([0.25, 0.5, 0.25]).to(weights)
    near = (line[:, None, None] * line[:, None] * line)[None, None]
    grid = counts.to(weights).view(1, 1, _BINS, _BINS, _BINS)
    found = F.grid_sample(
        F.conv3d(grid, near, padding=1),
        colors[None, None],
        padding_mode="border",
        align_corners=False,
    )
    return found[0, 0, 0] / weights.sum().clamp_min(1e-12)
