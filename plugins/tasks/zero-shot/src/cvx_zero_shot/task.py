"""Zero-shot classification: one of several text prompts is right for an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cvx_core import ClassificationPrediction, Frame, Mistake, Prediction, get_task
from cvx_core.plugins import check_choice
from cvx_core.tasks import Classes, GroundTruth, ModelOutput, Task, find_named


@dataclass(frozen=True)
class ZeroShot(Task):
    """One of several text prompts is right for an image; the outputs are scaled similarities.

    Classes are the prompts. Otherwise as ``classification``, also ``--label PROMPT``.

    Parameters
    ----------
    activation
        ``softmax`` over the prompts, as CLIP was trained, or ``sigmoid`` of each prompt, as SigLIP.
    """

    activation: str = "softmax"

    name = "zero-shot"
    whole_image = True
    exclusive = True
    pyramid = False
    label_form = "PROMPT"
    columns: ClassVar[Mapping[str, Any]] = {"logits": np.float16}

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ("softmax", "sigmoid"))

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return similarities (B, prompts): ``logits_per_image``, or as for a classifier."""
        found = find_named(output, "logits_per_image")
        given = output if found is None else found
        scores: Tensor = get_task("classification").readout(given, classes)
        return scores

    def parse(self, found: Any) -> ModelOutput:
        """Return scores of shape (B, prompts) as an output."""
        return self.scores(found, "(B, C)", least=2 if self.activation == "softmax" else 1)

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the prediction for each image."""
        scores = output.scores.detach().cpu().double().numpy()
        return [PromptPrediction(one, classes, self.activation) for one in scores]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the probability of each prompt, (B, prompts)."""
        sigmoid = self.activation == "sigmoid"
        return output.scores.sigmoid() if sigmoid else output.scores.softmax(1)

    def read_label(
        self,
        label: GroundTruth,
        image: str | Path,
        classes: Sequence[str] | None,
        count: int | None = None,
    ) -> GroundTruth:
        """Return a prompt by its text or index; text may be a ``.txt`` file with one line."""
        return get_task("classification").read_label(label, image, classes, count)

    def row(self, prediction: Any, ground_truth: GroundTruth | None) -> dict[str, Any]:
        """Return the predicted prompt, the logits, and loss and margin of the label."""
        row = get_task("classification").row(prediction, ground_truth)
        if ground_truth is not None:
            row["loss"] = prediction.loss(prediction.find(ground_truth))
        return row

    def mistakes(self, prediction: Any, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the mistake, if another prompt than the true one is predicted."""
        found = get_task("classification").mistakes(prediction, ground_truth)
        return [replace(one, loss=prediction.loss(one.true.index)) for one in found if one.true]


@dataclass(frozen=True)
class PromptPrediction(ClassificationPrediction):
    """Prediction of one of several prompts for an image."""

    activation: str = "softmax"

    task = "zero-shot"

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Softmax of the similarities, or the sigmoid of each, (prompts,)."""
        if self.activation == "sigmoid":
            return np.asarray(1.0 / (1.0 + np.exp(-self.logits.clip(-700, 700))))
        return np.asarray(np.exp(self.logits - np.logaddexp.reduce(self.logits)))

    def loss(self, true: int) -> float:
        """Return the cross-entropy in nats: of the softmax, or summed over the sigmoids."""
        z = self.logits
        if self.activation == "softmax":
            return max(0.0, float(np.logaddexp.reduce(z) - z[true]))
        return float(np.logaddexp(0, np.where(np.arange(len(z)) == true, -z, z)).sum())
