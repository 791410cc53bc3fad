"""What a row says of an answer: right or wrong, how sure, and which errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cvx_core import (
    ClassificationPrediction,
    DetectionPrediction,
    GroundTruthBoxes,
    GroundTruthMask,
    Mistake,
    SegmentationPrediction,
    find_mistakes,
)
from cvx_core.tasks import Detection, GroundTruth, Prediction
from cvx_diagnose.run.rows import MOST_ERRORS, Row

REPORTED_FROM = 0.05
"""Score from which a detector's boxes are kept: average precision needs those that nobody sees."""

MOST_CANDIDATES = 200
"""Boxes before suppression that are kept, best first: to search for a better suppression."""


def judged(answer: Prediction, truth: GroundTruth | None) -> tuple[Row, list[Mistake]]:
    """Return what a row says of an answer, and its errors, the most costly first.

    Raises
    ------
    TargetError
        If the truth names what the model does not know.
    """
    cases = [] if truth is None else find_mistakes(answer, truth)
    row: Row = {}
    if isinstance(answer, ClassificationPrediction):
        row = _classified(answer, truth)
    elif isinstance(answer, SegmentationPrediction):
        row = _segmented(answer, truth)
    elif isinstance(answer, DetectionPrediction):
        row = _detected(answer, truth)
        row["loss"] = None if truth is None else sum(case.loss for case in cases)
    if truth is None:
        return row, []
    row |= {"right": not cases, "error_count": len(cases)}
    if cases:
        row["errors"] = listed(cases)
        row["margin"] = cases[0].margin
    return row, cases


def listed(cases: Sequence[Mistake]) -> list[Row]:
    """Return errors as a row lists them."""
    return [
        {
            "type": case.type,
            "predicted": None if case.predicted is None else case.predicted.index,
            "true": None if case.true is None else case.true.index,
            "loss": case.loss,
            "margin": case.margin,
            "box": None if case.region is None else list(case.region.bounds),
            "pixels": getattr(case, "pixels", None),
        }
        for case in cases[:MOST_ERRORS]
    ]


def _classified(answer: ClassificationPrediction, truth: GroundTruth | None) -> Row:
    row: Row = {
        "predicted": answer.predicted,
        "confidence": float(answer.probabilities[answer.predicted]),
        "logits": answer.logits,
    }
    if isinstance(truth, str | int):
        y = answer.find(truth)
        largest = answer.logits.max()
        total = float(np.log(np.exp(answer.logits - largest).sum()) + largest)
        row["label"] = y
        row["margin"] = float(np.delete(answer.logits, y).max() - answer.logits[y])
        row["loss"] = max(0.0, total - float(answer.logits[y]))
    return row


def _segmented(answer: SegmentationPrediction, truth: GroundTruth | None) -> Row:
    row: Row = {"confidence": float(answer.probabilities.max(0).mean())}
    if not isinstance(truth, GroundTruthMask):
        return row
    true = truth.on_grid(answer.frame, answer.shape, answer.count)
    at = true >= 0
    pairs, counts = np.unique(true[at] * answer.count + answer.predicted[at], return_counts=True)
    row["pixels"] = [
        {"true": int(pair) // answer.count, "predicted": int(pair) % answer.count, "count": int(n)}
        for pair, n in zip(pairs, counts, strict=True)
    ]
    if at.any():
        chosen = np.take_along_axis(answer.probabilities, true.clip(0)[None], 0)[0][at]
        row["loss"] = float(-np.log(chosen.clip(1e-300)).mean())
    return row


def _detected(answer: DetectionPrediction, truth: GroundTruth | None) -> Row:
    low = replace(answer.settings, threshold=min(REPORTED_FROM, answer.settings.threshold))
    kept = replace(answer, settings=low).kept
    row: Row = {
        "confidence": kept[0].entry.probability if kept else 0.0,
        "detections": _boxes(kept),
    }
    if low.overlap is not None:
        every = replace(low, overlap=None, most=MOST_CANDIDATES)
        row["candidates"] = _boxes(replace(answer, settings=every).kept)
    if isinstance(truth, GroundTruthBoxes):
        row["truths"] = [
            {"box": list(one.box), "class": answer.find(one.reference), "crowd": one.crowd}
            for one in truth.boxes
        ]
    return row


def _boxes(several: Sequence[Detection]) -> list[Row]:
    return [
        {"box": list(one.box), "class": one.entry.index, "score": one.entry.probability}
        for one in several
    ]
