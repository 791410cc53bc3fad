"""Verification of candidate regions: measured effects under every fill, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from torch import Tensor

from cvx_why.search.inpainting import Fill
from cvx_why.search.search import Perturbation, Search

Verdict = Literal["verified", "partly", "not verified"]

BLAME_SHARE = 0.2
"""Share of the margin by which it must decrease for a region to be blamed."""
VERIFIED_SHARE = 0.5
"""Share of the margin by which it must decrease under every fill for a verified region, and for
any blame if the prediction is correct."""
CONTROL_FACTOR = 1.5
"""Ratio of a region's effect to the median effect of the controls."""
MAX_REGIONS = 3
MAX_OVERLAP = 0.2
"""Overlap, as a share of the smaller region, up to which two regions are distinct."""


@dataclass(frozen=True, eq=False)
class RegionResult:
    """A region and its measured effects.

    Attributes
    ----------
    mask
        bool (H, W) over the network's input.
    predicted_change
        Change of the margin that the margin maps predict: minus their sum in the region.
    fills
        The measurement under each fill; the search's own fill comes first.
    verdict
        ``verified``: under every fill the margin decreases by half or more, or the prediction
        becomes correct. ``partly``: under most fills, two or more, it decreases by a fifth or more
        (by half, if the prediction is correct and a rival was given).
        ``not verified``: neither; the region is not blamed.
    """

    mask: Tensor
    predicted_change: float
    fills: Mapping[str, Perturbation]
    verdict: Verdict

    @property
    def change(self) -> float:
        """Median change of the margin over the fills, in logits; negative if it helps."""
        return median([one.change for one in self.fills.values()])

    @property
    def disagreement(self) -> float:
        """Largest difference between the changes of two fills, in logits."""
        changes = [one.change for one in self.fills.values()]
        return max(changes) - min(changes)


def verify_regions(search: Search, fills: Mapping[str, Fill]) -> list[RegionResult]:
    """Return the tested regions, the best first, each with a verdict.

    A region is tested under every fill if its effect reaches the threshold for blame and
    `CONTROL_FACTOR` times the effect of the controls. The budget limits their number.
    """
    margin = search.runner.mistake.margin
    threshold = _blame_threshold(margin)
    found: list[Perturbation] = []
    if search.best is not None and search.best.change <= -threshold:
        search.run_controls()
        if search.best.change <= -CONTROL_FACTOR * control_change(search):
            found.append(search.best)
    apart = [one for one in search.coarse if _apart(one, found)]
    for one in sorted(search.coarse, key=lambda one: one.change):
        others = [other for other in apart if other is not one]
        least = -max(threshold, CONTROL_FACTOR * _median_decrease(others, one.pixels, margin))
        if one.change <= least and len(found) < MAX_REGIONS and _apart(one, found):
            found.append(one)
    search.runner.reserved = 0
    found = found[: max(1, search.runner.left // max(1, len(fills) - 1))]
    measured: list[dict[str, Perturbation]] = [{search.fill: one} for one in found]
    for name in [name for name in fills if name != search.fill]:
        again = search.perturb([one.mask for one in found], fills[name])
        for into, perturbation in zip(measured, again, strict=False):
            into[name] = perturbation
    return [
        RegionResult(
            one.mask,
            -float(search.maps.signed[one.mask].sum()),
            by_fill,
            _verdict([*by_fill.values()], margin, len(fills)),
        )
        for one, by_fill in zip(found, measured, strict=True)
    ]


def control_change(search: Search) -> float:
    """Return the median decrease of the margin for the controls of the best region.

    These are regions of its shape at other positions. If none fits, they are squares, scaled by
    area and distinct from it where possible: a larger region contains more of a diffuse cause.
    """
    best, margin = search.best, search.runner.mistake.margin
    if best is None:
        return _median_decrease(search.coarse, 0, margin)
    apart = [one for one in search.coarse if _apart(one, [best])]
    return _median_decrease(search.controls or apart or search.coarse, best.pixels, margin)


def _median_decrease(others: Sequence[Perturbation], pixels: int, margin: float) -> float:
    """Return the median decrease for others, in logits, scaled to at least so many pixels.

    For a mistake only decreases count: an increase means that the region supports the ground
    truth. If the prediction is correct, any change counts, because a chance effect has no sign.
    """
    changes = [one.change * max(1.0, pixels / one.pixels) for one in others]
    decreases = [max(0.0, -change) if margin > 0 else abs(change) for change in changes]
    return median(decreases) if decreases else 0.0


def _blame_threshold(margin: float) -> float:
    """Return the decrease of the margin that blame requires, in logits.

    For a mistake it is a share of the margin. If the true class leads, there is no mistake: a
    region is only reported if the distance of the rival grows by half.
    """
    return BLAME_SHARE * margin if margin > 0 else VERIFIED_SHARE * -margin


def _apart(one: Perturbation, others: Sequence[Perturbation]) -> bool:
    return all(
        int((one.mask & other.mask).sum()) <= MAX_OVERLAP * min(one.pixels, other.pixels)
        for other in others
    )


def _verdict(found: Sequence[Perturbation], margin: float, fills: int) -> Verdict:
    # If the prediction was correct before, a correct prediction afterwards shows nothing.
    holds = [
        one.change <= -VERIFIED_SHARE * abs(margin) or (one.right and margin > 0) for one in found
    ]
    if len(found) >= fills and all(holds):
        return "verified"
    helped = sum(one.change <= -_blame_threshold(margin) for one in found)
    return "partly" if helped >= max(2, fills // 2 + 1) else "not verified"
