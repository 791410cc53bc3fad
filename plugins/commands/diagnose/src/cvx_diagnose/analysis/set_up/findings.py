"""Findings about the set-up: what must be corrected before errors mean anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core import GroundTruthBoxes, get_task
from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.analysis.metrics.statistics import shuffle_ids
from cvx_diagnose.analysis.set_up.class_order import find_permutation
from cvx_diagnose.analysis.set_up.inputs import far_inputs, input_statistics, sample_inputs
from cvx_diagnose.analysis.set_up.normalization import better_normalization
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import DiagnosisWork

_FEWEST = 100
"""Labeled inputs from which accuracy is compared with chance."""

_CHANCE = 0.1
"""Cohen's kappa below which predictions are near chance."""

_GOOD = 0.9
"""Accuracy from which no other normalization is tried."""

_SAMPLED = 64
"""Inputs from which statistics of a batch normalization are compared."""

_SOME = 0.01
"""Share of inputs without a label that is reported."""

_POOR = 0.6
"""Accuracy from which it is not called near chance: one class may be most of the data."""

_UNLIKELY = 0.01
"""Probability below which a class that is never predicted is no chance."""

_PAIRS = 10

Matrix = npt.NDArray[np.float64]


def find_set_up(run: Run, summary: Mapping[str, Any], work: DiagnosisWork) -> list[dict[str, Any]]:
    """Return findings about the set-up of a run, the most important first.

    Returns
    -------
    list of dict
        ``kind``: class order, chance, inputs, labels missing or never predicted; ``text``;
        ``count`` of inputs; ``gain`` in accuracy where it is known; ``withholds``, whether errors
        mean nothing before it is corrected; ``classes`` that it is about, and what belongs to the
        kind.
    """
    found = _missing_labels(run, summary, work)
    halves = _confusions(run)
    if halves is None:
        return found
    both = halves[0] + halves[1]
    name = class_namer(summary["classes"])
    order = _class_order(*halves, name, summary)
    if order is not None:
        return [order, *found]
    kappa, expected, accuracy = _agreement(both)
    enough = summary["accuracy"]["total"] >= _FEWEST
    chance = enough and kappa < _CHANCE and accuracy < _POOR
    sample, labels = sample_inputs(run, work) if accuracy < _GOOD else ([], [])
    better = None
    if "logits" in run.schema.names and enough and accuracy < _GOOD:
        known = [k for k, label in enumerate(labels) if label >= 0]
        better = better_normalization(
            work.model, [sample[k] for k in known], [labels[k] for k in known]
        )
    statistics = input_statistics(work.model, sample)
    far = "" if statistics is None else far_inputs(statistics)
    # A network may normalize its inputs itself: values alone say nothing while it predicts well.
    if better is not None:
        found.insert(0, _normalization(better))
    elif statistics is not None and far and (chance or _judged(statistics, accuracy)):
        found.insert(0, _far(far, statistics, accuracy, chance))
    elif chance:
        found.insert(0, _near_chance(accuracy, expected, summary))
    if enough and not any(one["withholds"] for one in found):
        found += _never_predicted(both, name, summary)
    return found


def _missing_labels(
    run: Run, summary: Mapping[str, Any], work: DiagnosisWork
) -> list[dict[str, Any]]:
    predicted, labeled = summary["counts"]["ok"], summary["accuracy"]["total"]
    if not predicted:
        return []
    searched = work.source.labels_searched
    boxes = get_task(run.plan.task).ground_truth is GroundTruthBoxes
    if labeled and boxes and not _has_objects(run):
        text = f"None of the {labeled:,} inputs has a labeled object."
        return [_missing(text, searched, labeled)]
    left = predicted - labeled
    if not labeled:
        of = "The input has no label" if left == 1 else f"0 of {left:,} inputs have a label"
        return [_missing(f"{of}: nothing can be said about errors.", searched, left)]
    if left >= _SOME * predicted:
        text = f"{labeled:,} of {predicted:,} inputs have a label; the others are not judged."
        return [_missing(text, searched, left)]
    return []


def _missing(text: str, searched: str, count: int) -> dict[str, Any]:
    text = f"{text} {searched}".strip()
    return {"kind": "labels missing", "text": text, "count": count, "withholds": False}


def _has_objects(run: Run) -> bool:
    return any(
        bool(row)
        for block in run.blocks(["ground_truth"])
        for row in block["ground_truth"].to_pylist()
    )


def _confusions(run: Run) -> tuple[Matrix, Matrix] | None:
    """Return how often each class was predicted as each, in two halves; None for other tasks.

    Of a segmenter an image counts as the shares of its pixels.
    """
    names = run.schema.names
    if "logits" in names:
        columns = ["id", "label", "predicted"]
    elif "pixels" in names:
        columns = ["id", "pixels"]
    else:
        return None
    ids = [int(one) for block in run.blocks(["id"]) for one in block["id"].to_pylist()]
    half = {number: k % 2 for k, number in enumerate(shuffle_ids(ids))}
    found = np.zeros((2, run.plan.outputs, run.plan.outputs))
    for block in run.blocks(columns):
        for row in block.to_pylist():
            if "pixels" in row:
                pixels = row["pixels"] or []
                total = max(1, sum(one["count"] for one in pixels))
                for one in pixels:
                    found[half[row["id"]], one["true"], one["predicted"]] += one["count"] / total
            elif row["label"] is not None and row["predicted"] is not None:
                found[half[row["id"]], row["label"], row["predicted"]] += 1
    return found[0], found[1]


