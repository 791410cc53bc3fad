"""Switches and optional packages in the environment."""

from __future__ import annotations

import importlib
import os
from typing import Any


def switched_on(name: str) -> bool:
    """Whether an environment variable is set to something other than 0, false or no."""
    return os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no")


def optional_module(name: str) -> Any:
    """Return a module that cvx doesn't depend on, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
