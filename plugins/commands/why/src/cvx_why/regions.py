"""Regions that were looked into: what became of the error without each, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from torch import Tensor

from cvx_why.fills import Fill
from cvx_why.search import Removed, Search

Verdict = Literal["verified", "partly", "not verified"]

MATTERS = 0.2
"""Share of the margin by which it must fall without a region for it to be blamed."""
HALF = 0.5
"""Share of the margin by which it must fall under every fill for a claim to be verified."""
STANDS_OUT = 1.5
"""Times the usual fall, which is what removing a square elsewhere does in the middle."""
MOST_REGIONS = 3
APART = 0.2
"""Regions that share less than this of the smaller one are two."""


@dataclass(frozen=True, eq=False)
class Examined:
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
        answer became right. ``partly``: under most fills it fell by a fifth or more.
        ``not verified``: neither; the region is not blamed.
    """

    mask: Tensor
    predicted: float
    removals: Mapping[str, Removed]
    verdict: Verdict

    @property
    def change(self) -> float:
        """Change of the margin in the middle of the fills, in logits; negative helps."""
        return median([one.change for one in self.removals.values()])

    @property
    def disagreement(self) -> float:
        """Largest difference between two fills' changes of the margin, in logits."""
        changes = [one.change for one in self.removals.values()]
        return max(changes) - min(changes)


def examined(search: Search, fills: Mapping[str, Fill]) -> list[Examined]:
    """Return the regions that were looked into, the best first, each with a verdict.

    A region is looked into if the margin falls without it by `MATTERS` of its size, and by
    `STANDS_OUT` times the usual fall.
    """
    margin = search.trials.case.margin
    least = -max(MATTERS * abs(margin), STANDS_OUT * usual_fall(search))
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
        Examined(
            one.mask,
            -float(search.maps.signed[one.mask].sum()),
            removals,
            _verdict([*removals.values()], margin),
        )
        for one, removals in zip(found, measured, strict=True)
    ]


def usual_fall(search: Search) -> float:
    """Return by how much the margin falls, in the middle, without a square apart from the best."""
    best = [search.best] if search.best is not None else []
    falls = [max(0.0, -one.change) for one in search.coarse if _apart(one, best)]
    return median(falls) if falls else 0.0


def _apart(one: Removed, others: Sequence[Removed]) -> bool:
    return all(
        int((one.mask & other.mask).sum()) <= APART * min(one.pixels, other.pixels)
        for other in others
    )


def _verdict(removals: Sequence[Removed], margin: float) -> Verdict:
    # Where nothing was wrong, that the answer is right shows nothing.
    holds = [one.change <= -HALF * abs(margin) or (one.right and margin > 0) for one in removals]
    if len(removals) > 1 and all(holds):
        return "verified"
    return (
        "partly" if median(r.change for r in removals) <= -MATTERS * abs(margin) else "not verified"
    )
