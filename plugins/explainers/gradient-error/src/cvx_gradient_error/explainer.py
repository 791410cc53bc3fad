"""Gradient-based error attribution: the gradient of the error at the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import Attribution, Explainer, Margin, Needs, OptionError, Question
from cvx_gradient_error.path import integrate

_OUTPUTS = ("signed", "sensitivity", "path")
_REFERENCES = ("zero", "blur")


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
        Gradients along the path.
    reference
        x' of the path: ``"zero"`` (the network's zero input, a mean grey) or ``"blur"`` (the image
        blurred beyond recognition).

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    """

    output: str = "signed"
    steps: int = 32
    reference: str = "zero"

    default_target = Margin()

    def __post_init__(self) -> None:
        if self.output not in _OUTPUTS:
            raise OptionError(
                f"There is no output {self.output!r}.", "There are " + ", ".join(_OUTPUTS) + "."
            )
        if self.reference not in _REFERENCES:
            raise OptionError(
                f"There is no reference {self.reference!r}.",
                "There are " + ", ".join(_REFERENCES) + ".",
            )
        if not isinstance(self.steps, int) or not 1 <= self.steps <= 1000:
            raise OptionError(f"steps is {self.steps}.", "It is a whole number from 1 to 1000.")

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

    def _path(self, question: Question, k: int, seed: Tensor) -> Attribution:
        recording = question.recording(self.needs())
        inputs = recording.raw("input")
        reference = torch.zeros_like(inputs) if self.reference == "zero" else _blurred(inputs)
        records = [several[min(k, len(several) - 1)] for several in question.records(seed)]
        # The loss bends along the path: its gradient is p - 1_y at every point, not at x alone.
        losses = [r.kind == "error" and r.label is not None for r in records]
        labels = torch.tensor([r.label.index if r.label else 0 for r in records])
        is_loss = torch.tensor(losses, device=seed.device)
        one_hot = F.one_hot(labels, seed.shape[1]).to(seed)

        def seed_at(logits: Tensor) -> Tensor:
            error = logits.detach().softmax(1) - one_hot
            return torch.where(is_loss[:, None], error, seed)

        def gradient(point: Tensor) -> Tensor:
            with question.with_inputs(point) as there:
                at = there.recording(self.needs())
                return at.gradients(seed_at(at.logits), "input")[0]

        values = integrate(inputs, reference, self.steps, gradient)
        logits = recording.logits.detach().double()
        start = question.model.logits(reference).double()

        def scalar(z: Tensor) -> Tensor:
            loss = F.cross_entropy(z, labels.to(z.device), reduction="none")
            return torch.where(is_loss, loss, (seed.double() * z).sum(1))

        total = scalar(logits) - scalar(start)
        summed = values.double().sum(dim=(1, 2, 3))
        scale = torch.maximum(total.abs(), summed.abs()).clamp_min(1e-12)
        return Attribution(
            values.sum(dim=1),
            evidence={
                "total": total,
                "residual": (total - summed).abs() / scale,
                "path_gradients": self.steps,
            },
            provenance={"layer": "input", "output": "path", "reference": self.reference},
        )


def _blurred(inputs: Tensor) -> Tensor:
    """Blur by an eighth of the shorter side, edges repeated."""
    size = max(1, min(inputs.shape[-2:]) // 8) | 1
    padded = F.pad(inputs, (size // 2,) * 4, mode="replicate")
    once = F.avg_pool2d(padded, size, stride=1)
    return F.avg_pool2d(F.pad(once, (size // 2,) * 4, mode="replicate"), size, stride=1)
