"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Offer the verb."""
    yield Component(
        "why",
        "Say which part of an image makes an answer wrong, tested by removing it.",
        "cvx_why.command:command",
        "cvx_why:why",
    )
