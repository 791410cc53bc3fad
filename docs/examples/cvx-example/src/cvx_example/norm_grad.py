"""Explainer: NormGrad."""

from dataclasses import dataclass

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements


@dataclass(frozen=True)
class NormGrad(Explainer):
    """NormGrad (Rebuffi et al., CVPR 2020, arXiv:2004.02866).

    At each position of a layer: the norm over channels of the activations, times that of their
    gradients. Never negative.

    Parameters
    ----------
    layer
        Name of a module, or ``"auto"``: the last one with a spatial grid.
    """

    layer: str = "auto"

    signed = False

    def requirements(self) -> Requirements:
        """Declare what to record: the layer."""
        return Requirements(self.layer)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return one map (B, h, w) for each target."""
        recording = request.recording(self.requirements())
        activation = recording.activation(self.layer).norm(dim=1)
        return [
            Attribution(activation * recording.gradient(seed, self.layer).norm(dim=1))
            for seed in request.seeds(recording.logits)
        ]
