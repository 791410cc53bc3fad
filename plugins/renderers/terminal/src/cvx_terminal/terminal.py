"""Terminal renderer: explanations as text."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cvx_core import Artifact, Explanation, OptionError, Renderer, printable
from cvx_core.explanations import show
from cvx_terminal.table import facts, records
from cvx_terminal.text_image import blocks, fit, scale, shades

_BESIDE = 64
"""Minimum number of columns for image and table side by side."""


@dataclass(frozen=True)
class Terminal(Renderer):
    """A small overlay and a table for each explanation.

    In color, the map is drawn over the image, two pixels to a character; without color, the map
    is drawn alone, in shades.

    Parameters
    ----------
    width
        Columns, 30 to 400.
    color
        True writes 24-bit escape codes, False none. ``"auto"`` writes them if standard output is
        a terminal and the environment does not set NO_COLOR.

    Raises
    ------
    OptionError
        If a parameter is out of its range.

    Examples
    --------
    >>> from cvx_core.testing.samples import sample_explanation
    >>> "power drill" in Terminal(color=False).render(sample_explanation()).text()
    True
    """

    suffix: ClassVar[str] = ".txt"
    media_type: ClassVar[str] = "text/plain"
    joins: ClassVar[bool] = True

    width: int = 80
    color: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        whole = isinstance(self.width, int) and not isinstance(self.width, bool)
        if not whole or not 30 <= self.width <= 400:
            raise OptionError(f"width must be an integer from 30 to 400, got {self.width!r}.")
        if self.color not in (True, False, "auto"):
            raise OptionError(f"color must be true, false or auto, got {self.color!r}.")

    def draw(self, explanations: Sequence[Explanation]) -> Artifact:
        """Return the text, UTF-8."""
        color = bool(self.color)
        if self.color == "auto":
            color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        stream = io.StringIO()
        console = Console(
            file=stream,
            width=self.width,
            force_terminal=color,
            force_jupyter=False,
            color_system="truecolor" if color else None,
            no_color=not color,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
            # Otherwise rich would decide about color again from the environment.
            _environ={},
        )
        for explanation in explanations:
            console.print(self._block(explanation, color))
        text = "\n".join(line.rstrip(" ") for line in stream.getvalue().split("\n"))
        return Artifact(self.suffix, self.media_type, text.encode())

    def _block(self, explanation: Explanation, color: bool) -> RenderableType:
        beside = self.width >= _BESIDE
        size = fit(explanation, int(self.width * 0.45) if beside else self.width)
        image = (blocks if color else shades)(explanation, *size)
        # At the size of the image, because the limits of a map depend on its sampling.
        shown = show(explanation, (size[0], 2 * size[1] if color else size[1]))
        unit = printable(explanation.unit)
        table = facts(explanation, scale(shown, explanation.signed, unit, color), shown.note)
        name = printable(explanation.name) or "image"
        heading = Text(f"{printable(explanation.method)} · {name}", overflow="ellipsis")
        below = list(records(explanation, self.width))
        if beside:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(width=size[0], no_wrap=True)
            grid.add_column()
            grid.add_row(image, table)
            return Group(Rule(heading, align="left"), grid, *below)
        return Group(Rule(heading, align="left"), image, Text(""), table, *below)
