"""Records by which a plugin announces what it offers: components, and kinds of them."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cvx_core.errors import PluginError
from cvx_core.plugins.isolation import error_boundary

_NAME = re.compile(r"[a-z0-9]+(?:[-_.+][a-z0-9]+)*\+*")


def component_name(class_name: str) -> str:
    """Return the name of a class as a component's: ``MyMethod`` as ``my-method``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", "-", class_name)
    return words.lower().strip("-")


@dataclass(frozen=True)
class Kind:
    """A kind of component.

    Parameters
    ----------
    name
        For listings and messages, as in ``"explainer"``.
    hook
        The hook that offers components of this kind, as in ``"cvx_explainers"``.
    base
        Class that their objects inherit from, as in ``"package.module:Class"``; empty if none.

    Raises
    ------
    PluginError
        If the name of the hook is malformed.
    """

    name: str
    hook: str
    base: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cvx_[a-z_]+", self.hook):
            raise PluginError(
                f"The hook of the kind {self.name!r} must be called cvx_..., got {self.hook!r}."
            )

    def holds(self, thing: object) -> bool:
        """Whether a class is a subclass of `base`, which is imported wherever one was made."""
        module, _, name = self.base.partition(":")
        base = getattr(sys.modules.get(module), name, None) if module else None
        return base is not None and isinstance(thing, type) and issubclass(thing, base)


@dataclass(frozen=True)
class Component:
    """Record of one explainer, renderer, command or other component of a plugin.

    Parameters
    ----------
    name
        Lower-case name that users type, words joined by hyphens, as in ``"grad-cam"``.
    summary
        One line for listings.
    target
        Where the work is: ``"package.module:Object"``, imported only when the component is
        used, or the object itself for components registered in a program.
    function
        Of a command, the Python function behind it, as in ``"package:function"``; `cvx_core` has
        it as an attribute. Empty if there is none.

    Raises
    ------
    PluginError
        If the name or the target is malformed.
    """

    name: str
    summary: str
    target: str | type[Any] | Any
    function: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise PluginError(
                f"Invalid component name: {self.name!r}.",
                "Use lower-case words joined by hyphens, such as 'my-method'.",
            )
        if not isinstance(self.summary, str):
            raise PluginError(f"The summary of component {self.name!r} must be a str.")
        if isinstance(self.target, str) and not re.fullmatch(r"[\w.]+:[\w.]+", self.target):
            raise PluginError(
                f"Invalid target of component {self.name!r}: {self.target!r}.",
                "Write 'package.module:Object'.",
            )

    def load(self) -> Any:
        """Import and return the object behind the component.

        Raises
        ------
        PluginError
            If the import fails; the cause is chained.
        """
        if not isinstance(self.target, str):
            return self.target
        module_name, _, path = self.target.partition(":")
        # Standard output is for data, whatever a plugin prints.
        with redirect_stdout(sys.stderr), error_boundary(self._unloadable, passing=()):
            found: Any = import_module(module_name)
            for part in path.split("."):
                found = getattr(found, part)
        return found

    def _unloadable(self, reason: str) -> PluginError:
        return PluginError(
            f"{self.name!r} could not be loaded from {self.target}: {reason}",
            "'cvx plugins --verbose' shows where it comes from.",
        )
