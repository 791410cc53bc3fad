"""Blame map: the measured changes of the margin, distributed over the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_why.search.contours import snap_to_contours
from cvx_why.search.regions import RegionReport
from cvx_why.search.search import Search


def blame_map(search: Search, regions: list[RegionReport]) -> Tensor:
    """Return (H, W) in logits per pixel, 0 or more: where the mistake is caused.

    Each blamed region sums to the median decrease of the margin over the fills. It is distributed
    in proportion to the search's fine map in the best region, and to the margin maps in others.
    All else is zero: no perturbation has shown that it matters. What supports the ground truth is
    in the contrast map.
    """
    values, image = torch.zeros_like(search.maps.signed), search.runner.inputs
    for one in regions:
        mask = torch.tensor(one.mask, device=values.device)
        best = search.best is not None and torch.equal(mask, search.best.mask)
        share = search.fine if best else snap_to_contours(search.maps.positive * mask, image)
        values = values - one.change * share / share.sum().clamp_min(1e-12)
    return values
