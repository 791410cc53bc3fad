"""Python functions behind installed commands: ``cvx_core.why`` beside ``cvx why``."""

from __future__ import annotations

import threading
from typing import Any

from cvx_core.errors import UnknownComponentError
from cvx_core.plugins.discovery import registry

_looking = threading.local()


def command_function(name: str) -> Any:
    """Return the function that an installed command carries as its attribute ``function``.

    Parameters
    ----------
    name
        Of the command, with ``_`` where it has a hyphen.

    Raises
    ------
    AttributeError
        If no installed command has the name, or it carries no function; it says what to install.
    ConflictError, PluginError
        If several distributions offer the command, or it can't be imported.
    """
    # A plugin that asks cvx_core for what isn't there, while plugins are looked for, must not
    # have them looked for again.
    if name.startswith("_") or getattr(_looking, "now", False):
        raise AttributeError(f"module 'cvx_core' has no attribute {name!r}")
    wanted = name.replace("_", "-")
    _looking.now = True
    try:
        command = registry().find("command", wanted).load()
    except UnknownComponentError as error:
        raise AttributeError(
            f"module 'cvx_core' has no attribute {name!r}, and no installed plugin brings a "
            f"command {wanted!r}. If one does, install it: pip install cvx-{wanted}"
        ) from error
    finally:
        _looking.now = False
    function = getattr(command, "function", None)
    if function is None:
        raise AttributeError(
            f"module 'cvx_core' has no attribute {name!r}: the command {wanted!r} has no Python "
            f"function. Use it on the command line: cvx {wanted} --help"
        )
    return function
