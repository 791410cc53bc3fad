"""Fixes tried on one half of a run and evaluated on the other; a retrained last layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_diagnose.analysis.error_groups.groups import ErrorGroups
from cvx_diagnose.analysis.fixes.class_thresholds import try_class_thresholds
from cvx_diagnose.analysis.fixes.detection_thresholds import try_thresholds
from cvx_diagnose.analysis.fixes.halves import (
    Halves,
    accuracy_change as accuracy_change,
    split_halves,
    train_head,
)
from cvx_diagnose.analysis.fixes.label_thresholds import try_label_thresholds
from cvx_diagnose.analysis.fixes.saved_head import save_head
from cvx_diagnose.analysis.fixes.shortcut_removal import try_without_shortcut
from cvx_diagnose.analysis.fixes.temperature import try_temperature
from cvx_diagnose.analysis.labeled_rows import LabeledRows
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import DiagnosisWork

Numbers = npt.NDArray[Any]


def try_fixes(
    run: Run,
    work: DiagnosisWork | None = None,
    issues: Sequence[Mapping[str, Any]] = (),
    shortcuts: Sequence[Mapping[str, Any]] = (),
    error_groups: ErrorGroups | None = None,
) -> list[dict[str, Any]]:
    """Return the result of each fix that applies to the task.

    Parameters
    ----------
    run
        A finished run.
    work
        Of the run; without it nothing is predicted again, and no weights are written.
    issues
        Label issues, whose suggestions are tried.
    shortcuts, error_groups
        Shortcuts that were found, and the groups of errors that they are of.

    Returns
    -------
    list of dict
        ``name``; ``tried``, false where it could not be, with the reason in ``note``;
        ``trained_on`` and ``evaluated_on``, numbers of inputs; ``before`` and ``after``, accuracy
        on the latter; ``change`` with ``low`` and ``high``, its 95 % interval; ``fixed``,
        ``broken`` and ``p`` (`cvx_diagnose.analysis.metrics.statistics.mcnemar`). A new last layer
        knows only the classes of the data: where the network knows more, ``restricted`` is the
        accuracy of the old one among these, and the change is relative to it. ``gain`` is the
        accuracy after it minus that of the network on the same inputs. ``weights`` is the file, in
        the run's folder, of the network with the new layer, if it helped; ``cvx -m MODEL --weights
        FILE`` loads it. See `.temperature.try_temperature`,
        `.shortcut_removal.try_without_shortcut`, for detectors
        `.detection_thresholds.try_thresholds`, for segmenters
        `.class_thresholds.try_class_thresholds`, and for several labels an image
        `.label_thresholds.try_label_thresholds`.
    """
    if "logits" in run.schema.names:
        halves = split_halves(run)
        if isinstance(halves, str):
            return [{"name": "retraining the last layer", "tried": False, "note": halves}]
        found = [_last_layer(run, halves, work), try_temperature(run, halves)]
        relabeled = _relabeled(run, halves, issues, work)
        found += [] if relabeled is None else [relabeled]
        if work is not None and error_groups is not None:
            found += [
                try_without_shortcut(run, work, halves, one, error_groups) for one in shortcuts
            ]
        return found
    if "label_logits" in run.schema.names:
        return [try_label_thresholds(run)]
    if "leads" in run.schema.names:
        return [try_class_thresholds(run, work)]
    return [try_thresholds(run)] if "candidates" in run.schema.names else []


def _last_layer(run: Run, halves: Halves, work: DiagnosisWork | None) -> dict[str, Any]:
    """Train a new last layer on the features of one half, and predict the other."""
    train, test = halves.train, halves.test
    classes = halves.classes
    head = train_head(halves.features[train], halves.labels[train])
    now = head.predict(halves.features[test]) == halves.labels[test]
    before, restricted = halves.correct[test], None
    if len(classes) < run.plan.outputs:
        among = _among(run, classes, halves.positions[test]) == halves.labels[test]
        restricted = float(among.mean())
    change = accuracy_change(before if restricted is None else among, now)
    return {
        "name": "retraining the last layer",
        "tried": True,
        "measure": "accuracy",
        "trained_on": len(train),
        "evaluated_on": len(test),
        **change,
        "before": float(before.mean()),
        "restricted": restricted,
        "gain": float(now.mean() - before.mean()),
        "weights": save_head(run, work, halves, head, "last-layer") if change["low"] > 0 else None,
    }


def _relabeled(
    run: Run, halves: Halves, issues: Sequence[Mapping[str, Any]], work: DiagnosisWork | None
) -> dict[str, Any] | None:
    """Correct the suspected labels of one half and train on it; None if it has none.

    Compared with a last layer that is trained on the labels as they are. Held-out inputs with a
    suspected label are left out: which of their labels is right is not known.
    """
    suggested = {one["id"]: one["suggested"] for one in issues}
    known = set(halves.classes.tolist())
    corrected = np.array(
        [
            suggested[k] if suggested.get(k) in known else label
            for k, label in zip(halves.ids.tolist(), halves.labels.tolist(), strict=True)
        ]
    )
    train = halves.train
    test = np.array([k for k in halves.test if int(halves.ids[k]) not in suggested], dtype=int)
    changed = int((corrected[train] != halves.labels[train]).sum())
    if not changed or not len(test):
        return None
    heads = [
        train_head(halves.features[train], labels[train]) for labels in (halves.labels, corrected)
    ]
    right = [head.predict(halves.features[test]) == halves.labels[test] for head in heads]
    change = accuracy_change(*right)
    return {
        "name": f"retraining the last layer with {changed:,} suspected labels corrected, against "
        "one with the labels as they are",
        "tried": True,
        "measure": "accuracy",
        "trained_on": len(train),
        "evaluated_on": len(test),
        **change,
        "restricted": None,
        "gain": float(right[1].mean() - halves.correct[test].mean()),
        "relabeled": changed,
        "weights": save_head(run, work, halves, heads[1], "relabeled")
        if change["low"] > 0
        else None,
    }


def _among(run: Run, classes: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> Numbers:
    """Return the predictions of the original network restricted to some classes."""
    logits = LabeledRows(run).gather("logits", at)[:, classes]
    found: Numbers = classes[np.nan_to_num(logits).argmax(1)]
    return found
