"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Announce the command."""
    yield Component(
        "new-plugin",
        "Write the package of a new plugin, with tests.",
        "cvx_new_plugin.command:command",
    )
