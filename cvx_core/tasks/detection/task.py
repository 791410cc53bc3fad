"""Object detection as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvx_core.images.regions import Frame
from cvx_core.tasks.base import Mistake, ModelOutput, Task, shape_of
from cvx_core.tasks.detection.candidates import DetectionCandidates, DetectionOutput
from cvx_core.tasks.detection.mistakes import detection_mistakes
from cvx_core.tasks.detection.output import detection
from cvx_core.tasks.detection.prediction import DetectionPrediction
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.prediction import Prediction


class Detection(Task):
    """Boxes with a class each."""

    name = "detection"

    def readout(self, output: Any) -> DetectionCandidates:
        """Return candidates; see `detection`."""
        return detection(output)

    def parse(self, found: Any) -> DetectionOutput:
        """Return candidates as an output."""
        if not isinstance(found, DetectionCandidates):
            raise self.wrong_shape(shape_of(found), "DetectionCandidates")
        return DetectionOutput(found.logits, found)

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the prediction for each image."""
        assert isinstance(output, DetectionOutput)
        return [
            DetectionPrediction.of(output.candidates, i, classes, frame)
            for i, frame in enumerate(frames)
        ]

    def mistakes(self, prediction: DetectionPrediction, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the mistakes; see `detection_mistakes`."""
        return detection_mistakes(prediction, ground_truth)
