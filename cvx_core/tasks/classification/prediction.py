"""Prediction of a classifier for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core.errors import ModelError, TargetError
from cvx_core.tasks.ground_truth import GroundTruthBoxes, GroundTruthMask
from cvx_core.tasks.prediction import Resolved, VectorPrediction, required_label


@dataclass(frozen=True)
class ClassificationPrediction(VectorPrediction):
    """Prediction of a classifier for one image; targets are resolved against it.

    Parameters
    ----------
    logits
        Array (C,), float64.
    classes
        Names by index, or None if the model names none.

    Raises
    ------
    ModelError
        If a logit is not finite.
    """

    logits: npt.NDArray[np.float64]
    classes: Sequence[str] | None = None

    task = "classification"

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.logits))
        if bad.size:
            raise ModelError(
                f"The model's prediction is not finite: {self.logits[bad[0]]} for class {bad[0]} "
                f"({bad.size} of {self.logits.size} scores).",
                "Look for nan or inf in its weights or input; float16 overflows easily, bfloat16 "
                "and float32 don't.",
            )

    @property
    def outputs(self) -> npt.NDArray[np.float64]:
        """The logits (C,)."""
        return self.logits

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Softmax of the logits, (C,)."""
        shifted = np.exp(self.logits - self.logits.max())
        return np.asarray(shifted / shifted.sum())

    def resolve_error(self, label: Any) -> Resolved:
        """Return p - 1_y, as a constant."""
        y = self._true(label, "error")
        seed = self.probabilities - self.one_hot(y)
        text = f"what causes the error, given ground truth {self.entry(y).name}?"
        note = ""
        if np.abs(seed).max() < np.finfo(np.float64).eps:
            seed = np.zeros_like(seed)
            note = "The prediction is correct and certain: the error and its map are zero."
        elif y == self.predicted:
            left = 1 - self.probabilities[y]
            note = f"The prediction is correct; the remaining error is 1 - p = {left:.2g}."
        return seed, self.record("error", text, seed, [y], [-1.0], y, note)

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the difference of predicted and true class."""
        y, q = self._true(label, "margin"), self.predicted
        seed = self.one_hot(q) - self.one_hot(y)
        names = self.entry(q).name, self.entry(y).name
        if q == y:
            return seed, self.record(
                "margin",
                f"the prediction {names[0]} is correct: there is no error",
                seed,
                [q],
                [0.0],
                y,
                self._nothing_wrong(y),
            )
        text = f"why {names[0]} and not {names[1]}?"
        return seed, self.record("margin", text, seed, [q, y], [1.0, -1.0], y)

    def _nothing_wrong(self, y: int) -> str:
        note = (
            "The prediction is correct, so the margin and its map are zero. Target 'error' shows "
            f"the remaining error, 1 - p = {1 - self.probabilities[y]:.2g}"
        )
        if self.logits.size == 1:
            return f"{note}."
        second = self.entry(int(np.argsort(self.logits)[-2]))
        return f"{note}; '{self.entry(y).name} vs {second.name}' the lead over the second class."

    def verdict(self, label: Any) -> dict[str, Any]:
        """Return the true class, and whether it is predicted."""
        if isinstance(label, GroundTruthMask | GroundTruthBoxes):
            raise TargetError(
                "The ground truth for a classifier must be a class.",
                "Pass label=NAME or its index.",
            )
        return super().verdict(label)

    def _true(self, label: Any, kind: str) -> int:
        return int(self.verdict(required_label(label, kind))["label"].index)
