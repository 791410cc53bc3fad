"""The scalar that is watched while the image is changed."""

from __future__ import annotations

from torch import Tensor

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
