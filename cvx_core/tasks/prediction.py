"""What all kinds of answers have in common: classes, and questions that they resolve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvx_core.errors import ModelError, TargetError
from cvx_core.plugins.component import component_name

if TYPE_CHECKING:
    from cvx_core.tasks.records import TargetRecord
    from cvx_core.tasks.targets import Target

Seed = npt.NDArray[np.float64]
"""A vector over the outputs, (N,)."""


class Prediction(ABC):
    """A model's answer for one image.

    Attributes
    ----------
    classes
        Names by index, or None if the model names none.
    """

    classes: Sequence[str] | None

    def resolve(self, target: Target, label: Any = None) -> tuple[Seed, TargetRecord]:
        """Return the seed of a target and its description; see `Target.resolve`."""
        return target.resolve(self, label)

    @property
    @abstractmethod
    def outputs(self) -> npt.NDArray[np.float64]:
        """All outputs (N,), in the order of `cvx_core.tasks.outputs.ModelOutput.flat`."""

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
        from cvx_core.tasks.classes import find_class

        return find_class(reference, self.classes, self.count)

    def name(self, index: int) -> str:
        """Return the name of a class, or its index as text."""
        return str(index) if self.classes is None else self.classes[index]

    def value(self, seed: Seed) -> float:
        """Return the seeded scalar <seed, outputs>."""
        return float(seed @ self.outputs)


def check_finite(values: npt.NDArray[np.float64], what: str) -> None:
    """Refuse an answer that is not finite: no question about it has one.

    Raises
    ------
    ModelError
        Saying how many values are not.
    """
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ModelError(
            f"The model's answer is not finite: {bad} of {values.size} {what}.",
            "Look for nan or inf in its weights or input; float16 overflows easily, bfloat16 "
            "and float32 don't.",
        )


def no_such_question(target: Target, task: str, way_out: str) -> TargetError:
    """Return the refusal of a question that a model of this kind can't be asked."""
    return TargetError(
        f"The question {question_word(target)!r} can't be put to a model for {task}.", way_out
    )


def question_word(target: Target) -> str:
    """Return what a question is called on the command line: ``region`` for a `RegionScore`."""
    return component_name(type(target).__name__.removesuffix("Score"))
