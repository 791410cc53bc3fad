"""Order of classes: predictions that are a permutation of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Matrix = npt.NDArray[np.float64]

_FEWEST = 3.0
"""Inputs of a class in each half from which it is judged."""

_MOSTLY = 0.5
"""Share of a class's inputs that must be predicted as one other class."""


def find_permutation(first: Matrix, second: Matrix) -> dict[str, Any] | None:
    """Return a permutation of classes by which predictions read far better, or None.

    It is found on one half of the inputs, and tested on the other: in both, most inputs of each
    class that it moves are predicted as the class that it moves it to. One class may be confused
    with another for good reason; therefore the classes that are moved make closed cycles, or are
    half of all classes and three or more.

    Parameters
    ----------
    first, second
        (C, C), how often each class (row) was predicted as each (column), of two halves.

    Returns
    -------
    dict or None
        ``pairs``, each label with the class predicted for it; ``shift`` if all indices are moved by
        the same number; ``before`` and ``after``, the share of correct predictions in the second
        half as they are and read by the permutation.
    """
    present = np.flatnonzero((first.sum(1) >= _FEWEST) & (second.sum(1) >= _FEWEST))
    if len(present) < 2:
        return None
    _, columns = linear_sum_assignment(-first[present])
    target = dict(zip(present.tolist(), columns.tolist(), strict=True))
    moved = {
        c: q
        for c, q in target.items()
        if c != q and all(m[c, q] > _MOSTLY * m[c].sum() for m in (first, second))
    }
    if len(moved) < 3 or 2 * len(moved) < len(present):
        moved = _cycles(moved)
    if not moved:
        return None
    rows = np.arange(len(second))
    read = np.array([moved.get(c, c) for c in rows.tolist()])
    total = second.sum()
    shifts = {(q - c) % len(second) for c, q in moved.items()}
    whole = 2 * len(moved) >= len(present)
    return {
        "pairs": [{"label": c, "predicted": q} for c, q in sorted(moved.items())],
        "shift": shifts.pop() if len(shifts) == 1 and whole else None,
        "before": float(second[rows, rows].sum() / total),
        "after": float(second[rows, read].sum() / total),
    }


def _cycles(moved: dict[int, int]) -> dict[int, int]:
    """Return the part of a mapping whose images are moved too, again and again."""
    while True:
        kept = {c: q for c, q in moved.items() if q in moved and c in moved.values()}
        if kept == moved:
            return kept
        moved = kept
