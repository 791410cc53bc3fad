"""Thresholds of a classifier of several labels, one for each label."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.analysis.fixes.detection_thresholds import THRESHOLDS
from cvx_diagnose.analysis.fixes.halves import f1, f1_change, in_first_half
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
    first = in_first_half(table["id"].to_pylist(), table["sha256"].to_pylist())
    called = class_namer(run.plan.classes)
    chosen: dict[str, float] = {}
    new = now.copy()
    for c in range(scores.shape[1]):
        count = int(true[first, c].sum())
        if min(count, int(first.sum()) - count) < _FEWEST_OF_LABEL:
            continue
        one = slice(c, c + 1)
        tried = {t: f1(_counts(scores[first, one] >= t, true[first, one])) for t in THRESHOLDS}
        best = max(tried, key=lambda t: (tried[t], -abs(t - 0.5)))
        if tried[best] > f1(_counts(now[first, one], true[first, one])):
            chosen[called(c)], new[:, c] = best, scores[:, c] >= best
    before, after = (_counts(one[~first], true[~first]) for one in (now, new))
    return {
        "name": name,
        "tried": True,
        "measure": "F1",
        "trained_on": int(first.sum()),
        "evaluated_on": len(before),
        "thresholds": chosen,
        **f1_change(before, after),
    }


def _flags(column: Any, count: int) -> Flags:
    """Return lists of indices as flags (n, C)."""
    found = np.zeros((len(column), count), dtype=bool)
    for row, indices in zip(found, column.to_pylist(), strict=True):
        row[indices] = True
    return found


def _counts(predicted: Flags, true: Flags) -> Numbers:
    """Return how many labels are found, wrong and missed in each image, (n, 3)."""
    several = predicted & true, predicted & ~true, ~predicted & true
    return np.stack([one.sum(1) for one in several], axis=1)
