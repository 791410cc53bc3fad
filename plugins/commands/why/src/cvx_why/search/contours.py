"""Contours of the image, to which a coarse map is aligned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_why.search.colors import weight_by_color

_EVEN = 1 / 64
"""Share of the image's variance below which a surface counts as even."""
_INSIDE = 0.7
"""Share of the largest value above which the given map decides."""

_HAZE = 0.05
"""Share of the largest value below which the filtered map is set to zero."""


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
