"""The map of blame: what the removals changed, shared out among the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_why.fills import smooth
from cvx_why.outlines import outlined
from cvx_why.regions import Examined
from cvx_why.search import Search

_WORTH = 0.1


def blame_map(search: Search, regions: list[Examined]) -> Tensor:
    """Return (H, W) in logits per pixel, positive where something caused the error.

    Each blamed region holds as much as the margin fell without it in the middle of the fills,
    shared out in proportion to the search's fine map around the one that matters most, and to the
    margin maps in others. Each square without which the margin rose by a tenth of that or more
    holds the rise, negative, shared out in proportion to the negative part of the margin maps: it
    speaks for the right answer. All else is zero: no removal showed that it matters.
    """
    values, picture = torch.zeros_like(search.maps.signed), search.trials.inputs
    for one in regions:
        best = search.best is not None and one.mask is search.best.mask
        share = search.fine if best else outlined(search.maps.positive * one.mask, picture)
        values = values - one.change * share / share.sum().clamp_min(1e-12)
    least = min((abs(one.change) for one in regions), default=abs(search.trials.case.margin))
    squares = [square for square in search.coarse if square.change >= _WORTH * least]
    side = min(values.shape)
    against = smooth((-search.maps.signed).clamp_min(0)[None, None], side / 28, density=True)[0, 0]
    for one in regions:
        against = against * ~one.mask
    overlapping = sum((square.mask.to(values) for square in squares), torch.zeros_like(values))
    for square in squares:
        share = against * square.mask / overlapping.clamp_min(1)
        values = values - square.change * share / share.sum().clamp_min(1e-12)
    return values
