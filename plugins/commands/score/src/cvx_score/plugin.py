"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Announce the command."""
    yield Component(
        "score",
        "Measure how faithful maps are: insertion, deletion, ROAD, pointing game and more.",
        "cvx_score.command:command",
        "cvx_score:score",
    )


@hookimpl
def cvx_checks() -> Iterable[Component]:
    """Announce the check."""
    yield Component(
        "randomization",
        "Compare maps with those of random networks (Adebayo 2018).",
        "cvx_score.checks.randomization:Randomization",
    )
