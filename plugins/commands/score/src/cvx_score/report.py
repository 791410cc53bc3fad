"""Scores as numbers, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch

from cvx_core import Metadata, VisionModel, __version__
from cvx_core.images import SourceImage

SCHEMA = "cvx.score/2"
FILE, CURVES = "score.json", "curves.png"

MEASURES: Mapping[str, str] = {
    "insertion": "higher",
    "deletion": "lower",
    "road": "lower",
    "road-lerf": "higher",
    "completeness": "lower",
    "amounts": "higher",
    "randomization": "lower",
    "pointing": "higher",
    "mass": "higher",
    "rank": "higher",
}
"""The measures, and which direction is better."""

NEED_REGION = ("pointing", "mass", "rank")
"""The measures that require a known region."""


@dataclass(frozen=True)
class Score:
    """One measure of the maps of one method.

    Attributes
    ----------
    method
        Name of the method.
    measure
        One of `MEASURES`.
    values
        One for each image, or None.
    reasons
        The reason for a missing value, for each image; otherwise empty.
    quantity
        Unit of the values: ``"probability"`` or ``"logit"`` (insertion, deletion, ROAD: means
        over the curve), ``"gap"`` (completeness), ``"correlation"`` (amounts,
        randomization), ``"hit"``, ``"share"``.
    shares
        Positions of the curves: shares of the pixels, or stages of randomization.
    curves
        The quantity there for each image; empty for an image without a value.
    passes
        Images in forward passes; None for randomization, which runs other networks.
    seconds
        Wall-clock time.
    details
        Parameters and further results of the measure.
    """

    method: str
    measure: str
    values: tuple[float | None, ...]
    reasons: tuple[str, ...]
    quantity: str
    shares: tuple[Any, ...] = ()
    curves: tuple[tuple[float | None, ...], ...] = ()
    passes: int | None = 0
    seconds: float = 0.0
    details: Metadata = field(default_factory=Metadata)

    @property
    def value(self) -> float | None:
        """Mean over the images with a value; None if there is none."""
        known = [value for value in self.values if value is not None]
        return fmean(known) if known else None

    @property
    def better(self) -> str:
        """Which direction is better: ``"higher"`` or ``"lower"``."""
        return MEASURES[self.measure]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "method": self.method,
            "measure": self.measure,
            "value": self.value,
            "better": self.better,
            "quantity": self.quantity,
            "values": list(self.values),
            "reasons": list(self.reasons),
            "shares": list(self.shares),
            "curves": [list(curve) for curve in self.curves],
            "passes": self.passes,
            "seconds": round(self.seconds, 4),
            "details": self.details.to_dict(),
        }


def table(scores: Sequence[Score]) -> str:
    """Return the means as text: methods by measures, and the cost below."""
    methods = list(dict.fromkeys(score.method for score in scores))
    measures = list(dict.fromkeys(score.measure for score in scores))
    cells = {(score.method, score.measure): _number(score.value) for score in scores}
    sides = {m: {"higher": "+", "lower": "-"}[MEASURES[m]] for m in measures}
    rows = [["", *(f"{m} {sides[m]}" for m in measures)]]
    rows += [[method, *(cells.get((method, m), "") for m in measures)] for method in methods]
    by_measure = [[s for s in scores if s.measure == m] for m in measures]
    passes = [[s.passes for s in several] for several in by_measure]
    costs = [
        ["cost", *measures],
        ["passes", *("" if None in one else str(sum(filter(None, one))) for one in passes)],
        ["seconds", *(f"{sum(s.seconds for s in several):.1f}" for several in by_measure)],
    ]
    return "\n".join([*_aligned(rows), *_remarks(scores), "", *_aligned(costs)])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _remarks(scores: Sequence[Score]) -> list[str]:
    """Return the notes below the table."""
    lines = ["+ higher is better, - lower; means over the images."]
    logits = dict.fromkeys(s.measure for s in scores if s.quantity == "logit")
    if logits:
        lines.append(f"In logits or values, not probabilities: {', '.join(logits)}.")
    for score in scores:
        slope = score.details.get("slope")
        if slope is not None:
            lines.append(
                f"{score.method}: removing a region costs {slope:.2f} {score.details['unit']} for "
                "every 1.00 that the map gives it."
            )
    reasons: dict[str, int] = {}
    for score in scores:
        for reason in filter(None, score.reasons):
            result = f"{score.method}, {score.measure}: {reason.splitlines()[0]}"
            reasons[result] = reasons.get(result, 0) + 1
    return lines + [
        f"{result} ({count} image{'s' if count > 1 else ''})" for result, count in reasons.items()
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.0e}"


def document(
    scores: Sequence[Score],
    model: VisionModel,
    images: Sequence[SourceImage],
    target: str,
    seed: int,
) -> dict[str, Any]:
    """Return all scores with model and images, as JSON values (schema ``cvx.score/2``)."""
    return {
        "schema": SCHEMA,
        "versions": {"cvx": __version__, "torch": torch.__version__},
        "model": {
            "name": model.name,
            "task": model.task.name,
            "weights_sha256": model.digest(),
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        "images": [{"file": one.name, "sha256": one.digest} for one in images],
        "target": target,
        "seed": seed,
        "scores": [score.to_dict() for score in scores],
    }


def finite(value: float) -> float | None:
    """Return a number, or None if JSON can't represent it."""
    return value if math.isfinite(value) else None
