"""Contours and colors of the image, to which a coarse map is aligned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_why.search.inpainting import dilate

_EVEN = 1 / 64
"""Share of the image's variance below which a surface counts as even."""
_INSIDE = 0.7
"""Share of the largest value above which the given map decides."""

_HAZE = 0.05
"""Share of the largest value below which the filtered map is set to zero."""

_BINS = 8
"""Bins for each color axis; a few thousand pixels fill no more."""
_AXES = 3
_WITHIN, _OUTSIDE = 0.1, 0.05
"""Shares of the largest value above which a pixel is inside, and below which it is outside."""


def snap_to_contours(values: Tensor, image: Tensor) -> Tensor:
    """Align a map with the contours of the image.

    A perturbation localizes a cause only to the size of the perturbed region, while objects and
    marks end at edges. In windows of a fourteenth of the shorter side to each side, the map
    becomes the nearest linear function of the image's channels (guided filter: He, Sun and Tang,
    "Guided Image Filtering", ECCV 2010). Contours show where an object ends, not where it matters
    most: well inside, the given map decides. The result is squared, so that a wide haze does not
    outweigh the object, and pixels with the colors of the surroundings count less
    (`weight_by_color`).

    Parameters
    ----------
    values
        (H, W), 0 or more.
    image
        (1, C, H, W), in any scale.

    Returns
    -------
    Tensor
        (H, W), 0 to 1; zero where the root would be less than a twentieth.
    """
    given = _unit(values)
    edged = _unit(_guided(given, image.to(given)))
    found = _unit(edged.clamp_max(_INSIDE) / _INSIDE + (1 - _INSIDE) * given)
    return _unit(weight_by_color(found**2 * (found >= _HAZE), image))


def _guided(values: Tensor, image: Tensor) -> Tensor:
    reach = max(2, min(values.shape) // 14)
    channels = image.shape[1]
    products = image[:, :, None] * image[:, None]
    means = _boxed(torch.cat([image, values.expand_as(image[:, :1])], 1), reach)
    both = _boxed(torch.cat([products.flatten(1, 2), image * values], 1), reach)
    mean, average = means[0, :channels], means[0, channels]
    variances = both[0, : channels**2].view(channels, channels, *values.shape)
    variances = (variances - mean[:, None] * mean[None]).permute(2, 3, 0, 1)
    covariances = (both[0, channels**2 :] - mean * average).permute(1, 2, 0)
    spread = image.var(dim=(2, 3)).mean().clamp_min(1e-12)
    even = _EVEN * spread * torch.eye(channels).to(image)
    slopes = torch.linalg.solve(variances + even, covariances[..., None])[..., 0].permute(2, 0, 1)
    offsets = average - (slopes * mean).sum(0)
    smoothed = _boxed(torch.cat([slopes, offsets[None]])[None], reach)[0]
    return (smoothed[:channels] * image[0]).sum(0) + smoothed[channels]


def _boxed(maps: Tensor, reach: int) -> Tensor:
    padded = F.pad(maps, (reach,) * 4, mode="replicate")
    # A separable mean costs a fraction of the two-dimensional one.
    rows = F.avg_pool2d(padded, (1, 2 * reach + 1), stride=1)
    return F.avg_pool2d(rows, (2 * reach + 1, 1), stride=1)


def _unit(values: Tensor) -> Tensor:
    positive = values.clamp_min(0)
    return positive / positive.max().clamp_min(1e-12)


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
    near = (values > _WITHIN * most)[None, None].to(values)
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
