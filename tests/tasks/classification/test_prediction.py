"""The notes of a classifier's targets, with the numbers that they give."""

from __future__ import annotations

import numpy as np
import pytest

from cvx_core import ClassificationPrediction
from cvx_core.tasks.targets import Error, Margin, Target


@pytest.mark.parametrize(
    ("target", "logits", "note"),
    [
        # p = (8, 1, 1) / 10
        (Error("cat"), np.log([8, 1, 1]), "is correct; the remaining error is 1 - p = 0.2."),
        (Error("dog"), np.log([8, 1, 1]), ""),
        (Error("cat"), (1000, 0, 0), "is correct and certain: the error and its map are zero."),
        (
            Margin("cat"),
            np.log([8, 1.5, 0.5]),
            "is correct, so the margin and its map are zero. Target 'error' shows the remaining "
            "error, 1 - p = 0.2; 'cat vs dog' the lead over the second class.",
        ),
        (Margin("dog"), (3, 1, 0), ""),
    ],
)
def test_a_correct_prediction_has_a_note_of_what_is_left_of_its_error(
    target: Target, logits: tuple[float, ...], note: str
) -> None:
    prediction = ClassificationPrediction(np.array(logits, float), ("cat", "dog", "owl"))
    assert target.resolve(prediction)[1].note == (note and f"The prediction {note}")
