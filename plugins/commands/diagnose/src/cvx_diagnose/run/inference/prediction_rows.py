"""Rows of predictions: correctness, confidence and errors."""

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
"""Minimum score of the boxes that are kept, below what is shown: average precision needs them."""

MOST_CANDIDATES = 200
"""Maximum number of boxes kept before suppression, best first, to tune the suppression."""


def prediction_row(
    prediction: Prediction, ground_truth: GroundTruth | None
) -> tuple[Row, list[Mistake]]:
    """Return the row of a prediction, and its mistakes, the most costly first.

    Raises
    ------
    TargetError
        If the ground truth names a class that the model doesn't know.
    """
    mistakes = [] if ground_truth is None else find_mistakes(prediction, ground_truth)
    row: Row = {}
    if isinstance(prediction, ClassificationPrediction):
        row = _classified(prediction, ground_truth)
    elif isinstance(prediction, SegmentationPrediction):
        row = _segmented(prediction, ground_truth)
    elif isinstance(prediction, DetectionPrediction):
        row = _detected(prediction, ground_truth)
        row["loss"] = None if ground_truth is None else sum(mistake.loss for mistake in mistakes)
    if ground_truth is None:
        return row, []
    row |= {"correct": not mistakes, "error_count": len(mistakes)}
    if mistakes:
        row["errors"] = mistake_rows(mistakes)
        row["margin"] = mistakes[0].margin
    return row, mistakes


def mistake_rows(mistakes: Sequence[Mistake]) -> list[Row]:
    """Return mistakes as rows list them."""
    return [
        {
            "type": mistake.type,
            "predicted": None if mistake.predicted is None else mistake.predicted.index,
            "true": None if mistake.true is None else mistake.true.index,
            "loss": mistake.loss,
            "margin": mistake.margin,
            "box": None if mistake.region is None else list(mistake.region.bounds),
            "pixels": getattr(mistake, "pixels", None),
        }
        for mistake in mistakes[:MOST_ERRORS]
    ]


def _classified(prediction: ClassificationPrediction, ground_truth: GroundTruth | None) -> Row:
    row: Row = {
        "predicted": prediction.predicted,
        "confidence": float(prediction.probabilities[prediction.predicted]),
        "logits": prediction.logits,
    }
    if isinstance(ground_truth, str | int):
        y = prediction.find(ground_truth)
        largest = prediction.logits.max()
        total = float(np.log(np.exp(prediction.logits - largest).sum()) + largest)
        row["label"] = y
        row["margin"] = float(np.delete(prediction.logits, y).max() - prediction.logits[y])
        row["loss"] = max(0.0, total - float(prediction.logits[y]))
    return row


def _segmented(prediction: SegmentationPrediction, ground_truth: GroundTruth | None) -> Row:
    row: Row = {"confidence": float(prediction.probabilities.max(0).mean())}
    if not isinstance(ground_truth, GroundTruthMask):
        return row
    true = ground_truth.on_grid(prediction.frame, prediction.shape, prediction.count)
    at = true >= 0
    pairs, counts = np.unique(
        true[at] * prediction.count + prediction.predicted[at], return_counts=True
    )
    row["pixels"] = [
        {
            "true": int(pair) // prediction.count,
            "predicted": int(pair) % prediction.count,
            "count": int(n),
        }
        for pair, n in zip(pairs, counts, strict=True)
    ]
    if at.any():
        chosen = np.take_along_axis(prediction.probabilities, true.clip(0)[None], 0)[0][at]
        row["loss"] = float(-np.log(chosen.clip(1e-300)).mean())
    return row


def _detected(prediction: DetectionPrediction, ground_truth: GroundTruth | None) -> Row:
    low = replace(prediction.settings, threshold=min(REPORTED_FROM, prediction.settings.threshold))
    kept = replace(prediction, settings=low).kept
    row: Row = {
        "confidence": kept[0].entry.probability if kept else 0.0,
        "detections": _boxes(kept),
    }
    if low.overlap is not None:
        every = replace(low, overlap=None, most=MOST_CANDIDATES)
        row["candidates"] = _boxes(replace(prediction, settings=every).kept)
    if isinstance(ground_truth, GroundTruthBoxes):
        row["ground_truth"] = [
            {"box": list(one.box), "class": prediction.find(one.reference), "crowd": one.crowd}
            for one in ground_truth.boxes
        ]
    return row


def _boxes(several: Sequence[Detection]) -> list[Row]:
    return [
        {"box": list(one.box), "class": one.entry.index, "score": one.entry.probability}
        for one in several
    ]
