"""Entry points of the installed distributions.

Read without ``importlib.metadata`` and ``pathlib``, whose imports take a quarter of the time of
``cvx --help``.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, NamedTuple

from cvx_core.plugins.component_registry import normal_name


class EntryPoint(NamedTuple):
    """An entry point: its distribution, its group, its name, and the object as ``module:name``."""

    distribution: str
    group: str
    name: str
    value: str

    @property
    def owner(self) -> str:
        """``distribution:name``."""
        return f"{self.distribution}:{self.name}"

    def load(self) -> Any:
        """Import the object."""
        module, _, attributes = self.value.partition("[")[0].partition(":")
        found: Any = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found


def entry_points(prefix: str) -> list[EntryPoint]:
    """Return the entry points of all groups with a prefix, sorted by owner.

    Of a distribution that is installed twice, those that come first on the path.
    """
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208
        except OSError:
            continue
        for name in names:
            stem, _, kind = name.rpartition(".")
            distribution = normal_name(stem.partition("-")[0])
            if kind.lower() not in ("dist-info", "egg-info") or distribution in seen:
                continue
            seen.add(distribution)
            try:
                path = os.path.join(folder, name, "entry_points.txt")  # noqa: PTH118
                with open(path, encoding="utf-8") as file:  # noqa: PTH123
                    found += _read(file.read(), distribution, prefix)
            except (OSError, ValueError):
                continue
    return sorted(found, key=lambda entry: entry.owner)


def _read(text: str, distribution: str, prefix: str) -> list[EntryPoint]:
    found, group = [], ""
    for line in map(str.strip, text.splitlines() if prefix in text else ()):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group.startswith(prefix) and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            found.append(EntryPoint(distribution, group, name.strip(), value.strip()))
    return found
