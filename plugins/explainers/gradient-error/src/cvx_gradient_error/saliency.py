"""Saliency: the gradient at the pixels, and its product with them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements


@dataclass(frozen=True)
class Saliency(Explainer):
    """The largest gradient of the channels, max_c \\|dS/dx_c\\| (Simonyan 2013, arXiv:1312.6034).

    Not negative, in logits per unit of input. It shows what the prediction is sensitive to, not
    what it was computed from.
    """

    signed = False
    unit = "logits per unit of input"

    def requirements(self) -> Requirements:
        """Require the input."""
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        return [
            Attribution(gradient.abs().amax(dim=1), provenance={"layer": "input"})
            for gradient in _gradients(request)
        ]


@dataclass(frozen=True)
class InputXGradient(Explainer):
    """The pixel times its gradient, sum_c x_c dS/dx_c (Shrikumar 2016, arXiv:1605.01713).

    Signed, in logits: the first-order contributions of pixels. It has no
    meaningful sum.
    """

    def requirements(self) -> Requirements:
        """Require the input."""
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        return [
            Attribution(
                (request.inputs * gradient).sum(dim=1),
                provenance={"layer": "input", "order": "first"},
            )
            for gradient in _gradients(request)
        ]


class WithOutput(Explainer):
    """An explainer with a parameter `output`, of which a sensitivity has no sign."""

    output: str

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether values have a meaningful sign."""
        return self.output != "sensitivity"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """Unit of the values."""
        return "logits" if self.signed else "logits per unit of input"


def _gradients(request: ExplainRequest) -> list[Tensor]:
    recording = request.recording(Requirements("input"))
    return [recording.gradients(seed, "input")[0] for seed in request.seeds(recording.logits)]
