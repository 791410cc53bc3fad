"""What is known about an explanation, in rows of names and values."""

from __future__ import annotations

import math

import numpy as np
from rich.table import Table
from rich.text import Text

from cvx_core.explanation import Explanation
from cvx_core.printable import printable
from cvx_core.scores import ClassEntry

_EIGHTHS = " ▏▎▍▌▋▊▉"
_BAR = 10


def facts(explanation: Explanation, key: Text, note: str) -> Table:
    """Return question, answer, label, the five likeliest classes, evidence and layer.

    Parameters
    ----------
    explanation
        What to describe.
    key
        To the colours of the picture.
    note
        What was done to show the map.
    """
    target, provenance = explanation.target, explanation.provenance
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")

    def row(name: str, value: Text | Table) -> None:
        grid.add_row(Text(name), value)

    row("question", _plain(target.text))
    row("answer", _plain(target.predicted.text))
    if target.label is not None:
        verdict = ("✓ right", "green") if target.correct else ("✗ wrong", "red")
        row("label", Text.assemble(_plain(target.label.text), " ", verdict))
    row("top 5" if len(target.top) == 5 else "top", _top(target.top))
    row("scale", key)
    row("evidence", _plain(_evidence(explanation)))
    if provenance.get("layer"):
        row("layer", _plain(str(provenance["layer"])))
    for remark in (target.note, provenance.get("display_note"), note):
        if remark:
            row("note", _plain(str(remark)))
    return grid


def bar(share: float, cells: int = _BAR) -> str:
    """Return a bar for a share in [0, 1], exact to an eighth of a character."""
    eighths = round(share * cells * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(cells)


def _top(entries: tuple[ClassEntry, ...]) -> Table:
    grid = Table.grid(padding=(0, 1))
    # Long names give way, not the numbers.
    grid.add_column(no_wrap=True, min_width=_BAR)
    grid.add_column(justify="right", no_wrap=True, min_width=len(">99.9 %"))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for entry in entries:
        percent = entry.text.removeprefix(entry.name).strip()
        grid.add_row(Text(bar(entry.probability), "cyan"), Text(percent), _plain(entry.name))
    return grid


def _evidence(explanation: Explanation) -> str:
    evidence = explanation.evidence
    total = float(explanation.values.sum(dtype=np.float64))
    parts = [f"sum {total:.4g} {explanation.unit}".rstrip()]
    residual, share = evidence.get("residual"), evidence.get("non_pixel_share")
    if isinstance(residual, int | float) and math.isfinite(residual):
        parts.append(f"residual {residual:.2g}")
    if isinstance(share, int | float) and math.isfinite(share):
        parts.append(f"{100 * share:.3g} % carried by no pixel")
    if evidence.get("class_specific") is False and not explanation.target.note:
        parts.append("the same map whatever the question")
    return ", ".join(parts)


def _plain(text: str) -> Text:
    return Text(printable(text))
