"""The numbers of a report's first screen, as tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvx_diagnose.analysis.error_groups.names import names_of
from cvx_diagnose.run.results import Run

_CLASSES = 24
"""Classes in the table of confusions: those with most errors."""


def measures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values of a task's own measures, for people."""
    found = []
    if "iou" in summary and summary["iou"]["mean"] is not None:
        found.append(("Mean IoU", f"{100 * summary['iou']['mean']:.1f} %"))
    if "tide" in summary:
        found.append(("AP at IoU 0.5", f"{summary['tide']['ap']:.1f}"))
    return found


def kinds(summary: dict[str, Any]) -> dict[str, Any] | None:
    """Return a table of a detector's types of error, or of a segmenter's classes."""
    if "tide" in summary:
        counts, gains = summary["tide"]["counts"], summary["tide"]["gains"]
        about = (
            "The types of TIDE, over all images and all boxes with a score of "
            f"{summary['tide']['reported_from']} or more; below, an image's errors are those from "
            "the model's own threshold on. If the errors of a type alone were mended, average "
            "precision would rise by so many points."
        )
        rows = [
            [name, f"{counts[name]:,}", f"{gains[name]:.1f}"]
            for name in sorted(gains, key=lambda name: -gains[name])
        ]
        return {"about": about, "head": ["type", "errors", "AP lost"], "rows": rows}
    if "iou" not in summary:
        return None
    name = names_of(summary["classes"])
    lowest = sorted(summary["iou"]["classes"], key=lambda one: one["iou"])
    about = (
        "Intersection over union of each class, the lowest first, over the pixels of all images."
    )
    rows = [
        [name(one["class"]), f"{one['pixels']:,}", f"{100 * one['iou']:.1f} %"] for one in lowest
    ]
    return {"about": about, "head": ["class", "true pixels", "IoU"], "rows": rows}


def confusions(run: Run) -> dict[str, Any]:
    """Return how often each class was taken for each, of the classes with most errors."""
    if run.plan.task != "classification":
        return {"classes": [], "counts": [], "of": 0}
    table = run.table(["label", "predicted"], status="ok")
    table = table.filter(table["label"].is_valid())
    labels, said = (
        np.array(table[name].to_pylist(), dtype=np.int64) for name in ("label", "predicted")
    )
    wrong = labels != said
    errors = np.bincount(labels[wrong], minlength=run.plan.outputs)
    errors = errors + np.bincount(said[wrong], minlength=run.plan.outputs)
    order = [int(c) for c in np.argsort(-errors, kind="stable")[:_CLASSES] if errors[c]]
    shown = sorted(order)
    place = {c: i for i, c in enumerate(shown)}
    counts = np.zeros((len(shown), len(shown)), dtype=np.int64)
    for y, q in zip(labels.tolist(), said.tolist(), strict=True):
        if y in place and q in place:
            counts[place[y], place[q]] += 1
    return {"classes": shown, "counts": counts.tolist(), "of": int((errors > 0).sum())}
