"""Targets: the questions that can be put to a model.

A target resolves, against one image's logits, to a **seed**: a vector over the outputs. The
explainers propagate the seed back; they don't know the question. With logits z, softmax p,
predicted class q and label y:

    Predicted()      1_q            what speaks for the answer
    ClassScore(c)    1_c            what speaks for class c
    Distribution()   p              what speaks for the answer as a whole
    Contrast(a, b)   1_a - 1_b      why a rather than b
    Error(y)         p - 1_y        the error signal, gradient of the cross-entropy
    Margin(y)        1_q - 1_y      why the wrong answer beats the right one
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core.errors import TargetError
from cvx_core.tasks.classes import ClassRef
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.ground_truth import GroundTruth, GroundTruthBoxes, GroundTruthMask
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.records import TargetRecord

Resolved = tuple[npt.NDArray[np.float64], TargetRecord]
"""A seed (N,) over all outputs and its description."""


class Target(ABC):
    """A question. Subclasses are frozen dataclasses that implement `resolve`."""

    needs_label = False
    """Whether the question can only be asked where the true class is known."""

    @property
    def asked(self) -> str:
        """The question in few words, where its kind and classes don't identify it; or empty.

        Files are named by it.
        """
        return ""

    @abstractmethod
    def resolve(self, scores: Any, label: Any = None) -> Resolved:
        """Return the seed and its description for one image.

        Parameters
        ----------
        scores
            The model's answer for the image: `ClassificationPrediction` of a classifier, `cvx_core.SegmentationPrediction` of a
            segmenter, `cvx_core.DetectionPrediction` of a detector.
        label
            The truth, if known; targets that hold their own prefer it.

        Raises
        ------
        TargetError
            If a class can't be found, or a label is needed and missing.
        """


def _label_index(scores: ClassificationPrediction, label: ClassRef | None) -> int | None:
    return None if label is None else scores.find(label)


@dataclass(frozen=True)
class Predicted(Target):
    """The class that the model answers first: seed 1_q."""

    def resolve(self, scores: ClassificationPrediction, label: ClassRef | None = None) -> Resolved:
        """Return the one-hot seed of the largest logit."""
        q = scores.predicted
        seed = scores.one_hot(q)
        text = f"why {scores.entry(q).name}?"
        return seed, scores.record("predicted", text, seed, [q], [1.0], _label_index(scores, label))


@dataclass(frozen=True)
class ClassScore(Target):
    """One class, by name or index: seed 1_c."""

    reference: ClassRef

    def resolve(self, scores: ClassificationPrediction, label: ClassRef | None = None) -> Resolved:
        """Return the one-hot seed of the class."""
        c = scores.find(self.reference)
        seed = scores.one_hot(c)
        text = f"what speaks for {scores.entry(c).name}?"
        return seed, scores.record("class", text, seed, [c], [1.0], _label_index(scores, label))


@dataclass(frozen=True)
class Distribution(Target):
    """The whole answer, each class weighted by its probability: seed p."""

    def resolve(self, scores: ClassificationPrediction, label: ClassRef | None = None) -> Resolved:
        """Return the softmax vector, held constant."""
        seed = scores.probabilities.copy()
        return seed, scores.record(
            "distribution",
            "what speaks for the answer as a whole?",
            seed,
            label=_label_index(scores, label),
        )


@dataclass(frozen=True)
class Contrast(Target):
    """One class rather than another: seed 1_p - 1_q."""

    p: ClassRef
    q: ClassRef

    def resolve(self, scores: ClassificationPrediction, label: ClassRef | None = None) -> Resolved:
        """Return the difference of the two one-hot seeds.

        Raises
        ------
        TargetError
            If both are the same class.
        """
        p, q = find_two(scores, self.p, self.q)
        seed = scores.one_hot(p) - scores.one_hot(q)
        text = f"why {scores.entry(p).name} rather than {scores.entry(q).name}?"
        return seed, scores.record(
            "contrast", text, seed, [p, q], [1.0, -1.0], _label_index(scores, label)
        )


def find_two(answer: Prediction, p: ClassRef, q: ClassRef) -> tuple[int, int]:
    """Return the indices of two classes, one of which is held against the other.

    Raises
    ------
    TargetError
        If one is unknown, or both are the same.
    """
    found = answer.find(p), answer.find(q)
    if found[0] == found[1]:
        raise TargetError(
            f"A contrast needs two classes, and both are {answer.name(found[0])!r}.",
            "Ask about one class alone, or name a second class.",
        )
    return found


@dataclass(frozen=True)
class Error(Target):
    """The error signal p - 1_y, the gradient of the cross-entropy at the logits.

    The seeded scalar is sum_c e_c z_c = L - H(p): the loss less the entropy of the answer.
    """

    label: GroundTruth | None = None
    needs_label = True

    def resolve(self, scores: ClassificationPrediction, label: ClassRef | None = None) -> Resolved:
        """Return p - 1_y, held constant."""
        y = _required_label(self.label, label, scores, "error")
        seed = scores.probabilities - scores.one_hot(y)
        text = f"what makes the error, the truth being {scores.entry(y).name}?"
        note = ""
        if np.abs(seed).max() < np.finfo(np.float64).eps:
            seed = np.zeros_like(seed)
            note = "The answer is right and certain: the error and its map are zero."
        elif y == scores.predicted:
            left = 1 - scores.probabilities[y]
            note = f"The answer is right; the error that is left is 1 - p = {left:.2g}."
        return seed, scores.record("error", text, seed, [y], [-1.0], y, note)


@dataclass(frozen=True)
class Margin(Target):
    """Why the wrong answer beats the right one: seed 1_q - 1_y.

    Where the model is right there is no error: the seed is zero and the record's note says so.
    """

    label: GroundTruth | None = None
    needs_label = True

    def resolve(self, scores: ClassificationPrediction, label: ClassRef | None = None) -> Resolved:
        """Return the difference of predicted and true class."""
        y, q = _required_label(self.label, label, scores, "margin"), scores.predicted
        seed = scores.one_hot(q) - scores.one_hot(y)
        names = scores.entry(q).name, scores.entry(y).name
        if q == y:
            return seed, scores.record(
                "margin",
                f"the answer {names[0]} is right: there is no error",
                seed,
                [q],
                [0.0],
                y,
                "The prediction is right, so the margin and its map are zero.",
            )
        text = f"why {names[0]} and not {names[1]}?"
        return seed, scores.record("margin", text, seed, [q, y], [1.0, -1.0], y)


def _required_label(
    own: GroundTruth | None, given: GroundTruth | None, scores: ClassificationPrediction, kind: str
) -> int:
    reference = own if own is not None else given
    if isinstance(reference, GroundTruthMask | GroundTruthBoxes):
        raise TargetError(
            "The truth of a classifier's image is a class.", "Pass label=NAME or its index."
        )
    if reference is None:
        raise TargetError(
            f"The target {kind!r} compares the answer with the truth, and no label was given.",
            "Pass label=... (--label on the command line), or ask about Predicted().",
        )
    return scores.find(reference)


def target_text(
    kind: str, where: str, reference: ClassRef | None, against: ClassRef | None = None
) -> str:
    """Return a target in command-line syntax, as in ``region 120,40,260,300 person``."""
    classes = " vs ".join(str(one) for one in (reference, against) if one is not None)
    return " ".join(word for word in (kind, where.removeprefix(f"{kind} "), classes) if word)
