"""Summary of a run: counts, accuracy and metrics of the task, from its rows block by block."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from cvx_core import (
    DetectionCandidates,
    DetectionPrediction,
    Frame,
    GroundTruthBox,
    GroundTruthBoxes,
    OutputError,
)
from cvx_core.tasks import REPORTED_FROM
from cvx_diagnose.analysis.metrics.statistics import wilson
from cvx_diagnose.analysis.metrics.tide import average_precision_of, tide
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import MODEL_FAILED, NO_MAP, NO_TEST, OK, STATUSES, Row

SCHEMA = "cvx.diagnosis/3"
BINS = 15
MOST_CONFUSIONS = 50
MOST_LISTED = 1000
"""Maximum number of inputs without a prediction that are listed."""
MOST_REASONS = 20


def summarize(run: Run) -> dict[str, Any]:
    """Return the metrics in ``summary.json``.

    Raises
    ------
    OutputError
        If there is not exactly one row for each input.
    """
    common = _Common()
    parts: list[Any] = [common]
    if "logits" in run.schema.names:
        parts.append(_Classes())
    if "pixels" in run.schema.names:
        parts.append(_Pixels())
    names = [name for part in parts for name in part.columns]
    for rows in _rows(run, names):
        for part in parts:
            part.add(rows)
    common.check(run)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "task": run.plan.task,
        "model": run.plan.model,
        "weights_sha256": run.plan.weights_sha256,
        "data": run.plan.data,
        "inputs": run.plan.items,
        "of": run.plan.total,
        "classes": None if run.plan.classes is None else list(run.plan.classes),
    }
    for part in parts:
        document |= part.document()
    if "detections" in run.schema.names:
        document["tide"] = _tide(run)
    return document


def _rows(run: Run, columns: list[str]) -> Iterator[list[Row]]:
    for table in run.blocks(list(dict.fromkeys(columns))):
        yield table.to_pylist()


class _Common:
    """Metrics of all tasks: counts by status, accuracy, types of errors, region tests."""

    columns = (
        *("id", "path", "status", "message", "correct", "errors", "error_count", "tested"),
        *("regions", "fix"),
    )

    def __init__(self) -> None:
        self.reasons = Counter[str]()
        self.failed: list[dict[str, str]] = []
        self.counts, self.types, self.tests = Counter[str](), Counter[str](), Counter[str]()
        self.labeled = self.correct = self.rows = 0
        self.last = -1
        self.in_order = True

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            self.rows += 1
            self.in_order &= row["id"] > self.last
            self.last = row["id"]
            self.counts[row["status"]] += 1
            if row["status"] != OK:
                self.failed.append({name: row[name] for name in ("path", "status", "message")})
            elif (row.get("message") or "").startswith(NO_MAP):
                self.reasons[row["message"].removeprefix(NO_MAP).partition(f" {NO_TEST}")[0]] += 1
            if row["correct"] is not None:
                self.labeled += 1
                self.correct += row["correct"]
            self.types.update(one["type"] for one in row["errors"] or ())
            if row["tested"]:
                self.tests["tested"] += 1
                verdicts = [one["verdict"] for one in row["regions"] or ()] or ["none stood out"]
                order = ("verified", "partly", "not verified", "none stood out")
                self.tests[min(verdicts, key=order.index)] += 1
                self.tests["corrected"] += row["fix"] is not None

    def check(self, run: Run) -> None:
        """Check that every input has exactly one row."""
        if self.rows != run.plan.items or not self.in_order:
            raise OutputError(
                f"The run has {self.rows} rows for {run.plan.items} inputs"
                f"{'' if self.in_order else ', some of them twice'}.",
                "Resume it: --resume.",
            )

    def document(self) -> dict[str, Any]:
        low, high = wilson(self.correct, self.labeled)
        failed = sum(self.counts[status] for status in MODEL_FAILED)
        worst = self.correct / (self.labeled + failed) if self.labeled else None
        return {
            "counts": {status: self.counts[status] for status in STATUSES},
            "accuracy": {
                "correct": self.correct,
                "total": self.labeled,
                "value": self.correct / self.labeled if self.labeled else None,
                "low": low,
                "high": high,
                "failed": failed,
                "value_with_failed": worst,
            },
            "errors": dict(self.types.most_common()),
            "without_map": {"count": self.reasons.total(), "reasons": self._listed_reasons()},
            "failed_inputs": self.failed[:MOST_LISTED],
            "region_tests": dict(self.tests),
        }

    def _listed_reasons(self) -> list[dict[str, Any]]:
        common = self.reasons.most_common(MOST_REASONS)
        return [{"reason": reason, "count": count} for reason, count in common]


class _Classes:
    """Calibration, confusions, and the accuracy of each class."""

    columns = ("status", "label", "predicted", "correct", "confidence")

    def __init__(self) -> None:
        self.pairs = Counter[tuple[int, int]]()
        self.bins = np.zeros((BINS, 3))

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            if row["status"] != OK or row["label"] is None:
                continue
            self.pairs[row["label"], row["predicted"]] += 1
            # Bins as in Guo et al. (ICML 2017): ((m - 1) / M, m / M].
            at = min(BINS - 1, max(0, math.ceil(row["confidence"] * BINS) - 1))
            self.bins[at] += 1, row["confidence"], row["correct"]

    def document(self) -> dict[str, Any]:
        true, predicted = Counter[int](), Counter[int]()
        for (y, q), count in self.pairs.items():
            true[y] += count
            predicted[q] += count
        total = sum(true.values())
        gaps = np.abs(self.bins[:, 1] - self.bins[:, 2]).sum()
        wrong = Counter({pair: n for pair, n in self.pairs.items() if pair[0] != pair[1]})
        return {
            "calibration": {
                "ece": float(gaps / total) if total else None,
                "bins": [
                    {
                        "low": k / BINS,
                        "high": (k + 1) / BINS,
                        "count": int(count),
                        "confidence": confidence / count if count else None,
                        "accuracy": correct / count if count else None,
                    }
                    for k, (count, confidence, correct) in enumerate(self.bins.tolist())
                ],
            },
            "confusions": [
                {"true": y, "predicted": q, "count": n, "share": n / true[y]}
                for (y, q), n in wrong.most_common(MOST_CONFUSIONS)
            ],
            "by_class": [
                {
                    "class": y,
                    "count": true[y],
                    "predicted": predicted[y],
                    "correct": self.pairs[y, y],
                    "low": wilson(self.pairs[y, y], true[y])[0],
                    "high": wilson(self.pairs[y, y], true[y])[1],
                }
                for y in sorted(true)
            ],
        }


class _Pixels:
    """Intersection over union of each class."""

    columns = ("pixels",)

    def __init__(self) -> None:
        self.true, self.predicted = Counter[int](), Counter[int]()
        self.both = Counter[int]()

    def add(self, rows: list[Row]) -> None:
        for one in (one for row in rows for one in row["pixels"] or ()):
            self.true[one["true"]] += one["count"]
            self.predicted[one["predicted"]] += one["count"]
            if one["true"] == one["predicted"]:
                self.both[one["true"]] += one["count"]

    def document(self) -> dict[str, Any]:
        rows = []
        for c in sorted({*self.true, *self.predicted}):
            union = self.true[c] + self.predicted[c] - self.both[c]
            rows.append({"class": c, "pixels": self.true[c], "iou": self.both[c] / union})
        # As in Pascal VOC: the mean over the classes that occur or were predicted.
        mean = float(np.mean([row["iou"] for row in rows])) if rows else None
        return {"iou": {"mean": mean, "classes": rows}}


def _tide(run: Run) -> dict[str, Any]:
    """Return the table of TIDE, from the boxes kept in the rows.

    AP is that of all boxes kept, as is usual. The types of errors are those of the boxes above the
    detector's own threshold, as in the rows, groups and advice.
    """
    threshold = run.plan.threshold

    def pairs() -> tuple[Iterator[DetectionPrediction], Iterator[GroundTruthBoxes]]:
        return (
            (_prediction(row, run.plan.outputs) for row in _labeled(run)),
            (_objects(row) for row in _labeled(run)),
        )

    above = tide(*pairs(), threshold=threshold)
    types = {name: value for name, value in vars(above).items() if name not in ("mistakes", "ap")}
    return {
        "reported_from": REPORTED_FROM,
        "ap": average_precision_of(*pairs()),
        "threshold": threshold,
        "ap_above_threshold": above.ap,
        **types,
    }


def _labeled(run: Run) -> Iterator[Row]:
    for rows in _rows(run, ["detections", "ground_truth"]):
        yield from (row for row in rows if row["ground_truth"] is not None)


def _prediction(row: Row, classes: int) -> DetectionPrediction:
    """Return a prediction whose candidates are the reported boxes: nothing is left to suppress."""
    boxes = row["detections"] or []
    scores = np.array([one["score"] for one in boxes], dtype=np.float64).clip(1e-9, 1 - 1e-9)
    logits = np.full((len(boxes), classes), -50.0)
    logits[np.arange(len(boxes)), [one["class"] for one in boxes]] = np.log(scores / (1 - scores))
    sides = np.array([one["box"] for one in boxes], dtype=np.float64).reshape(-1, 4)
    settings = DetectionCandidates(
        torch.from_numpy(logits)[None],
        torch.from_numpy(sides)[None],
        threshold=1e-6,
        overlap=None,
        single=True,
    )
    return DetectionPrediction(logits, sides, settings, None, Frame((0.0, 0.0, 1.0, 1.0), (1, 1)))


def _objects(row: Row) -> GroundTruthBoxes:
    return GroundTruthBoxes(
        tuple(
            GroundTruthBox(tuple(one["box"]), one["class"], one["crowd"])
            for one in row["ground_truth"]
        )
    )
