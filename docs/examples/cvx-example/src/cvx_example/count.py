"""Task: counting objects by a density map (Lempitsky and Zisserman, NIPS 2010).

The model returns a density for each pixel, and the sum over a region is the number of objects in
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cvx_core import Frame, Margin, Mistake, Prediction, TargetError
from cvx_core.tasks import (
    ClassEntry,
    Classes,
    GroundTruth,
    Judgement,
    ModelOutput,
    Resolved,
    TargetRecord,
    Task,
    check_finite,
    read_scores,
    required_label,
)


@dataclass(frozen=True, eq=False)
class CountPrediction(Prediction):
    """Densities (h, w) of one image."""

    densities: npt.NDArray[np.float64]
    classes: Sequence[str] | None = ("objects",)

    task = "count"
    count = 1

    def __post_init__(self) -> None:
        check_finite(self.densities, "densities")

    @property
    def outputs(self) -> npt.NDArray[np.float64]:
        """All densities (h w,)."""
        return self.densities.reshape(-1)

    @property
    def total(self) -> float:
        """The predicted number of objects."""
        return float(self.outputs.sum())

    def resolve_predicted(self, label: Any) -> Resolved:
        """Return the seed of the sum."""
        return self._target("predicted", f"what supports the count {self.total:.3g}?", 1.0, label)

    def resolve_error(self, label: Any) -> Resolved:
        """Return the gradient of half the squared deviation of the sum."""
        off = self.total - read_count(required_label(label, "error"))
        return self._target("error", "what causes the error?", off, label)

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the sign of the deviation of the sum."""
        true = read_count(required_label(label, "margin"))
        text = f"why count {self.total:.3g} and not {true:g}?"
        return self._target("margin", text, float(np.sign(self.total - true)), label)

    def _target(self, kind: str, text: str, weight: float, label: Any) -> Resolved:
        seed = np.full(self.outputs.size, weight)
        entry = ClassEntry(0, self.name(0), self.total, None, "objects")
        record = TargetRecord(
            kind, text, self.value(seed), None, (entry,), (1.0,), entry, None, (entry,)
        )
        if label is not None:
            true = read_count(label)
            correct = round(self.total) == true
            record = replace(record, truth=f"{true:g} objects", correct=correct)
        return seed, record


@dataclass(frozen=True)
class WrongCount(Mistake):
    """A count that is too high or too low. The margin is its deviation."""

    count: float = 0.0

    def judge(self, prediction: Prediction) -> Judgement:
        """Return the deviation on the same side, and whether the rounded count is right."""
        found = CountPrediction.require(prediction, self.target)
        sign = 1.0 if self.type == "too many" else -1.0
        return Judgement(sign * (found.total - self.count), round(found.total) == self.count)


class Count(Task):
    """The number of objects in an image, the sum of a density map."""

    name = "count"
    label_form = "NUMBER"
    unit = "objects"

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return the densities (B, 1, h, w) in what the network returned."""
        return read_scores(output, 4, classes)

    def parse(self, found: Any) -> ModelOutput:
        """Return densities (B, 1, h, w) as an output."""
        return self.scores(found, "(B, 1, h, w)", least=1)

    def predictions(
        self,
        output: ModelOutput,
        classes: Sequence[str] | None,
        frames: Sequence[Frame],  # noqa: ARG002
    ) -> list[Prediction]:
        """Return a prediction for each image."""
        densities = output.scores[:, 0].detach().cpu().double().numpy()
        return [CountPrediction(one, classes or ("objects",)) for one in densities]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the densities themselves, (B, h w)."""
        return output.flat

    def mistakes(self, prediction: CountPrediction, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the wrong count, or nothing if it rounds to the right one."""
        true = read_count(ground_truth)
        off = prediction.total - true
        if round(prediction.total) == true:
            return []
        kind = "too many" if off > 0 else "too few"
        return [WrongCount(kind, Margin(true), None, None, None, off**2 / 2, abs(off), true)]


def read_count(label: Any) -> float:
    """Return a number of objects, given as a number or as text.

    Raises
    ------
    TargetError
        If it is not one.
    """
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise TargetError(f"label must be a number of objects, got {label!r}.", "Pass label=3.")
    return number
