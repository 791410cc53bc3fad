"""The fix: the smallest region found without which the answer is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from cvx_why.search.candidates import dilated, level_sets
from cvx_why.search.inpainting import Fill, elsewhere
from cvx_why.search.regions import Examined
from cvx_why.search.search import Removed, Search

_SHRUNK = (0.4, 0.6, 0.8)
_TIGHT = (0.5, 0.7)


@dataclass(frozen=True, eq=False)
class Fix:
    """A removal that makes the answer right.

    Attributes
    ----------
    removed
        The region, and what became of the margin.
    fill
        What took its place.
    inputs
        (1, C, H, W), the network's input after it. It was run by itself once more, and the
        answer was right again.
    """

    removed: Removed
    fill: str
    inputs: Tensor


def fix(search: Search, regions: Sequence[Examined], fills: Mapping[str, Fill]) -> Fix | None:
    """Return the smallest fix found, or None if there was none within the budget.

    What the search removed is looked through; the smallest that made the answer right is shrunk
    to level sets of the fine map, the best of which is run again. Where no single region does
    it, wider ones and several together are removed, also by content from elsewhere in the picture.
    """
    fills = {**fills, "elsewhere": elsewhere}
    known = [(one, search.fill) for one in search.tried if one.right]
    known += [(r, name) for one in regions for name, r in one.removals.items() if r.right]
    for removed, name in sorted(known, key=lambda pair: pair[0].pixels) or _wider(search, fills):
        if name == search.fill and search.trials.left > len(_SHRUNK):
            inside = level_sets(search.fine, _SHRUNK, removed.mask)
            smaller = [one for one in search.remove(inside) if one.right]
            removed = min([removed, *smaller], key=lambda one: one.pixels)
        inputs = fills[name](search.trials.inputs, removed.mask[None, None])
        if search.trials.left and search.trials.judge(inputs)[0].right:
            return Fix(removed, name, inputs)
    return None


def _wider(search: Search, fills: Mapping[str, Fill]) -> Iterator[tuple[Removed, str]]:
    """Yield removals that make the answer right where no single region did, smaller ones first."""
    if search.best is None:
        return
    side, union = min(search.fine.shape), search.best.mask
    # The other fills were tried on the region itself; one with a texture was not.
    for mask in (union, *level_sets(search.fine, _TIGHT, union)):
        if search.trials.left > 1:
            yield from ((one, "elsewhere") for one in search.remove([mask], elsewhere) if one.right)
    masks = [dilated(union, max(1, side // k)) for k in (90, 30)]
    for one in sorted(search.tried, key=lambda one: one.change):
        if one.change < 0 and int((one.mask & ~union).sum()) >= one.pixels / 2:
            union = union | one.mask
            masks.append(union)
    for mask in masks:
        for name, fill in fills.items():
            # One pass is kept for running the fix again.
            if search.trials.left > 1:
                yield from ((one, name) for one in search.remove([mask], fill) if one.right)
