"""Contribution energy: how much each position contributes to the outputs, whichever they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements
from cvx_core.recording import find_finer_levels
from cvx_location_attention.layer_maps import named

_FINER = 2
"""How many times finer than the last grid the layer is at most."""
_DRAWS = 8


@dataclass(frozen=True)
class ContributionEnergy(Explainer):
    """Mean square of a position's contribution to random combinations of the outputs.

    With activations A and outputs z, r a vector of independent normal numbers without its mean:

        map(u) = E_r [(sum_k A_k(u) d<r, z> / dA_k(u))^2],

    the mean of eight draws. Large activations that the outputs don't use, as those in the sky or
    at borders, add nothing. Independent of the target, and not negative. The layer is the last one
    of the next finer grid, up to twice as fine as the last grid, that all paths pass; without one
    the last grid.
    """

    signed = False
    unit = "squared logits"
    class_specific = False

    def requirements(self) -> Requirements:
        """Require the last grid."""
        return Requirements("auto")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, h, w)."""
        name = contribution_layer(request)
        recording = request.recording(Requirements(name))
        layer = recording.layer(name)
        kind = torch.promote_types(recording.logits.dtype, torch.float32)
        activation = recording.activation(name).to(kind)
        total = torch.zeros((), dtype=kind, device=activation.device)
        generator = request.generator()
        for _ in range(_DRAWS):
            # The same numbers for all images, so that a map does not depend on the batch.
            draw = torch.randn(recording.logits.shape[1], generator=generator)
            if len(draw) > 1:
                draw = draw - draw.mean()
            seed = draw.to(recording.logits).expand_as(recording.logits)
            gradient = recording.gradient(seed, name).to(kind)
            total = total + (activation * gradient).sum(dim=1).square()
        reason = layer.reason
        if name != "auto":
            h, w = layer.grid
            reason = f"last layer of a finer grid that all paths pass ({h} x {w} positions)"
        one = Attribution(
            total / _DRAWS,
            evidence={"draws": _DRAWS},
            provenance={**named(layer), "layer_reason": reason, "mode": "contributions"},
            unit=self.unit,
            additive=False,
        )
        return [one for _ in request.seeds(recording.logits)]


def contribution_layer(request: ExplainRequest) -> str:
    """Return the name of the layer of `ContributionEnergy`."""
    finer = find_finer_levels(request.model, request.inputs, _FINER)
    return finer[-1].name if finer else "auto"
