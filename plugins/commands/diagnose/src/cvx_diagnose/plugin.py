"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Provide the command."""
    yield Component(
        "diagnose",
        "Find the errors of a model on a whole data set, each with its maps.",
        "cvx_diagnose.command:command",
        "cvx_diagnose:diagnose",
    )
