"""Verification of candidate regions: measured effects under every fill, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core.images import PreparedImage
from cvx_why.search.contours import snap_to_contours
from cvx_why.search.inpainting import Fill
from cvx_why.search.search import FILL, Perturbation, Search

BLAME_SHARE = 0.2
"""Share of the margin by which it must decrease for a region to be blamed."""
VERIFIED_SHARE = 0.5
"""Share of the margin by which it must decrease under every fill for a verified region."""
RIVAL_SHARE = 1.0
"""Share of the true class's lead by which it must grow for any blame if the prediction is correct.
A near tie is changed by half by many regions."""
CONTROL_FACTOR = 1.5
"""Ratio of a region's effect to the median effect of the controls."""
MAX_REGIONS = 3
SPREAD_SHARE = 0.3
"""Share of the image from which on a cause is spread, and no place."""
MAX_OVERLAP = 0.2
"""Overlap, as a share of the smaller region, up to which two regions are distinct."""


@dataclass(frozen=True)
class FillReport:
    """Effect of one fill of a region on the mistake.

    Attributes
    ----------
    change
        Change of the margin, in logits; negative if the fill helps.
    correct
        Whether the prediction is correct with the fill.
    note
        The prediction with the fill.
    """

    change: float
    correct: bool
    note: str = ""


@dataclass(frozen=True, eq=False)
class RegionReport:
    """A tested region.

    Attributes
    ----------
    mask
        bool (H, W) over the network's input. Read-only.
    box
        (left, top, right, bottom) around it, in pixels of the image.
    share
        Share of the input's pixels, in [0, 1].
    predicted_change
        Change of the margin that the contrast map predicts, in logits.
    fills
        The measured effect of each fill; the search's own comes first.
    disagreement
        Largest difference between the changes of two fills, in logits.
    verdict
        ``verified``: under every fill, two or more, the margin decreases by half or more, or the
        prediction becomes correct. ``partly``: under most fills, two or more, it decreases by a
        fifth or more. If the prediction is correct and a rival was given, both take as much as the
        true class leads by.
        ``not verified``: neither; the region is not blamed.
    """

    mask: npt.NDArray[np.bool_]
    box: tuple[float, float, float, float]
    share: float
    predicted_change: float
    fills: Mapping[str, FillReport]
    disagreement: float
    verdict: str

    @property
    def change(self) -> float:
        """Median change of the margin over the fills, in logits; negative if it helps."""
        return median(one.change for one in self.fills.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the region as JSON values, without its mask."""
        return {
            "box": list(self.box),
            "share": self.share,
            "verdict": self.verdict,
            "predicted_change": self.predicted_change,
            "disagreement": self.disagreement,
            "fills": {name: vars(one) for name, one in self.fills.items()},
        }


def verify_regions(search: Search, fills: Mapping[str, Fill]) -> list[RegionReport]:
    """Return the tested regions, the best first, each with a verdict.

    A region is tested under every fill if its effect reaches the threshold for blame and
    `CONTROL_FACTOR` times the effect of the controls. The budget limits their number.
    """
    margin = search.runner.mistake.margin
    threshold = _blame_threshold(margin)
    found: list[Perturbation] = []
    tested: list[Perturbation] = []
    if search.best is not None and search.best.change <= -threshold:
        search.run_controls()
        tested.append(search.best)
        if search.best.change <= -CONTROL_FACTOR * control_change(search):
            found.append(search.best)
    apart = [one for one in search.coarse if _apart(one, found)]
    for one in sorted(search.coarse, key=lambda one: one.change):
        others = [other for other in apart if other is not one]
        least = -max(threshold, CONTROL_FACTOR * _median_decrease(others, one.pixels, margin))
        distinct = _apart(one, [*found, *tested])
        if one.change <= least and len(found) < MAX_REGIONS and distinct:
            found.append(one)
    search.runner.reserved = 0
    found = found[: max(1, search.runner.left // max(1, len(fills) - 1))]
    measured: list[dict[str, Perturbation]] = [{FILL: one} for one in found]
    for name in [name for name in fills if name != FILL]:
        again = search.perturb([one.mask for one in found], fills[name])
        for into, perturbation in zip(measured, again, strict=False):
            into[name] = perturbation
    return [_report(search, one, len(fills)) for one in measured]


def _report(search: Search, measured: Mapping[str, Perturbation], fills: int) -> RegionReport:
    several = [*measured.values()]
    changes, mask = [one.change for one in several], several[0].mask
    return RegionReport(
        *locate(search.runner.image, mask),
        -float(search.contrast.signed[mask].sum()),
        {name: FillReport(one.change, one.right, one.note) for name, one in measured.items()},
        max(changes) - min(changes),
        _verdict(several, search.runner.mistake.margin, fills),
    )


def locate(
    image: PreparedImage, mask: Tensor
) -> tuple[npt.NDArray[np.bool_], tuple[float, float, float, float], float]:
    """Return a region's mask as an array, its box in pixels of the image, and its share."""
    found = mask.cpu().numpy()
    found.setflags(write=False)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    left, top, right, bottom = image.frame.to_image(corners).tolist()
    return found, (left, top, right, bottom), float(found.mean())


def spread_share(search: Search, regions: Sequence[RegionReport]) -> float | None:
    """Return the share of the image that must be filled to halve the margin, if it is spread.

    None if a region is blamed, if a smaller part than `SPREAD_SHARE` suffices, or if none does.
    """
    least = -VERIFIED_SHARE * search.runner.mistake.margin
    enough = [one for one in search.perturbations if one.change <= least < 0]
    if any(one.verdict != "not verified" for one in regions) or not enough:
        return None
    share = min(float(one.mask.float().mean()) for one in enough)
    return share if share >= SPREAD_SHARE else None


def blame_map(search: Search, regions: list[RegionReport]) -> Tensor:
    """Return (H, W) in logits per pixel, 0 or more: where the mistake is caused.

    Each blamed region sums to the median decrease of the margin over the fills. It is distributed
    in proportion to the search's fine map in the best region, and to the margin map in others.
    All else is zero: no perturbation has shown that it matters. What supports the ground truth is
    in the contrast map.
    """
    values, image = torch.zeros_like(search.contrast.signed), search.runner.inputs
    for one in regions:
        mask = torch.tensor(one.mask, device=values.device)
        best = search.best is not None and torch.equal(mask, search.best.mask)
        share = search.fine if best else snap_to_contours(search.contrast.positive * mask, image)
        values = values - one.change * share / share.sum().clamp_min(1e-12)
    return values


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
    region is only reported if the distance of the rival doubles.
    """
    return BLAME_SHARE * margin if margin > 0 else RIVAL_SHARE * -margin


def _apart(one: Perturbation, others: Sequence[Perturbation]) -> bool:
    return all(
        int((one.mask & other.mask).sum()) <= MAX_OVERLAP * min(one.pixels, other.pixels)
        for other in others
    )


def _verdict(found: Sequence[Perturbation], margin: float, fills: int) -> str:
    # If the prediction was correct before, a correct prediction afterwards shows nothing.
    least = VERIFIED_SHARE * margin if margin > 0 else RIVAL_SHARE * -margin
    holds = [one.change <= -least or (one.right and margin > 0) for one in found]
    if len(found) >= fills and all(holds):
        return "verified"
    helped = sum(one.change <= -_blame_threshold(margin) for one in found)
    return "partly" if helped >= max(2, fills // 2 + 1) else "not verified"
