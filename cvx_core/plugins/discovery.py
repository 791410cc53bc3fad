"""Discovery of the installed plugins by their entry points, each in isolation."""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import redirect_stdout
from typing import Any, TypeVar

from cvx_core.errors import PluginError
from cvx_core.plugins.component_registry import Registry, normal_name
from cvx_core.plugins.entry_points import entry_points
from cvx_core.plugins.hookspecs import GROUP
from cvx_core.plugins.isolation import REPORT
from cvx_core.plugins.parameters import build

T = TypeVar("T")

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


def get_component(kind: str, name: str, parameters: dict[str, Any], base: type[T]) -> T:
    """Return a component by kind and name, built with its parameters; see `cvx_core.get_explainer`.

    Parameters
    ----------
    base
        The class that components of this kind inherit from.
    """
    made = build(kind, registry().find(kind, name), parameters)
    if not isinstance(made, base):
        raise PluginError(
            f"The {kind} {name!r} is a {type(made).__name__}, not a "
            f"{base.__module__.partition('.')[0]}.{base.__name__}.",
            REPORT,
        )
    return made


def version_of(distribution: str) -> str:
    """Return the version of an installed distribution, or an empty string."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def package_of(name: str) -> str:
    """Return the package of this project that is named after a component, if it isn't installed.

    It is among the optional dependencies of the core; empty if there is none.

    Examples
    --------
    >>> package_of("no-such-thing")
    ''
    """
    from importlib.metadata import PackageNotFoundError, requires

    wanted = f"cvx-{normal_name(name)}"
    try:
        wants = requires("cvx-core") or []
    except PackageNotFoundError:
        return ""
    ours = {re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in wants}
    return wanted if wanted in ours and not version_of(wanted) else ""


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
    for entry in (found := entry_points(_PREFIX)):
        owner = entry.owner
        if entry.group != GROUP:
            continue
        if disabled & {"*", normal_name(owner), entry.distribution}:
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
    others = [entry for entry in found if entry.group != GROUP]
    into.incompatible += [f"{entry.owner} ({entry.group})" for entry in others]
