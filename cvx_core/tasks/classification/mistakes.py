"""Mistakes of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvx_core.tasks.base import Judgement, Mistake
from cvx_core.tasks.classes import ClassEntry, ClassRef
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.targets import Contrast


@dataclass(frozen=True)
class Misclassified(Mistake):
    """Another class than the true one comes first. The margin is z_q - z_y."""

    predicted: ClassEntry
    true: ClassEntry

    @classmethod
    def between(
        cls, prediction: ClassificationPrediction, predicted: ClassRef, true: ClassRef
    ) -> Misclassified:
        """Return the case of two classes, whichever of them comes first.

        Where the true one does, the margin is negative, and the map shows what supports the other.

        Raises
        ------
        TargetError
            If there is no such class, or both are the same.
        """
        target = Contrast(prediction.find(predicted), prediction.find(true))
        target.resolve(prediction)
        q, y = prediction.entry(target.p), prediction.entry(target.q)  # type: ignore[arg-type]
        largest = prediction.logits.max()
        loss = float(np.log(np.exp(prediction.logits - largest).sum()) + largest - y.score)
        return cls("misclassified", target, None, q, y, max(0.0, loss), q.score - y.score)

    def judge(self, prediction: Prediction) -> Judgement:
        """Return the margin between the same two classes, and whether the true one comes first."""
        assert isinstance(prediction, ClassificationPrediction)
        margin = float(prediction.logits[self.predicted.index] - prediction.logits[self.true.index])
        first = prediction.entry(prediction.predicted)
        return Judgement(margin, first.index == self.true.index, first.text)


def classification_mistakes(prediction: ClassificationPrediction, label: ClassRef) -> list[Mistake]:
    """Return the mistake of a classifier: a list of one, or empty if the prediction is correct.

    Parameters
    ----------
    scores
        The classifier's prediction.
    label
        The true class, by name or index.

    Raises
    ------
    TargetError
        If there is no such class.
    """
    true = prediction.find(label)
    return (
        []
        if true == prediction.predicted
        else [Misclassified.between(prediction, prediction.predicted, true)]
    )
