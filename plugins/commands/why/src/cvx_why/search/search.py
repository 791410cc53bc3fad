"""Search for the region whose perturbation reduces the margin most.

Coarse to fine, and each step is an intervention:

1. Windows, strips along the edges and level sets of the margin maps are perturbed one by one.
2. If none halves the margin, the windows are perturbed with another fill, and then together with
   what still supports the mistake. The smallest region with most of the effect is widened a
   little, and the image is faded in there in steps; gradients on the path attribute the margin to
   pixels.
3. Level sets of that attribution are perturbed; the smallest with most of the effect stays.
4. Step 3 is repeated around it, finer, and the map is aligned with the contours of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cvx_core.images import components
from cvx_why.search.candidates import (
    MarginMaps,
    dilate_mask,
    edge_strips,
    level_sets,
    margin_maps,
    windows,
)
from cvx_why.search.contours import snap_to_contours
from cvx_why.search.inpainting import FILLS, Fill, smooth
from cvx_why.search.perturbations import PerturbationRunner

SUFFICIENT = 0.8
"""Share of the largest decrease of the margin that a smaller region must reach to be preferred."""

_LEVELS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
_PARTS = 3
_RIM = 45
_WIDER_WEIGHT = 0.3
_CONTROLS = 3
_EXTENSIONS = 2
_RESERVED = 18
"""Images that the later steps need."""
_OTHER_FILL_FACTOR = 1.5
_FIRST_LEVELS = (0.05, 0.1, 0.2)
"""Level sets of the margin maps that are perturbed first, as shares of the image."""
_CONTEXT = 2.0
_SQUARES = (2 / 7, 3 / 7)
"""Sides of the first squares, as shares of the shorter side."""


@dataclass(frozen=True, eq=False)
class Perturbation:
    """A perturbed region and its effect on the mistake.

    Attributes
    ----------
    mask
        (H, W), true in the region.
    change
        Of the margin, in logits; negative if the perturbation helps.
    right
        Whether it corrects the prediction.
    note
        The note of the judgement.
    """

    mask: Tensor
    change: float
    right: bool
    note: str = ""

    @property
    def pixels(self) -> int:
        """Number of pixels of the region."""
        return int(self.mask.sum())


@dataclass(eq=False)
class Search:
    """Search for the cause of a mistake.

    Attributes
    ----------
    runner
        Runs, counts and judges perturbed images.
    fill
        Name of the fill that the search uses.
    perturbations
        All regions perturbed with that fill.
    coarse
        The first regions, of similar size.
    controls
        Regions of the shape of `best` at other positions, after `run_controls`.
    best
        The smallest region with most of the effect; None if no perturbation reduces the margin.
    maps
        Margin maps, set by `run`.
    fine
        (H, W), 0 to 1: the part of each pixel in the effect of `best`, set by `run`.
    """

    runner: PerturbationRunner
    fill: str = "inpaint"
    perturbations: list[Perturbation] = field(default_factory=list)
    coarse: list[Perturbation] = field(default_factory=list)
    controls: list[Perturbation] = field(default_factory=list)
    best: Perturbation | None = None
    maps: MarginMaps = field(init=False)
    fine: Tensor = field(init=False)

    @property
    def _fill(self) -> Fill:
        return FILLS[self.fill]

    def run(self, effort: float) -> None:
        """Search; an effort of 1 takes about 32 images."""
        runner = self.runner
        self.maps = margin_maps(runner, runner.inputs)
        side = min(runner.inputs.shape[2:])
        positive = self.maps.positive
        self.fine = torch.zeros_like(positive)
        scale = self._scale()
        small, large = (max(2, round(side * scale * share)) for share in _SQUARES)
        squares = windows(positive, small, max(3, round(5 * effort)))
        squares += windows(positive, large, max(2, round(3 * effort)))
        self.coarse = self.perturb(squares)
        self.perturb(
            [
                *edge_strips(positive, max(2, side // 16)),
                *level_sets(positive, [scale**2 * share for share in _FIRST_LEVELS]),
            ]
        )
        best = self._smallest_sufficient(self.perturbations)
        if not self._suffices(best):
            best = self._with_other_fill([*squares[:2], *squares[-2:]]) or best
        if best is None:
            return
        best = self._extend(self._reduce(best))
        steps = max(2, round(4 * effort))
        around = dilate_mask(best.mask, max(1, side // 14))
        signed, change = self._fade_in(around, steps)
        fine = _unit(signed * change * self._positive(around).sqrt(), around)
        levels = [
            dilate_mask(one, max(1, side // 112)) for one in level_sets(fine, _LEVELS, around)
        ]
        best = self._reduce(self._smallest_sufficient([best, *self.perturb(levels)]) or best)
        around = dilate_mask(best.mask, max(1, side // _RIM))
        signed, change = self._fade_in(around, steps)
        coarse = (signed + change + self._positive(around)) / 3 * around
        self.fine = snap_to_contours(
            _unit(coarse, around) + _WIDER_WEIGHT * self._wider(best), runner.inputs
        )
        self.best = best

    def _scale(self) -> float:
        """Return the side of the mistake's region with its context, relative to the image.

        The cause of a mistake about one object is rarely larger; 1 if it is about the whole image.
        """
        region, shape = self.runner.mistake.region, self.runner.inputs.shape[2:]
        if region is None:
            return 1.0
        inside = region.on_grid(self.runner.image.frame, (shape[0], shape[1]))
        rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        return min(1.0, _CONTEXT * float(extent) / min(shape))

    def run_controls(self) -> None:
        """Perturb regions of the shape of `best` at other positions, as controls."""
        if self.best is None or self.controls:
            return
        mask = self.best.mask
        shifted = [mask.roll(shift, (0, 1)) for shift in _shifts(mask.shape)]
        apart = [one for one in shifted if int((one & mask).sum()) <= self.best.pixels / 5]
        self.controls = self.perturb(apart[:_CONTROLS])

    def perturb(self, masks: list[Tensor], fill: Fill | None = None) -> list[Perturbation]:
        """Perturb regions one by one with a fill, by default the search's, within the budget."""
        masks = masks[: self.runner.left]
        if not masks:
            return []
        stacked = torch.stack(masks)[:, None]
        inputs, margin = self.runner.inputs, self.runner.mistake.margin
        images = (fill or self._fill)(inputs.expand(len(masks), -1, -1, -1), stacked)
        found = [
            Perturbation(mask, judged.margin - margin, judged.right, judged.note)
            for mask, judged in zip(masks, self.runner.judge(images), strict=True)
        ]
        if fill is None:
            self.perturbations += found
        return found

    def _smallest_sufficient(self, candidates: list[Perturbation]) -> Perturbation | None:
        """Return the smallest region with most of the largest effect."""
        most = min(one.change for one in candidates)
        if most >= 0:
            return None
        return min(
            (one for one in candidates if one.change <= SUFFICIENT * most),
            key=lambda one: one.pixels,
        )

    def _suffices(self, one: Perturbation | None) -> bool:
        """Whether a perturbation corrects the prediction or halves the margin."""
        margin = self.runner.mistake.margin
        # If the prediction was correct before, a correct prediction afterwards shows nothing.
        return one is not None and ((one.right and margin > 0) or one.change <= -abs(margin) / 2)

    def _with_other_fill(self, squares: list[Tensor]) -> Perturbation | None:
        """Fill squares with the mean color, and switch to that fill if its effect is much larger.

        Inpainting continues a cause that fades into its surroundings.
        """
        known = self.perturbations
        other = self.perturb(squares, FILLS["mean"])
        lowest = min((one.change for one in known), default=0.0)
        if min((one.change for one in other), default=0.0) > _OTHER_FILL_FACTOR * lowest:
            return None
        self.fill, self.perturbations, self.coarse = "mean", [*other], other
        return self._smallest_sufficient(other)

    def _extend(self, best: Perturbation) -> Perturbation:
        """Extend a region that does not suffice by what supports the mistake without it.

        A network that reads a cause at several positions uses the next one if the first is
        perturbed; the margin maps of the perturbed image show which.
        """
        for _ in range(_EXTENSIONS):
            if self._suffices(best) or self.runner.left <= _RESERVED:
                break
            without = self._fill(self.runner.inputs, best.mask[None, None])
            rest = margin_maps(self.runner, without).positive * ~best.mask
            side = max(2, round(min(rest.shape) * _SQUARES[0]))
            more = [*windows(rest, side, 2), *level_sets(rest, (0.05,))]
            joined = self.perturb([best.mask | one for one in more])
            wider = min(joined, key=lambda one: one.change, default=best)
            if wider.change >= best.change:
                break
            best = wider
        return best

    def _reduce(self, best: Perturbation) -> Perturbation:
        """Return the connected part of a region that has half of its effect, or the region."""
        parts = components(np.where(best.mask.cpu().numpy(), 0, -1))
        sizes = np.bincount(parts[parts >= 0])
        largest = [int(k) for k in sizes.argsort()[::-1][:_PARTS] if sizes[k] >= best.pixels / 20]
        if len(largest) < 2:
            return best
        masks = [torch.from_numpy(parts == k).to(best.mask.device) for k in largest]
        alone = min(self.perturb(masks), key=lambda one: one.change, default=best)
        return alone if alone.change <= best.change / 2 else best

    def _fade_in(self, around: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return the contribution of each pixel as a region fades in, and the change of the pixel.

        Integrated gradients (Sundararajan 2017) from the perturbed image to the image, smoothed
        and rectified, and the smoothed difference of both images; (H, W) in [0, 1].
        """
        inputs = self.runner.inputs
        side = min(inputs.shape[2:])
        without = self._fill(inputs, around[None, None])
        difference = inputs - without
        steps = min(steps, self.runner.left)
        if steps == 0:
            return _unit(around.to(inputs), around), _unit(around.to(inputs), around)
        share = (torch.arange(steps, device=inputs.device, dtype=inputs.dtype) + 0.5) / steps
        path = without + difference * share[:, None, None, None]
        gradient = self.runner.gradients(path)["input"][1].mean(0, keepdim=True)
        signed = smooth(
            (difference * gradient).sum(1, keepdim=True).float(), side / 12, density=True
        )
        change = smooth(difference.abs().sum(1, keepdim=True).float(), side / 28)
        return _unit(signed[0, 0].clamp_min(0), around), _unit(change[0, 0], around)

    def _wider(self, best: Perturbation) -> Tensor:
        """Return (H, W) in [0, 1]: the inverse size of the smallest region with the same effect.

        A network that reads half of an object makes the same mistake with all of it. The wider
        regions with the same effect show what belongs together.
        """
        value = torch.zeros_like(self.fine)
        for one in self.perturbations:
            if one.change <= SUFFICIENT * best.change:
                value = torch.maximum(value, one.mask.to(value) / one.pixels)
        return value / value.max().clamp_min(1e-12)

    def _positive(self, around: Tensor) -> Tensor:
        side = min(around.shape)
        return _unit(smooth(self.maps.positive[None, None], side / 56)[0, 0], around)


def _shifts(shape: torch.Size) -> list[tuple[int, int]]:
    """Return shifts by half and by a quarter of the image."""
    height, width = shape[0] // 2, shape[1] // 2
    halves = [(height, width), (0, width), (height, 0)]
    return [*halves, *((h // 2, w // 2) for h, w in halves)]


def _unit(values: Tensor, within: Tensor) -> Tensor:
    inside = values * within
    return inside / inside.max().clamp_min(1e-12)
