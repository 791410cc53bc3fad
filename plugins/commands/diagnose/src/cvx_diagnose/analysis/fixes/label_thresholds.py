"""Thresholds of a classifier of several labels, one for each label."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.analysis.fixes.detection_thresholds import THRESHOLDS
from cvx_diagnose.analysis.metrics.statistics import BOOTSTRAP_SAMPLES, mcnemar, shuffle_ids
from cvx_diagnose.run.results import Run

Numbers = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

_FEWEST = 20
_FEWEST_OF_LABEL = 5
"""Minimum number of images with a label, and without it, from which its threshold is tuned."""


def try_label_thresholds(run: Run) -> dict[str, Any]:
    """Choose a threshold for each label on one half of the images, and evaluate on the other.

    Chosen is the probability, in steps of 0.05, with the best F1 of the label. Copies of a file
    are in one half. A label with fewer than 5 images with or without it keeps its threshold, and
    so does one whose F1 does not increase.

    Returns
    -------
    dict
        As of `.last_layer.try_fixes`, where ``before``, ``after``, ``change`` and its interval are
        of F1 over all labels, and an image is ``fixed`` that has fewer wrong labels;
        ``thresholds``, the new ones by the name of the label; ``gain``, the increase of the share
        of images without an error.
    """
    name = "a threshold for each label"
    table = run.table(
        ["id", "sha256", "label_logits", "predicted_labels", "true_labels"], status="ok"
    )
    table = table.filter(table["true_labels"].is_valid())
    if len(table) < _FEWEST:
        note = f"It needs {_FEWEST} labeled images, got {len(table)}."
        return {"name": name, "tried": False, "note": note}
    scores = expit(run.numbers(table, "label_logits").astype(np.float64))
    true, now = (_flags(table[one], scores.shape[1]) for one in ("true_labels", "predicted_labels"))
    first = _first_half(table)
    called = class_namer(run.plan.classes)
    chosen: dict[str, float] = {}
    new = now.copy()
    for c in range(scores.shape[1]):
        count = int(true[first, c].sum())
        if min(count, int(first.sum()) - count) < _FEWEST_OF_LABEL:
            continue
        tried = {t: _f1(scores[first, c] >= t, true[first, c]) for t in THRESHOLDS}
        best = max(tried, key=lambda t: (tried[t], -abs(t - 0.5)))
        if tried[best] > _f1(now[first, c], true[first, c]):
            chosen[called(c)], new[:, c] = best, scores[:, c] >= best
    before, after, known = now[~first], new[~first], true[~first]
    change = (after != known).sum(1) - (before != known).sum(1)
    fixed, broken = int((change < 0).sum()), int((change > 0).sum())
    drawn = np.random.default_rng(0).integers(0, len(known), (BOOTSTRAP_SAMPLES, len(known)))
    changes = [_f1(after[at], known[at]) - _f1(before[at], known[at]) for at in drawn]
    correct = [float((one == known).all(1).mean()) for one in (before, after)]
    f1 = _f1(before, known), _f1(after, known)
    return {
        "name": name,
        "tried": True,
        "measure": "F1",
        "trained_on": int(first.sum()),
        "evaluated_on": len(known),
        "thresholds": chosen,
        "before": f1[0],
        "after": f1[1],
        "change": f1[1] - f1[0],
        "low": float(np.quantile(changes, 0.025)),
        "high": float(np.quantile(changes, 0.975)),
        "fixed": fixed,
        "broken": broken,
        "p": mcnemar(fixed, broken),
        "gain": correct[1] - correct[0],
    }


def _flags(column: Any, count: int) -> Flags:
    """Return lists of indices as flags (n, C)."""
    found = np.zeros((len(column), count), dtype=bool)
    for row, indices in zip(found, column.to_pylist(), strict=True):
        row[indices] = True
    return found


def _first_half(table: Any) -> Flags:
    """Return which images are in the first half, in a random order of the files."""
    ids, files = table["id"].to_pylist(), table["sha256"].to_pylist()
    first_of: dict[Any, int] = {}
    files = [
        first_of.setdefault(file or f"input {k}", k) for k, file in zip(ids, files, strict=True)
    ]
    ranks = {k: rank for rank, k in enumerate(shuffle_ids([*first_of.values()]))}
    return np.array([ranks[k] % 2 == 0 for k in files], dtype=bool)


def _f1(predicted: Flags, true: Flags) -> float:
    """Return the harmonic mean of precision and recall over all entries; 1 where there are none."""
    either = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / either if either else 1.0
