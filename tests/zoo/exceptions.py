"""Why a network of the coverage run is not covered, where the reason lies in the network."""

from __future__ import annotations

import re
from typing import Any

from zoo.measure import problems

EXPLAINED: dict[str, tuple[str, str]] = {
    "timm:efficientvit_b0": (
        r"residual \S+e-0[789] at the (layer|input) in float64",
        "Its linear attention casts queries, keys and values to float32 whatever the network's "
        "dtype is, so that in float64 too the network itself rounds to 6e-8.",
    ),
}
"""By network: which of its problems is explained, as a pattern of all of its words, and why."""


def wrong(found: dict[str, Any]) -> list[str]:
    """Return what is wrong with a network, in words: its failure, or the problems measured."""
    return [found["failure"]] if "failure" in found else problems(found)


def why(network: str, problem: str) -> str | None:
    """Return why a problem lies in the network, or None if nothing explains it."""
    pattern, reason = EXPLAINED.get(network, ("", ""))
    return reason if pattern and re.fullmatch(pattern, problem) else None


def unexplained(found: dict[str, Any]) -> list[str]:
    """Return what is wrong with a network and lies not in it."""
    return [problem for problem in wrong(found) if why(found["network"], problem) is None]
