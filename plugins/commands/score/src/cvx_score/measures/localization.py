"""Where a map points, against a region that is known: pointing game, relevance mass and rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core import InputError, MethodError
from cvx_score.measures.pixel_order import Values, ranks, read_map

TOLERANCE = 15.0
"""Pixels around a region that count as hit, as in the pointing game's paper."""


def pointing(
    values: Any,
    mask: npt.NDArray[np.bool_],
    tolerance: float = TOLERANCE,
    scale: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> float:
    """Return 1.0 if the map's highest pixel lies in a region or near it, else 0.0.

    The pointing game of Zhang et al. 2016 (arXiv:1608.00507). A map that is positive nowhere
    points at nothing: 0.0.

    Parameters
    ----------
    values
        The map (h, w).
    mask
        (h, w), true in the region.
    tolerance
        Distance from the region, in pixels of the photograph, up to which it is hit.
    scale
        Width and height of a pixel of the map in the photograph.
    seed
        Of the choice among equal values.

    Raises
    ------
    InputError
        If the shapes differ.
    MethodError
        If the map is the same everywhere, or the region is empty.
    """
    one, inside = _checked(values, mask)
    if one.max() <= 0:
        return 0.0
    highest = np.flatnonzero(one == one.max())
    # Most maps have one highest pixel, and need no draw.
    peak = highest[0] if len(highest) == 1 else int(ranks(one, seed).argmin())
    row, column = divmod(int(peak), one.shape[1])
    rows, columns = np.nonzero(inside)
    distances = np.hypot((columns - column) * scale[0], (rows - row) * scale[1])
    return float(distances.min() <= tolerance)


def relevance_mass(values: Any, mask: npt.NDArray[np.bool_]) -> float:
    """Return the share of the positive relevance that lies in a region, 0 to 1.

    Relevance mass accuracy of Arras et al. 2022 (arXiv:2003.07258), whose relevances are positive;
    of signed maps what is negative is left out. Parameters and errors are those of `pointing`, and
    a `MethodError` where nothing is positive.
    """
    one, inside = _checked(values, mask)
    positive = one.clip(min=0)
    total = float(positive.sum())
    if total == 0:
        raise MethodError(
            "The map is positive nowhere, so that there is no mass to share.",
            "Negate it if it shows what speaks against.",
        )
    return float(positive[inside].sum() / total)


def rank_accuracy(values: Any, mask: npt.NDArray[np.bool_], seed: int = 0) -> float:
    """Return the share of the K highest pixels that lie in a region of K pixels, 0 to 1.

    Relevance rank accuracy of Arras et al. 2022 (arXiv:2003.07258). It depends on the order of
    the values alone. Parameters and errors are those of `pointing`.
    """
    one, inside = _checked(values, mask)
    count = int(inside.sum())
    last = np.partition(one, one.size - count, axis=None)[one.size - count]
    above, equal = one > last, one == last
    if int(above.sum()) + int(equal.sum()) == count:
        return float(inside[above | equal].mean())
    return float(inside[ranks(one, seed).numpy() < count].mean())


def _checked(values: Any, mask: npt.NDArray[np.bool_]) -> tuple[Values, npt.NDArray[np.bool_]]:
    one, inside = read_map(values), np.asarray(mask, dtype=bool)
    if one.shape != inside.shape:
        raise InputError(
            f"The map is {one.shape} and the region {inside.shape}.",
            "Enlarge the map to the pixels of the region: cvx_core.images.resampling.",
        )
    if not inside.any():
        raise MethodError("The region is empty.", "Mark at least one pixel.")
    return one, inside
