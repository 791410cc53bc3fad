"""Two runs beside each other: what was fixed, and what broke."""

from __future__ import annotations

from math import comb
from typing import Any

from cvx_core import UsageError
from cvx_diagnose.run import Run

DRAWS = 2000
"""Bootstrap samples of an interval."""

_LISTED = 1000
"""Inputs that are listed of each kind."""


def mcnemar(fixed: int, broken: int) -> float:
    """Return the exact probability of so uneven a change by chance (McNemar, Psychometrika 1947).

    Of the inputs whose answer changed between right and wrong each would have been fixed or broken
    with equal odds; both sides.

    Examples
    --------
    >>> round(mcnemar(8, 2), 4), mcnemar(3, 3)
    (0.1094, 1.0)
    """
    changed, fewer = fixed + broken, min(fixed, broken)
    tail = sum(comb(changed, k) for k in range(fewer + 1))
    # Whole numbers to the end: of thousands of changes 2**n is beyond a float.
    return min(1.0, 2 * tail / 2**changed) if changed else 1.0


def compare(run: Run, before: Run) -> dict[str, Any]:
    """Return what changed between two runs over the same inputs.

    Inputs are the same if their files hold the same bytes, and where several do, if they also have
    the same path.

    Parameters
    ----------
    run, before
        The newer and the older run. Both must be finished.

    Raises
    ------
    UsageError
        If they have no labelled input in common, or the older one is not finished.
    """
    if before.pending:
        raise UsageError(
            f"The run in {before.folder} is not finished.", "Go on with it first: --resume."
        )
    old, new = _answers(before), _answers(run)
    common = [key for key in new if key in old]
    if not common:
        raise UsageError(
            f"The runs in {before.folder} and {run.folder} have no labelled input in common.",
            "Compare runs over the same files.",
        )
    fixed = [new[key] for key in common if new[key]["right"] and not old[key]["right"]]
    broken = [new[key] for key in common if old[key]["right"] and not new[key]["right"]]
    relabelled = sum(new[key]["label"] != old[key]["label"] for key in common)
    return {
        "with": before.folder.name,
        "model": before.plan.model,
        "weights_sha256": before.plan.weights_sha256,
        "common": len(common),
        "before": sum(bool(old[key]["right"]) for key in common),
        "after": sum(bool(new[key]["right"]) for key in common),
        "fixed": len(fixed),
        "broken": len(broken),
        "relabelled": relabelled,
        "p": mcnemar(len(fixed), len(broken)),
        "fixed_ids": [row["id"] for row in fixed[:_LISTED]],
        "broken_ids": [row["id"] for row in broken[:_LISTED]],
    }


def _answers(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """Return each answered, labelled input by its bytes, and its path where bytes recur."""
    has_label = "label" in run.schema.names
    columns = ["id", "path", "sha256", "right", *(["label"] if has_label else [])]
    rows = [row for block in run.blocks(columns) for row in block.to_pylist()]
    seen: dict[str, int] = {}
    for row in rows:
        seen[row["sha256"]] = seen.get(row["sha256"], 0) + 1
    return {
        (row["sha256"], row["path"] if seen[row["sha256"]] > 1 else ""): {"label": None, **row}
        for row in rows
        if row["right"] is not None
    }
