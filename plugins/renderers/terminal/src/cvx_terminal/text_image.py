"""Maps as text: colored half blocks over the image, or shades without color."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.style import Style
from rich.text import Text

from cvx_core.explanations import INFERNO, VIK, Explanation, Shown, overlay, show

POSITIVE = " ░▒▓█"
"""Shades of values above zero, weak to strong."""

NEGATIVE = " ·-=≡"
"""Shades of values below zero."""

TALLEST = 24
"""Maximum number of lines, so that image and table fit on one screen."""


def fit(explanation: Explanation, columns: int) -> tuple[int, int]:
    """Return the (columns, lines) of the image; a character is twice as high as it is wide."""
    height, width = explanation.image.shape[:2]
    columns = max(1, min(columns, round(2 * TALLEST * width / height)))
    return columns, min(TALLEST, max(1, round(columns * height / width / 2)))


def blocks(explanation: Explanation, columns: int, lines: int) -> Text:
    """Return the overlay in color: each character shows two pixels, one above the other."""
    image = np.asarray(overlay(explanation, (columns, 2 * lines)))
    text = Text(no_wrap=True, end="")
    for line in range(lines):
        for above, below in zip(image[2 * line], image[2 * line + 1], strict=True):
            text.append("▀", Style(color=_color(above), bgcolor=_color(below)))
        if line + 1 < lines:
            text.append("\n")
    return text


def shades(explanation: Explanation, columns: int, lines: int) -> Text:
    """Return the map alone: the stronger the value, the darker the shade."""
    shown = show(explanation, (columns, lines))
    span = max(abs(shown.limits.low), abs(shown.limits.high)) or 1.0
    values = np.nan_to_num(shown.values) / span
    steps = np.clip(np.round(np.abs(values) * (len(POSITIVE) - 1)), 0, len(POSITIVE) - 1).astype(
        int
    )
    rows = [
        "".join(
            (POSITIVE if value >= 0 else NEGATIVE)[step] for value, step in zip(*row, strict=True)
        )
        for row in zip(values, steps, strict=True)
    ]
    return Text("\n".join(rows), no_wrap=True, end="")


def scale(shown: Shown, signed: bool, unit: str, color: bool, cells: int = 12) -> Text:
    """Return the color or shade scale with its two ends."""
    ends, limits = shown.ends, shown.limits
    low, high = (f"{end:.3g}" for end in ends)
    if not color:
        sides = [f"{POSITIVE.strip()} up to {high}"] if ends[1] > 0 else []
        sides += [f"{NEGATIVE.strip()} down to {low}"] if signed and ends[0] < 0 else []
        return Text(f"{', '.join(sides)} {unit}".rstrip())
    table = VIK if signed else INFERNO
    text = Text(f"{low} ")
    share = (np.linspace(*ends, cells) - limits.low) / (limits.high - limits.low)
    for index in (255 * share).round().astype(int):
        text.append("█", Style(color=_color(table[index])))
    return text.append(f" {high} {unit}".rstrip())


def _color(rgb: npt.NDArray[np.uint8]) -> Color:
    return Color.from_rgb(*(int(part) for part in rgb))
