"""Which steps of a curve need to be run: those that could change the area below it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvx_score.measures.pixel_order import Values

WITHIN = 0.01
"""How far off an area may be for the sake of fewer passes, in units of the curve."""

_APART = 8
"""Steps between those that are run first."""


def first_steps(count: int) -> list[int]:
    """Return the steps of `count` to begin with, both ends among them."""
    last = count - 1
    return [round(step) for step in np.linspace(0, last, -(-last // _APART) + 1)]


def further_steps(values: Values, measured: npt.NDArray[np.bool_], within: float) -> list[int]:
    """Return the steps to run next, none once the area is known well enough.

    Between two steps that were run, a curve that only rises or only falls there encloses an area
    within half of their difference times their distance of the trapezoid's. Where the sum of these
    bounds exceeds `within`, the intervals with the largest are halved.

    Parameters
    ----------
    values
        float64 (S,): the curve.
    measured
        bool (S,): where it was run. Elsewhere values mean nothing.
    within
        Bound of the area over shares from 0 to 1, in units of the values.
    """
    run = np.flatnonzero(measured)
    gaps = np.diff(run)
    bounds = np.where(gaps > 1, np.abs(np.diff(values[run])) * gaps, 0) / (len(values) - 1) / 2
    remaining, chosen = float(bounds.sum()), []
    for i in np.argsort(-bounds, kind="stable"):
        if remaining <= within or not bounds[i]:
            break
        remaining -= float(bounds[i])
        chosen.append(int(run[i] + run[i + 1]) // 2)
    return sorted(chosen)


def filled(values: Values, measured: npt.NDArray[np.bool_]) -> Values:
    """Return a curve (S,) with straight lines between the steps that were run."""
    run = np.flatnonzero(measured)
    return np.interp(np.arange(len(values)), run, values[run])
