"""Check: whether a map stays the same if noise is added to the image."""

from collections.abc import Sequence
from typing import Any

import torch

from cvx_core import Check
from cvx_core.explainers import Attributed
from cvx_core.models import VisionModel

NOISE = 0.05
"""Standard deviation of the noise, as a fraction of that of the inputs."""

SAME, DIFFERENT = 0.7, 0.5
"""Correlations at which two maps share half and a quarter of their variance."""


class Stability(Check):
    """Compares each map with that of the image with noise (Alvarez-Melis and Jaakkola 2018)."""

    def check(
        self,
        model: VisionModel,  # noqa: ARG002
        attributed: Sequence[Attributed],
        seed: int,
    ) -> list[list[dict[str, Any]]]:
        """Return the verdict on every map, by image, and there by explainer, then target."""
        inputs = attributed[0][1].inputs
        verdicts: list[list[dict[str, Any]]] = [[] for _ in inputs]
        # One noise for all images, so that a verdict does not depend on the rest of the batch.
        noise = torch.randn(inputs.shape[1:], generator=torch.Generator().manual_seed(seed))
        scale = NOISE * inputs.flatten(1).std(1)[:, None, None, None]
        noisy = inputs + scale * noise.to(inputs)
        for explainer, request, attributions in attributed:
            with request.with_inputs(noisy) as other:
                again = [one.values for one in explainer.attribute(other)]
            for image, row in enumerate(verdicts):
                for k in range(len(request.images[image].targets)):
                    row.append(_verdict(attributions[k].values[image], again[k][image], seed))
        return verdicts

    def unchecked(self, seed: int, reason: str) -> dict[str, Any]:
        """Return the evidence of a map that was not checked."""
        return {"verdict": "unclear", "reason": f"Not checked: {reason}", "seed": seed}


def _verdict(values: torch.Tensor, again: torch.Tensor, seed: int) -> dict[str, Any]:
    pair = torch.stack([values.flatten(), again.flatten()]).double()
    correlation = float(torch.corrcoef(pair)[0, 1])
    if correlation != correlation:
        return {"verdict": "unclear", "reason": "The map is constant.", "seed": seed}
    verdict = "passes" if correlation >= SAME else "unclear" if correlation > DIFFERENT else "fails"
    reason = f"Correlation with the map of the image with noise: {correlation:.2f}."
    return {"verdict": verdict, "reason": reason, "correlation": correlation, "seed": seed}
