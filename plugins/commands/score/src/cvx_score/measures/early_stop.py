"""Early stopping of curves: only the steps that could change the area below it are run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvx_score.measures.pixel_order import Values

WITHIN = 0.01
"""Error bound of an area, in units of the curve."""

_FIRST_INTERVAL = 8
"""Distance of the steps that are run first."""


def first_steps(count: int) -> list[int]:
    """Return the first steps to run out of `count`, both ends included."""
    last = count - 1
    return [round(step) for step in np.linspace(0, last, -(-last // _FIRST_INTERVAL) + 1)]


def further_steps(values: Values, measured: npt.NDArray[np.bool_], within: float) -> list[int]:
    """Return the steps to run next, or none if the area is known to `within`.

    Between two measured steps, the area below a monotonic curve differs from the trapezoid by at
    most half the difference of the values times the distance. While the sum of these bounds
    exceeds `within`, the intervals with the largest bounds are halved.

    Parameters
    ----------
    values
        float64 (S,): the curve.
    measured
        bool (S,): the steps that were run. Other values are ignored.
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


def interpolate(values: Values, measured: npt.NDArray[np.bool_]) -> Values:
    """Return a curve (S,), linear between the steps that were run."""
    run = np.flatnonzero(measured)
    return np.interp(np.arange(len(values)), run, values[run])
