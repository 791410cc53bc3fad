"""Installed plugins, with a warning for each that failed."""

from __future__ import annotations

from cvx_core._util.text import printable
from cvx_core.cli.kit.console import say
from cvx_core.plugins.discovery import registry
from cvx_core.plugins.registry import Registry


def installed_plugins() -> Registry:
    """Return the registry, having said which plugins were left out and why."""
    plugins = registry()
    for failure in plugins.failures:
        reason = printable(f"{failure.owner} was left out ({failure.reason})")
        say(f"cvx: plugin {reason}")
    return plugins
