"""Assignment of a detector's boxes to objects, and what is wrong with the other boxes.

D. Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
arXiv:2008.08115. Where the paper leaves a choice (ties, boxes in crowds), it is that of the
authors' package, so that counts agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvx_core.tasks.classes import Detection
from cvx_core.tasks.detection.missed_objects import FOUND_FROM
from cvx_core.tasks.detection.prediction import DetectionPrediction, overlaps
from cvx_core.tasks.ground_truth import GroundTruthBoxes

TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""In the paper's order."""

NOTHING_BELOW = 0.1
"""Overlap with any object up to which a box shows background (the paper's t_b)."""


@dataclass(frozen=True)
class Finding:
    """One error among a detector's boxes.

    Attributes
    ----------
    type
        One of `TYPES`.
    box
        Rank of the box; None for a missed object.
    truth
        Index of the object that it is about; None where there is none.
    by
        Rank of the box that counts for the object, of a duplicate.
    ignored
        Whether a crowd excuses the box.
    """

    type: str
    box: int | None
    truth: int | None = None
    by: int | None = None
    ignored: bool = False


@dataclass(frozen=True, eq=False)
class Assignment:
    """Assignment of boxes to objects in one image.

    Attributes
    ----------
    detections
        The boxes reported, best first.
    classes
        Class index of each object, (G,).
    boxes
        (G, 4), in pixels of the image.
    crowd
        (G,): which of them mark many at once.
    found
        (G,): rank of the box that counts for each object; -1 where none does.
    ignored
        (D,): which boxes lie in a crowd of their class and count for nothing.
    findings
        The errors: wrong boxes by rank, then missed objects.
    """

    detections: tuple[Detection, ...]
    classes: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    crowd: npt.NDArray[np.bool_]
    found: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]
    findings: tuple[Finding, ...]


def assign(
    prediction: DetectionPrediction,
    ground_truth: GroundTruthBoxes,
    found_from: float = FOUND_FROM,
    nothing_below: float = NOTHING_BELOW,
    most: int | None = None,
) -> Assignment:
    """Give each object the best box of its class that overlaps it enough; name what is left.

    Parameters
    ----------
    prediction, ground_truth
        Prediction and objects of one image.
    found_from, nothing_below
        The paper's thresholds t_f and t_b on the intersection over union, in [0, 1].
    most
        Most boxes that count; None for all that are reported.

    Raises
    ------
    TargetError
        If an object's class is unknown.
    """
    detections = prediction.kept[:most]
    classes = np.array(
        [prediction.find(one.reference) for one in ground_truth.boxes], dtype=np.int64
    )
    boxes = np.array([one.box for one in ground_truth.boxes], dtype=np.float64).reshape(-1, 4)
    crowd = np.array([one.crowd for one in ground_truth.boxes], dtype=bool)
    said = np.array([one.entry.index for one in detections], dtype=np.int64)
    placed = np.array([one.box for one in detections], dtype=np.float64).reshape(-1, 4)
    overlap = overlaps(placed, boxes)
    same = said[:, None] == classes
    free = np.where(same & ~crowd, overlap, 0.0)
    found = np.full(len(boxes), -1)
    taken = np.zeros(len(detections), dtype=bool)
    for k in range(len(detections) if len(boxes) else 0):
        g = int(free[k].argmax())
        if free[k, g] >= found_from and not crowd[g]:
            found[g], taken[k] = k, True
            free[:, g] = 0.0
    ignored = ~taken & (same & crowd & (_shares(placed, boxes) > found_from)).any(1)
    findings = []
    objects = np.flatnonzero(~crowd)
    own, others = (np.where(m & ~crowd, overlap, 0.0) for m in (same, ~same))
    mended: set[int] = set()
    for k in np.flatnonzero(~taken).tolist():
        excused = bool(ignored[k])
        if not objects.size:
            findings.append(Finding("background", k, ignored=excused))
            continue
        mine, other, used = (
            int(values.argmax())
            for values in (own[k], others[k], np.where(found >= 0, own[k], 0.0))
        )
        if nothing_below <= own[k, mine] <= found_from:
            findings.append(Finding("localisation", k, mine, ignored=excused))
            mended.add(mine)
        elif others[k, other] >= found_from:
            findings.append(Finding("classification", k, other, ignored=excused))
            mended.add(other)
        elif found[used] >= 0 and own[k, used] >= found_from:
            findings.append(Finding("duplicate", k, used, int(found[used]), excused))
        elif np.where(crowd, 0.0, overlap[k]).max() <= nothing_below:
            findings.append(Finding("background", k, ignored=excused))
        else:
            findings.append(Finding("both", k, other, ignored=excused))
    findings += [
        Finding("missed", None, g) for g in objects.tolist() if found[g] < 0 and g not in mended
    ]
    return Assignment(detections, classes, boxes, crowd, found, ignored, tuple(findings))


def _shares(
    boxes: npt.NDArray[np.float64], regions: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return which share of each box (n, 4) lies in each region (m, 4), (n, m)."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)[:, None]
    return np.asarray(np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0))
