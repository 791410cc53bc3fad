"""Answers of detectors and segmenters, made up of what is given, and an explanation of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cvx_core.explanations.explanation import Explanation
from cvx_core.images.regions import Frame
from cvx_core.tasks.classes import ClassEntry, Detection, TargetRecord
from cvx_core.tasks.detection.candidates import DetectionCandidates
from cvx_core.tasks.detection.prediction import DetectionPrediction
from cvx_core.tasks.segmentation.prediction import SegmentationPrediction
from cvx_core.testing.samples import sample_explanation

Sides = Sequence[float]


def detections(boxes: Sequence[tuple[Sides, dict[int, float]]], classes: int = 3, **settings: Any):
    """Return an answer in pixels of the photograph: for each candidate a box and scores."""
    scores = np.full((len(boxes), classes), 1e-9)
    for m, (_, said) in enumerate(boxes):
        for c, score in said.items():
            scores[m, c] = score
    sides = np.array([box for box, _ in boxes], dtype=np.float64).reshape(-1, 4)
    logits = np.log(scores) - np.log1p(-scores)
    given = {"threshold": 0.4, "overlap": 0.5, "levels": (len(boxes),), **settings}
    candidates = DetectionCandidates(
        torch.zeros(1, len(boxes), classes), torch.zeros(1, len(boxes), 4)
    )
    for key, value in given.items():
        object.__setattr__(candidates, key, value)
    names = ["cat", "dog", "cow", "owl"][:classes]
    return DetectionPrediction(logits, sides, candidates, names)


def pixels(said: Any, classes: int = 3, extent: Sides = (0, 0, 8, 8), by: float = 2.0):
    """Return an answer whose classes (h, w) lead by `by` logits."""
    said = np.asarray(said)
    logits = np.where(said == np.arange(classes)[:, None, None], by, 0.0)
    frame = Frame(tuple(map(float, extent)), (said.shape[1], said.shape[0]))
    return SegmentationPrediction(logits, ["nothing", "cat", "dog", "cow"][:classes], frame)


def sample_of_a_detector(
    classes: tuple[str, str] = ("cat", "dog"), *, asked: int = 1, **fields: Any
) -> Explanation:
    """Return an explanation of one of a detector's two boxes, the same for the same arguments.

    Parameters
    ----------
    classes
        Of the boxes.
    asked
        Index of the box of the target.
    **fields
        As of `sample_explanation`.
    """
    boxes = ((20.0, 30.0, 120.0, 200.0), (150.0, 60.0, 290.0, 180.0))
    reported = tuple(
        Detection(k, 7 * k, ClassEntry(k, name, 2.0 - k, 0.9 - 0.2 * k), box)
        for k, (name, box) in enumerate(zip(classes, boxes, strict=True))
    )
    entry = reported[asked].entry
    target = TargetRecord(
        kind="box",
        text=f"why {entry.name} at box {asked}?",
        score=entry.score,
        probability=entry.probability,
        classes=(entry,),
        signs=(1.0,),
        predicted=entry,
        label=None,
        top=tuple(one.entry for one in reported),
        box=reported[asked].box,
        asked=f"box {asked}",
        reported=reported,
    )
    provenance = {"layer": "head", "task": "detection"}
    given = sample_explanation(extent=(0, 0, 320, 240), **{"provenance": provenance, **fields})
    return given.replace(target=target)
