"""Figure of the curves of insertion, deletion and ROAD."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvx_score.report import MEASURES, Score

_AXES = {
    "insertion": "share of the pixels inserted, highest values first",
    "deletion": "share of the pixels deleted, highest values first",
    "road": "share of the pixels replaced, highest values first",
    "road-lerf": "share of the pixels replaced, lowest values first",
}
"""Measures that have a curve, with the label of its x axis."""


def curve_figure(scores: Sequence[Score]) -> Figure | None:
    """Return the curves as means over the images, or None if there are none.

    A panel for each measure, and a line for each method.
    """
    drawn = [score for score in scores if score.measure in _AXES and any(score.curves)]
    measures = list(dict.fromkeys(score.measure for score in drawn))
    methods = list(dict.fromkeys(score.method for score in drawn))
    if not drawn:
        return None
    figure = Figure(figsize=(3.8 * len(measures), 3.8), layout="constrained")
    axes = dict(zip(measures, figure.subplots(1, len(measures), squeeze=False)[0], strict=True))
    lines: dict[str, Any] = {}
    for score in drawn:
        ax, k = axes[score.measure], methods.index(score.method)
        curve = np.array([one for one in score.curves if one], float).mean(axis=0)
        style = ("-", "--", ":", "-.")[k // 10 % 4]
        [lines[score.method]] = ax.plot(score.shares, curve, style, color=f"C{k % 10}")
        ax.set_title(f"{score.measure}: {MEASURES[score.measure]} is better", fontsize="medium")
        ax.set_xlabel(_AXES[score.measure], fontsize="small")
        ax.set_ylabel(score.quantity, fontsize="small")
    # A pair of dollar signs in a name is not a formula.
    names = [name.replace("$", r"\$") for name in methods]
    handles = [lines[name] for name in methods]
    figure.legend(handles, names, loc="outside lower center", ncols=2 * len(measures))
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
