"""Changes of each class between two runs, paired by input."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_diagnose.analysis.metrics.box_matching import match_boxes
from cvx_diagnose.analysis.metrics.statistics import mcnemar
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import Row

Numbers = npt.NDArray[Any]
Part = tuple[float, float]
"""Numerator and denominator that an input adds to a measure of a class."""

SURE = 0.05
"""p-value below which a change beyond its interval is reported."""

_DEVIATIONS = 1.96
_NOTHING: Part = (0.0, 0.0)
_COLUMNS = {"accuracy": "label", "IoU": "pixels", "F1": "detections"}
"""The measure of a class, and the column that tells that a run has it."""


def measure_of(run: Run) -> str | None:
    """Return what is measured of each class: accuracy, IoU or F1; None for other tasks."""
    names = run.schema.names
    if "logits" not in names:
        return next((one for one in ("IoU", "F1") if _COLUMNS[one] in names), None)
    return "accuracy"


def renumber(run: Run, before: Run) -> Callable[[int], int]:
    """Return a function from a class of an older run to that of the same name, negative if none."""
    old, new = before.plan.classes, run.plan.classes
    if old is None or new is None or tuple(old) == tuple(new):
        return int
    numbers = {name: c for c, name in reversed(list(enumerate(new)))}
    return lambda c: numbers.get(old[c], -2 - c)


def class_changes(run: Run, before: Run, pairs: Sequence[tuple[Row, Row]]) -> list[dict[str, Any]]:
    """Return how much a measure of each class changed, the largest loss first.

    The measure is accuracy for classifiers, intersection over union for segmenters, and F1 at an
    intersection over union of 0.5 for detectors, at each detector's own threshold. An input that a
    model fails on has nothing right.

    Parameters
    ----------
    run, before
        The newer and the older run, of one task.
    pairs
        The older and the newer row of each input, with ``id``, ``label`` and ``correct``; labels
        are classes of the newer run.

    Returns
    -------
    list of dict
        ``class``, one of the newer run, and what `paired_change` returns.
    """
    measure = measure_of(run)
    if measure is None or measure_of(before) != measure:
        return []
    old = _parts(before, measure, [pair[0] for pair in pairs])
    number = renumber(run, before)
    if measure != "accuracy":
        old = [one and {number(c): part for c, part in one.items()} for one in old]
    new = _parts(run, measure, [pair[1] for pair in pairs])
    by_class: dict[int, list[tuple[Part, Part]]] = defaultdict(list)
    for (was, now), pair in zip(pairs, zip(old, new, strict=True), strict=True):
        if measure == "accuracy":
            label = now["label"] if now["label"] is not None else was["label"]
            parts = [None if label is None else {label: one} for one in pair]
        else:
            parts = list(pair)
        for c in {c for one in parts if one for c in one if c >= 0}:
            sides = [None if one is None else one.get(c, _NOTHING) for one in parts]
            # What a model failed on is measured against what the other run had to find.
            sides = [
                (0.0, max(other[1] if other else 0.0, 1e-12)) if one is None else one
                for one, other in zip(sides, sides[::-1], strict=True)
            ]
            by_class[c].append((sides[0] or _NOTHING, sides[1] or _NOTHING))
    changes = [
        {"class": c, **paired_change([one for one, _ in several], [one for _, one in several])}
        for c, several in sorted(by_class.items())
    ]
    return sorted(changes, key=lambda one: one["change"])


def paired_change(old: Sequence[Part], new: Sequence[Part]) -> dict[str, Any]:
    """Return how much a ratio of sums over the same inputs changed.

    Accuracy, intersection over union and F1 are such ratios. The interval is the normal one of the
    linearized difference (Cochran, Sampling Techniques, 1977, section 6.12), which keeps the inputs
    paired.

    Parameters
    ----------
    old, new
        Numerator and denominator of each input, in the same order.

    Returns
    -------
    dict
        ``count`` of inputs; ``before`` and ``after``; ``change`` with ``low`` and ``high``, its
        95 % interval; ``better`` and ``worse``, inputs whose own ratio rose or fell; and ``p`` of
        the sign test of these, which for accuracy is McNemar's.

    Examples
    --------
    >>> found = paired_change([(1, 1)] * 9 + [(0, 1)], [(1, 1)] * 8 + [(0, 1)] * 2)
    >>> round(found["change"], 3), found["worse"], found["p"]
    (-0.1, 1, 1.0)
    """
    parts = np.array([old, new], dtype=np.float64).reshape(2, -1, 2)
    sums = parts.sum(1)
    ratios = sums[:, 0] / np.maximum(sums[:, 1], 1e-12)
    count = parts.shape[1]
    means = np.maximum(sums[:, 1] / max(count, 1), 1e-12)
    residuals = (parts[:, :, 0] - ratios[:, None] * parts[:, :, 1]) / means[:, None]
    spread = float((residuals[1] - residuals[0]).std() / max(count, 1) ** 0.5)
    change = float(ratios[1] - ratios[0])
    own = _ratios(parts)
    better, worse = int((own[1] > own[0]).sum()), int((own[1] < own[0]).sum())
    return {
        "count": count,
        "before": float(ratios[0]),
        "after": float(ratios[1]),
        "change": change,
        "low": change - _DEVIATIONS * spread,
        "high": change + _DEVIATIONS * spread,
        "better": better,
        "worse": worse,
        "p": mcnemar(better, worse),
    }


def is_regression(change: Mapping[str, Any]) -> bool:
    """Say whether a measure fell beyond its interval, and not by chance."""
    return bool(change["high"] < 0 and change["p"] < SURE)


def _ratios(parts: Numbers) -> Numbers:
    # Nothing to find and nothing found is as good as it can be.
    found: Numbers = np.where(
        parts[..., 1] > 0, parts[..., 0] / np.maximum(parts[..., 1], 1e-12), 1.0
    )
    return found


def _parts(run: Run, measure: str, rows: Sequence[Row]) -> list[Any]:
    """Return the parts of each row by class; for accuracy its part; None where there are none."""
    if measure == "accuracy":
        return [(float(bool(row["correct"])), 1.0) for row in rows]
    wanted = {row["id"]: k for k, row in enumerate(rows) if row["correct"] is not None}
    columns = ["id", "pixels"] if measure == "IoU" else ["id", "detections", "ground_truth"]
    found: list[Any] = [None] * len(rows)
    for table in run.blocks(columns):
        for row in table.to_pylist():
            if row["id"] in wanted:
                read = _pixels(row) if measure == "IoU" else _boxes(row, run.plan.threshold or 0.0)
                found[wanted[row["id"]]] = read
    return found


def _pixels(row: Row) -> dict[int, Part]:
    both, either = Counter[int](), Counter[int]()
    for one in row["pixels"] or ():
        either[one["true"]] += one["count"]
        if one["true"] == one["predicted"]:
            both[one["true"]] += one["count"]
        else:
            either[one["predicted"]] += one["count"]
    return {c: (float(both[c]), float(count)) for c, count in either.items()}


def _boxes(row: Row, threshold: float) -> dict[int, Part]:
    several = [one for one in row["detections"] or () if one["score"] > threshold]
    several.sort(key=lambda one: -one["score"])
    boxes = np.array([one["box"] for one in several], dtype=np.float64).reshape(-1, 4)
    classes = np.array([one["class"] for one in several], dtype=np.int64)
    hits, excused = match_boxes(boxes, classes, row["ground_truth"])
    found, total = Counter[int](), Counter[int]()
    for c, hit, out in zip(classes.tolist(), hits, excused, strict=True):
        found[c] += 2 * int(hit)
        total[c] += int(not out)
    total.update(one["class"] for one in row["ground_truth"] if not one["crowd"])
    # 2 TP / (boxes + objects) is F1.
    return {c: (float(found[c]), float(count)) for c, count in total.items() if count}
