"""Fix of a mistake: the smallest region found whose perturbation corrects the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from cvx_why.search.candidates import dilate_mask, level_sets
from cvx_why.search.inpainting import Fill, elsewhere
from cvx_why.search.regions import RegionResult
from cvx_why.search.search import Perturbation, Search

_SHRUNK = (0.4, 0.6, 0.8)
_TIGHT = (0.5, 0.7)


@dataclass(frozen=True, eq=False)
class Fix:
    """A perturbation that corrects the prediction.

    Attributes
    ----------
    perturbation
        The region and the change of the margin.
    fill
        Name of the fill.
    inputs
        (1, C, H, W), the perturbed input. It was run once more on its own to confirm the fix.
    """

    perturbation: Perturbation
    fill: str
    inputs: Tensor


def find_fix(
    search: Search, regions: Sequence[RegionResult], fills: Mapping[str, Fill]
) -> Fix | None:
    """Return the smallest fix found within the budget, or None.

    The smallest perturbation of the search that corrects the prediction is reduced to level sets
    of the fine map, and the best is run again. If no single region suffices, wider regions and
    unions are perturbed, also with content from elsewhere in the image.
    """
    fills = {**fills, "elsewhere": elsewhere}
    known = [(one, search.fill) for one in search.perturbations if one.right]
    known += [(r, name) for one in regions for name, r in one.fills.items() if r.right]
    for one, name in sorted(known, key=lambda pair: pair[0].pixels) or _wider(search, fills):
        if name == search.fill and search.runner.left > len(_SHRUNK):
            inside = level_sets(search.fine, _SHRUNK, one.mask)
            smaller = [small for small in search.perturb(inside) if small.right]
            one = min([one, *smaller], key=lambda fix: fix.pixels)
        inputs = fills[name](search.runner.inputs, one.mask[None, None])
        if search.runner.left and search.runner.judge(inputs)[0].right:
            return Fix(one, name, inputs)
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
