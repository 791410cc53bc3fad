"""Task: what the output of a model means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from cvx_core.errors import ModelError
from cvx_core.images.regions import Frame
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.mistakes import Mistake
from cvx_core.tasks.outputs import ModelOutput
from cvx_core.tasks.prediction import Prediction


class Task(ABC):
    """What the output of a model means: how it is parsed, predicted from and compared.

    Attributes
    ----------
    name
        As in ``VisionModel(task=...)``.
    """

    name: ClassVar[str]

    @abstractmethod
    def readout(self, output: Any) -> Any:
        """Return the scores or candidates in what a module returned, with their graph."""

    @abstractmethod
    def parse(self, found: Any) -> ModelOutput:
        """Return what a readout found as a `ModelOutput`.

        Raises
        ------
        ModelError
            If it doesn't have the task's shape.
        """

    @abstractmethod
    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the prediction for each image, which targets are resolved against."""

    @abstractmethod
    def mistakes(self, prediction: Any, truth: GroundTruth) -> list[Mistake]:
        """Return the mistakes of a prediction, the most costly first."""

    def wrong_shape(self, got: str, expected: str) -> ModelError:
        """Return the refusal of a readout that does not fit the task."""
        return ModelError(
            f"The readout gave {got} for a model whose task is {self.name}.",
            f"It gives {expected} there; is task=... right?",
        )


def shape_of(found: Any) -> str:
    """Return what a readout gave, for people."""
    return str(tuple(found.shape)) if hasattr(found, "shape") else "candidates"
