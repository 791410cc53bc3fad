"""Object detection as a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvx_core.images.regions import Frame
from cvx_core.tasks.base import Mistake, Task
from cvx_core.tasks.classes import TargetRecord
from cvx_core.tasks.detection.candidates import DetectionCandidates, DetectionOutput
from cvx_core.tasks.detection.mistakes import detection_mistakes
from cvx_core.tasks.detection.output import detection
from cvx_core.tasks.detection.prediction import DetectionPrediction
from cvx_core.tasks.detection.targets import FORMS, parse_box_target
from cvx_core.tasks.ground_truth import GroundTruth, GroundTruthBoxes, read_annotations
from cvx_core.tasks.outputs import Classes, ModelOutput, shape_of
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.targets import Target

_SHOWN = 5
"""Boxes in a line of text."""


class Detection(Task):
    """Boxes with a class each."""

    name = "detection"
    target_forms = FORMS

    def readout(self, output: Any, classes: Classes = None) -> DetectionCandidates:
        """Return candidates; see `detection`."""
        return detection(output, classes)

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

    def link(self, output: ModelOutput) -> Tensor:
        """Return the scores in [0, 1] and the sides of the boxes, (B, N)."""
        assert isinstance(output, DetectionOutput)
        return output.meaning

    def probability_of(
        self, seed: Tensor, output: ModelOutput
    ) -> Callable[[ModelOutput], Tensor] | None:
        """Return how well an object is still detected: the best IoU times score.

        Over all candidates, because the candidate of an object may change with the image
        (D-RISE: Petsiuk et al. 2021, arXiv:2006.03204, without its similarity of class vectors).
        """
        assert isinstance(output, DetectionOutput)
        shape = output.scores.shape[1:]
        logits, rest = seed[: shape.numel()].view(shape), seed[shape.numel() :]
        found = logits.nonzero()
        if len(found) != 1 or bool((seed < 0).any()) or bool(rest.any()):
            return None
        candidate, index = found[0].tolist()
        box = _boxes(output, index)[0, candidate]

        def measure(other: ModelOutput) -> Tensor:
            assert isinstance(other, DetectionOutput)
            boxes = _boxes(other, index)
            low = torch.maximum(boxes[..., :2], box[:2])
            high = torch.minimum(boxes[..., 2:], box[2:])
            shared = (high - low).clamp_min(0).prod(2)
            areas = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(2)
            whole = areas + (box[2:] - box[:2]).clamp_min(0).prod() - shared
            near = torch.where(whole > 0, shared / whole, 0.0)
            return (other.probabilities[..., index].double() * near).amax(1)

        return measure

    def parse_target(self, word: str, rest: str) -> Target | None:
        """Read a target about a part of the image; see `parse_box_target`."""
        return parse_box_target(word, rest)

    def read_label(
        self,
        label: GroundTruth,
        image: str | Path,
        classes: Sequence[str] | None,
        count: int | None = None,
    ) -> GroundTruth:
        """Return the boxes of a file; see `cvx_core.read_ground_truth`."""
        text = isinstance(label, str)
        return read_annotations(label, GroundTruthBoxes, image, classes) if text else label

    def mistakes(self, prediction: DetectionPrediction, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the mistakes; see `detection_mistakes`."""
        return detection_mistakes(prediction, ground_truth)

    def summary(self, record: TargetRecord) -> str:
        """Return the best boxes that are reported."""
        reported = record.reported or ()
        boxes = ", ".join(one.text for one in reported[:_SHOWN])
        more = len(reported) - _SHOWN
        return (boxes or "no box") + (f" and {more} more" if more > 0 else "")


def _boxes(output: DetectionOutput, index: int) -> Tensor:
    """Return the boxes (B, M, 4) of a class."""
    boxes = output.candidates.boxes
    return (boxes if boxes.ndim == 3 else boxes[:, :, index]).double()
