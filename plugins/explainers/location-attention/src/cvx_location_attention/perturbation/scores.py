"""The scalar that is watched while the image is changed."""

from __future__ import annotations

from torch import Tensor

from cvx_core import ExplainRequest, Requirements
from cvx_core.plugins import check_choice

SCORES = {"logit": "logits", "probability": "probability"}
"""What can be watched, and its unit."""


def check_score(name: str) -> None:
    """Refuse a score that does not exist.

    Raises
    ------
    OptionError
        If the name is none of `SCORES`.
    """
    check_choice("score", name, SCORES)


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
        watched = request.probabilities(inputs)
    elif inputs is None:
        watched = request.recording(Requirements()).logits.detach()
    else:
        watched = request.logits(inputs)
    return (seeds.double() * watched.double()).sum(dim=2)
