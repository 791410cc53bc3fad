"""Localization metrics against a known region: pointing game, relevance mass and rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core import InputError, MethodError
from cvx_score.measures.pixel_order import Values, ranks, read_map

TOLERANCE = 15.0
"""Pixels around a region that count as a hit, as in the paper of the pointing game."""


def pointing(
    values: Any,
    mask: npt.NDArray[np.bool_],
    tolerance: float = TOLERANCE,
    scale: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> float:
    """Return 1.0 if the highest pixel of a map lies in or near a region, otherwise 0.0.

    The pointing game of Zhang et al. 2016 (arXiv:1608.00507). A map without
    positive values scores 0.0.

    Parameters
    ----------
    values
        The map (h, w).
    mask
        (h, w), true in the region.
    tolerance
        Distance from the region that counts as a hit, in pixels of the image.
    scale
        Width and height of a pixel of the map, in pixels of the image.
    seed
        Seed of the choice among equal values.

    Raises
    ------
    InputError
        If the shapes differ.
    MethodError
        If the map is constant, or the region is empty.
    """
    one, inside = _checked(values, mask)
    if one.max() <= 0:
        return 0.0
    highest = np.flatnonzero(one == one.max())
    # Most maps have one highest pixel, so that no random order is needed.
    peak = highest[0] if len(highest) == 1 else int(ranks(one, seed).argmin())
    row, column = divmod(int(peak), one.shape[1])
    rows, columns = np.nonzero(inside)
    distances = np.hypot((columns - column) * scale[0], (rows - row) * scale[1])
    return float(distances.min() <= tolerance)


def relevance_mass(values: Any, mask: npt.NDArray[np.bool_]) -> float:
    """Return the share of the positive relevance that lies in a region, 0 to 1.

    Relevance mass accuracy of Arras et al. 2022 (arXiv:2003.07258). Negative values of signed maps
    are ignored. Parameters and errors are those of `pointing`, with a `MethodError` if no value is
    positive.
    """
    one, inside = _checked(values, mask)
    positive = one.clip(min=0)
    total = float(positive.sum())
    if total == 0:
        raise MethodError(
            "The map has no positive values and no mass.",
            "Negate it if it shows negative contributions.",
        )
    return float(positive[inside].sum() / total)


def rank_accuracy(values: Any, mask: npt.NDArray[np.bool_], seed: int = 0) -> float:
    """Return the share of the K highest pixels that lie in a region of K pixels, 0 to 1.

    Relevance rank accuracy of Arras et al. 2022 (arXiv:2003.07258). It depends only on
    the order of the values. Parameters and errors are those of `pointing`.
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
            "Resample the map to the shape of the region: cvx_core.images.resample.",
        )
    if not inside.any():
        raise MethodError("The region is empty.", "Mark at least one pixel.")
    return one, inside
