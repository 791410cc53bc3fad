"""Multi-label classification: several labels may be right for an image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cvx_core import (
    Frame,
    Mistake,
    OptionError,
    Prediction,
    Target,
    TargetError,
    is_file,
    read_text,
)
from cvx_core.tasks import (
    Classes,
    ClassRef,
    GroundTruth,
    Judgement,
    ModelOutput,
    Resolved,
    Task,
    VectorPrediction,
    check_finite,
    read_scores,
    required_label,
)


@dataclass(frozen=True)
class MultiLabel(Task):
    """Several labels may be right for an image: each has a sigmoid of its own.

    The ground truth is a set of labels: ``label=["cat", "sofa"]``, or ``--label "cat, sofa"`` on
    the command line; ``none`` is the empty set, and a ``.txt`` file holds one label a line. The
    error of label c is p_c - y_c, the gradient of the binary cross-entropy at its logit.

    Parameters
    ----------
    threshold
        Probability from which a label is predicted, in (0, 1).

    Examples
    --------
    >>> import torch
    >>> from cvx_core import VisionModel
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> model = VisionModel(net, classes=["cat", "sofa", "dog"], task="multi-label")
    >>> [prediction] = model.predict(torch.zeros(1, 3, 2, 2))
    >>> len(prediction.probabilities)
    3
    """

    threshold: float = 0.5

    name = "multi-label"
    activation = "sigmoid"
    whole_image = True
    pyramid = False
    label_form = "CLASS,CLASS"
    columns: ClassVar[Mapping[str, Any]] = {
        "label_logits": np.float16,
        "predicted_labels": [int],
        "true_labels": [int],
    }

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise OptionError(f"threshold must lie between 0 and 1, got {self.threshold}.")

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return logits (B, C)."""
        return read_scores(output, 2, classes)

    def parse(self, found: Any) -> ModelOutput:
        """Return scores of shape (B, C) as an output; a single label is one too."""
        return self.scores(found, "(B, C)", least=1)

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the labels of each image."""
        logits = output.scores.detach().cpu().double().numpy()
        return [LabelPrediction(one, classes, self.threshold) for one in logits]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the sigmoid of each logit, (B, C)."""
        return output.scores.sigmoid()

    def read_label(
        self,
        label: GroundTruth,
        image: str | Path,
        classes: Sequence[str] | None,
        count: int | None = None,
    ) -> GroundTruth:
        """Return the labels of an image from text or a file, as a tuple."""
        if isinstance(label, str) and label.endswith(".txt") and is_file(label):
            return tuple(filter(None, map(str.strip, read_text(Path(label)).splitlines())))
        return split_labels(label, classes)

    def labels_per_image(self, label: Any, count: int) -> list[GroundTruth | None]:
        """Return the labels of each image; names in a list are those of a single image."""
        plain = isinstance(label, list | tuple) and all(isinstance(x, str | int) for x in label)
        if isinstance(label, Collection) and not isinstance(label, list | tuple):
            return [label] * count
        return [label] if plain and count == 1 else super().labels_per_image(label, count)

    def row(self, prediction: LabelPrediction, ground_truth: GroundTruth | None) -> dict[str, Any]:
        """Return the logits of all labels, and which are predicted and true."""
        known = None if ground_truth is None else sorted(prediction.indices(ground_truth))
        return {
            **super().row(prediction, ground_truth),
            "label_logits": prediction.logits,
            "predicted_labels": np.flatnonzero(prediction.has).tolist(),
            "true_labels": known,
        }

    def mistakes(self, prediction: LabelPrediction, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the labels that are predicted wrongly or missed, the most costly first."""
        true = prediction.indices(ground_truth)
        wrong = [c for c in range(prediction.count) if (c in true) != prediction.has[c]]
        found = [_mistake(prediction, c, c in true) for c in wrong]
        return sorted(found, key=lambda one: -one.loss)


@dataclass(frozen=True, eq=False)
class LabelPrediction(VectorPrediction):
    """Labels of one image: logits (C,), names by index or None, and the task's threshold."""

    logits: npt.NDArray[np.float64]
    classes: Sequence[str] | None = None
    threshold: float = 0.5

    task = "multi-label"

    def __post_init__(self) -> None:
        check_finite(self.logits, "logits")

    @property
    def outputs(self) -> npt.NDArray[np.float64]:
        """The logits (C,)."""
        return self.logits

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Sigmoid of each logit, (C,)."""
        return np.asarray(1.0 / (1.0 + np.exp(-self.logits.clip(-700, 700))))

    @property
    def has(self) -> npt.NDArray[np.bool_]:
        """Which labels are predicted, (C,)."""
        return np.asarray(self.probabilities >= self.threshold)

    @property
    def offset(self) -> float:
        """Logit of the threshold, from which margins count."""
        return float(np.log(self.threshold / (1 - self.threshold)))

    def indices(self, label: GroundTruth) -> set[int]:
        """Return the indices of the true labels."""
        return {self.find(one) for one in split_labels(label, self.classes)}

    def verdict(self, label: Any) -> dict[str, Any]:
        """Return the true labels, and whether exactly they are predicted."""
        if label is None:
            return {"label": None}
        true = self.indices(label)
        truth = ", ".join(self.name(c) for c in sorted(true)) or "none"
        return {"label": None, "truth": truth, "correct": true == set(np.flatnonzero(self.has))}

    def resolve_error(self, label: Any) -> Resolved:
        """Return p - y over all labels, as a constant."""
        true = self.indices(required_label(label, "error"))
        seed = self.probabilities.copy()
        seed[list(true)] -= 1.0
        truth = self.verdict(label)["truth"]
        text = f"what causes the error, given ground truth {truth}?"
        return seed, self.record("error", text, seed, label=label)

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the seed of the most costly mistake."""
        mistakes = MultiLabel(self.threshold).mistakes(self, required_label(label, "margin"))
        if mistakes:
            return mistakes[0].target.resolve(self, label)
        text = "the predicted labels are correct: there is no error"
        note = (
            "The prediction is correct, so the margin and its map are zero. Target 'error' shows "
            "the remaining error."
        )
        seed = np.zeros(self.count)
        return seed, self.record("margin", text, seed, label=label, note=note)


@dataclass(frozen=True)
class LabelError(Target):
    """One label that is predicted wrongly (seed 1_c) or missed (seed -1_c)."""

    reference: ClassRef
    missed: bool = False
    class_fields = ("reference",)

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the signed one-hot seed of the label."""
        found = LabelPrediction.require(prediction, self)
        c, sign = found.find(self.reference), -1.0 if self.missed else 1.0
        seed = sign * found.one_hot(c)
        text = f"why {'not ' if self.missed else ''}{found.name(c)}?"
        return seed, found.record("margin", text, seed, [c], [sign], label)


@dataclass(frozen=True)
class WrongLabel(Mistake):
    """A label that is predicted wrongly, or missed. The margin is its distance to the threshold."""

    def judge(self, prediction: Prediction) -> Judgement:
        """Return the margin of the same label, and whether it is right."""
        found = LabelPrediction.require(prediction, self.target)
        assert isinstance(self.target, LabelError)
        margin = _margin(found, found.find(self.target.reference), self.target.missed)
        return Judgement(margin, margin < 0)


def split_labels(label: GroundTruth, classes: Sequence[str] | None) -> tuple[ClassRef, ...]:
    """Return labels from one, several, or text with commas; raises `TargetError`."""
    if isinstance(label, str):
        known = {name.strip().casefold() for name in classes or ()}
        if label.strip().casefold() in known:  # a name may hold a comma
            return (label,)
        if label.strip().casefold() in ("", "none"):
            return ()
        return tuple(part.strip() for part in label.split(",") if part.strip())
    if isinstance(label, int | np.integer) and not isinstance(label, bool):
        return (int(label),)
    if isinstance(label, Collection):
        return tuple(label)
    raise TargetError(
        f"label must be class names or indices, got {type(label).__name__}.",
        'Pass a list, such as ["cat", "sofa"].',
    )


def _mistake(prediction: LabelPrediction, c: int, missed: bool) -> WrongLabel:
    entry, margin = prediction.entry(c), _margin(prediction, c, missed)
    loss = float(np.logaddexp(0.0, -entry.score if missed else entry.score))
    kind, target = ("missed label" if missed else "wrong label"), LabelError(c, missed)
    predicted, true = (None, entry) if missed else (entry, None)
    return WrongLabel(kind, target, None, predicted, true, loss, margin)


def _margin(prediction: LabelPrediction, c: int, missed: bool) -> float:
    above = float(prediction.logits[c]) - prediction.offset
    return -above if missed else above
