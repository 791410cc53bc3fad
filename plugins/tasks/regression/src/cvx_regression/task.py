"""Regression: one or several values for each image, with units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cvx_core import Frame, Mistake, OptionError, Prediction, Target, TargetError
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

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"


@dataclass(frozen=True)
class Regression(Task):
    """One or several values for each image.

    The ground truth is the true value: ``label=61.5``, or ``{"age": 61.5, "height": 1.8}`` by the
    names in ``classes`` of the model; ``--label 61.5`` or ``--label "age=61.5, height=1.8"`` on the
    command line. The error is z - y in the unit of the value, the gradient of half the squared
    error.

    Parameters
    ----------
    unit
        Unit of the values, as in ``"years"``.
    tolerance
        Largest deviation that is no mistake, in the unit. 0 or more.

    Examples
    --------
    >>> import torch
    >>> from cvx_core import VisionModel
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
    >>> model = VisionModel(net, classes=["age"], task="regression:unit=years,tolerance=5")
    >>> model.predict(torch.zeros(1, 3, 2, 2))[0].unit
    'years'
    """

    unit: str = ""
    tolerance: float = 0.0

    name = "regression"
    whole_image = True
    pyramid = False
    label_form = "VALUE"

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise OptionError(f"tolerance must be 0 or more, got {self.tolerance}.")

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return values (B, K), of (B,) or (B, K)."""
        return read_scores(output, 2, classes, single=True)

    def parse(self, found: Any) -> ModelOutput:
        """Return values of shape (B, K) as an output."""
        return self.scores(found, "(B, K)", least=1)

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the values of each image."""
        values = output.scores.detach().cpu().double().numpy()
        names = classes or (["value"] if values.shape[1] == 1 else None)
        return [ValuePrediction(one, names, self.unit, self.tolerance) for one in values]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the values themselves, (B, K)."""
        return output.scores

    def read_label(
        self,
        label: GroundTruth,
        image: str | Path,
        classes: Sequence[str] | None,
        count: int | None = None,
    ) -> GroundTruth:
        """Return the true values from text, by name."""
        return read_values(label)

    def mistakes(self, prediction: ValuePrediction, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the values that deviate by more than the tolerance, the most costly first."""
        true = prediction.true_values(ground_truth)
        found = [
            _mistake(prediction, k, y)
            for k, y in true.items()
            if abs(prediction.values[k] - y) > prediction.tolerance
        ]
        return sorted(found, key=lambda one: -one.loss)


@dataclass(frozen=True, eq=False)
class ValuePrediction(VectorPrediction):
    """Values (K,) of one image, with names by index or None, and the task's parameters."""

    values: npt.NDArray[np.float64]
    classes: Sequence[str] | None = None
    unit: str = ""
    tolerance: float = 0.0

    task = "regression"
    own_targets = "Targets of values need a regression model; give a class."

    def __post_init__(self) -> None:
        check_finite(self.values, "values")

    @property
    def outputs(self) -> npt.NDArray[np.float64]:
        """The values (K,)."""
        return self.values

    @property
    def predicted(self) -> int:
        """Index of the first value: values of several quantities have no largest."""
        return 0

    def true_values(self, label: GroundTruth) -> dict[int, float]:
        """Return the true values by index.

        Raises
        ------
        TargetError
            If there are several values, and the label does not name its own.
        """
        found = read_values(label)
        if not isinstance(found, dict):
            if self.count != 1:
                raise TargetError(
                    f"label must name one of the {self.count} values, got {label!r}.",
                    f"Pass a mapping, such as {{{self.name(0)!r}: 1.5}}.",
                )
            return {0: found}
        return {self.find(name): value for name, value in found.items()}

    def verdict(self, label: Any) -> dict[str, Any]:
        """Return the true values in words; right or wrong only with a tolerance."""
        if label is None:
            return {"label": None}
        true = self.true_values(label)
        close = all(abs(self.values[k] - y) <= self.tolerance for k, y in true.items())
        words = [f"{self.name(k)}={y:g} {self.unit}".rstrip() for k, y in true.items()]
        correct = close if self.tolerance else None
        return {"label": None, "truth": ", ".join(words), "correct": correct}

    def resolve_error(self, label: Any) -> Resolved:
        """Return z - y of each value whose true one is known, as a constant."""
        seed = np.zeros(self.count)
        for k, y in self.true_values(required_label(label, "error")).items():
            seed[k] = self.values[k] - y
        text = f"what causes the error, given {self.verdict(label)['truth']}?"
        return seed, self.record("error", text, seed, label=label)

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the seed of the value that deviates most: why it is too high or too low."""
        true = self.true_values(required_label(label, "margin"))
        k = max(true, key=lambda k: abs(self.values[k] - true[k]))
        return Deviation(k, float(np.sign(self.values[k] - true[k]))).resolve(self, label)


@dataclass(frozen=True)
class Deviation(Target):
    """Why a value is too high (seed 1_k) or too low (seed -1_k)."""

    reference: ClassRef
    sign: float = 1.0
    class_fields = ("reference",)

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the signed one-hot seed of the value."""
        found = ValuePrediction.require(prediction, self)
        k = found.find(self.reference)
        seed = self.sign * found.one_hot(k)
        words = {1.0: "too high", -1.0: "too low"}.get(self.sign, "as it is")
        text = f"why is {found.name(k)} {words}?"
        return seed, found.record("margin", text, seed, [k], [self.sign], label)


@dataclass(frozen=True)
class WrongValue(Mistake):
    """A value that deviates. The margin is its deviation beyond the tolerance, in the unit."""

    truth: float = 0.0

    def judge(self, prediction: Prediction) -> Judgement:
        """Return the deviation on the same side, and whether it is within the tolerance."""
        found = ValuePrediction.require(prediction, self.target)
        assert isinstance(self.target, Deviation)
        off = found.values[found.find(self.target.reference)] - self.truth
        note = f"{off:+.3g} {found.unit}".rstrip()
        # On the other side by more than the tolerance is wrong too.
        margin = float(self.target.sign * off) - found.tolerance
        return Judgement(margin, abs(off) <= found.tolerance, note)


def read_values(label: GroundTruth) -> float | dict[ClassRef, float]:
    """Return a true value, or several by name, from a number, a mapping or text.

    Raises
    ------
    TargetError
        If it is none of these.
    """
    if isinstance(label, Mapping):
        return {name: float(value) for name, value in label.items()}
    if isinstance(label, str):
        if found := re.fullmatch(rf"\s*({_NUMBER})\b.*", label):
            return float(found[1])
        pairs = re.findall(rf"([^=,]+)=\s*({_NUMBER})[^,]*", label)
        if pairs:
            return {name.strip(): float(value) for name, value in pairs}
    elif isinstance(label, int | float | np.number) and not isinstance(label, bool):
        return float(label)
    raise TargetError(
        f"label must be a number, got {label!r}.", "Pass 61.5, or 'age=61.5' for one of several."
    )


def _mistake(prediction: ValuePrediction, k: int, truth: float) -> WrongValue:
    off = float(prediction.values[k]) - truth
    entry, target = prediction.entry(k), Deviation(k, float(np.sign(off)))
    kind, margin = ("too high" if off > 0 else "too low"), abs(off) - prediction.tolerance
    return WrongValue(kind, target, None, entry, None, off * off / 2, margin, truth)
