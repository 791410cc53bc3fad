"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Provide the command."""
    yield Component(
        "diagnose",
        "Find and explain the mistakes of a model on a data set.",
        "cvx_diagnose.command:command",
        "cvx_diagnose:diagnose",
    )
