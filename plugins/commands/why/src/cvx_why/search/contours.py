"""Outlines: a coarse map brought to the edges of the picture that it is of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_why.search.colors import by_colour

_EVEN = 1 / 64
"""Share of the picture's variance below which a surface counts as even."""
_INSIDE = 0.7
"""Share of the largest value above which outlines have nothing to say."""

_HAZE = 0.05
"""Share of the largest value below which a window's linear function says nothing."""


def outlined(values: Tensor, picture: Tensor) -> Tensor:
    """Return a map that ends where things in the picture end.

    A removal says which part of a picture matters, to within the width of what was removed; what
    is there, a thing or a mark, ends at an edge. In windows of a fourteenth of the shorter side to
    each side the map becomes the linear function of the picture's channels that is nearest to
    it (the guided filter: He, Sun and Tang, "Guided Image Filtering", ECCV 2010). Outlines tell
    where something ends and not where it is strongest: of what is well inside, the given map
    decides. Both are squared, so that a wide haze does not outweigh what it surrounds, and what
    has the colours of the surroundings counts less (`by_colour`).

    Parameters
    ----------
    values
        (H, W), 0 or more.
    picture
        (1, C, H, W), in any scale.

    Returns
    -------
    Tensor
        (H, W), 0 to 1; zero where the root would be less than a twentieth.
    """
    given = _unit(values)
    edged = _unit(_guided(given, picture.to(given)))
    found = _unit(edged.clamp_max(_INSIDE) / _INSIDE + (1 - _INSIDE) * given)
    return _unit(by_colour(found**2 * (found >= _HAZE), picture))


def _guided(values: Tensor, picture: Tensor) -> Tensor:
    reach = max(2, min(values.shape) // 14)
    channels = picture.shape[1]
    products = picture[:, :, None] * picture[:, None]
    means = _boxed(torch.cat([picture, values.expand_as(picture[:, :1])], 1), reach)
    both = _boxed(torch.cat([products.flatten(1, 2), picture * values], 1), reach)
    mean, average = means[0, :channels], means[0, channels]
    variances = both[0, : channels**2].view(channels, channels, *values.shape)
    variances = (variances - mean[:, None] * mean[None]).permute(2, 3, 0, 1)
    covariances = (both[0, channels**2 :] - mean * average).permute(1, 2, 0)
    spread = picture.var(dim=(2, 3)).mean().clamp_min(1e-12)
    even = _EVEN * spread * torch.eye(channels).to(picture)
    slopes = torch.linalg.solve(variances + even, covariances[..., None])[..., 0].permute(2, 0, 1)
    offsets = average - (slopes * mean).sum(0)
    smoothed = _boxed(torch.cat([slopes, offsets[None]])[None], reach)[0]
    return (smoothed[:channels] * picture[0]).sum(0) + smoothed[channels]


def _boxed(maps: Tensor, reach: int) -> Tensor:
    padded = F.pad(maps, (reach,) * 4, mode="replicate")
    # The mean of a square is that of its rows' means, at a fraction of the cost.
    rows = F.avg_pool2d(padded, (1, 2 * reach + 1), stride=1)
    return F.avg_pool2d(rows, (2 * reach + 1, 1), stride=1)


def _unit(values: Tensor) -> Tensor:
    positive = values.clamp_min(0)
    return positive / positive.max().clamp_min(1e-12)
