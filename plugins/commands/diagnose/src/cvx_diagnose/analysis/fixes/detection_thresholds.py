"""Score threshold and suppression of a detector, tuned on the boxes that its rows keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core.tasks import MOST_CANDIDATES, REPORTED_FROM, overlaps
from cvx_diagnose.analysis.fixes.halves import f1, f1_change, in_first_half
from cvx_diagnose.analysis.metrics.box_matching import match_boxes
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import Row

Numbers = npt.NDArray[Any]

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Scores and overlaps that are tried, beside those that the detector has."""

_FEWEST = 20

_Matched = tuple[Numbers, Numbers, int]
"""Scores of an image's boxes after suppression, best first; whether each finds an object that no
better one finds; and the number of objects."""


def suppress(boxes: Numbers, classes: Numbers, scores: Numbers, overlap: float) -> Numbers:
    """Return the boxes left by non-maximum suppression within each class, best first.

    Boxes above a score threshold after suppression are the same as after suppressing only boxes
    above it: one pass serves all thresholds.

    Parameters
    ----------
    boxes, classes, scores
        (n, 4), (n,) and (n,).
    overlap
        Intersection over union above which a box is suppressed.
    """
    ranked = np.argsort(-scores, kind="stable")
    near = overlaps(boxes[ranked], boxes[ranked]) > overlap
    near &= classes[ranked][:, None] == classes[ranked][None]
    left = np.ones(len(ranked), dtype=bool)
    for k in range(len(ranked)):
        if left[k]:
            left[k + 1 :] &= ~near[k, k + 1 :]
    kept: Numbers = ranked[left]
    return kept


def try_thresholds(run: Run) -> dict[str, Any]:
    """Choose a score threshold and an overlap on one half of the images, and evaluate on the other.

    Chosen is what gives the best F1, the harmonic mean of precision and recall over all boxes at
    an intersection over union of 0.5. Copies of a file are in one half.

    Returns
    -------
    dict
        As of `.last_layer.try_fixes`, where ``before``, ``after``, ``change`` and its interval are
        of F1, and an image is ``fixed`` that has fewer wrong and missed boxes; ``threshold`` and
        ``overlap``, pairs of old and new value; ``gain``, the increase of the share of images
        without an error.
    """
    name = "another score threshold or overlap"
    columns = ["id", "sha256", "candidates", "detections", "ground_truth"]
    rows = [row for block in run.blocks(columns) for row in block.to_pylist()]
    rows = [row for row in rows if row["ground_truth"] is not None]
    if len(rows) < _FEWEST:
        note = f"It needs {_FEWEST} labeled images, got {len(rows)}."
        return {"name": name, "tried": False, "note": note}
    first = in_first_half([row["id"] for row in rows], [row["sha256"] for row in rows])
    halves = [
        [row for row, one in zip(rows, first, strict=True) if one == half] for half in (True, False)
    ]
    assert run.plan.threshold is not None
    now = run.plan.threshold, run.plan.overlap
    best = _best(halves[0], now)
    before, after = (_counts(halves[1], *setting) for setting in (now, best))
    return {
        "name": name,
        "tried": True,
        "measure": "F1",
        "trained_on": len(halves[0]),
        "evaluated_on": len(halves[1]),
        "threshold": [now[0], best[0]],
        "overlap": [now[1], best[1]],
        **f1_change(before, after),
    }


def _best(rows: list[Row], now: tuple[float, float | None]) -> tuple[float, float | None]:
    """Return the threshold and the overlap with the best F1; of equals those nearest to now."""
    # Below the minimum score of the rows the boxes are unknown.
    floor = max([REPORTED_FROM, *(_least(row) for row in rows if now[1] is not None)])
    scores = sorted({now[0], *(one for one in THRESHOLDS if one >= floor)})
    overlaps_ = [None] if now[1] is None else sorted({now[1], *OVERLAPS})
    tried = {}
    for overlap in overlaps_:
        judged = [_match_row(row, overlap) for row in rows]
        for score in scores:
            tried[score, overlap] = f1(np.array([_count(one, score) for one in judged]))

    def rank(setting: tuple[float, float | None]) -> tuple[float, float]:
        far = abs(setting[0] - now[0]) + abs((setting[1] or 0.0) - (now[1] or 0.0))
        return -round(tried[setting], 9), far

    return min(tried, key=rank)


def _least(row: Row) -> float:
    """Return the score above which a row holds all boxes before suppression."""
    several = row["candidates"] or []
    return min(one["score"] for one in several) if len(several) >= MOST_CANDIDATES else 0.0


def _counts(rows: list[Row], threshold: float, overlap: float | None) -> Numbers:
    return np.array([_count(_match_row(row, overlap), threshold) for row in rows])


def _count(matched: _Matched, threshold: float) -> tuple[int, int, int]:
    """Return objects found, wrong boxes, and objects missed."""
    scores, finds, objects = matched
    above = scores > threshold
    found = int((finds & above).sum())
    return found, int(above.sum()) - found, objects - found


def _match_row(row: Row, overlap: float | None) -> _Matched:
    several = row["candidates"] if overlap is not None else row["detections"]
    several = several or []
    boxes = np.array([one["box"] for one in several], dtype=np.float64).reshape(-1, 4)
    classes = np.array([one["class"] for one in several], dtype=np.int64)
    scores = np.array([one["score"] for one in several], dtype=np.float64)
    if overlap is None:
        kept = np.argsort(-scores, kind="stable")
    else:
        kept = suppress(boxes, classes, scores, overlap)
    found, excused = match_boxes(boxes[kept], classes[kept], row["ground_truth"])
    objects = sum(not one["crowd"] for one in row["ground_truth"])
    return scores[kept][~excused], found[~excused], objects
