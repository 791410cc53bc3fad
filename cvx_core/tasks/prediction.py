"""Predictions: the base class that tasks extend, resolved against targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from cvx_core._util.text import brief, shortened
from cvx_core.errors import ModelError, TargetError
from cvx_core.images.regions import Point, Region
from cvx_core.plugins.component import component_name
from cvx_core.tasks.classes import (
    ClassEntry,
    ClassRef,
    TargetRecord,
    find_class,
    find_two_classes,
)

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
    own_targets: ClassVar[str] = "Give a class, or Predicted()."
    """Which targets need such a prediction, and what to use instead; for messages."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # dataclasses would make one with all outputs
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return brief(self) if is_dataclass(self) else object.__repr__(self)

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

    def resolve_class(self, reference: ClassRef, label: Any) -> Resolved:
        """Return the seed of one class; here that of the prediction, for tasks with one."""
        self.find(reference)
        return self.resolve_predicted(label)

    def resolve_contrast(self, p: ClassRef, q: ClassRef, label: Any) -> Resolved:
        """Return the seed of one class less that of another.

        Raises
        ------
        TargetError
            If there are no two classes, as here.
        """
        self.find_two(p, q)
        raise TargetError(f"A contrast does not apply to {self.task}.", "Give one class.")

    def resolve_distribution(self, label: Any) -> Resolved:
        """Return the seed of the whole prediction, each part weighted by its probability."""
        return self.resolve_predicted(label)

    @abstractmethod
    def resolve_error(self, label: Any) -> Resolved:
        """Return the error signal: prediction less ground truth."""

    @abstractmethod
    def resolve_margin(self, label: Any) -> Resolved:
        """Return the seed of what is predicted wrongly less that of the ground truth."""

    def resolve_region(
        self, region: Region, reference: ClassRef | None, against: ClassRef | None, label: Any
    ) -> Resolved:
        """Return the seed of a class (less another) in a region of the image, or at a point.

        Raises
        ------
        TargetError
            If the model predicts nothing for each pixel, as here.
        """
        word = "pixel" if isinstance(region, Point) else "region"
        raise TargetError(
            f"The target {word!r} does not apply to {self.task}.",
            "It needs a model that predicts for each pixel; give a class.",
        )

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


class VectorPrediction(Prediction):
    """Prediction of a task with one value for each class or quantity; base class of such tasks.

    A subclass gives `outputs`, `task`, `probabilities` where there are any, and the seeds of
    `Error` and `Margin`. The prediction is the largest output.
    """

    unit: str = ""
    """Unit of the outputs where they have no probability."""

    def __repr__(self) -> str:
        said = f"{type(self).__name__} {self.entry(self.predicted).text} of {self.count}"
        return f"<{shortened(said)}>"

    @property
    def probabilities(self) -> npt.NDArray[np.float64] | None:
        """Probability of each class (C,), in [0, 1]; None where the outputs have none."""
        return None

    @property
    def count(self) -> int:
        """How many classes or quantities there are."""
        return len(self.outputs)

    @property
    def predicted(self) -> int:
        """Index of the largest output."""
        return int(self.outputs.argmax())

    def entry(self, index: int) -> ClassEntry:
        """Return one class with its output and probability."""
        chance = None if self.probabilities is None else float(self.probabilities[index])
        return ClassEntry(index, self.name(index), float(self.outputs[index]), chance, self.unit)

    def one_hot(self, index: int) -> Seed:
        """Return the seed (C,) that is one at `index`."""
        seed = np.zeros(self.count)
        seed[index] = 1.0
        return seed

    def record(
        self,
        kind: str,
        text: str,
        seed: Seed,
        classes: Sequence[int] = (),
        signs: Sequence[float] = (),
        label: Any = None,
        note: str = "",
        asked: str = "",
    ) -> TargetRecord:
        """Describe a resolved target; `label` is as the user gave it."""
        order = np.argsort(-self.outputs, kind="stable")[:5]
        single = len(classes) == 1 and kind in ("predicted", "class")
        return TargetRecord(
            kind=kind,
            text=text,
            score=self.value(seed),
            probability=self.entry(classes[0]).probability if single else None,
            classes=tuple(self.entry(index) for index in classes),
            signs=tuple(float(sign) for sign in signs),
            predicted=self.entry(self.predicted),
            top=tuple(self.entry(int(index)) for index in order),
            note=note,
            asked=asked,
            **self.verdict(label),
        )

    def verdict(self, label: Any) -> dict[str, Any]:
        """Return what a record says of the ground truth: ``label``, ``truth`` and ``correct``.

        Here `label` is one class, which is right where it is predicted.
        """
        if label is None:
            return {"label": None}
        entry = self.entry(self.find(label))
        return {"label": entry, "correct": entry.index == self.predicted}

    def resolve_predicted(self, label: Any) -> Resolved:
        """Return the one-hot seed of the largest output."""
        q = self.predicted
        seed = self.one_hot(q)
        return seed, self.record("predicted", f"why {self.name(q)}?", seed, [q], [1.0], label)

    def resolve_class(self, reference: ClassRef, label: Any) -> Resolved:
        """Return the one-hot seed of the class."""
        c = self.find(reference)
        seed = self.one_hot(c)
        text = f"what supports {self.name(c)}?"
        return seed, self.record("class", text, seed, [c], [1.0], label)

    def resolve_contrast(self, p: ClassRef, q: ClassRef, label: Any) -> Resolved:
        """Return the difference of the two one-hot seeds.

        Raises
        ------
        TargetError
            If both are the same class.
        """
        first, second = self.find_two(p, q)
        seed = self.one_hot(first) - self.one_hot(second)
        text = f"why {self.name(first)} rather than {self.name(second)}?"
        return seed, self.record("contrast", text, seed, [first, second], [1.0, -1.0], label)

    def resolve_distribution(self, label: Any) -> Resolved:
        """Return the probabilities, as a constant; the outputs' own where they have none."""
        seed = self.probabilities
        seed = np.ones(self.count) if seed is None else seed.copy()
        text = "what supports the prediction as a whole?"
        return seed, self.record("distribution", text, seed, label=label)


def required_label(label: Any, kind: str) -> Any:
    """Return the ground truth of a target.

    Raises
    ------
    TargetError
        If there is none.
    """
    if label is None:
        raise TargetError(
            f"The target {kind!r} needs the ground truth, and no label was given.",
            "Pass label=... (--label on the command line), or use Predicted().",
        )
    return label


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
