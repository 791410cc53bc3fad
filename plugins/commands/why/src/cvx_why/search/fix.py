"""Fix of a mistake: the smallest region found whose perturbation corrects the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cvx_why.search.candidates import dilate_mask, level_sets
from cvx_why.search.inpainting import Fill, elsewhere
from cvx_why.search.regions import RegionReport, locate
from cvx_why.search.search import FILL, Perturbation, Search

_SHRUNK = (0.6,)
_TIGHT = (0.5, 0.7)


@dataclass(frozen=True, eq=False)
class FixReport:
    """The smallest region found whose fill corrects the prediction, confirmed by a second run.

    Attributes
    ----------
    mask
        bool (H, W) over the network's input. Read-only.
    box, share
        See `RegionReport`.
    fill
        Name of the fill.
    change
        Change of the margin, in logits.
    note
        The prediction with the fill.
    inputs
        float32 (C, H, W), the network's input with the fill, to run it yourself.
    """

    mask: npt.NDArray[np.bool_]
    box: tuple[float, float, float, float]
    share: float
    fill: str
    change: float
    note: str
    inputs: npt.NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Return the fix as JSON values, without mask and inputs."""
        plain = {name: one for name, one in vars(self).items() if name not in ("mask", "inputs")}
        return {**plain, "box": list(self.box)}


def find_fix(
    search: Search, regions: Sequence[RegionReport], fills: Mapping[str, Fill]
) -> FixReport | None:
    """Return the smallest fix found within the budget, or None.

    The smallest perturbation of the search that corrects the prediction is reduced to level sets
    of the fine map, and the best is run again. If no single region suffices, wider regions and
    unions are perturbed, also with content from elsewhere in the image.
    """
    fills = {**fills, "elsewhere": elsewhere}
    known = [(one, FILL) for one in search.perturbations if one.right]
    for region in regions:
        mask = torch.tensor(region.mask, device=search.fine.device)
        for name, fill in region.fills.items():
            if fill.correct:
                known.append((Perturbation(mask, fill.change, True, fill.note), name))
    for one, name in sorted(known, key=lambda pair: pair[0].pixels) or _wider(search, fills):
        if name == FILL and search.runner.left > len(_SHRUNK):
            inside = level_sets(search.fine, _SHRUNK, one.mask)
            smaller = [small for small in search.perturb(inside) if small.right]
            one = min([one, *smaller], key=lambda fix: fix.pixels)
        inputs = fills[name](search.runner.inputs, one.mask[None, None])
        if search.runner.left and search.runner.judge(inputs)[0].right:
            array = inputs[0].detach().float().cpu().numpy()
            place = locate(search.runner.image, one.mask)
            return FixReport(*place, name, one.change, one.note, array)
    return None


def _wider(search: Search, fills: Mapping[str, Fill]) -> Iterator[tuple[Perturbation, str]]:
    """Yield wider perturbations that correct the prediction, smaller ones first."""
    if search.best is None:
        return
    side, union = min(search.fine.shape), search.best.mask
    # All fills but the one with a texture have been tested on the region itself.
    for mask in (union, *level_sets(search.fine, _TIGHT, union)):
        if search.runner.left > 1:
            yield from (
                (one, "elsewhere") for one in search.perturb([mask], elsewhere) if one.right
            )
    masks = [dilate_mask(union, max(1, side // k)) for k in (90, 30)]
    for one in sorted(search.perturbations, key=lambda one: one.change):
        if one.change < 0 and int((one.mask & ~union).sum()) >= one.pixels / 2:
            union = union | one.mask
            masks.append(union)
    for mask in masks:
        for name, fill in fills.items():
            # One pass is reserved for the confirmation.
            if search.runner.left > 1:
                yield from ((one, name) for one in search.perturb([mask], fill) if one.right)
