"""Facts about an explanation as rows of names and values, and tables of records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cvx_core import printable
from cvx_core.explanations import Explanation, Metadata
from cvx_core.tasks import ClassEntry, Detection

_EIGHTHS = " ▏▎▍▌▋▊▉"
_BAR = 10
_MOST_BOXES = 10


def facts(explanation: Explanation, key: Text, note: str) -> Table:
    """Return target, prediction, label, the five most probable classes, evidence and layer.

    Parameters
    ----------
    explanation
        The explanation.
    key
        Color scale of the image.
    note
        Display settings of the map.
    """
    target, provenance = explanation.target, explanation.provenance
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")

    def row(name: str, value: Text | Table) -> None:
        grid.add_row(Text(name), value)

    row("target", _plain(target.text))
    if target.reported is None:
        row("prediction", _plain(target.predicted.text))
    else:
        _boxes(target.reported, row)
    if target.box is not None:
        row("target box", _plain(_corners(target.box)))
    truth = target.truth or (target.label.text if target.label else "")
    if truth:
        row("label", Text.assemble(_plain(truth), *_verdict(target.correct)))
    row("top 5" if len(target.top) == 5 else "top", _top(target.top))
    row("scale", key)
    if evidence := _evidence(explanation):
        row("evidence", _plain(evidence))
    if provenance.get("layer"):
        row("layer", _plain(str(provenance["layer"])))
    for caution in explanation.cautions:
        row("check", _plain(caution))
    for remark in (target.note, provenance.get("display_note"), note):
        if remark:
            row("note", _plain(str(remark)))
    return grid


def _boxes(reported: tuple[Detection, ...], row: Callable[[str, Text], None]) -> None:
    """Add a row for each of the best boxes, and one for how many more there are."""
    lines = [f"{one.text} at {_corners(one.box)}" for one in reported[:_MOST_BOXES]]
    if len(reported) > _MOST_BOXES:
        lines.append(f"and {len(reported) - _MOST_BOXES} more")
    for number, line in enumerate(lines or ["no box"]):
        row("" if number else "prediction", _plain(line))


def _corners(box: tuple[float, float, float, float]) -> str:
    return ",".join(f"{side:.0f}" for side in box)


def records(explanation: Explanation, width: int) -> Iterator[RenderableType]:
    """Yield a table for each piece of evidence that is a list of records.

    A column with the same value in all rows is written once, above them. If the table is wider
    than `width` columns, each record is a paragraph.
    """
    for key, rows in explanation.evidence.items():
        if (
            not isinstance(rows, tuple)
            or not rows
            or not all(isinstance(r, Metadata) for r in rows)
        ):
            continue
        columns = {name: [_cell(row.get(name)) for row in rows] for row in rows for name in row}
        same = [n for n, cells in columns.items() if len(cells) > 1 and len(set(cells)) == 1]
        said = ", ".join(f"{_words(name)} {columns[name][0]}" for name in same)
        shown = {_words(name): cells for name, cells in columns.items() if name not in same}
        yield Text("")
        yield _plain(f"{_words(key)} ({said})" if said else _words(key), "bold")
        widest = [max(map(cell_len, (*name.split(), *cells))) for name, cells in shown.items()]
        if sum(widest) + 2 * (len(shown) - 1) <= width:
            yield _grid(shown)
        else:
            for number in range(len(rows)):
                parts = [f"{name} {cells[number]}" for name, cells in shown.items()]
                yield _plain("- " + ", ".join(parts))


def _grid(columns: dict[str, list[str]]) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for k, name in enumerate(columns):
        heading = Text("\n".join(map(printable, name.split())))
        grid.add_column(heading, justify="right" if k else "left", no_wrap=True, vertical="bottom")
    for cells in zip(*columns.values(), strict=True):
        grid.add_row(*map(_plain, cells))
    return grid


def _words(key: str) -> str:
    return key.replace("_", " ")


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, tuple):
        return " x ".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _verdict(correct: bool | None) -> list[str | tuple[str, str]]:
    if correct is None:
        return []
    return [" ", ("✓ correct", "green") if correct else ("✗ wrong", "red")]


def bar(share: float, cells: int = _BAR) -> str:
    """Return a bar for a share in [0, 1], exact to an eighth of a character."""
    eighths = round(share * cells * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(cells)


def _top(entries: tuple[ClassEntry, ...]) -> Table:
    grid = Table.grid(padding=(0, 1))
    # Long names are cut, not the numbers.
    grid.add_column(no_wrap=True, min_width=_BAR)
    grid.add_column(justify="right", no_wrap=True, min_width=len(">99.9 %"))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for entry in entries:
        share = Text(bar(entry.probability or 0.0), "cyan")
        grid.add_row(share, Text(entry.amount), _plain(entry.name))
    return grid


def _evidence(explanation: Explanation) -> str:
    evidence = explanation.evidence
    total = float(explanation.values.sum(dtype=np.float64))
    parts = [f"sum {total:.4g} {explanation.unit}".rstrip()] if explanation.additive else []
    residual, share = evidence.get("residual"), evidence.get("non_pixel_share")
    correlation = evidence.get("pearson_r")
    if isinstance(residual, int | float) and math.isfinite(residual):
        parts.append(f"residual {residual:.2g}")
    if isinstance(share, int | float) and math.isfinite(share):
        parts.append(f"{100 * share:.3g} % of the relevance has no spatial position")
    if isinstance(correlation, int | float) and math.isfinite(correlation):
        parts.append(f"correlation with the first-order estimate {correlation:.3g}")
    if evidence.get("unconserved_reason"):
        parts.append(str(evidence["unconserved_reason"]))
    if evidence.get("class_specific") is False and not explanation.target.note:
        parts.append("the map does not depend on the target")
    return ", ".join(parts)


def _plain(text: str, style: str = "") -> Text:
    return Text(printable(text), style)
