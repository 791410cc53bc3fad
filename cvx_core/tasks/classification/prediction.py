"""Prediction of a classifier for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core.errors import ModelError, TargetError
from cvx_core.tasks.classes import ClassEntry, ClassRef, TargetRecord
from cvx_core.tasks.ground_truth import GroundTruthBoxes, GroundTruthMask
from cvx_core.tasks.prediction import Prediction, Resolved


@dataclass(frozen=True)
class ClassificationPrediction(Prediction):
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
    probabilities: npt.NDArray[np.float64] = field(init=False)

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
        shifted = np.exp(self.logits - self.logits.max())
        object.__setattr__(self, "probabilities", shifted / shifted.sum())

    @property
    def outputs(self) -> npt.NDArray[np.float64]:
        """The logits (C,)."""
        return self.logits

    @property
    def count(self) -> int:
        """How many classes there are."""
        return len(self.logits)

    @property
    def predicted(self) -> int:
        """Index of the largest logit."""
        return int(self.logits.argmax())

    def entry(self, index: int) -> ClassEntry:
        """Return one class with its score and probability."""
        return ClassEntry(
            index, self.name(index), float(self.logits[index]), float(self.probabilities[index])
        )

    def one_hot(self, index: int) -> npt.NDArray[np.float64]:
        """Return the seed (C,) that is one at `index`."""
        seed = np.zeros(len(self.logits))
        seed[index] = 1.0
        return seed

    def record(
        self,
        kind: str,
        text: str,
        seed: npt.NDArray[np.float64],
        classes: Sequence[int] = (),
        signs: Sequence[float] = (),
        label: int | None = None,
        note: str = "",
    ) -> TargetRecord:
        """Describe a resolved target."""
        order = np.argsort(-self.logits, kind="stable")[:5]
        single = len(classes) == 1 and kind in ("predicted", "class")
        return TargetRecord(
            kind=kind,
            text=text,
            score=float(seed @ self.logits),
            probability=float(self.probabilities[classes[0]]) if single else None,
            classes=tuple(self.entry(index) for index in classes),
            signs=tuple(float(sign) for sign in signs),
            predicted=self.entry(self.predicted),
            label=None if label is None else self.entry(label),
            top=tuple(self.entry(int(index)) for index in order),
            note=note,
        )

    def resolve_predicted(self, label: Any) -> Resolved:
        """Return the one-hot seed of the largest logit."""
        q = self.predicted
        seed = self.one_hot(q)
        text = f"why {self.entry(q).name}?"
        return seed, self.record("predicted", text, seed, [q], [1.0], self._label(label))

    def resolve_class(self, reference: ClassRef, label: Any) -> Resolved:
        """Return the one-hot seed of the class."""
        c = self.find(reference)
        seed = self.one_hot(c)
        text = f"what supports {self.entry(c).name}?"
        return seed, self.record("class", text, seed, [c], [1.0], self._label(label))

    def resolve_contrast(self, p: ClassRef, q: ClassRef, label: Any) -> Resolved:
        """Return the difference of the two one-hot seeds.

        Raises
        ------
        TargetError
            If both are the same class.
        """
        first, second = self.find_two(p, q)
        seed = self.one_hot(first) - self.one_hot(second)
        text = f"why {self.entry(first).name} rather than {self.entry(second).name}?"
        return seed, self.record(
            "contrast", text, seed, [first, second], [1.0, -1.0], self._label(label)
        )

    def resolve_distribution(self, label: Any) -> Resolved:
        """Return the softmax vector, as a constant."""
        seed = self.probabilities.copy()
        return seed, self.record(
            "distribution",
            "what supports the prediction as a whole?",
            seed,
            label=self._label(label),
        )

    def resolve_error(self, label: Any) -> Resolved:
        """Return p - 1_y, as a constant."""
        y = self._required(label, "error")
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
        y, q = self._required(label, "margin"), self.predicted
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
                "The prediction is correct, so the margin and its map are zero.",
            )
        text = f"why {names[0]} and not {names[1]}?"
        return seed, self.record("margin", text, seed, [q, y], [1.0, -1.0], y)

    def _label(self, label: Any) -> int | None:
        return None if label is None else self.find(label)

    def _required(self, label: Any, kind: str) -> int:
        if isinstance(label, GroundTruthMask | GroundTruthBoxes):
            raise TargetError(
                "The ground truth for a classifier must be a class.",
                "Pass label=NAME or its index.",
            )
        if label is None:
            raise TargetError(
                f"The target {kind!r} needs the ground truth, and no label was given.",
                "Pass label=... (--label on the command line), or use Predicted().",
            )
        return self.find(label)
