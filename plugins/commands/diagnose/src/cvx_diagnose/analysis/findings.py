"""What a finished run tells: causes, suspects, fixes, culprits, changes, and what to do first."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvx_diagnose.analysis.advice import advise
from cvx_diagnose.analysis.error_groups.groups import Causes, find_causes
from cvx_diagnose.analysis.error_groups.names import group_name, names_of, shortcut_name
from cvx_diagnose.analysis.fixes.last_layer import try_fixes
from cvx_diagnose.analysis.influence import find_culprits
from cvx_diagnose.analysis.label_issues.search import find_suspects
from cvx_diagnose.analysis.metrics.comparison import compare
from cvx_diagnose.analysis.shortcuts.search import find_shortcuts
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import Diagnosis

_TRIED = ("fixes", "culprits", "training_suspects", "compared")
"""What is there if it was asked for once, however often a finished run is gone on with."""

_LISTED = 1000
"""Suspected labels that are listed; all are counted."""


def find(
    run: Run,
    summary: dict[str, Any],
    *,
    before: Run | None = None,
    training: Run | None = None,
    try_fix: bool = False,
    work: Diagnosis | None = None,
) -> tuple[dict[str, Any], Causes]:
    """Return what ``summary.json`` says beyond the numbers, and the groups of errors.

    Parameters
    ----------
    run, summary
        A finished run, and `cvx_diagnose.analysis.metrics.summary.summarise` of it.
    before
        An older run over the same inputs.
    training
        A run of the same network over the data it was trained on.
    try_fix
        Whether to try the fixes that need no new data.
    work
        What the run was made with; without it no shortcuts are looked for.

    Raises
    ------
    UsageError
        If a run that was named is not finished, or is of other inputs or another network.
    """
    causes = find_causes(run)
    suspects = find_suspects(run)
    inside = np.isin(causes.ids, [one["id"] for one in suspects])
    name = names_of(run.plan.classes)
    for group in causes.described:
        group["label_suspects"] = int((inside & (causes.groups == group["number"])).sum())
        group["name"] = group_name(group, name)
    found: dict[str, Any] = {
        "causes": causes.described,
        "shortcuts": find_shortcuts(run, causes, work),
        "label_suspects": {"count": len(suspects), "listed": suspects[:_LISTED]},
        "fixes": try_fixes(run) if try_fix else [],
        "culprits": None,
        "training_suspects": None,
        "compared": None if before is None else compare(run, before),
    }
    if training is not None:
        found["culprits"] = find_culprits(run, training, causes)
        doubted = find_suspects(training, trained_on=True)
        found["training_suspects"] = {"count": len(doubted), "listed": doubted[:_LISTED]}
    for one in (found["shortcuts"] or {"found": ()})["found"]:
        one["name"] = shortcut_name(one, name)
    # What was tried before still holds: rows never change.
    earlier = run.summary or {}
    found |= {name: earlier[name] for name in _TRIED if not found[name] and earlier.get(name)}
    found["advice"] = advise(found, summary)
    return found, causes
