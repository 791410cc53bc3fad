"""Search for the region whose perturbation reduces the margin most.

Coarse to fine, and each step is an intervention:

1. Level sets of the margin map and one strip along an edge are perturbed one by one.
2. If none halves the margin, windows and the other strips are perturbed too, and then together
   with what still supports the mistake.
3. The smallest region with most of the effect is widened a little, and the image is faded in there;
   gradients on the path attribute the margin to pixels. Level sets of that attribution are
   perturbed, and the smallest with most of the effect stays.
4. The attribution around it is aligned with the contours of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core.images import components
from cvx_why.search.candidates import (
    MarginMap,
    dilate_mask,
    edge_strips,
    level_sets,
    margin_map,
    windows,
)
from cvx_why.search.contours import snap_to_contours
from cvx_why.search.inpainting import FILLS, Fill, smooth
from cvx_why.search.perturbations import PerturbationRunner

FILL = "inpaint"
"""Name of the fill that the search uses."""
SUFFICIENT = 0.8
"""Share of the largest decrease of the margin that a smaller region must reach to be preferred."""

_LEVELS = (0.2, 0.4, 0.7)
_PARTS = 3
_RIM = 45
_SEPARATE = 2.0
"""Factor by which a region in several parts must be smaller than a connected one."""
_CONTROLS = 3
_EXTENSIONS = 2
_RESERVED = 14
"""Images that the later steps need."""
_FIRST_LEVELS = (0.03, 0.1, 0.3)
"""Level sets of the margin map that are perturbed first, as shares of the image."""
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
    contrast
        Margin map.
    perturbations
        All regions perturbed with `FILL`.
    coarse
        The first regions, or windows of similar size where these do not suffice.
    controls
        Regions of the shape of `best` at other positions, after `run_controls`.
    best
        The smallest region with most of the effect; None if no perturbation reduces the margin.
    fine
        (H, W), 0 to 1: the part of each pixel in the effect of `best`, set by `run`.
    """

    runner: PerturbationRunner
    contrast: MarginMap
    perturbations: list[Perturbation] = field(default_factory=list)
    coarse: list[Perturbation] = field(default_factory=list)
    controls: list[Perturbation] = field(default_factory=list)
    best: Perturbation | None = None
    fine: Tensor = field(init=False)

    def run(self, effort: float) -> None:
        """Search; an effort of 1 takes 9 images, or up to 35 if the first regions don't suffice."""
        runner = self.runner
        side, positive = min(runner.inputs.shape[2:]), self.contrast.positive
        self.fine = torch.zeros_like(positive)
        scale = self._scale()
        first = level_sets(positive, [scale**2 * share for share in _FIRST_LEVELS])
        strips = sorted(
            edge_strips(positive, max(2, side // 16)),
            key=lambda one: -float(positive[one].sum()),
        )
        first = [dilate_mask(one, max(1, side // 56)) for one in first]
        self.coarse = self.perturb([*first, strips[0]])[: len(first)]
        best = self._smallest_sufficient(self.perturbations)
        if not self._suffices(best):
            small, large = (max(2, round(side * scale * share)) for share in _SQUARES)
            squares = windows(positive, small, max(3, round(5 * effort)))
            squares += windows(positive, large, max(2, round(3 * effort)))
            self.coarse = self.perturb(squares)
            self.perturb(strips[1:])
            best = self._smallest_sufficient(self.perturbations)
        if best is None:
            return
        best = self._extend(best)
        around = dilate_mask(best.mask, max(1, side // 14))
        signed, change = self._fade_in(around, max(1, round(effort)))
        fine = _unit(signed * change * self._positive(around).sqrt(), around)
        levels = [
            dilate_mask(one, max(1, side // 112)) for one in level_sets(fine, _LEVELS, around)
        ]
        best = self._reduce(self._smallest_sufficient([best, *self.perturb(levels)]) or best)
        around = dilate_mask(best.mask, max(1, side // _RIM))
        coarse = _unit(signed, around) + _unit(change, around) + self._positive(around)
        self.fine = snap_to_contours(coarse, runner.inputs)
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
        """Perturb regions of the shape of `best` at other positions, as controls.

        What they share with `best` is left out, up to half of them.
        """
        if self.best is None or self.controls:
            return
        mask = self.best.mask
        apart = [mask.roll(shift, (0, 1)) & ~mask for shift in _shifts(mask.shape)]
        large = [one for one in apart if int(one.sum()) >= self.best.pixels / 2]
        self.controls = self.perturb(large[:_CONTROLS])

    def perturb(self, masks: list[Tensor], fill: Fill | None = None) -> list[Perturbation]:
        """Perturb regions one by one with a fill, by default `FILL`, within the budget."""
        masks = masks[: self.runner.left]
        if not masks:
            return []
        stacked = torch.stack(masks)[:, None]
        inputs, margin = self.runner.inputs, self.runner.mistake.margin
        images = (fill or FILLS[FILL])(inputs.expand(len(masks), -1, -1, -1), stacked)
        found = [
            Perturbation(mask, judged.margin - margin, judged.right, judged.note)
            for mask, judged in zip(masks, self.runner.judge(images), strict=True)
        ]
        if fill is None:
            self.perturbations += found
        return found

    def _smallest_sufficient(self, candidates: list[Perturbation]) -> Perturbation | None:
        """Return the smallest region with most of the largest effect, preferably connected."""
        most = min(one.change for one in candidates)
        if most >= 0:
            return None
        enough = [one for one in candidates if one.change <= SUFFICIENT * most]
        return min(enough, key=lambda one: one.pixels * (_SEPARATE if _parts(one).max() else 1.0))

    def _suffices(self, one: Perturbation | None) -> bool:
        """Whether a perturbation corrects the prediction or halves the margin."""
        margin = self.runner.mistake.margin
        # If the prediction was correct before, a correct prediction afterwards shows nothing.
        return one is not None and ((one.right and margin > 0) or one.change <= -abs(margin) / 2)

    def _extend(self, best: Perturbation) -> Perturbation:
        """Extend a region that does not suffice by what supports the mistake without it.

        A network that reads a cause at several positions uses the next one if the first is
        perturbed; the margin map of the perturbed image shows which.
        """
        for _ in range(_EXTENSIONS):
            if self._suffices(best) or self.runner.left <= _RESERVED:
                break
            without = FILLS[FILL](self.runner.inputs, best.mask[None, None])
            rest = margin_map(self.runner, without).positive * ~best.mask
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
        parts = _parts(best)
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
        without = FILLS[FILL](inputs, around[None, None])
        difference = inputs - without
        steps = min(steps, self.runner.left)
        if steps == 0:
            return _unit(around.to(inputs), around), _unit(around.to(inputs), around)
        share = (torch.arange(steps, device=inputs.device, dtype=inputs.dtype) + 0.5) / steps
        path = without + difference * share[:, None, None, None]
        gradient = self.runner.gradients(path).mean(0, keepdim=True)
        signed = smooth(
            (difference * gradient).sum(1, keepdim=True).float(), side / 12, density=True
        )
        change = smooth(difference.abs().sum(1, keepdim=True).float(), side / 28)
        return _unit(signed[0, 0].clamp_min(0), around), _unit(change[0, 0], around)

    def _positive(self, around: Tensor) -> Tensor:
        side = min(around.shape)
        return _unit(smooth(self.contrast.positive[None, None], side / 56)[0, 0], around)


def _parts(one: Perturbation) -> npt.NDArray[np.intp]:
    """Return (H, W), the number of each pixel's connected part, -1 outside the region."""
    return components(np.where(one.mask.cpu().numpy(), 0, -1))


def _shifts(shape: torch.Size) -> list[tuple[int, int]]:
    """Return shifts by half and by a quarter of the image."""
    height, width = shape[0] // 2, shape[1] // 2
    halves = [(height, width), (0, width), (height, 0)]
    return [*halves, *((h // 2, w // 2) for h, w in halves)]


def _unit(values: Tensor, within: Tensor) -> Tensor:
    inside = values * within
    return inside / inside.max().clamp_min(1e-12)
