"""Color maps that mislead."""

from __future__ import annotations

UNEVEN = frozenset(
    ("jet", "hsv", "rainbow", "gist_rainbow", "nipy_spectral", "gist_ncar", "prism", "flag")
)
"""Colour maps whose lightness jumps: they draw edges where the map has none (Borland and Taylor
2007, doi:10.1109/MCG.2007.323435)."""


def is_uneven(name: str) -> bool:
    """Return whether a colour map (or its reverse) is known to mislead."""
    return name.removesuffix("_r") in UNEVEN