def _agreement(both: Matrix) -> tuple[float, float, float]:
    """Return Cohen's kappa, the accuracy expected by chance, and the accuracy."""
    total = both.sum()
    if not total:
        return 1.0, 0.0, 0.0
    accuracy = float(np.trace(both) / total)
    expected = float(both.sum(0) @ both.sum(1) / total**2)
    return (accuracy - expected) / max(1 - expected, 1e-9), expected, accuracy


def _class_order(
    first: Matrix, second: Matrix, name: Any, summary: Mapping[str, Any]
) -> dict[str, Any] | None:
    found = find_permutation(first, second)
    if found is None:
        return None
    pairs = [f"{name(one['label'])} as {name(one['predicted'])}" for one in found["pairs"]]
    more = f" and {len(pairs) - _PAIRS} more" if len(pairs) > _PAIRS else ""
    shift = found["shift"]
    shifted = "" if shift is None else f" (each index is shifted by {shift} of {len(first)})"
    text = (
        f"Class names are in another order: predictions are a permutation of the labels, "
        f"{', '.join(pairs[:_PAIRS])}{more}{shifted}. Read so, accuracy on held-out inputs is "
        f"{100 * found['after']:.1f} % instead of {100 * found['before']:.1f} %. Correct the order "
        "of the model's class names, or map the names of the data with --classes-map."
    )
    moved = [one["label"] for one in found["pairs"]]
    share = (first + second)[moved].sum() / max((first + second).sum(), 1e-9)
    return {
        "kind": "class order",
        "text": text,
        "count": round(share * summary["accuracy"]["total"]),
        "gain": found["after"] - found["before"],
        "withholds": True,
        "classes": moved,
        "permutation": found,
    }


def _judged(statistics: dict[str, Any], accuracy: float) -> bool:
    """Return whether a batch normalization judges enough inputs, and the network predicts badly."""
    enough = bool(statistics["count"] >= _SAMPLED)
    return enough and statistics["layer"] is not None and accuracy < _GOOD


def _near_chance(accuracy: float, expected: float, summary: Mapping[str, Any]) -> dict[str, Any]:
    text = (
        f"Accuracy is near chance: {100 * accuracy:.1f} %, where predictions independent of the "
        f"labels would have {100 * expected:.1f} %. Check that the weights were loaded, that the "
        "preprocessing is that of training, and the order of the class names."
    )
    count = summary["accuracy"]["total"]
    return {"kind": "chance", "text": text, "count": count, "withholds": True, "expected": expected}


def _far(far: str, statistics: dict[str, Any], accuracy: float, chance: bool) -> dict[str, Any]:
    near = f" Accuracy is {100 * accuracy:.1f} %, near chance." if chance else ""
    text = (
        f"Inputs are far from what the network was made for: {far}.{near} Check the normalization, "
        "the range of values and the order of colors in the preprocessing."
    )
    count = statistics["count"]
    return {"kind": "inputs", "text": text, "count": count, "withholds": True, **statistics}


def _normalization(better: dict[str, Any]) -> dict[str, Any]:
    text = (
        f"Inputs are normalized in another way than those of training: now {better['now']}. "
        f"Normalized {better['better']}, accuracy of {better['count']:,} sampled inputs is "
        f"{100 * better['after']:.1f} % instead of {100 * better['before']:.1f} %. Correct the "
        "preprocessing."
    )
    gain = better["after"] - better["before"]
    return {"kind": "inputs", "text": text, "gain": gain, "withholds": True, **better}


def _never_predicted(both: Matrix, name: Any, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the classes that are never predicted, where that is no chance."""
    true, predicted = both.sum(1), both.sum(0)
    recall = float(np.trace(both) / both.sum())
    classes = int((true > 0).sum())
    never = [
        int(c)
        for c in np.flatnonzero((true > 0) & (predicted == 0))
        if classes * (1 - recall) ** true[c] < _UNLIKELY
    ]
    if not never:
        return []
    count = int(true[never].sum())
    names = ", ".join(name(c) for c in never[:_PAIRS])
    more = f" and {len(never) - _PAIRS} more" if len(never) > _PAIRS else ""
    text = (
        f"Never predicted: {names}{more}, with {count:,} labeled inputs. Check that the network "
        "was trained on these classes and that their names are those of the data."
    )
    total = max(1, summary["accuracy"]["total"])
    return [
        {
            "kind": "never predicted",
            "text": text,
            "count": count,
            "gain": count / total,
            "withholds": False,
            "classes": never,
        }
    ]
