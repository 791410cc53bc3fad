"""Comparison of two runs: what was fixed, and what broke."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from cvx_core import UsageError
from cvx_diagnose.analysis.metrics.class_changes import (
    class_changes,
    is_regression,
    measure_of,
    paired_change,
    renumber,
)
from cvx_diagnose.analysis.metrics.limits import FEWEST
from cvx_diagnose.analysis.metrics.statistics import adjust_p_values
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import MODEL_FAILED, Row

Changes = tuple[list[dict[str, Any]], int]
"""Changes of groups of inputs, and how many groups were tried."""

Grouped = Callable[[Run, Run, Sequence[tuple[Row, Row]]], Changes]
"""From the newer and the older run, and their rows of the same inputs, to such changes."""

_LISTED = 1000
"""Maximum number of inputs listed of each kind."""


def compare(run: Run, before: Run, sliced: Grouped | None = None) -> dict[str, Any]:
    """Return what changed between two runs over the same inputs.

    Inputs are the same if their files hold the same bytes; where several do, or one of the runs
    could not read them completely, if they have the same path. An input on which the model fails
    counts as wrong. An input with a changed label says nothing about the model: it counts as
    relabeled, neither as fixed nor as broken. Classes are compared by name, where both runs have
    names.

    A class or a slice got worse if its measure fell beyond the 95 % interval of the change and the
    sign test, adjusted for all classes and slices, gives a p-value below 0.05; the model, if
    accuracy did.

    Parameters
    ----------
    run, before
        The newer and the older run. Both must be finished.
    sliced
        How slices changed; see `cvx_diagnose.analysis.slices.changes.slice_changes`. None compares
        the classes alone.

    Raises
    ------
    UsageError
        If they have no labeled input in common, or the older one is not finished.
    """
    if before.pending:
        raise UsageError(
            f"The run in {before.folder} is not finished.", "Finish it first: --resume."
        )
    number, older = renumber(run, before), _predictions(before)
    for row in older:
        row["label"] = None if row["label"] is None else number(row["label"])
    pairs = _pairs(older, _predictions(run))
    if not pairs:
        raise UsageError(
            f"The runs in {before.folder} and {run.folder} have no labeled input in common.",
            "Compare runs over the same files.",
        )
    pairs.sort(key=lambda pair: int(pair[1]["id"]))
    same = [
        (old, new)
        for old, new in pairs
        if None in (old["label"], new["label"]) or old["label"] == new["label"]
    ]
    fixed = [new for old, new in same if new["correct"] and not old["correct"]]
    broken = [new for old, new in same if old["correct"] and not new["correct"]]
    overall = paired_change(
        [(float(bool(old["correct"])), 1.0) for old, _ in same],
        [(float(bool(new["correct"])), 1.0) for _, new in same],
    )
    classes = class_changes(run, before, same)
    slices, tried = ([], 0) if sliced is None else sliced(run, before, same)
    groups = [*classes, *slices]
    # Slices that were tried and are not listed count as tests with a p-value of 1.
    unlisted = [1.0] * max(0, tried - len(slices))
    adjusted = adjust_p_values([*(one["p"] for one in groups), *unlisted])
    for one, p in zip(groups, adjusted, strict=False):
        one["p"] = p
    for one in slices:
        one["regressed"] = is_regression(one)
    regressed = [one["class"] for one in classes if is_regression(one)]
    # Shares of objects or regions can't be ranked among other measures of classes.
    ranked = groups if measure_of(run) == "accuracy" else classes
    known = [one for one in ranked if one["count"] >= FEWEST]
    return {
        "with": before.folder.name,
        "model": before.plan.model,
        "weights_sha256": before.plan.weights_sha256,
        "common": len(pairs),
        "before": sum(bool(old["correct"]) for old, _ in pairs),
        "after": sum(bool(new["correct"]) for _, new in pairs),
        "fixed": len(fixed),
        "broken": len(broken),
        "relabeled": len(pairs) - len(same),
        **{name: overall[name] for name in ("change", "low", "high", "p")},
        "measure": measure_of(run),
        "classes": classes,
        "regressed": regressed,
        "slices": slices,
        "worst_group": min(known, key=lambda one: float(one["after"]), default=None),
        "regression": is_regression(overall) or any(map(is_regression, groups)),
        "fixed_ids": [row["id"] for row in fixed[:_LISTED]],
        "broken_ids": [row["id"] for row in broken[:_LISTED]],
    }


def _predictions(run: Run) -> list[dict[str, Any]]:
    """Return the labeled inputs, and those that the model failed on, whose label isn't known."""
    has_label = "label" in run.schema.names
    columns = ["id", "path", "sha256", "status", "correct", *(["label"] if has_label else [])]
    rows = [row for block in run.blocks(columns) for row in block.to_pylist()]
    return [
        {"label": None, **row}
        for row in rows
        if row["correct"] is not None or row["status"] in MODEL_FAILED
    ]


def _pairs(
    old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the rows of both runs for each input that one of them has a prediction for."""
    seen = [Counter(row["sha256"] for row in rows) for rows in (old, new)]
    by_bytes = {row["sha256"]: row for row in old if seen[0][row["sha256"]] == 1 and row["sha256"]}
    by_path = {row["path"]: row for row in old}
    found = []
    for row in new:
        other = by_bytes.get(row["sha256"]) if seen[1][row["sha256"]] == 1 else None
        if other is None:
            other = by_path.get(row["path"])
            if other is not None and None not in (row["sha256"], other["sha256"]):
                other = other if other["sha256"] == row["sha256"] else None
        if other is not None and (row["correct"], other["correct"]) != (None, None):
            found.append((other, row))
    return found
