"""Predictions: the base class that tasks extend, resolved against targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from cvx_core.errors import ModelError, TargetError
from cvx_core.plugins.component import component_name
from cvx_core.tasks.classes import ClassRef, TargetRecord, find_class, find_two_classes

Seed = npt.NDArray[np.float64]
"""A vector over the outputs, (N,)."""


Resolved = tuple[Seed, TargetRecord]
"""A seed (N,) over all outputs and its description."""


class Resolvable(Protocol):
    """A target, as a prediction sees it."""

    def resolve(self, prediction: Any, label: Any = None) -> Resolved:
        """Return the seed and its description for one image."""


class Prediction(ABC):
    """A model's prediction for one image.

    Attributes
    ----------
    classes
        Names by index, or None if the model names none.
    """

    classes: Sequence[str] | None
    own_targets: ClassVar[str] = ""
    """Which targets need such a prediction, and what to use instead; for messages."""

    @classmethod
    def require(cls, prediction: Prediction, target: object) -> Self:
        """Return a prediction if it is of the class that a target needs.

        Raises
        ------
        TargetError
            If not.
        """
        if not isinstance(prediction, cls):
            raise TargetError(
                f"The target {question_word(target)!r} does not apply to {prediction.task}.",
                cls.own_targets,
            )
        return prediction

    def resolve(self, target: Resolvable, label: Any = None) -> Resolved:
        """Return the seed of a target and its description; see `Target.resolve`."""
        return target.resolve(self, label)

    @abstractmethod
    def resolve_predicted(self, label: Any) -> Resolved:
        """Return the seed of what the model predicts."""

    @abstractmethod
    def resolve_class(self, reference: ClassRef, label: Any) -> Resolved:
        """Return the seed of one class."""

    @abstractmethod
    def resolve_contrast(self, p: ClassRef, q: ClassRef, label: Any) -> Resolved:
        """Return the seed of one class less that of another."""

    @abstractmethod
    def resolve_distribution(self, label: Any) -> Resolved:
        """Return the seed of the whole prediction, each part weighted by its probability."""

    @abstractmethod
    def resolve_error(self, label: Any) -> Resolved:
        """Return the error signal: prediction less ground truth."""

    @abstractmethod
    def resolve_margin(self, label: Any) -> Resolved:
        """Return the seed of what is predicted wrongly less that of the ground truth."""

    @property
    @abstractmethod
    def outputs(self) -> npt.NDArray[np.float64]:
        """All outputs (N,), in the order of `cvx_core.tasks.base.ModelOutput.flat`."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many classes there are."""

    @property
    @abstractmethod
    def task(self) -> str:
        """What the model does, as in ``"segmentation"``."""

    def find(self, reference: str | int) -> int:
        """Return the index of a class given by name or index; see `find_class`."""
        return find_class(reference, self.classes, self.count)

    def find_two(self, p: ClassRef, q: ClassRef) -> tuple[int, int]:
        """Return the indices of two different classes.

        Raises
        ------
        TargetError
            If one is unknown, or both are the same.
        """
        return find_two_classes(p, q, self.classes, self.count)

    def name(self, index: int) -> str:
        """Return the name of a class, or its index as text."""
        return str(index) if self.classes is None else self.classes[index]

    def value(self, seed: Seed) -> float:
        """Return the seeded scalar <seed, outputs>."""
        return float(seed @ self.outputs)


def check_finite(values: npt.NDArray[np.float64], what: str) -> None:
    """Refuse a prediction that is not finite.

    Raises
    ------
    ModelError
        Saying how many values are not.
    """
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ModelError(
            f"The model's prediction is not finite: {bad} of {values.size} {what}.",
            "Look for nan or inf in its weights or input; float16 overflows easily, bfloat16 "
            "and float32 don't.",
        )


def question_word(target: object) -> str:
    """Return what a target is called on the command line: ``region`` for a `RegionScore`."""
    return component_name(type(target).__name__.removesuffix("Score"))
