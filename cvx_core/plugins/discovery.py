"""Discovery of the installed plugins by their entry points, each in isolation."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import redirect_stdout
from importlib.metadata import EntryPoint, entry_points

from cvx_core.plugins.hookspecs import GROUP
from cvx_core.plugins.registry import Registry, normal_name

_PREFIX = "cvx.plugins."
_lock = threading.RLock()
_registry: Registry | None = None


def registry() -> Registry:
    """Return the process's registry, filled from the installed plugins on first use."""
    global _registry
    with _lock:
        if _registry is None:
            fresh = Registry()
            discover(fresh)
            _registry = fresh
        return _registry


def discover(into: Registry) -> None:
    """Register every installed plugin into a registry.

    A plugin whose import fails, exits or answers nonsense leaves all others working and is
    noted in ``into.failures``. ``CVX_DISABLE_PLUGINS`` holds names of distributions or
    ``distribution:entry-point`` pairs, separated by commas, that are not even imported;
    ``*`` disables all. What plugins print goes to standard error: standard output is for data.
    """
    with redirect_stdout(sys.stderr):
        _discover(into)


def _discover(into: Registry) -> None:
    words = os.environ.get("CVX_DISABLE_PLUGINS", "").split(",")
    disabled = {normal_name(word) for word in words}
    for entry in sorted(entry_points(group=GROUP), key=_owner):
        owner = _owner(entry)
        if disabled & {"*", normal_name(owner), owner.partition(":")[0]}:
            into.disabled.append(owner)
            continue
        try:
            plugin = entry.load()
        except KeyboardInterrupt:
            raise
        # The plugin boundary: importing foreign code may raise anything, and exit.
        except BaseException as error:
            into.fail(owner, error)
        else:
            into.register(plugin, owner)
    into.check_hooks()
    for group in sorted(entry_points().groups):
        if group.startswith(_PREFIX) and group != GROUP:
            for entry in entry_points(group=group):
                into.incompatible.append(f"{_owner(entry)} ({group})")


def _owner(entry: EntryPoint) -> str:
    name = entry.dist.name if entry.dist is not None else None
    # An installation that was cut short can lack the metadata that hold the name.
    return f"{normal_name(name) if name else 'unknown'}:{entry.name}"
