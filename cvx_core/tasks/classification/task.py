"""Classification as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cvx_core.errors import TargetError
from cvx_core.images.regions import Frame
from cvx_core.tasks.base import Mistake, ModelOutput, Task
from cvx_core.tasks.classification.mistakes import classification_mistakes
from cvx_core.tasks.classification.output import classification
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.ground_truth import GroundTruth, GroundTruthBoxes, GroundTruthMask
from cvx_core.tasks.prediction import Prediction


class Classification(Task):
    """One class for each image."""

    name = "classification"
    pyramid = False

    def readout(self, output: Any) -> Tensor:
        """Return logits (B, C); see `classification`."""
        return classification(output)

    def parse(self, found: Any) -> ModelOutput:
        """Return scores of shape (B, C) as an output."""
        return self.scores(found, "(B, C)")

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the prediction for each image."""
        scores = output.scores.detach().cpu()
        return [ClassificationPrediction(one.double().numpy(), classes) for one in scores]

    def mistakes(
        self, prediction: ClassificationPrediction, ground_truth: GroundTruth
    ) -> list[Mistake]:
        """Return the mistakes; see `classification_mistakes`."""
        if isinstance(ground_truth, GroundTruthMask | GroundTruthBoxes):
            raise TargetError(
                "The ground truth for a classifier must be a class.", "Pass its name or its index."
            )
        return classification_mistakes(prediction, ground_truth)
