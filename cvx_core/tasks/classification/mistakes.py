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
        cls, scores: ClassificationPrediction, predicted: ClassRef, true: ClassRef
    ) -> Misclassified:
        """Return the case of two classes, whichever of them comes first.

        Where the true one does, the margin is negative: what is asked then is what speaks for
        the other.

        Raises
        ------
        TargetError
            If there is no such class, or both are the same.
        """
        target = Contrast(scores.find(predicted), scores.find(true))
        target.resolve(scores)
        q, y = scores.entry(target.p), scores.entry(target.q)  # type: ignore[arg-type]
        largest = scores.logits.max()
        loss = float(np.log(np.exp(scores.logits - largest).sum()) + largest - y.score)
        return cls("misclassified", target, None, q, y, max(0.0, loss), q.score - y.score)

    def judge(self, answer: Prediction) -> Judgement:
        """Return the margin between the same two classes, and whether the true one comes first."""
        assert isinstance(answer, ClassificationPrediction)
        margin = float(answer.logits[self.predicted.index] - answer.logits[self.true.index])
        first = answer.entry(answer.predicted)
        return Judgement(margin, first.index == self.true.index, first.text)


def classification_mistakes(scores: ClassificationPrediction, label: ClassRef) -> list[Mistake]:
    """Return the error of a classifier's answer, or nothing where the answer is right.

    Parameters
    ----------
    scores
        The answer.
    label
        The true class, by name or index.

    Raises
    ------
    TargetError
        If there is no such class.
    """
    true = scores.find(label)
    return (
        [] if true == scores.predicted else [Misclassified.between(scores, scores.predicted, true)]
    )
