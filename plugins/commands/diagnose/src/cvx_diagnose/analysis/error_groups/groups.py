"""Groups of a run's errors, each with its cost and verified regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import center_of_mass

from cvx_diagnose.analysis.error_groups.clustering import MIN_SIZE, group_errors
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import Row

EXAMPLES = 6
"""Number of images that represent a group: those nearest to its center."""

_MOSTLY = 0.6
"""Share of a group above which a location is said of the whole group."""

UNMAPPED = " without a map"

_COLUMNS = ("id", "errors", "loss", "tested", "regions", "fix")
_ROWS, _SIDES = ("top", "middle", "bottom"), ("left", "center", "right")

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class ErrorGroups:
    """The errors of a run in groups.

    Attributes
    ----------
    ids
        (n,), of the images with an error.
    groups
        (n,), the group number of each: an index into `described`.
    described
        Description of each group, the most costly first and wrong predictions too rare to be
        grouped last; see the reference of ``summary.json``.
    """

    ids: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    described: list[dict[str, Any]]


def find_error_groups(run: Run) -> ErrorGroups:
    """Group the errors of a run by wrong prediction and by the features under their maps.

    These are the activations at the run's fine layer, averaged with the positive part of the
    margin's map as weights; at the last feature map where there is no fine layer; or the features
    of the whole image where there are no maps. Of an image with several errors (of a detector,
    say) the most costly counts.
    """
    under = "error_features" if run.plan.map_features else "features"
    under = "fine_features" if run.plan.fine_features else under
    maps = ["margin_map"] if run.plan.map_shape is not None else []
    table = run.table(list(dict.fromkeys([*_COLUMNS, under, "features", *maps])), wrong=True)
    if not len(table):
        return ErrorGroups(np.zeros(0, np.int64), np.zeros(0, np.int64), [])
    rows = table.select(list(_COLUMNS)).to_pylist()
    features, mapped = run.numbers(table, under), np.asarray(table[under].is_valid())
    predictions = [_prediction(row) for row in rows]
    if not mapped.any():
        features, mapped = run.numbers(table, "features"), np.ones(len(rows), dtype=bool)
    features = _finite(features)
    # Errors without a map have no features under it: they form groups of their own.
    keys = [name + ("" if one else UNMAPPED) for name, one in zip(predictions, mapped, strict=True)]
    found = group_errors(features, keys)
    centers = evidence_centers(run.numbers(table, "margin_map")) if maps else None
    labeled = sum(
        one is not None for block in run.blocks(["correct"]) for one in block["correct"].to_pylist()
    )
    described = []
    for group in np.unique(found):
        at = np.flatnonzero(found == group)
        center = features[at].mean(0)
        nearest = at[np.argsort(((features[at] - center) ** 2).sum(1), kind="stable")]
        members = [rows[i] for i in at]
        described.append(
            {
                **_confusion(members),
                "location": None if centers is None else location_of([centers[i] for i in at]),
                "count": len(at),
                # Gain in accuracy if the whole group were correct, and nothing else changed.
                "cost": len(at) / labeled,
                "loss": float(np.sum([row["loss"] or 0.0 for row in members])),
                **_verified(members),
                "examples": [int(rows[i]["id"]) for i in nearest[:EXAMPLES]],
                "members": at,
            }
        )
    described.sort(key=lambda one: (one["mixed"], -one["count"], -one["loss"], one["examples"][0]))
    numbers = np.zeros(len(rows), dtype=np.int64)
    for number, one in enumerate(described):
        numbers[one.pop("members")] = number
        one["number"] = number
    return ErrorGroups(np.array([row["id"] for row in rows], dtype=np.int64), numbers, described)


def _finite(features: Numbers) -> Numbers:
    limit = float(np.finfo(np.float16).max)
    return np.nan_to_num(features, nan=0.0, posinf=limit, neginf=-limit)


def _prediction(row: Row) -> str:
    """Return the wrong prediction, with the type of the error."""
    worst = row["errors"][0]
    what = worst["predicted"] if worst["predicted"] is not None else worst["true"]
    return f"{worst['type']} {what}"


def _confusion(members: Sequence[Row]) -> dict[str, Any]:
    worst = [row["errors"][0] for row in members]
    types = Counter(one["type"] for one in worst)
    predictions = Counter(_prediction(row) for row in members)
    pairs = Counter((one["true"], one["predicted"]) for one in worst)
    return {
        "type": types.most_common(1)[0][0],
        # Rare wrong predictions are put together, and have nothing else in common.
        "mixed": len(predictions) > 1 and max(predictions.values()) < MIN_SIZE,
        "pairs": [{"true": y, "predicted": q, "count": n} for (y, q), n in pairs.most_common()],
    }


def _verified(members: Sequence[Row]) -> dict[str, int]:
    verdicts = [{one["verdict"] for one in row["regions"] or ()} for row in members]
    return {
        "tested": sum(bool(row["tested"]) for row in members),
        "verified": sum("verified" in one for one in verdicts),
        "partly": sum("partly" in one and "verified" not in one for one in verdicts),
        "corrected": sum(row["fix"] is not None for row in members),
    }


def evidence_centers(maps: Numbers) -> list[tuple[float, float]]:
    """Return the center (x, y), in [0, 1], of the largest evidence of each map."""
    found = []
    for one in np.nan_to_num(np.clip(maps, 0, None)):
        height, width = one.shape
        strong = np.where(one >= 0.5 * one.max(), one, 0)
        y, x = center_of_mass(strong) if 0 < strong.sum() < np.inf else (np.nan, np.nan)
        found.append((float(x + 0.5) / width, float(y + 0.5) / height))
    return found


def location_of(centers: Sequence[tuple[float, float]]) -> str | None:
    """Return where most of a group's evidence is, as text, or None if it varies."""
    locations = Counter(
        f"{_ROWS[min(2, int(3 * y))]} {_SIDES[min(2, int(3 * x))]}"
        for x, y in centers
        if np.isfinite(x)
    )
    if not locations:
        return None
    location, count = locations.most_common(1)[0]
    return location if count >= _MOSTLY * len(centers) else None
