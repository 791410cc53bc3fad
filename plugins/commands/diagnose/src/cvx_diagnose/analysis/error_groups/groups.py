"""Causes: the groups of a run's errors, each with a name, its cost and what was verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_diagnose.analysis.error_groups.clustering import LEAST, grouped
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import Row

TYPICAL = 6
"""Images that stand for a group: those nearest to its middle."""

_MOSTLY = 0.6
"""Share of a group from which something is said of the group."""

_COLUMNS = ("id", "errors", "loss", "tested", "regions", "fix")
_ROWS, _LINES = ("top", "middle", "bottom"), ("left", "centre", "right")

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Causes:
    """The errors of a run in groups.

    Attributes
    ----------
    ids
        (n,), of the images with an error.
    groups
        (n,), the number of each one's group: its place in `described`.
    described
        What is known of each group, the one that costs most first, and what is too rare to be
        grouped last; see the reference of ``summary.json``.
    """

    ids: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    described: list[dict[str, Any]]


def find_causes(run: Run) -> Causes:
    """Group the errors of a run by wrong answer and by what lies under their maps.

    What lies under a map are the activations at the run's fine place, averaged with the positive
    part of the margin's map as weights, or at the last grid where there is no fine place, or the
    features of the whole image where there are no maps. Of an image with several errors (of a
    detector, say) the most costly counts.
    """
    under = next(
        name
        for name, there in (
            ("fine_features", run.plan.fine_features),
            ("error_features", run.plan.map_features),
            ("features", True),
        )
        if there
    )
    maps = ["margin_map"] if run.plan.map_shape is not None else []
    table = run.table([*_COLUMNS, under, *maps], wrong=True)
    if not len(table):
        return Causes(np.zeros(0, np.int64), np.zeros(0, np.int64), [])
    rows = table.select(list(_COLUMNS)).to_pylist()
    features = _finite(run.numbers(table, under))
    answers = [_answer(row) for row in rows]
    found = grouped(features, answers)
    places = middles_of(run.numbers(table, "margin_map")) if maps else None
    labelled = sum(
        one is not None for block in run.blocks(["right"]) for one in block["right"].to_pylist()
    )
    described = []
    for group in np.unique(found):
        at = np.flatnonzero(found == group)
        middle = features[at].mean(0)
        nearest = at[np.argsort(((features[at] - middle) ** 2).sum(1), kind="stable")]
        members = [rows[i] for i in at]
        described.append(
            {
                **_confusion(members),
                "place": None if places is None else place_of([places[i] for i in at]),
                "count": len(at),
                # What would be gained if all of the group were right, and nothing else changed.
                "cost": len(at) / labelled,
                "loss": float(np.sum([row["loss"] or 0.0 for row in members])),
                **_verified(members),
                "typical": [int(rows[i]["id"]) for i in nearest[:TYPICAL]],
                "members": at,
            }
        )
    described.sort(key=lambda one: (one["mixed"], -one["count"], -one["loss"], one["typical"][0]))
    numbers = np.zeros(len(rows), dtype=np.int64)
    for number, one in enumerate(described):
        numbers[one.pop("members")] = number
        one["number"] = number
    return Causes(np.array([row["id"] for row in rows], dtype=np.int64), numbers, described)


def _finite(features: Numbers) -> Numbers:
    limit = float(np.finfo(np.float16).max)
    return np.nan_to_num(features, nan=0.0, posinf=limit, neginf=-limit)


def _answer(row: Row) -> str:
    """Return what the model did wrong: the answer of a classifier; else the type comes with it."""
    worst = row["errors"][0]
    what = worst["predicted"] if worst["predicted"] is not None else worst["true"]
    return f"{worst['type']} {what}"


def _confusion(members: Sequence[Row]) -> dict[str, Any]:
    worst = [row["errors"][0] for row in members]
    types = Counter(one["type"] for one in worst)
    answers = Counter(_answer(row) for row in members)
    pairs = Counter((one["true"], one["predicted"]) for one in worst)
    return {
        "type": types.most_common(1)[0][0],
        # Wrong answers that are rare are put together, and have nothing else in common.
        "mixed": len(answers) > 1 and max(answers.values()) < LEAST,
        "pairs": [{"true": y, "predicted": q, "count": n} for (y, q), n in pairs.most_common()],
    }


def _verified(members: Sequence[Row]) -> dict[str, int]:
    verdicts = [{one["verdict"] for one in row["regions"] or ()} for row in members]
    return {
        "tested": sum(bool(row["tested"]) for row in members),
        "verified": sum("verified" in one for one in verdicts),
        "partly": sum("partly" in one and "verified" not in one for one in verdicts),
        "fixed": sum(row["fix"] is not None for row in members),
    }


def middles_of(maps: Numbers) -> list[tuple[float, float]]:
    """Return the middle (x, y), in [0, 1], of the cells that hold most of each map's evidence."""
    found = []
    for one in np.nan_to_num(np.clip(maps, 0, None)):
        height, width = one.shape
        strong = np.where(one >= 0.5 * one.max(), one, 0)
        total = strong.sum()
        if not np.isfinite(total) or total <= 0:
            found.append((np.nan, np.nan))
            continue
        y = (strong.sum(1) * (np.arange(height) + 0.5)).sum() / total / height
        x = (strong.sum(0) * (np.arange(width) + 0.5)).sum() / total / width
        found.append((float(x), float(y)))
    return found


def place_of(middles: Sequence[tuple[float, float]]) -> str | None:
    """Return where most of a group's evidence is, in words, or None if it is anywhere."""
    words = Counter(
        f"{_ROWS[min(2, int(3 * y))]} {_LINES[min(2, int(3 * x))]}"
        for x, y in middles
        if np.isfinite(x)
    )
    if not words:
        return None
    word, count = words.most_common(1)[0]
    return word if count >= _MOSTLY * len(middles) else None
