"""Fonts for any text: their coverage of its characters, its width and its line breaks."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from cvx_core import CvxWarning

Weight = Literal["normal", "bold"]

BASE = "DejaVu Sans"
"""Included in matplotlib, so that a figure looks the same on every machine."""

_LAST = "Last Resort High-Efficiency"  # boxes that name the script; comes with matplotlib >= 3.11
_SLACK = 1.01  # a backend rounds the advance of each character

_PLAIN = {(400, "normal", "normal", "normal"), ("normal", "normal", "normal", "normal")}

_ruler = TextToPath()


class Fonts:
    """Fonts for a set of texts, with line breaking.

    Parameters
    ----------
    texts
        Everything that will be drawn. Characters that DejaVu Sans lacks are looked up in the
        fonts of the system; one that no font has is drawn as a box or a replacement character,
        and a `CvxWarning` names the script of letters once.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        wanted = frozenset(map(ord, "".join(texts))) - _covered(BASE)
        self._families = [BASE, *_families(wanted)]
        has = frozenset[int]().union(*map(_covered, self._families))
        self._missing = dict.fromkeys(wanted - has, "\N{REPLACEMENT CHARACTER}")
        drawn = frozenset[int]().union(*(_covered(one) for one in self._families if one != _LAST))
        for script in sorted({_script(chr(one)) for one in wanted - drawn} - {""}):
            _warn_once(script)

    def font(self, size: float, weight: Weight = "normal") -> FontProperties:
        """Return the font at a size in points."""
        # Few fonts of other scripts come in bold, and matplotlib complains about each.
        chosen = weight if len(self._families) == 1 else "normal"
        return FontProperties(family=self._families, size=size, weight=chosen)

    def drawable(self, text: str) -> str:
        """Return the text with a replacement for each character that no font has."""
        return text.translate(self._missing)

    def width(self, text: str, size: float, weight: Weight = "normal") -> float:
        """Return the width of one line in points, rounded up."""
        if not text:
            return 0.0
        chosen = weight if len(self._families) == 1 else "normal"
        return _measured(self.drawable(text), tuple(self._families), size, chosen)

    def elide(self, text: str, room: float, size: float, weight: Weight = "normal") -> str:
        """Return the text, cut with an ellipsis so that it fits `room` points."""
        if self.width(text, size, weight) <= room:
            return self.drawable(text)
        keep = self._fitting(text, room, size, weight, "…")
        return self.drawable(text[:keep].rstrip() + "…")

    def wrap(
        self, text: str, room: float, size: float, weight: Weight = "normal", lines: int = 4
    ) -> list[str]:
        """Break the text into at most `lines` lines of `room` points; the last is elided.

        Lines break between words, and within a word only if it is longer than a line.
        """
        broken: list[str] = []
        rest = text.strip()
        while rest and len(broken) < lines - 1:
            end = self._fitting(rest, room, size, weight)
            if end < len(rest) and rest[end] != " ":
                space = rest.rfind(" ", 0, end)
                end = space if space > 0 else end
            broken.append(self.drawable(rest[:end].rstrip()))
            rest = rest[end:].lstrip()
        return [*broken, self.elide(rest, room, size, weight)] if rest else broken

    def _fitting(self, text: str, room: float, size: float, weight: Weight, tail: str = "") -> int:
        """Return how many characters fit, at least one."""
        low, high = 1, len(text)
        narrow, wide = 0.0, self.width(text + tail, size, weight)
        if wide <= room:
            return high
        while high - low > 1:
            # By proportion, not halved: to measure a long line takes milliseconds.
            guess = low + int((high - low) * (room - narrow) / (wide - narrow))
            middle = min(max(guess, low + 1), high - 1)
            width = self.width(text[:middle] + tail, size, weight)
            if width <= room:
                low, narrow = middle, width
            else:
                high, wide = middle, width
        return low


def _script(character: str) -> str:
    """Return the script of a letter, the first word of its Unicode name; empty for others."""
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""


@cache
def _warn_once(script: str) -> None:
    fonts = font_manager.FontManager.__version__
    known = Path(matplotlib.get_cachedir(), f"fontlist-v{fonts}.json")
    warnings.warn(
        f"No installed font has the {script} characters of a label: figures show boxes. Install "
        "one, such as the Debian package fonts-noto-cjk or fonts-noto-core, and delete "
        f"matplotlib's list of fonts, {known}. HTML pages use the fonts of the browser.",
        CvxWarning,
        stacklevel=3,
    )


@lru_cache(maxsize=4096)
def _measured(text: str, families: tuple[str, ...], size: float, weight: Weight) -> float:
    font = FontProperties(family=families, size=size, weight=weight)
    return _SLACK * float(_ruler.get_text_width_height_descent(text, font, ismath=False)[0])


@cache
def _upright() -> dict[str, str]:
    """Return the file of each family that has an upright font of normal weight."""
    return {
        entry.name: entry.fname
        for entry in font_manager.fontManager.ttflist
        if (entry.weight, entry.style, entry.variant, entry.stretch) in _PLAIN
    }


@cache
def _covered(family: str) -> frozenset[int]:
    """Return the characters that a family has; none if it can't be read."""
    try:
        return frozenset(font_manager.get_font(_upright()[family]).get_charmap())
    except (KeyError, OSError, RuntimeError):
        return frozenset()


def _families(wanted: frozenset[int]) -> list[str]:
    """Return a small set of font families that covers the wanted characters."""
    chosen: list[str] = []
    for name in [*sorted(_upright().keys() - {BASE, _LAST}), _LAST]:
        if wanted & _covered(name):
            chosen.append(name)
            wanted -= _covered(name)
        if not wanted:
            break
    return chosen
