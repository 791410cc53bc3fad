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

    Each takes the object of its class that it overlaps most, among those that no better box has.

    Parameters
    ----------
    boxes, classes
        (n, 4) and (n,), best first.
    ground_truth
        As in rows.
    """
    found, excused = np.zeros(len(boxes), dtype=bool), np.zeros(len(boxes), dtype=bool)
    if not ground_truth:
        return found, excused
    true = np.array([one["box"] for one in ground_truth], dtype=np.float64).reshape(-1, 4)
    kinds = np.array([one["class"] for one in ground_truth])
    crowd = np.array([one["crowd"] for one in ground_truth], dtype=bool)
    shared = overlaps(boxes, true)
    free = ~crowd
    for k in range(len(boxes)):
        mine = np.where(free & (kinds == classes[k]), shared[k], 0.0)
        best = int(mine.argmax())
        if mine[best] >= FOUND:
            found[k], free[best] = True, False
        else:
            inside = share_inside(boxes[k], true[crowd & (kinds == classes[k])])
            excused[k] = bool((inside >= FOUND).any())
    return found, excused


def share_inside(box: Numbers, others: Numbers) -> Numbers:
    """Return which share of a box (4,) is in each of others (n, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    area = max(float((box[2:] - box[:2]).clip(min=0).prod()), 1e-12)
    share: Numbers = (high - low).clip(min=0).prod(1) / area
    return share
