"""Switches in the environment."""

from __future__ import annotations

import os


def switched_on(name: str) -> bool:
    """Whether an environment variable is set to something other than 0, false or no."""
    return os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no")
