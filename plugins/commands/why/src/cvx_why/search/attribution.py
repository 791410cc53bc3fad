"""The map of blame: what the removals changed, shared out among the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_why.search.contours import outlined
from cvx_why.search.regions import Examined
from cvx_why.search.search import Search


def blame_map(search: Search, regions: list[Examined]) -> Tensor:
    """Return (H, W) in logits per pixel, 0 or more: where something caused the error.

    Each blamed region holds as much as the margin fell without it in the middle of the fills,
    shared out in proportion to the search's fine map around the one that matters most, and to the
    margin maps in others. All else is zero: no removal showed that it matters. What speaks for the
    right answer is in the contrast map.
    """
    values, picture = torch.zeros_like(search.maps.signed), search.trials.inputs
    for one in regions:
        best = search.best is not None and one.mask is search.best.mask
        share = search.fine if best else outlined(search.maps.positive * one.mask, picture)
        values = values - one.change * share / share.sum().clamp_min(1e-12)
    return values
