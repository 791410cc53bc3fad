"""Gradient-based error attribution: the gradient of the error at the input."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cvx_core import Attribution, ExplainRequest, Margin, Requirements
from cvx_core.plugins import check_choice
from cvx_gradient_error.integrated_gradients import IntegratedGradients
from cvx_gradient_error.saliency import InputXGradient, Saliency, WithOutput

_OUTPUTS = ("signed", "sensitivity", "path")


@dataclass(frozen=True)
class GradientError(WithOutput):
    """Gradient of the margin (or the loss) at the input pixels.

    The default target is the margin of the wrong class over the true one: g = d(z_q - z_y)/dx.
    With the target ``Error(label)`` it is the gradient of the cross-entropy, g = dL/dx.

    Parameters
    ----------
    output
        ``"signed"``: x * g, in logits, what the pixels add to the margin to first order.
        ``"sensitivity"``: max over channels of \\|g\\| (Simonyan 2013, arXiv:1312.6034), what the
        error is sensitive to; not what caused it.
        ``"path"``: integrated gradients (Sundararajan 2017, arXiv:1703.01365), which sum to
        S(x) - S(x').
    steps
        Limit of gradients along the path.
    tolerance
        Relative residual at which the integration stops.
    baseline
        x' of the path: ``"zero"`` (the network's zero input, for most a mean grey), ``"mean"`` (the
        image's mean colour) or ``"blur"`` (the image blurred beyond recognition).

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    """

    output: str = "signed"
    steps: int = 64
    tolerance: float = 0.01
    baseline: str = "zero"

    default_target = Margin()

    def __post_init__(self) -> None:
        check_choice("output", self.output, _OUTPUTS)
        IntegratedGradients(self.steps, self.tolerance, self.baseline)  # checks the values

    def requirements(self) -> Requirements:
        """Return the requirements of the output."""
        return self._method().requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        return [
            replace(one, provenance={**one.provenance, "output": self.output})
            for one in self._method().attribute(request)
        ]

    def _method(self) -> Saliency | InputXGradient | IntegratedGradients:
        if self.output == "signed":
            return InputXGradient()
        if self.output == "sensitivity":
            return Saliency()
        return IntegratedGradients(self.steps, self.tolerance, self.baseline)
