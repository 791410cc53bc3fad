"""Color maps by name: those of matplotlib and Crameri's scientific ones."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt

from cvx_core import OptionError, did_you_mean

UNEVEN = frozenset(
    ("jet", "hsv", "rainbow", "gist_rainbow", "nipy_spectral", "gist_ncar", "prism", "flag")
)
"""Colour maps whose lightness jumps: they draw edges where the map has none (Borland and Taylor
2007, doi:10.1109/MCG.2007.323435)."""


def is_uneven(name: str) -> bool:
    """Return whether a colour map (or its reverse) is known to mislead."""
    return name.removesuffix("_r") in UNEVEN


@cache
def table(name: str) -> npt.NDArray[np.uint8]:
    """Return the 256 colours of a colour map.

    Parameters
    ----------
    name
        One of matplotlib's (``"magma"``) or of cmcrameri's (``"batlow"`` or ``"cmc.batlow"``);
        ``_r`` at the end reverses it.

    Returns
    -------
    numpy.ndarray
        uint8 (256, 3), from low to high. Read-only.

    Raises
    ------
    OptionError
        If the color map is unknown.
    """
    bare = name.removeprefix("cmc.")
    crameri = _crameri()
    if bare in matplotlib.colormaps:
        chosen = matplotlib.colormaps[bare](np.linspace(0.0, 1.0, 256))[:, :3]
    elif bare.removesuffix("_r") in crameri:
        rows = np.loadtxt(crameri[bare.removesuffix("_r")], dtype=np.float64, ndmin=2)
        chosen = rows[np.linspace(0, len(rows) - 1, 256).round().astype(int)]
        chosen = chosen[::-1] if bare.endswith("_r") else chosen
    else:
        raise OptionError(
            f"Unknown color map: {name!r}.",
            did_you_mean(name, [*matplotlib.colormaps, *crameri])
            or "Any name of matplotlib or cmcrameri works, such as 'magma' or 'batlow'.",
        )
    colors = np.round(chosen * 255).astype(np.uint8)
    colors.setflags(write=False)
    return colors


@cache
def _crameri() -> dict[str, Path]:
    # Importing cmcrameri imports pyplot, which picks a backend and keeps state; its tables are
    # text files beside the code.
    spec = find_spec("cmcrameri")
    folders = (spec.submodule_search_locations if spec else None) or []
    return {
        file.stem: file
        for folder in folders
        for file in sorted((Path(folder) / "cmaps").glob("*.txt"))
    }
