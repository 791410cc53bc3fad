"""Rows of predictions: correctness, confidence and errors."""

from __future__ import annotations

from collections.abc import Sequence

from cvx_core import Mistake, find_mistakes, get_task
from cvx_core.tasks import GroundTruth, Prediction
from cvx_diagnose.run.rows import MOST_ERRORS, Row


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
    row: Row = get_task(prediction.task).row(prediction, ground_truth)
    row.setdefault("loss", sum(one.loss for one in mistakes) if ground_truth is not None else None)
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
