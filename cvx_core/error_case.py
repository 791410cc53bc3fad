"""Errors: where an answer differs from the truth, as something to be explained.

An error names the question whose seed is its own, the part of the image that it is about, and how
wrong the answer is; and it judges other answers in the same terms, so that whoever changes the
image can say what became of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from cvx_core.answers import Answer
from cvx_core.regions import Region
from cvx_core.scores import ClassEntry, ClassRef, Scores
from cvx_core.target import Contrast, Target


@dataclass(frozen=True)
class Judgement:
    """What another answer says about an error.

    Attributes
    ----------
    margin
        By how much it is wrong, in logits, for the same predicted and true class; positive while
        the wrong one is ahead.
    right
        Whether the error is gone. A negative margin alone does not say so: a third class may
        have come first.
    note
        What a reader should know beside it, as "63 % of its pixels became cat."; may be empty.
    """

    margin: float
    right: bool
    note: str = ""


@dataclass(frozen=True)
class ErrorCase(ABC):
    """One error of a model on one image.

    Attributes
    ----------
    type
        What kind of error it is, as in ``"misclassified"``.
    target
        The question that asks for it: its seed is the error's, the gradient of the margin.
    region
        The part of the photograph that the error is about; None for all of it.
    predicted, true
        What was answered and what is there, with scores; None where there is no such thing.
    loss
        Cross-entropy in nats, 0 or more; 1 - IoU where the place of a box is wrong.
    margin
        By how much the answer is wrong, in logits (in IoU where the place of a box is); positive
        while it is.
    """

    type: str
    target: Target
    region: Region | None
    predicted: ClassEntry | None
    true: ClassEntry | None
    loss: float
    margin: float

    @property
    def text(self) -> str:
        """The error in words, as in ``misclassified: power drill and not screwdriver``."""
        # A box at the wrong place has the true class.
        names = [one.name for one in (self.predicted, self.true) if one is not None]
        return f"{self.type}: {' and not '.join(dict.fromkeys(names))}"

    @abstractmethod
    def judge(self, answer: Answer) -> Judgement:
        """Return what another answer says about this error.

        Parameters
        ----------
        answer
            The same model's, for the image after an intervention.
        """


@dataclass(frozen=True)
class Misclassified(ErrorCase):
    """Another class than the true one comes first. The margin is z_q - z_y."""

    predicted: ClassEntry
    true: ClassEntry

    @classmethod
    def between(cls, scores: Scores, predicted: ClassRef, true: ClassRef) -> Misclassified:
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

    def judge(self, answer: Answer) -> Judgement:
        """Return the margin between the same two classes, and whether the true one comes first."""
        assert isinstance(answer, Scores)
        margin = float(answer.logits[self.predicted.index] - answer.logits[self.true.index])
        first = answer.entry(answer.predicted)
        return Judgement(margin, first.index == self.true.index, first.text)


def classification_errors(scores: Scores, label: ClassRef) -> list[ErrorCase]:
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
