"""What a model answered for one image: its scores, and the classes they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cvx_core.errors import ModelError
from cvx_core.tasks.classes import ClassEntry
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.records import TargetRecord


@dataclass(frozen=True)
class ClassificationPrediction(Prediction):
    """The answer of a classifier for one image, against which a target is resolved.

    Parameters
    ----------
    logits
        Array (C,), float64.
    classes
        Names by index, or None if the model names none.

    Raises
    ------
    ModelError
        If a logit is not finite: no question about such an answer has one.
    """

    logits: npt.NDArray[np.float64]
    classes: Sequence[str] | None = None
    probabilities: npt.NDArray[np.float64] = field(init=False)

    task = "classification"

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.logits))
        if bad.size:
            raise ModelError(
                f"The model's answer is not finite: {self.logits[bad[0]]} for class {bad[0]} "
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
