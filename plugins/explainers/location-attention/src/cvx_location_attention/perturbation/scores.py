"""The scalar that is watched while the image is changed."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_core import Explainer, ExplainRequest, Requirements
from cvx_core.images import check_baseline
from cvx_core.plugins import check_choice

SCORES = {"logit": "logits", "probability": "probability"}
"""What can be watched, and its unit."""


class Perturbation(Explainer):
    """Base of explainers that only run the network, on images of which a part is covered."""

    needs_gradient = False

    baseline: str
    score: str

    def __post_init__(self) -> None:
        check_baseline(self.baseline)
        check_choice("score", self.score, SCORES)

    @property
    def unit(self) -> str:  # type: ignore[override]
        """What a value counts."""
        return SCORES[self.score]

    def requirements(self) -> Requirements:
        """Ask for the logits."""
        return Requirements()


def scores(
    request: ExplainRequest, seeds: Tensor, name: str, inputs: Tensor | None = None
) -> Tensor:
    """Return <seed, outputs> or <seed, probabilities> in double precision, (K, n).

    Parameters
    ----------
    request
        What is to be explained; probabilities are those of its model's task.
    seeds
        (K, n, N).
    name
        One of `SCORES`.
    inputs
        (n, C, H, W); None for those of the request.
    """
    if name == "probability":
        watched, total = request.probabilities(inputs), seeds.sum(2, keepdim=True)
        # Of a class in a region the mean over its pixels is a probability, and the sum is none.
        seeds = torch.where((seeds >= 0).all(2, keepdim=True) & (total > 0), seeds / total, seeds)
    elif inputs is None:
        watched = request.recording(Requirements()).logits.detach()
    else:
        watched = request.logits(inputs)
    return (seeds.double() * watched.double()).sum(dim=2)
