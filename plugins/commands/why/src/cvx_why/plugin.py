"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Announce the command."""
    yield Component(
        "why",
        "Find the region that causes a wrong prediction, tested by perturbation.",
        "cvx_why.command:command",
        "cvx_why:why",
    )
