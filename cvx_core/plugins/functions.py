"""Python functions behind installed commands: ``cvx_core.why`` beside ``cvx why``."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

from cvx_core.errors import UnknownComponentError
from cvx_core.plugins.discovery import registry

_looking = threading.local()


def command_functions() -> list[str]:
    """Return the names of the functions that installed commands bring."""
    found = registry()
    return [
        o.component.name.replace("-", "_") for o in found.offers("command") if o.component.function
    ]


def command_function(name: str) -> Any:
    """Return the function of an installed command, without importing the command itself.

    Parameters
    ----------
    name
        Of the command, with ``_`` where it has a hyphen.

    Raises
    ------
    AttributeError
        If no installed command has the name, or it has no function; it says what to install.
    ConflictError
        If several distributions offer the command.
    """
    # A plugin that asks cvx_core for what isn't there, while plugins are looked for, must not
    # have them looked for again.
    if name.startswith("_") or getattr(_looking, "now", False):
        raise AttributeError(f"module 'cvx_core' has no attribute {name!r}")
    command = name.replace("_", "-")
    _looking.now = True
    try:
        component = registry().find("command", command)
    except UnknownComponentError as error:
        raise AttributeError(
            f"module 'cvx_core' has no attribute {name!r}, and no installed plugin brings a "
            f"command {command!r}. 'cvx plugins' lists what is installed."
        ) from error
    finally:
        _looking.now = False
    if not component.function:
        raise AttributeError(
            f"module 'cvx_core' has no attribute {name!r}: the command {command!r} has no Python "
            f"function. Use it on the command line: cvx {command} --help"
        )
    module, _, attribute = component.function.partition(":")
    return getattr(import_module(module), attribute)
