"""Gradient-based error attribution: the gradient of the error at the input."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cvx_core import Attribution, ExplainRequest, Margin, OptionError, Requirements
from cvx_core.plugins import check_choice
from cvx_gradient_error.integrated_gradients import IntegratedGradients
from cvx_gradient_error.saliency import InputXGradient, Saliency, WithOutput
from cvx_gradient_error.smooth_path import SmoothPath

_OUTPUTS = ("smooth", "signed", "sensitivity", "path")
_USED_BY = {"steps": ("smooth", "path"), "tolerance": ("path",), "baseline": ("path",)}


@dataclass(frozen=True)
class GradientError(WithOutput):
    """Gradient of the margin (or the loss) at the input pixels.

    The default target is the margin of the wrong class over the true one: g = d(z_q - z_y)/dx.
    With the target ``Error(label)`` it is the gradient of the cross-entropy, g = dL/dx.

    Parameters
    ----------
    output
        ``"smooth"``: what a fine and a coarse scale of smoothed gradients on the path from a
        blurred image agree on, per unit of contrast; see `SmoothPath`.
        ``"signed"``: x * g, in logits, what the pixels add to the margin to first order.
        ``"sensitivity"``: max over channels of \\|g\\| (Simonyan 2013, arXiv:1312.6034), what the
        error is sensitive to; not what caused it.
        ``"path"``: integrated gradients (Sundararajan 2017, arXiv:1703.01365), which sum to
        S(x) - S(x').
    steps
        Gradients along the path: 32 for ``"smooth"``, and at most 64 for ``"path"`` if None.
        ``output="smooth"`` of one step is ``"signed"``.
    tolerance
        Relative residual at which ``"path"`` stops, 0.01 if None.
    baseline
        x' of ``"path"``: ``"zero"`` (the network's zero input, for most a mean grey; the default),
        ``"mean"`` (the image's mean colour) or ``"blur"`` (the image blurred beyond recognition).

    Raises
    ------
    OptionError
        If a parameter is out of its range, or the output has none of this name.
    """

    output: str = "smooth"
    steps: int | None = None
    tolerance: float | None = None
    baseline: str | None = None

    default_target = Margin()

    def __post_init__(self) -> None:
        check_choice("output", self.output, _OUTPUTS)
        for name, outputs in _USED_BY.items():
            if getattr(self, name) is not None and self.output not in outputs:
                raise OptionError(
                    f"output={self.output!r} has no {name}.",
                    f"Omit {name}, or use output={' or output='.join(outputs)}.",
                )
        self._method()  # checks the values

    @property
    def unit(self) -> str:  # type: ignore[override]
        """Unit of the values."""
        return self._method().unit

    def requirements(self) -> Requirements:
        """Return the requirements of the output."""
        return self._method().requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        return [
            replace(one, provenance={**one.provenance, "output": self._made})
            for one in self._method().attribute(request)
        ]

    @property
    def _made(self) -> str:
        """The output that is made: a path of one step is none."""
        return "signed" if self.output == "smooth" and self.steps == 1 else self.output

    def _method(self) -> Saliency | InputXGradient | IntegratedGradients | SmoothPath:
        if self._made == "signed":
            return InputXGradient()
        if self.output == "sensitivity":
            return Saliency()
        if self.output == "smooth":
            return SmoothPath(32 if self.steps is None else self.steps)
        given = {name: getattr(self, name) for name in _USED_BY}
        return IntegratedGradients(**{k: v for k, v in given.items() if v is not None})
