"""The scalar that is watched while the image is changed."""

from __future__ import annotations

from torch import Tensor

from cvx_core import Explainer, Requirements
from cvx_core.images import check_baseline
from cvx_core.plugins import check_choice

SCORES = {"logit": "logits", "probability": "probability"}
"""What can be watched, and its unit."""


class Perturbation(Explainer):
    """Base of explainers that only run the network, on images of which a part is covered."""

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


def scores(logits: Tensor, seeds: Tensor, name: str) -> Tensor:
    """Return <seed, logits> or <seed, softmax(logits)> in double precision, (K, n).

    Parameters
    ----------
    logits
        (n, C).
    seeds
        (K, n, C).
    """
    watched = logits.detach().double()
    if name == "probability":
        watched = watched.softmax(dim=1)
    return (seeds.double() * watched).sum(dim=2)
