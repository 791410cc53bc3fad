"""Targets: what an explanation is about.

A target resolves, against one image's logits, to a **seed**: a vector over the outputs. The
explainers propagate the seed back and don't depend on the target. With logits z, softmax p,
predicted class q and label y:

    Predicted()      1_q            what supports the prediction
    ClassScore(c)    1_c            what supports class c
    Distribution()   p              what supports the prediction as a whole
    Contrast(a, b)   1_a - 1_b      why a rather than b
    Error(y)         p - 1_y        the error signal, gradient of the cross-entropy
    Margin(y)        1_q - 1_y      why the predicted class beats the true one
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Self

from cvx_core.tasks.classes import ClassRef, find_class, find_two_classes
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.prediction import Prediction, Resolved, question_word


class Target(ABC):
    """What an explanation is about. Subclasses are frozen dataclasses that implement `resolve`."""

    needs_label = False
    """Whether the target needs the ground truth."""

    class_fields: ClassVar[tuple[str, ...]] = ()
    """Attributes that refer to classes, by name or index; each may be None."""

    @property
    def asked(self) -> str:
        """The target as on the command line, where kind and classes don't identify it; or empty.

        Files are named by it.
        """
        return ""

    @property
    def key(self) -> str:
        """Identity of the target before any prediction exists.

        As in ``predicted``, ``class:tabby``, ``contrast:tabby vs tiger cat`` or ``box 2 dog``. Two
        targets of the same key are the same target.
        """
        if self.asked:
            return self.asked
        names = [one.name for one in fields(self)] if is_dataclass(self) else list(vars(self))
        values = [str(getattr(self, name)) for name in names if getattr(self, name) is not None]
        return question_word(self) + (f":{' vs '.join(values)}" if values else "")

    @property
    def references(self) -> tuple[ClassRef, ...]:
        """Classes that the target names."""
        found = (getattr(self, name) for name in self.class_fields)
        return tuple(one for one in found if one is not None)

    def with_indices(self, classes: Sequence[str] | None, count: int) -> Self:
        """Return the target with each class by index, among `count` classes.

        Raises
        ------
        TargetError
            If a class is unknown.
        """
        target = copy(self)
        for name in self.class_fields:
            if (reference := getattr(self, name)) is not None:
                object.__setattr__(target, name, find_class(reference, classes, count))
        return target

    @abstractmethod
    def resolve(self, prediction: Any, label: Any = None) -> Resolved:
        """Return the seed and its description for one image.

        Parameters
        ----------
        prediction
            The model's prediction for the image.
        label
            The ground truth, if known; a target's own takes precedence.

        Raises
        ------
        TargetError
            If a class can't be found, or a label is needed and missing.
        """


@dataclass(frozen=True)
class Predicted(Target):
    """The predicted class: seed 1_q."""

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the one-hot seed of the largest logit."""
        return prediction.resolve_predicted(label)


@dataclass(frozen=True)
class ClassScore(Target):
    """One class, by name or index: seed 1_c."""

    reference: ClassRef
    class_fields = ("reference",)

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the one-hot seed of the class."""
        return prediction.resolve_class(self.reference, label)


@dataclass(frozen=True)
class Distribution(Target):
    """The whole prediction, each class weighted by its probability: seed p."""

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the softmax vector, as a constant."""
        return prediction.resolve_distribution(label)


@dataclass(frozen=True)
class Contrast(Target):
    """One class rather than another: seed 1_p - 1_q."""

    p: ClassRef
    q: ClassRef
    class_fields = ("p", "q")

    def with_indices(self, classes: Sequence[str] | None, count: int) -> Contrast:
        """Return the target with both classes by index.

        Raises
        ------
        TargetError
            If one is unknown, or both are the same.
        """
        return Contrast(*find_two_classes(self.p, self.q, classes, count))

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the difference of the two one-hot seeds.

        Raises
        ------
        TargetError
            If both are the same class.
        """
        return prediction.resolve_contrast(self.p, self.q, label)


@dataclass(frozen=True)
class Error(Target):
    """The error signal p - 1_y, the gradient of the cross-entropy at the logits.

    The seeded scalar is sum_c e_c z_c = L - H(p): the loss less the entropy of the prediction.
    """

    label: GroundTruth | None = None
    needs_label = True

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return p - 1_y, as a constant."""
        return prediction.resolve_error(label if self.label is None else self.label)


@dataclass(frozen=True)
class Margin(Target):
    """The predicted class minus the true one: seed 1_q - 1_y.

    Where the model is right there is no error: the seed is zero and the record's note says so.
    """

    label: GroundTruth | None = None
    needs_label = True

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the difference of predicted and true class."""
        return prediction.resolve_margin(label if self.label is None else self.label)


NUMBER = r"-?\d+(?:\.\d+)?"
"""A number in the target syntax, as a regular expression."""

FOUR = rf"{NUMBER}(?:\s*,\s*{NUMBER}){{3}}"
"""Four numbers with commas, as of a box."""


def split_classes(text: str) -> tuple[str | None, str | None]:
    """Return the class, and the one it is compared with, of ``dog`` or ``dog vs horse``."""
    sides = [side.strip() for side in re.split(r"\s+vs\.?\s+", text.strip())]
    return sides[0] or None, sides[1] if len(sides) > 1 else None


def target_text(
    kind: str, where: str, reference: ClassRef | None, against: ClassRef | None = None
) -> str:
    """Return a target in command-line syntax, as in ``region 120,40,260,300 person``."""
    classes = " vs ".join(str(one) for one in (reference, against) if one is not None)
    return " ".join(word for word in (kind, where.removeprefix(f"{kind} "), classes) if word)
