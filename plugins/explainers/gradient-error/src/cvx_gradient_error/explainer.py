"""Gradient-based error attribution: the gradient of the error at the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import (
    Attribution,
    Explainer,
    Margin,
    Needs,
    OptionError,
    Question,
    Recording,
    TargetRecord,
    VisionModel,
)
from cvx_core.reference import check_reference, reference_of
from cvx_gradient_error.path import Evaluate, integrate

_OUTPUTS = ("signed", "sensitivity", "path")


@dataclass(frozen=True)
class GradientError(Explainer):
    """Gradient of the margin (or the loss) at the input pixels.

    The default question is why the wrong answer beats the right one: g = d(z_q - z_y)/dx. With the
    target ``Error(label)`` it is the gradient of the cross-entropy, g = dL/dx.

    Parameters
    ----------
    output
        ``"signed"``: x * g, in logits, what the pixels add to the margin to first order.
        ``"sensitivity"``: max over channels of \\|g\\| (Simonyan 2013, arXiv:1312.6034), what the
        error is sensitive to; not what caused it.
        ``"path"``: integrated gradients (Sundararajan 2017, arXiv:1703.01365), which sum to
        S(x) - S(x').
    steps
        Gradients to take along the path at most.
    tolerance
        Relative residual at which the path stops taking more.
    reference
        x' of the path: ``"zero"`` (the network's zero input, a mean grey) or ``"blur"`` (the image
        blurred beyond recognition).

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    """

    output: str = "signed"
    steps: int = 64
    tolerance: float = 0.01
    reference: str = "zero"

    default_target = Margin()

    def __post_init__(self) -> None:
        if self.output not in _OUTPUTS:
            raise OptionError(
                f"There is no output {self.output!r}.", "There are " + ", ".join(_OUTPUTS) + "."
            )
        check_reference(self.reference)
        if not isinstance(self.steps, int) or not 2 <= self.steps <= 1000:
            raise OptionError(f"steps is {self.steps}.", "It is a whole number from 2 to 1000.")
        if not 0 <= self.tolerance < 1:
            raise OptionError(f"tolerance is {self.tolerance}.", "It lies between 0 and 1.")

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the sign of a value means something."""
        return self.output != "sensitivity"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """What a value counts."""
        return "logits" if self.signed else "logits per unit of input"

    def needs(self) -> Needs:
        """Ask for the input."""
        return Needs("input")

    def attribute(self, question: Question) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        recording = question.recording(self.needs())
        seeds = question.seeds(recording.logits)
        if self.output == "path":
            return [self._path(question, k, seed) for k, seed in enumerate(seeds)]
        inputs = recording.raw("input")
        found = []
        for seed in seeds:
            gradient = recording.gradients(seed, "input")[0]
            values = (
                (inputs * gradient).sum(dim=1)
                if self.output == "signed"
                else gradient.abs().amax(dim=1)
            )
            found.append(Attribution(values, provenance={"layer": "input", "output": self.output}))
        return found

    def _path(self, question: Question, k: int, seeds: Tensor) -> Attribution:
        """Integrate image by image, each refined where it needs it."""
        inputs = question.recording(self.needs()).raw("input")
        references = reference_of(self.reference, inputs)
        records = [several[min(k, len(several) - 1)] for several in question.records(seeds)]
        found = [
            integrate(
                _scalar(question.model, seed, record),
                x,
                reference,
                tolerance=self.tolerance,
                most=self.steps,
            )
            for x, reference, seed, record in zip(inputs, references, seeds, records, strict=True)
        ]
        return Attribution(
            torch.stack([one.values.sum(dim=0) for one in found]),
            evidence={
                "total": torch.tensor([one.total for one in found], dtype=torch.float64),
                "residual": torch.tensor([one.residual for one in found], dtype=torch.float64),
                "path_gradients": torch.tensor([one.points for one in found]),
            },
            provenance={"layer": "input", "output": "path", "reference": self.reference},
        )


def _scalar(model: VisionModel, seed: Tensor, record: TargetRecord) -> Evaluate:
    """Return what is integrated: the loss for the error signal, else <seed, logits>."""
    label = record.label.index if record.kind == "error" and record.label is not None else None

    def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
        with Recording(model, points, Needs("input")) as recording:
            logits = recording.logits.detach()
            if label is None:
                scalars, at = logits.double() @ seed.double(), seed.expand_as(logits)
            else:
                # The loss bends along the path: its gradient is p - 1_y at every point anew.
                truth = torch.full((len(points),), label, device=logits.device)
                scalars = F.cross_entropy(logits.double(), truth, reduction="none")
                at = logits.softmax(1) - F.one_hot(truth, logits.shape[1])
            return scalars, recording.gradients(at, "input")[0]

    return evaluate
