"""Label issues of segmenters, on simulated predictions and planted errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cvx_diagnose.analysis.label_issues.regions import find_region_issues
from cvx_diagnose.run.inference.prediction_rows import prediction_row
from scipy.ndimage import gaussian_filter

from cvx_core import Frame, GroundTruthMask, SegmentationPrediction

SIDE, CLASSES = 48, ("background", "cat", "dog")
Planted = dict[str, set[int]]


class Rows:
    """Rows of a run, in memory."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.masks: list[Any] = []
        self.probabilities: list[Any] = []

    def blocks(self, columns: list[str]) -> list[pa.Table]:
        return [pa.Table.from_pylist(self.rows).select(columns)]


def simulated(images: int, seed: int, share: float) -> tuple[Rows, Planted]:
    """Return rows of a segmenter, and the images with a planted error of each kind.

    The network blurs, and misses or confuses a tenth of the objects, with less confidence.
    """
    draw = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    run = Rows(rows)
    planted: Planted = {"missing": set(), "superfluous": set(), "wrong class": set()}
    y, x = np.mgrid[:SIDE, :SIDE]
    for i in range(images):
        true, seen = np.zeros((2, SIDE, SIDE), dtype=np.int64)
        lead = np.full((SIDE, SIDE), draw.uniform(4, 8))
        label_errors = []
        for quarter in range(4):
            if draw.random() < 0.4:
                continue
            center = np.array(divmod(quarter, 2)) * SIDE // 2 + SIDE // 4 + draw.integers(-2, 3, 2)
            disc = (y - center[0]) ** 2 + (x - center[1]) ** 2 < draw.uniform(5, 9) ** 2
            c = said = int(draw.integers(1, 3))
            lead[disc] = draw.uniform(4, 8)
            kind = ""
            if draw.random() < 0.1:
                said, lead[disc] = int(draw.choice([0, 3 - c])), draw.uniform(0.3, 4)
            elif draw.random() < share:
                kind = str(draw.choice(list(planted)))
                label_errors.append(kind)
                if kind == "superfluous":
                    said = 0
            seen[disc] = said
            true[disc] = {"missing": 0, "wrong class": 3 - c}.get(kind, c)
        for kind in label_errors:
            planted[kind].add(i)
        logits = np.stack([np.where(seen == k, lead, 0.0) for k in range(3)])
        logits = gaussian_filter(logits, (0, 1, 1)) + draw.normal(0, 0.3, logits.shape)
        frame = Frame((0.0, 0.0, SIDE, SIDE), (SIDE, SIDE), (SIDE, SIDE))
        prediction = SegmentationPrediction(logits, CLASSES, frame)
        row, _ = prediction_row(prediction, GroundTruthMask(true))
        rows.append({"id": i, "path": f"{i}.png", "errors": [], **row})
        run.masks.append(true)
        run.probabilities.append(prediction.probabilities)
    return run, planted


def test_planted_errors_are_found() -> None:
    rows, planted = simulated(250, 1, 0.06)
    issues = find_region_issues(rows)  # type: ignore[arg-type]
    for kind, where in planted.items():
        told = [one["id"] for one in issues if one["kind"] == kind]
        right = sum(image in where for image in told)
        print(kind, len(where), len(told), right)
        assert right >= 0.7 * len(told)
        assert len(where & set(told)) >= 0.65 * len(where)


def test_planted_errors_are_ranked_as_well_as_by_cleanlab() -> None:
    rank = pytest.importorskip("cleanlab.segmentation.rank")
    wrong, ours, theirs = [], [], []
    for seed in (20, 21, 22, 23):
        run, planted = simulated(250, seed, 0.06)
        leads = dict.fromkeys(range(250), 0.0)
        issues = find_region_issues(run)  # type: ignore[arg-type]
        assert issues == sorted(issues, key=lambda one: -one["lead"])
        for one in issues:
            leads[one["id"]] = max(leads[one["id"]], one["lead"])
        images, _ = rank.get_label_quality_scores(
            np.array(run.masks), np.array(run.probabilities), verbose=False
        )
        ours, theirs = [*ours, *leads.values()], [*theirs, *-images]
        wrong += [k in set.union(*planted.values()) for k in range(250)]
    # Of as many images as are wrong, how many are: where no region is doubted ours has no order.
    count = sum(wrong)
    found = [sum(wrong[k] for k in np.argsort(-np.array(one))[:count]) for one in (ours, theirs)]
    print(count, found)
    assert found[0] >= found[1]


def test_few_labels_are_doubted_where_none_is_wrong() -> None:
    rows, _ = simulated(250, 2, 0.0)
    issues = find_region_issues(rows)  # type: ignore[arg-type]
    wrong = sum(one["type"] != "boundary" for row in rows.rows for one in row["errors"])
    print(len(issues), wrong)
    assert len(issues) <= 0.1 * wrong


def test_leads_count_each_labeled_pixel_once_and_say_which_are_correct() -> None:
    logits = np.array([[[3.0, 0.0]], [[0.0, 0.5]], [[-1.0, -9.0]]])
    frame = Frame((0.0, 0.0, 2.0, 1.0), (2, 1), (2, 1))
    prediction = SegmentationPrediction(logits, CLASSES, frame)
    row, _ = prediction_row(prediction, GroundTruthMask(np.array([[0, 0]])))
    # log2(1 + 3) is 2, eight steps of a quarter; log2(1.5) is 0.58, two steps: 2 ** 0.5 - 1.
    assert row["leads"] == [
        {"predicted": 0, "lead": 3.0, "count": 1, "correct": 1},
        {"predicted": 1, "lead": 2**0.5 - 1, "count": 1, "correct": 0},
    ]
