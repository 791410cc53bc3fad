"""Regions that were looked into: what became of the error without each, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from torch import Tensor

from cvx_why.search.inpainting import Fill
from cvx_why.search.search import Removed, Search

Verdict = Literal["verified", "partly", "not verified"]

MATTERS = 0.2
"""Share of the margin by which it must fall without a region for it to be blamed."""
HALF = 0.5
"""Share of the margin by which it must fall under every fill for a claim to be verified, and for
anything to be blamed where the answer is right."""
STANDS_OUT = 1.5
"""Times the usual change, which is what removing another part does in the middle."""
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
        ``verified``: under every fill the margin fell by half or more, or the wrong answer became
        right. ``partly``: under most fills, two or more, it fell by a fifth or more (by half,
        where the answer is right and a rival was asked about).
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

    A region is looked into if the margin falls without it by what it takes to be blamed, and by
    `STANDS_OUT` times what it falls without as much of the picture elsewhere. There are no more
    regions than the budget has all fills for.
    """
    margin = search.trials.case.margin
    enough = _enough(margin)
    found: list[Removed] = []
    if search.best is not None and search.best.change <= -enough:
        search.compare()
        if search.best.change <= -STANDS_OUT * usual_change(search):
            found.append(search.best)
    apart = [one for one in search.coarse if _apart(one, found)]
    for one in sorted(search.coarse, key=lambda one: one.change):
        others = [other for other in apart if other is not one]
        least = -max(enough, STANDS_OUT * _middle(others, one.pixels, margin))
        if one.change <= least and len(found) < MOST_REGIONS and _apart(one, found):
            found.append(one)
    search.trials.kept = 0
    found = found[: max(1, search.trials.left // max(1, len(fills) - 1))]
    measured: list[dict[str, Removed]] = [{search.fill: one} for one in found]
    for name in [name for name in fills if name != search.fill]:
        again = search.remove([one.mask for one in found], fills[name])
        for into, removed in zip(measured, again, strict=False):
            into[name] = removed
    return [
        Examined(
            one.mask,
            -float(search.maps.signed[one.mask].sum()),
            removals,
            _verdict([*removals.values()], margin, len(fills)),
        )
        for one, removals in zip(found, measured, strict=True)
    ]


def usual_change(search: Search) -> float:
    """Return by how much the margin falls, in the middle, without what the best is compared to.

    That is regions of its shape elsewhere. Where there is no room for any it is squares, apart
    from it if there are such, counted by area: of an error that comes from everywhere, more goes
    with more of the picture.
    """
    best, margin = search.best, search.trials.case.margin
    if best is None:
        return _middle(search.coarse, 0, margin)
    apart = [one for one in search.coarse if _apart(one, [best])]
    return _middle(search.elsewhere or apart or search.coarse, best.pixels, margin)


def _middle(others: Sequence[Removed], pixels: int, margin: float) -> float:
    """Return the median fall without others, in logits, if they had at least so many pixels.

    Of an error only falls count: what raises it speaks for the truth, and is no accident. Where
    nothing is wrong any change does, because what a removal does by accident has no sign.
    """
    changes = [one.change * max(1.0, pixels / one.pixels) for one in others]
    usual = [max(0.0, -change) if margin > 0 else abs(change) for change in changes]
    return median(usual) if usual else 0.0


def _enough(margin: float) -> float:
    """Return by how much the margin must fall for something to be blamed, in logits.

    For an error, a share of it. Where the true class leads there is no error to have a cause: only
    what the rival's distance would grow by half without is worth a name.
    """
    return MATTERS * margin if margin > 0 else HALF * -margin


def _apart(one: Removed, others: Sequence[Removed]) -> bool:
    return all(
        int((one.mask & other.mask).sum()) <= APART * min(one.pixels, other.pixels)
        for other in others
    )


def _verdict(removals: Sequence[Removed], margin: float, fills: int) -> Verdict:
    # Where nothing was wrong, that the answer is right shows nothing.
    holds = [one.change <= -HALF * abs(margin) or (one.right and margin > 0) for one in removals]
    if len(removals) >= fills and all(holds):
        return "verified"
    helped = sum(one.change <= -_enough(margin) for one in removals)
    return "partly" if helped >= max(2, fills // 2 + 1) else "not verified"
