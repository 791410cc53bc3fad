"""Which mistakes a model makes on a whole data set: a row for each input, maps for each error.

Names are imported when they are first used, so that listing the plugin costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Item": "cvx_diagnose.data.items",
    "Local": "cvx_engine.local",
    "Plan": "cvx_diagnose.run.plan",
    "Run": "cvx_diagnose.run.results",
    "Source": "cvx_diagnose.data.sources",
    "diagnose": "cvx_diagnose.diagnosis",
    "open_source": "cvx_diagnose.data.factory",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cvx_diagnose' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
