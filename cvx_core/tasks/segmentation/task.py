"""Semantic segmentation as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cvx_core.errors import ModelError
from cvx_core.images.regions import Frame
from cvx_core.tasks.base import Mistake, Task
from cvx_core.tasks.classes import TargetRecord
from cvx_core.tasks.ground_truth import GroundTruth, GroundTruthMask
from cvx_core.tasks.outputs import Classes, ModelOutput
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.segmentation.mistakes import segmentation_mistakes
from cvx_core.tasks.segmentation.output import segmentation
from cvx_core.tasks.segmentation.prediction import SegmentationPrediction
from cvx_core.tasks.segmentation.targets import FORMS, parse_region_target
from cvx_core.tasks.targets import Target


class Segmentation(Task):
    """A class for each pixel."""

    name = "segmentation"
    activation = "softmax"
    target_forms = FORMS
    ground_truth = GroundTruthMask
    label_axes = 2
    columns: ClassVar[Mapping[str, Any]] = {
        "pixels": [{"true": int, "predicted": int, "count": int}],
        "leads": [{"predicted": int, "lead": float, "count": int, "correct": int}],
    }

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return logits (B, C, h, w); see `segmentation`."""
        return segmentation(output, classes)

    def parse(self, found: Any) -> ModelOutput:
        """Return scores of shape (B, C, h, w) as an output."""
        return self.scores(found, "(B, C, h, w)")

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the prediction for each image.

        Raises
        ------
        ModelError
            If the scores have the proportions of the input only with the classes last.
        """
        scores = output.scores.detach().cpu()
        _check_order(scores.shape, frames)
        return [
            SegmentationPrediction(one.double().numpy(), classes, frame)
            for one, frame in zip(scores, frames, strict=True)
        ]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the softmax over the classes at each pixel, (B, C h w)."""
        return output.scores.softmax(1).flatten(1)

    def parse_target(self, word: str, rest: str) -> Target | None:
        """Read a target about a part of the image; see `parse_region_target`."""
        return parse_region_target(word, rest)

    def as_ground_truth(self, label: Any) -> GroundTruth:
        """Return a mask; a tensor or an array (H, W) holds indices of classes."""
        if getattr(label, "ndim", None) == 2:
            return GroundTruthMask(label.numpy(force=True) if hasattr(label, "numpy") else label)
        return label

    def row(
        self, prediction: SegmentationPrediction, ground_truth: GroundTruth | None
    ) -> dict[str, Any]:
        """Return how many pixels of each class are predicted as each, and their mean loss.

        ``leads`` has how many pixels of each predicted class are ahead of the second class by so
        many logits (the lower end of steps of a quarter in log2(1 + lead)), and how many of them
        are correct.
        """
        row: dict[str, Any] = {"confidence": float(prediction.probabilities.max(0).mean())}
        if ground_truth is None:
            return row
        count = prediction.count
        true = ground_truth.on_grid(prediction.frame, prediction.shape, count)
        at = true >= 0
        pairs, counts = np.unique(true[at] * count + prediction.predicted[at], return_counts=True)
        row["pixels"] = [
            {"true": int(pair) // count, "predicted": int(pair) % count, "count": int(n)}
            for pair, n in zip(pairs, counts, strict=True)
        ]
        row["leads"] = _leads(prediction, true)
        row["loss"] = None
        if at.any():
            chosen = np.take_along_axis(prediction.probabilities, true.clip(0)[None], 0)[0][at]
            row["loss"] = float(-np.log(chosen.clip(1e-300)).mean())
        return row

    def mistakes(
        self, prediction: SegmentationPrediction, ground_truth: GroundTruth
    ) -> list[Mistake]:
        """Return the mistakes; see `segmentation_mistakes`."""
        return segmentation_mistakes(prediction, ground_truth)

    def summary(self, record: TargetRecord) -> str:
        """Return the prediction in the part of the target."""
        return f"{record.predicted.text} on average where asked. {record.note}"


def _leads(prediction: SegmentationPrediction, true: npt.NDArray[Any]) -> list[dict[str, Any]]:
    at = true >= 0
    if prediction.count < 2 or not at.any():
        return []
    second, first = np.partition(prediction.logits, -2, axis=0)[-2:][:, at]
    steps = np.floor(4 * np.log2(1 + np.maximum(first - second, 0))).astype(np.int64)
    said = prediction.predicted[at]
    keys, inverse, counts = np.unique(
        said * (steps.max() + 1) + steps, return_inverse=True, return_counts=True
    )
    correct = np.bincount(inverse.reshape(-1), weights=said == true[at])
    return [
        {
            "predicted": int(key) // (int(steps.max()) + 1),
            "lead": float(2 ** (int(key) % (int(steps.max()) + 1) / 4) - 1),
            "count": int(n),
            "correct": int(right),
        }
        for key, n, right in zip(keys, counts, correct, strict=True)
    ]


def _check_order(shape: Sequence[int], frames: Sequence[Frame]) -> None:
    first, second, last = shape[1:]
    for across, down in {frame.size for frame in frames}:
        # Padding and strides change proportions a little, the number of classes by far.
        stretch = (second * across) / (last * down)
        if first * across == second * down and not 0.5 <= stretch <= 2:
            raise ModelError(
                f"The model returned {tuple(shape)} for inputs of {down} x {across} pixels: the "
                "classes come last, and (B, C, h, w) is expected.",
                "Pass readout=lambda o: o.permute(0, 3, 1, 2) to VisionModel.",
            )
