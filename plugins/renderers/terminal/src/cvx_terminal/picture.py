"""A map as characters: coloured half blocks over the photograph, or shades without colour."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.style import Style
from rich.text import Text

from cvx_core.explanations.colormaps import INFERNO, VIK
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.heatmap import Shown, overlay, show

FOR = " ░▒▓█"
"""Shades of values above zero, weak to strong."""

AGAINST = " ·-=≡"
"""Shades of values below zero."""

TALLEST = 24
"""Lines of a picture at most, so that it stays on the screen together with its table."""


def fit(explanation: Explanation, columns: int) -> tuple[int, int]:
    """Return (columns, lines) of the picture; a character is twice as high as it is wide."""
    height, width = explanation.image.shape[:2]
    columns = max(1, min(columns, round(2 * TALLEST * width / height)))
    return columns, min(TALLEST, max(1, round(columns * height / width / 2)))


def blocks(explanation: Explanation, columns: int, lines: int) -> Text:
    """Return the overlay in colour: each character shows two pixels, one above the other."""
    picture = np.asarray(overlay(explanation, (columns, 2 * lines)))
    text = Text(no_wrap=True, end="")
    for line in range(lines):
        for above, below in zip(picture[2 * line], picture[2 * line + 1], strict=True):
            text.append("▀", Style(color=_color(above), bgcolor=_color(below)))
        if line + 1 < lines:
            text.append("\n")
    return text


def shades(explanation: Explanation, columns: int, lines: int) -> Text:
    """Return the map without its photograph: the stronger the value, the darker the shade."""
    shown = show(explanation, (columns, lines))
    span = max(abs(shown.limits.low), abs(shown.limits.high)) or 1.0
    values = np.nan_to_num(shown.values) / span
    steps = np.clip(np.round(np.abs(values) * (len(FOR) - 1)), 0, len(FOR) - 1).astype(int)
    rows = [
        "".join((FOR if value >= 0 else AGAINST)[step] for value, step in zip(*row, strict=True))
        for row in zip(values, steps, strict=True)
    ]
    return Text("\n".join(rows), no_wrap=True, end="")


def scale(shown: Shown, signed: bool, unit: str, color: bool, cells: int = 12) -> Text:
    """Return the key to the picture: its colours or shades between their two ends."""
    ends, limits = shown.ends, shown.limits
    low, high = (f"{end:.3g}" for end in ends)
    if not color:
        sides = [f"{FOR.strip()} up to {high}"] if ends[1] > 0 else []
        sides += [f"{AGAINST.strip()} down to {low}"] if signed and ends[0] < 0 else []
        return Text(f"{', '.join(sides)} {unit}".rstrip())
    table = VIK if signed else INFERNO
    text = Text(f"{low} ")
    share = (np.linspace(*ends, cells) - limits.low) / (limits.high - limits.low)
    for index in (255 * share).round().astype(int):
        text.append("█", Style(color=_color(table[index])))
    return text.append(f" {high} {unit}".rstrip())


def _color(rgb: npt.NDArray[np.uint8]) -> Color:
    return Color.from_rgb(*(int(part) for part in rgb))
