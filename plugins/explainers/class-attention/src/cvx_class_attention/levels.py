"""Maps of several levels of a network, and the map on which they agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def smoothed(values: Tensor) -> Tensor:
    """Return maps (B, h, w) filtered by a Gaussian of one position, borders repeated."""
    kernel = torch.tensor(_BINOMIAL, dtype=values.dtype, device=values.device)
    kernel = kernel / kernel.sum()
    padded = F.pad(values[:, None], (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])[:, 0]


def agreement(maps: Sequence[Tensor]) -> Tensor:
    """Return what maps (B, h, w) of one score agree on, on the finest grid (B, H, W).

    Each is scaled by its largest absolute value; a position gets the value nearest to zero, or 0
    where signs differ. The result has the largest absolute value of the first map, spread over the
    finer grid. The opposite of all maps has the opposite result.
    """
    size = max((one.shape[1:] for one in maps), key=lambda shape: shape[0] * shape[1])
    fine = torch.stack(
        [
            F.interpolate(one[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
            for one in maps
        ]
    )
    largest = fine.abs().amax(dim=(2, 3), keepdim=True)
    scaled = fine / torch.where(largest > 0, largest, 1)
    same = (scaled.sign() == scaled[0].sign()).all(dim=0)
    agreed = torch.where(same, scaled[0].sign() * scaled.abs().amin(dim=0), 0)
    return agreed * largest[0] * (maps[0][0].numel() / size.numel())
