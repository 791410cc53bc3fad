"""Classification as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from cvx_core._util.files import is_file, read_text
from cvx_core.errors import InputError, TargetError
from cvx_core.images.regions import Frame
from cvx_core.tasks.base import Mistake, Task
from cvx_core.tasks.classes import find_class
from cvx_core.tasks.classification.mistakes import classification_mistakes
from cvx_core.tasks.classification.output import classification
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.ground_truth import (
    GroundTruth,
    GroundTruthBoxes,
    GroundTruthMask,
    read_annotations,
)
from cvx_core.tasks.outputs import Classes, ModelOutput
from cvx_core.tasks.prediction import Prediction


class Classification(Task):
    """One class for each image."""

    name = "classification"
    activation = "softmax"
    whole_image = True
    exclusive = True
    pyramid = False
    label_axes = 0
    label_form = "CLASS"
    columns: ClassVar[Mapping[str, Any]] = {"logits": np.float16}

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return logits (B, C); see `classification`."""
        return classification(output, classes)

    def parse(self, found: Any) -> ModelOutput:
        """Return scores of shape (B, C) as an output."""
        return self.scores(found, "(B, C)")

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the prediction for each image."""
        scores = output.scores.detach().cpu()
        return [ClassificationPrediction(one.double().numpy(), classes) for one in scores]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the softmax of the logits, (B, C)."""
        return output.scores.softmax(1)

    def read_label(
        self,
        label: GroundTruth,
        image: str | Path,
        classes: Sequence[str] | None,
        count: int | None = None,
    ) -> GroundTruth:
        """Return a class by name or index.

        Text may be a ``.txt`` file with one line, or COCO's ``.json`` in which all objects of the
        image have one class.
        """
        if isinstance(label, str):
            label = _class(Path(label), label, image, classes)
        if count is not None and isinstance(label, str | int):
            find_class(label, classes, count)
        return label

    def row(
        self, prediction: ClassificationPrediction, ground_truth: GroundTruth | None
    ) -> dict[str, Any]:
        """Return the predicted class, its logits, and loss and margin of the label."""
        logits = prediction.logits
        row: dict[str, Any] = {
            "predicted": prediction.predicted,
            "confidence": float(prediction.probabilities[prediction.predicted]),
            "logits": logits,
        }
        if ground_truth is not None:
            y = prediction.find(ground_truth)
            largest = logits.max()
            total = float(np.log(np.exp(logits - largest).sum()) + largest)
            row["label"] = y
            row["margin"] = float(np.delete(logits, y).max() - logits[y])
            row["loss"] = max(0.0, total - float(logits[y]))
        return row

    def mistakes(
        self, prediction: ClassificationPrediction, ground_truth: GroundTruth
    ) -> list[Mistake]:
        """Return the mistakes; see `classification_mistakes`."""
        if isinstance(ground_truth, GroundTruthMask | GroundTruthBoxes):
            raise TargetError(
                "The ground truth for a classifier must be a class.", "Pass its name or its index."
            )
        return classification_mistakes(prediction, ground_truth)


def _class(
    file: Path, text: str, image: str | Path, classes: Sequence[str] | None
) -> str | int | None:
    suffix = file.suffix.lower()
    if suffix in (".xml", ".png") and is_file(file):
        raise InputError(
            f"{file} is ground truth for a detector or a segmenter, and the model classifies.",
            "Give the true class by its name or its index.",
        )
    if suffix == ".json" and is_file(file):
        objects = read_annotations(file, GroundTruthBoxes, image, classes)
        found = {one.reference for one in objects.boxes}
        if len(found) > 1:
            raise InputError(
                f"{Path(image).name} has objects of {len(found)} classes in {file}, and the model "
                "gives one class for an image.",
                "Give the class of each image: --label CLASS, or a CSV with path and label.",
            )
        return found.pop() if found else None
    if suffix != ".txt" or not is_file(file):
        return text
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if len(lines) != 1:
        raise InputError(
            f"{file} has {len(lines)} lines, and a classifier's truth is one class.",
            "Write the class's name or index on one line.",
        )
    return lines[0]
