"""Regions that are blamed, what became of the error without each, and the verdict on the claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cvx_why.fills import Fill
from cvx_why.search import Removed, Search

Verdict = Literal["verified", "partly", "not verified"]

MATTERS = 0.1
"""Share of the margin by which it must fall without a region for the region to be blamed."""
HALF = 0.5
"""Share of the margin by which it must fall under every fill for a claim to be verified."""
STANDS_OUT = 1.5
"""Times the usual change, which is what removing a square elsewhere does in the middle."""
MOST_REGIONS = 3
APART = 0.2
"""Regions of which one has less than this share of its pixels in the other are two."""


@dataclass(frozen=True, eq=False)
class Blamed:
    """A region, and what became of the error without it.

    Attributes
    ----------
    mask
        bool (H, W) over the network's input.
    predicted
        Change of the margin that the margin maps predict: minus their sum in the region.
    removals
        By fill, what was measured; the one that the search used comes first.
    verdict
        ``verified``: under every fill, two or more, the margin fell by half or more, or the wrong
        answer became right. ``partly``: it fell by a tenth or more under the first fill, and
        under another not by half. ``not verified``: the margin rose under another fill, so that
        the first may have done it and not what is missing.
    """

    mask: Tensor
    predicted: float
    removals: Mapping[str, Removed]
    verdict: Verdict

    @property
    def change(self) -> float:
        """Measured change of the margin under the first fill, in logits; negative helps."""
        return next(iter(self.removals.values())).change

    @property
    def disagreement(self) -> float:
        """Largest difference between two fills' changes of the margin, in logits."""
        changes = [one.change for one in self.removals.values()]
        return max(changes) - min(changes)


def blamed(search: Search, fills: Mapping[str, Fill]) -> list[Blamed]:
    """Return the regions that the error comes from, the one that matters most first.

    A region is blamed only if the margin falls without it by `MATTERS` of its size, and by
    `STANDS_OUT` times the usual change.
    """
    margin = search.trials.case.margin
    least = -max(MATTERS * abs(margin), STANDS_OUT * usual_change(search))
    found: list[Removed] = []
    if search.best is not None and search.best.change <= least:
        found.append(search.best)
    for one in sorted(search.coarse, key=lambda one: one.change):
        if one.change <= least and len(found) < MOST_REGIONS and _apart(one, found):
            found.append(one)
    measured: list[dict[str, Removed]] = [{"inpaint": one} for one in found]
    for name in [name for name in fills if name != "inpaint"]:
        again = search.remove([one.mask for one in found], fills[name])
        for into, removed in zip(measured, again, strict=False):
            into[name] = removed
    return [
        Blamed(
            one.mask,
            -float(search.maps.signed[one.mask].sum()),
            removals,
            _verdict([*removals.values()], margin),
        )
        for one, removals in zip(found, measured, strict=True)
    ]


def usual_change(search: Search) -> float:
    """Return the median change of the margin, up or down, by squares apart from the best region."""
    best = [search.best] if search.best is not None else []
    elsewhere = [abs(one.change) for one in search.coarse if _apart(one, best)]
    return float(torch.tensor(elsewhere).median()) if elsewhere else 0.0


def _apart(one: Removed, others: Sequence[Removed]) -> bool:
    return all(int((one.mask & other.mask).sum()) <= APART * one.pixels for other in others)


def _verdict(removals: Sequence[Removed], margin: float) -> Verdict:
    # Where nothing was wrong, that the answer is right shows nothing.
    holds = [one.change <= -HALF * abs(margin) or (one.right and margin > 0) for one in removals]
    if len(removals) > 1 and all(holds):
        return "verified"
    return "not verified" if any(one.change > 0 for one in removals) else "partly"
