"""Boxes matched with the objects that they find."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core.tasks import overlaps
from cvx_diagnose.run.rows import Row

Numbers = npt.NDArray[Any]

FOUND = 0.5
"""Intersection over union above which a box finds an object."""


def match_boxes(
    boxes: Numbers, classes: Numbers, ground_truth: list[Row]
) -> tuple[Numbers, Numbers]:
    """Return which boxes, best first, find an object, and which are ignored because of a crowd.

    As of `objects_found`.

    Parameters
    ----------
    boxes, classes
        (n, 4) and (n,), best first.
    ground_truth
        As in rows.
    """
    excused = np.zeros(len(boxes), dtype=bool)
    if not ground_truth:
        return np.zeros(len(boxes), dtype=bool), excused
    true = np.array([one["box"] for one in ground_truth], dtype=np.float64).reshape(-1, 4)
    kinds = np.array([one["class"] for one in ground_truth])
    crowd = np.array([one["crowd"] for one in ground_truth], dtype=bool)
    found = objects_found(classes, kinds, ~crowd, overlaps(boxes, true)) >= 0
    for k in np.flatnonzero(~found):
        inside = share_inside(boxes[k], true[crowd & (kinds == classes[k])])
        excused[k] = bool((inside >= FOUND).any())
    return found, excused


def objects_found(classes: Numbers, kinds: Numbers, free: Numbers, shared: Numbers) -> Numbers:
    """Return the object that each box finds, or -1.

    Each takes the object of its class that it overlaps most, among those that no better box has.

    Parameters
    ----------
    classes
        (n,), of the boxes, best first.
    kinds, free
        (m,), classes of the objects, and whether each can be found: no crowd can.
    shared
        (n, m), intersections over union.
    """
    found, free = np.full(len(classes), -1), free.copy()
    for k in range(len(classes) if len(kinds) else 0):
        mine = np.where(free & (kinds == classes[k]), shared[k], 0.0)
        best = int(mine.argmax())
        if mine[best] >= FOUND:
            found[k], free[best] = best, False
    return found


def share_inside(box: Numbers, others: Numbers) -> Numbers:
    """Return which share of a box (4,) is in each of others (n, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    area = max(float((box[2:] - box[:2]).clip(min=0).prod()), 1e-12)
    share: Numbers = (high - low).clip(min=0).prod(1) / area
    return share
