"""The search: which region, removed, undoes the error.

Coarse to fine, and each step is an intervention:

1. Windows, strips along the edges and level sets of the margin maps are removed one by one.
2. Where none takes half of the margin, the windows are removed in another way, and then with
   them what still speaks for the error. The smallest
   region that takes most of the margin is widened a little, and the picture is faded in
   there in steps; gradients on the way say which pixels the margin comes from.
3. Level sets of that are removed, and the smallest that still takes most of the margin stays.
4. Once more around it, finer, and up to the outlines of what is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cvx_core.images import components
from cvx_why.search.candidates import MarginMaps, dilated, edges, level_sets, margin_maps, windows
from cvx_why.search.contours import outlined
from cvx_why.search.inpainting import FILLS, Fill, smooth
from cvx_why.search.perturbations import Trials

MOST_OF_IT = 0.8
"""Share of the largest fall of the margin that a smaller region must reach to be preferred."""

_LEVELS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
_PARTS = 3
_RIM = 45
_WIDER = 0.3
_COMPARED = 3
_JOINED = 2
_KEPT = 18
"""Images that what comes after needs."""
_CLEARLY = 1.5
_WIDE = (0.05, 0.1, 0.2)
"""Level sets of the margin maps that are removed first, as shares of the picture."""
_AROUND = 2.0
_SQUARES = (2 / 7, 3 / 7)
"""Sides of the first squares, as shares of the shorter side."""


@dataclass(frozen=True, eq=False)
class Removed:
    """A region that was removed, and what became of the error.

    Attributes
    ----------
    mask
        (H, W), true where it was removed.
    change
        Of the margin, in logits; negative where the removal helps.
    right
        Whether the answer became right.
    note
        What the error's judge says beside it.
    """

    mask: Tensor
    change: float
    right: bool
    note: str = ""

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return int(self.mask.sum())


@dataclass(eq=False)
class Search:
    """Looks for what an error comes from.

    Attributes
    ----------
    trials
        Runs and counts.
    maps
        Of the margin, once `run` has begun.
    coarse
        The regions that were removed first, alike in size.
    elsewhere
        Regions of the shape of `best` at other places, once `compare` has run.
    fill
        The name of the fill that it goes by.
    tried
        All regions that were removed by that fill.
    best
        The smallest region found that takes most of the margin; None where no removal lowers it.
    fine
        (H, W), 0 to 1: how much each pixel has to do with `best`.
    """

    trials: Trials
    fill: str = "inpaint"
    tried: list[Removed] = field(default_factory=list)
    coarse: list[Removed] = field(default_factory=list)
    elsewhere: list[Removed] = field(default_factory=list)
    best: Removed | None = None
    maps: MarginMaps = field(init=False)
    fine: Tensor = field(init=False)

    @property
    def _fill(self) -> Fill:
        return FILLS[self.fill]

    def run(self, effort: float) -> None:
        """Search; an effort of 1 takes some 32 images."""
        trials = self.trials
        self.maps = margin_maps(trials, trials.inputs)
        side = min(trials.inputs.shape[2:])
        positive = self.maps.positive
        self.fine = torch.zeros_like(positive)
        scale = self._scale()
        small, large = (max(2, round(side * scale * share)) for share in _SQUARES)
        squares = windows(positive, small, max(3, round(5 * effort)))
        squares += windows(positive, large, max(2, round(3 * effort)))
        self.coarse = self.remove(squares)
        self.remove(
            [
                *edges(positive, max(2, side // 16)),
                *level_sets(positive, [scale**2 * share for share in _WIDE]),
            ]
        )
        best = self._smallest(self.tried)
        if not self._does(best):
            best = self._otherwise([*squares[:2], *squares[-2:]]) or best
        if best is None:
            return
        best = self._joined(self._parted(best))
        steps = max(2, round(4 * effort))
        around = dilated(best.mask, max(1, side // 14))
        signed, change = self._faded_in(around, steps)
        fine = _unit(signed * change * self._positive(around).sqrt(), around)
        levels = [dilated(one, max(1, side // 112)) for one in level_sets(fine, _LEVELS, around)]
        best = self._parted(self._smallest([best, *self.remove(levels)]) or best)
        around = dilated(best.mask, max(1, side // _RIM))
        signed, change = self._faded_in(around, steps)
        coarse = (signed + change + self._positive(around)) / 3 * around
        self.fine = outlined(_unit(coarse, around) + _WIDER * self._wider(best), trials.inputs)
        self.best = best

    def _scale(self) -> float:
        """Return the side of what the error is about, with as much around it, over the picture's.

        What makes one object of many wrong is rarely larger than that; 1 for an error of all.
        """
        region, shape = self.trials.case.region, self.trials.inputs.shape[2:]
        if region is None:
            return 1.0
        inside = region.on_grid(self.trials.image.frame, (shape[0], shape[1]))
        rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        return min(1.0, _AROUND * float(extent) / min(shape))

    def compare(self) -> None:
        """Remove regions of the shape of `best` at other places, as the yardstick for it."""
        if self.best is None or self.elsewhere:
            return
        mask = self.best.mask
        places = [mask.roll(shift, (0, 1)) for shift in _shifts(mask.shape)]
        apart = [one for one in places if int((one & mask).sum()) <= self.best.pixels / 5]
        self.elsewhere = self.remove(apart[:_COMPARED])

    def remove(self, masks: list[Tensor], fill: Fill | None = None) -> list[Removed]:
        """Remove regions one by one, by a fill or the search's own, as far as the budget goes."""
        masks = masks[: self.trials.left]
        if not masks:
            return []
        stacked = torch.stack(masks)[:, None]
        images = (fill or FILLS[self.fill])(
            self.trials.inputs.expand(len(masks), -1, -1, -1), stacked
        )
        found = [
            Removed(mask, judged.margin - self.trials.case.margin, judged.right, judged.note)
            for mask, judged in zip(masks, self.trials.judge(images), strict=True)
        ]
        if fill is None:
            self.tried += found
        return found

    def _smallest(self, candidates: list[Removed]) -> Removed | None:
        """Return the smallest region whose removal does most of what any does."""
        most = min(one.change for one in candidates)
        if most >= 0:
            return None
        return min(
            (one for one in candidates if one.change <= MOST_OF_IT * most),
            key=lambda one: one.pixels,
        )

    def _does(self, one: Removed | None) -> bool:
        """Whether a removal makes the answer right, or takes half of the margin."""
        margin = self.trials.case.margin
        # Where nothing was wrong, that the answer is right shows nothing.
        return one is not None and ((one.right and margin > 0) or one.change <= -abs(margin) / 2)

    def _otherwise(self, squares: list[Tensor]) -> Removed | None:
        """Remove squares in the mean colour, and keep to that if it does clearly more.

        A cause that fades into its surroundings is continued by them.
        """
        known = self.tried
        other = self.remove(squares, FILLS["mean"])
        lowest = min((one.change for one in known), default=0.0)
        if min((one.change for one in other), default=0.0) > _CLEARLY * lowest:
            return None
        self.fill, self.tried, self.coarse = "mean", [*other], other
        return self._smallest(other)

    def _joined(self, best: Removed) -> Removed:
        """Return a region, with what speaks for the error once it is gone where it does not do.

        A network that reads a cause in several places goes by the next when one is removed, and
        the margin maps of the picture without it show which.
        """
        for _ in range(_JOINED):
            if self._does(best) or self.trials.left <= _KEPT:
                break
            without = self._fill(self.trials.inputs, best.mask[None, None])
            rest = margin_maps(self.trials, without).positive * ~best.mask
            side = max(2, round(min(rest.shape) * _SQUARES[0]))
            more = [*windows(rest, side, 2), *level_sets(rest, (0.05,))]
            joined = self.remove([best.mask | one for one in more])
            wider = min(joined, key=lambda one: one.change, default=best)
            if wider.change >= best.change:
                break
            best = wider
        return best

    def _parted(self, best: Removed) -> Removed:
        """Return a region, or that of its separate parts which alone does half of what it does."""
        parts = components(np.where(best.mask.cpu().numpy(), 0, -1))
        sizes = np.bincount(parts[parts >= 0])
        largest = [int(k) for k in sizes.argsort()[::-1][:_PARTS] if sizes[k] >= best.pixels / 20]
        if len(largest) < 2:
            return best
        masks = [torch.from_numpy(parts == k).to(best.mask.device) for k in largest]
        alone = min(self.remove(masks), key=lambda one: one.change, default=best)
        return alone if alone.change <= best.change / 2 else best

    def _faded_in(self, around: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return what each pixel adds to the margin as a region fades in, and how it changes.

        Integrated gradients (Sundararajan 2017) from the picture without a region to the picture,
        smoothed and rectified, and the smoothed difference of both pictures; (H, W) in [0, 1].
        """
        inputs = self.trials.inputs
        side = min(inputs.shape[2:])
        without = self._fill(inputs, around[None, None])
        difference = inputs - without
        steps = min(steps, self.trials.left)
        if steps == 0:
            return _unit(around.to(inputs), around), _unit(around.to(inputs), around)
        share = (torch.arange(steps, device=inputs.device, dtype=inputs.dtype) + 0.5) / steps
        on_the_way = without + difference * share[:, None, None, None]
        gradient = self.trials.gradients(on_the_way)["input"][1].mean(0, keepdim=True)
        signed = smooth(
            (difference * gradient).sum(1, keepdim=True).float(), side / 12, density=True
        )
        change = smooth(difference.abs().sum(1, keepdim=True).float(), side / 28)
        return _unit(signed[0, 0].clamp_min(0), around), _unit(change[0, 0], around)

    def _wider(self, best: Removed) -> Tensor:
        """Return (H, W) in [0, 1]: one over the size of the smallest region that does as much.

        A network that reads half of a thing errs as it would with all of it. Which wider regions
        do as much says what belongs together.
        """
        value = torch.zeros_like(self.fine)
        for one in self.tried:
            if one.change <= MOST_OF_IT * best.change:
                value = torch.maximum(value, one.mask.to(value) / one.pixels)
        return value / value.max().clamp_min(1e-12)

    def _positive(self, around: Tensor) -> Tensor:
        side = min(around.shape)
        return _unit(smooth(self.maps.positive[None, None], side / 56)[0, 0], around)


def _shifts(shape: torch.Size) -> list[tuple[int, int]]:
    """Return ways to move something within a picture, half and a quarter of it at a time."""
    height, width = shape[0] // 2, shape[1] // 2
    halves = [(height, width), (0, width), (height, 0)]
    return [*halves, *((h // 2, w // 2) for h, w in halves)]


def _unit(values: Tensor, within: Tensor) -> Tensor:
    inside = values * within
    return inside / inside.max().clamp_min(1e-12)
