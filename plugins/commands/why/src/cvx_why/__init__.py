"""Why an answer is wrong: regions that were removed, and what became of the error.

Names are imported when they are first used, so that listing the plugin costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ErrorReport": "cvx_why.report.error_report",
    "FixFound": "cvx_why.report.data",
    "RegionReport": "cvx_why.report.data",
    "Removal": "cvx_why.report.data",
    "why": "cvx_why.investigation",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cvx_why' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
