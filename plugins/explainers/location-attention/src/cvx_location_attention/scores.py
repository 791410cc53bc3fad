"""The scalar that is watched while the image is changed."""

from __future__ import annotations

from torch import Tensor

from cvx_core import OptionError

SCORES = {"logit": "logits", "probability": "probability"}
"""What can be watched, and its unit."""


def check_score(name: str) -> None:
    """Refuse a score that does not exist.

    Raises
    ------
    OptionError
        If the name is none of `SCORES`.
    """
    if name not in SCORES:
        raise OptionError(f"There is no score {name!r}.", "There are " + ", ".join(SCORES) + ".")


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
