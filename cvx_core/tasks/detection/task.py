"""Object detection as a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvx_core.images.regions import Frame
from cvx_core.tasks.base import Mistake, Task
from cvx_core.tasks.classes import Detection as Reported, TargetRecord
from cvx_core.tasks.detection.candidates import DetectionCandidates, DetectionOutput
from cvx_core.tasks.detection.mistakes import detection_mistakes
from cvx_core.tasks.detection.output import detection
from cvx_core.tasks.detection.prediction import DetectionPrediction
from cvx_core.tasks.detection.targets import FORMS, parse_box_target
from cvx_core.tasks.ground_truth import GroundTruth, GroundTruthBoxes, plain
from cvx_core.tasks.outputs import Classes, ModelOutput, shape_of
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.targets import Target

REPORTED_FROM = 0.05
"""Least score of the boxes in a row, below what is shown: average precision needs them."""

MOST_CANDIDATES = 200
"""Most boxes in a row before suppression, best first, to tune the suppression."""

_SIDES = (float, float, float, float)
_SCORED = {"box": _SIDES, "class": int, "score": float}

_SHOWN = 5
"""Boxes in a line of text."""


class Detection(Task):
    """Boxes with a class each."""

    name = "detection"
    output_parts = 2
    target_forms = FORMS
    ground_truth = GroundTruthBoxes
    columns: ClassVar[Mapping[str, Any]] = {
        "detections": [_SCORED],
        "candidates": [_SCORED],
        "ground_truth": [{"box": _SIDES, "class": int, "crowd": bool}],
    }

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
            DetectionPrediction.of(output.candidates, i, classes, frame, detection_mistakes)
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

    def as_ground_truth(self, label: Any) -> GroundTruth:
        """Return boxes, also of a dictionary of ``boxes`` (n, 4) and ``labels`` (n,)."""
        if isinstance(label, Mapping) and {"boxes", "labels"} <= set(label):
            return GroundTruthBoxes.of(plain(label["boxes"]), plain(label["labels"]))
        return label

    def row(
        self, prediction: DetectionPrediction, ground_truth: GroundTruth | None
    ) -> dict[str, Any]:
        """Return the boxes above `REPORTED_FROM`, those before suppression, and the true ones."""
        settings = prediction.settings
        low = replace(settings, threshold=min(REPORTED_FROM, settings.threshold))
        kept = replace(prediction, settings=low).kept
        row: dict[str, Any] = {
            "confidence": kept[0].entry.probability if kept else 0.0,
            "detections": _scored(kept),
        }
        if low.overlap is not None:
            every = replace(low, overlap=None, most=MOST_CANDIDATES)
            row["candidates"] = _scored(replace(prediction, settings=every).kept)
        if ground_truth is not None:
            row["ground_truth"] = [
                {"box": list(one.box), "class": prediction.find(one.reference), "crowd": one.crowd}
                for one in ground_truth.boxes
            ]
        return row

    def mistakes(self, prediction: DetectionPrediction, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the mistakes; see `detection_mistakes`."""
        return detection_mistakes(prediction, ground_truth)

    def summary(self, record: TargetRecord) -> str:
        """Return the best boxes that are reported."""
        reported = record.reported or ()
        boxes = ", ".join(one.text for one in reported[:_SHOWN])
        more = len(reported) - _SHOWN
        return (boxes or "no box") + (f" and {more} more" if more > 0 else "")


def _scored(several: Sequence[Reported]) -> list[dict[str, Any]]:
    return [
        {"box": list(one.box), "class": one.entry.index, "score": one.entry.probability}
        for one in several
    ]


def _boxes(output: DetectionOutput, index: int) -> Tensor:
    """Return the boxes (B, M, 4) of a class."""
    boxes = output.candidates.boxes
    return (boxes if boxes.ndim == 3 else boxes[:, :, index]).double()
