"""Tables of a page: metrics of the task, types of errors, confusions."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.run.results import Run

_CLASSES = 24
"""Maximum number of classes in the confusion table, those with most errors."""


def task_metrics(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values of a task's own metrics, formatted."""
    found = []
    if "iou" in summary and summary["iou"]["mean"] is not None:
        found.append(("Mean IoU", f"{100 * summary['iou']['mean']:.1f} %"))
    if "tide" in summary and summary["tide"]["ap"] is not None:
        found.append(("AP at IoU 0.5", f"{summary['tide']['ap']:.1f}"))
    return found


def error_table(summary: dict[str, Any]) -> dict[str, Any] | None:
    """Return a table of a detector's types of error, or of a segmenter's classes."""
    if "tide" in summary:
        counts, gains = summary["tide"]["counts"], summary["tide"]["gains"]
        about = (
            "Error types of TIDE, for all boxes above the model's own threshold of "
            f"{summary['tide']['threshold']:g}, as in the errors listed below. AP lost: the "
            "increase of the average precision of these boxes if only the errors of this type were "
            "corrected."
        )
        rows = [
            [name, f"{counts[name]:,}", f"{gains[name]:.1f}"]
            for name in sorted(gains, key=lambda name: -gains[name])
        ]
        return {"about": about, "head": ["type", "errors", "AP lost"], "rows": rows}
    if "iou" not in summary:
        return None
    name = class_namer(summary["classes"])
    lowest = sorted(summary["iou"]["classes"], key=lambda one: one["iou"])
    about = "Intersection over union of each class over all pixels, the lowest first."
    rows = [
        [name(one["class"]), f"{one['pixels']:,}", f"{100 * one['iou']:.1f} %"] for one in lowest
    ]
    return {"about": about, "head": ["class", "true pixels", "IoU"], "rows": rows}


def confusion_table(run: Run) -> dict[str, Any]:
    """Return how often each class was predicted as each, for the classes with most errors."""
    if "logits" not in run.schema.names:
        return {"classes": [], "counts": [], "of": 0}
    table = run.table(["label", "predicted"], status="ok")
    table = table.filter(table["label"].is_valid())
    labels, predicted = (
        np.array(table[name].to_pylist(), dtype=np.int64) for name in ("label", "predicted")
    )
    wrong = labels != predicted
    errors = np.bincount(labels[wrong], minlength=run.plan.outputs)
    errors = errors + np.bincount(predicted[wrong], minlength=run.plan.outputs)
    worst = [int(c) for c in np.argsort(-errors, kind="stable")[:_CLASSES] if errors[c]]
    shown = sorted(worst)
    inside = np.isin(labels, shown) & np.isin(predicted, shown)
    counts = np.zeros((len(shown), len(shown)), dtype=np.int64)
    at = [np.searchsorted(shown, one[inside]) for one in (labels, predicted)]
    np.add.at(counts, tuple(at), 1)
    return {"classes": shown, "counts": counts.tolist(), "of": int((errors > 0).sum())}
