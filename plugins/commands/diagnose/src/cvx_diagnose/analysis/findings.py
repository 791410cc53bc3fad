"""Findings of a finished run: label issues, slices, error groups, shortcuts, fixes, advice."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from cvx_engine import Listener

from cvx_diagnose.analysis.advice import advise, verified_shortcuts
from cvx_diagnose.analysis.error_groups.groups import ErrorGroups, find_error_groups
from cvx_diagnose.analysis.error_groups.influence import find_influential_images
from cvx_diagnose.analysis.error_groups.names import class_namer, group_name, shortcut_name
from cvx_diagnose.analysis.fixes.last_layer import try_fixes
from cvx_diagnose.analysis.label_issues.duplicates import find_near_duplicates
from cvx_diagnose.analysis.label_issues.search import find_label_conflicts, find_label_issues
from cvx_diagnose.analysis.metrics.comparison import compare
from cvx_diagnose.analysis.shortcuts.search import find_shortcuts
from cvx_diagnose.analysis.slices.changes import slice_changes
from cvx_diagnose.analysis.slices.search import Slices, find_slices
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import DiagnosisWork

_TRIED = ("fixes", "influential_images", "training_label_issues", "comparison")
"""Results kept whenever a finished run is resumed."""

WITHHELD = (
    "Suspected labels, slices, groups of errors and shortcuts are withheld until it is corrected."
)
"""What a finding about the set-up says of what rests on it."""

_LISTED = 1000
"""Maximum number of label issues listed; all are counted."""


def collect_findings(
    run: Run,
    summary: dict[str, Any],
    set_up: list[dict[str, Any]],
    every_issue: list[dict[str, Any]],
    *,
    before: Run | None,
    training: Run | None,
    try_fix: bool,
    work: DiagnosisWork,
    listener: Listener,
) -> tuple[dict[str, Any], ErrorGroups, Slices]:
    """Return what ``summary.json`` contains beyond the metrics, groups of errors, and slices.

    Parameters
    ----------
    run, summary
        A finished run, and `cvx_diagnose.analysis.metrics.summary.summarize` of it.
    set_up, every_issue
        Findings about the set-up, and the label issues.
    before
        An older run over the same inputs.
    training
        A run of the same network over its training data.
    try_fix
        Whether to try the fixes that need no new data.
    work
        The work of the run.
    listener
        Notified of the progress.

    Raises
    ------
    UsageError
        If a given run is not finished, or is of other inputs or another network.
    """
    withheld = any(one["withholds"] for one in set_up)
    listener.stage("grouping errors")
    error_groups = find_error_groups(run)
    if withheld:
        error_groups = ErrorGroups(error_groups.ids, np.full_like(error_groups.groups, -1), [])
    # Nothing can be said of the labels of a class that is never predicted, or misread.
    misread = {c for one in set_up for c in one.get("classes", ())}
    issues = [one for one in every_issue if one["label"] not in misread]
    inside = np.isin(error_groups.ids, [one["id"] for one in issues])
    name = class_namer(run.plan.classes)
    for group in error_groups.described:
        group["label_issues"] = int((inside & (error_groups.groups == group["number"])).sum())
        group["name"] = group_name(group, name)
    shortcuts = None if withheld else find_shortcuts(run, error_groups, work, listener)
    slices, columns = Slices(), work.source.columns()
    if not withheld:
        listener.stage("looking for slices")
        slices = find_slices(run, columns, [one["id"] for one in issues])
    near: list[dict[str, Any]] = []
    if not withheld:
        listener.stage("comparing near duplicates")
        near = find_near_duplicates(run, work)
    found: dict[str, Any] = {
        "set_up": set_up,
        "withheld": WITHHELD if withheld else "",
        "slices": slices.document(),
        "error_groups": error_groups.described,
        "shortcuts": shortcuts,
        "label_issues": {
            "count": len(issues),
            "listed": issues[:_LISTED],
            "conflicts": find_label_conflicts(run)[:_LISTED],
            "near_duplicates": near,
        },
        "fixes": [],
        "influential_images": None,
        "training_label_issues": None,
        "comparison": None
        if before is None
        else compare(run, before, None if withheld else partial(slice_changes, columns=columns)),
    }
    if try_fix:
        listener.stage("trying fixes")
        verified = verified_shortcuts(found)
        found["fixes"] = try_fixes(run, work, issues, verified, error_groups)
    if training is not None:
        found["influential_images"] = find_influential_images(run, training, error_groups)
        training_issues = find_label_issues(training, trained_on=True)
        found["training_label_issues"] = {
            "count": len(training_issues),
            "listed": training_issues[:_LISTED],
        }
    for one in (found["shortcuts"] or {"found": ()})["found"]:
        one["name"] = shortcut_name(one, name)
    # Earlier results still hold: rows never change.
    earlier = run.summary or {}
    found |= {name: earlier[name] for name in _TRIED if not found[name] and earlier.get(name)}
    _cover(found["error_groups"], error_groups, slices)
    found["advice"] = advise(found, summary)
    return found, error_groups, slices


def _cover(described: list[dict[str, Any]], error_groups: ErrorGroups, slices: Slices) -> None:
    """Note for each group of errors how many are in a slice."""
    inside = np.isin(error_groups.ids, np.concatenate([np.zeros(0, np.int64), *slices.errors]))
    for group in described:
        group["in_slices"] = int((inside & (error_groups.groups == group["number"])).sum())
