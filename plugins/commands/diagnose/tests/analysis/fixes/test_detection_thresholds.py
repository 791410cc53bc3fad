"""A better score threshold and suppression are found, and judged on other images."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cvx_diagnose import diagnose
from cvx_diagnose.analysis.fixes.detection_thresholds import suppress, try_thresholds
from cvx_diagnose.analysis.fixes.halves import in_first_half
from cvx_diagnose.analysis.metrics.box_matching import match_boxes
from cvx_diagnose.analysis.metrics.statistics import shuffle_ids
from cvx_embedded import photographs
from cvx_engine.local import Local
from PIL import Image

from cvx_core import DetectionPrediction, load_model

A, NEAR_A, FAR = (0.0, 0.0, 10.0, 10.0), (0.0, 2.0, 10.0, 12.0), (50.0, 50.0, 60.0, 60.0)
"""A and the one near it share 80 of 120."""


def box(sides: tuple[float, ...], score: float, c: int = 0) -> dict[str, Any]:
    return {"box": list(sides), "class": c, "score": score}


def true(sides: tuple[float, ...], c: int = 0, *, crowd: bool = False) -> dict[str, Any]:
    return {"box": list(sides), "class": c, "crowd": crowd}


def test_a_box_is_suppressed_by_a_better_one_of_its_class_alone() -> None:
    boxes, scores = np.array([NEAR_A, A, FAR, A]), np.array([0.6, 0.9, 0.3, 0.5])
    classes = np.array([0, 0, 0, 1])
    assert suppress(boxes, classes, scores, 0.6).tolist() == [1, 3, 2]
    assert suppress(boxes, classes, scores, 0.7).tolist() == [1, 0, 3, 2]


def test_an_object_is_found_once_and_a_crowd_excuses() -> None:
    boxes, classes = np.array([A, NEAR_A, FAR]), np.array([0, 0, 0])
    found, excused = match_boxes(boxes, classes, [true(A)])
    assert found.tolist() == [True, False, False]
    assert not excused.any()
    found, excused = match_boxes(boxes, classes, [true((40.0, 40.0, 90.0, 90.0), crowd=True)])
    assert not found.any()
    assert excused.tolist() == [False, False, True]
    assert not match_boxes(boxes, classes, [true(A, 1)])[0].any()


class Rows:
    """A run that has only what is asked of it here."""

    def __init__(self, rows: list[dict[str, Any]], threshold: float, overlap: float | None) -> None:
        self.rows = rows
        self.plan = SimpleNamespace(threshold=threshold, overlap=overlap, task="detection")

    def blocks(self, columns: list[str]) -> list[pa.Table]:
        several = [{"sha256": str(row["id"]), **row} for row in self.rows]
        return [pa.Table.from_pylist([{k: row[k] for k in columns} for row in several])]


def rows(count: int, candidates: list[dict[str, Any]], truths: list[Any]) -> list[dict[str, Any]]:
    return [
        {"id": k, "candidates": candidates, "detections": candidates, "ground_truth": truths}
        for k in range(count)
    ]


def test_the_threshold_goes_between_what_is_right_and_what_is_wrong() -> None:
    # Everywhere a right box of 0.32, which is not reported, and a wrong one of 0.12.
    several = rows(40, [box(A, 0.32), box(FAR, 0.12)], [true(A)])
    found = try_thresholds(Rows(several, 0.5, 0.6))  # type: ignore[arg-type]
    assert (found["before"], found["after"], found["change"]) == (0.0, 1.0, 1.0)
    assert (found["low"], found["high"]) == (1.0, 1.0)
    # Of 0.15 to 0.3 all are as good, and 0.3 is nearest to 0.5; the overlap stays as it is.
    assert (found["threshold"], found["overlap"]) == ([0.5, 0.3], [0.6, 0.6])
    assert (found["trained_on"], found["evaluated_on"]) == (20, 20)
    assert (found["fixed"], found["broken"], found["gain"]) == (20, 0, 1.0)
    assert found["p"] == pytest.approx(2 * 0.5**20)


def test_the_overlap_is_raised_where_neighbours_are_suppressed() -> None:
    several = rows(40, [box(A, 0.9), box(NEAR_A, 0.8)], [true(A), true(NEAR_A)])
    found = try_thresholds(Rows(several, 0.5, 0.5))  # type: ignore[arg-type]
    assert (found["threshold"], found["overlap"]) == ([0.5, 0.5], [0.5, 0.7])
    # One of two is found: F1 is 2 / (2 + 1).
    assert (found["before"], found["after"]) == (pytest.approx(2 / 3), 1.0)


def test_what_cannot_be_bettered_stays_and_few_images_try_nothing() -> None:
    several = rows(40, [box(A, 0.9)], [true(A)])
    found = try_thresholds(Rows(several, 0.5, 0.6))  # type: ignore[arg-type]
    assert found["threshold"] == [0.5, 0.5]
    assert (found["change"], found["low"], found["high"], found["p"]) == (0.0, 0.0, 0.0, 1.0)
    few = try_thresholds(Rows(several[:19], 0.5, 0.6))  # type: ignore[arg-type]
    assert not few["tried"]
    assert "20 labeled images, got 19" in few["note"]


def test_no_score_is_chosen_below_what_rows_know_of() -> None:
    # 199 wrong boxes of 0.33 fill the row: whether more of them were at 0.3 is not known.
    several = rows(40, [box(A, 0.37), *[box(FAR, 0.33)] * 199], [true(A)])
    found = try_thresholds(Rows(several, 0.5, 0.6))  # type: ignore[arg-type]
    assert found["threshold"] == [0.5, 0.35]


def test_a_detector_that_does_not_suppress_has_its_score_searched() -> None:
    several = rows(40, [box(A, 0.32), box(FAR, 0.12)], [true(A)])
    found = try_thresholds(Rows(several, 0.5, None))  # type: ignore[arg-type]
    assert (found["threshold"], found["overlap"]) == ([0.5, 0.3], [None, None])


@pytest.mark.slow
def test_nanodet_on_photographs_is_given_a_threshold_that_finds_more(tmp_path: Path) -> None:
    model = load_model("embedded:nanodet")
    assert model.classes is not None
    (tmp_path / "images").mkdir()
    sources = [Image.open(one.path).convert("RGB") for one in photographs()]
    sources = [one for one in sources if any(o.entry.probability > 0.2 for o in kept(model, one))]
    coco: dict[str, Any] = {"images": [], "annotations": []}
    coco["categories"] = [{"id": c, "name": name} for c, name in enumerate(model.classes)]
    for i in range(24):
        picture = sources[i % len(sources)]
        side = 1 - 0.01 * (i // len(sources))
        picture = picture.resize([round(side * s) for s in picture.size])
        picture.save(tmp_path / f"images/{i:02d}.png")
        coco["images"].append({"id": i, "file_name": f"{i:02d}.png"})
        # What it finds from a score of 0.2 is true, so that its own 0.35 or more misses some.
        for one in kept(model, picture):
            left, top, right, bottom = one.box
            coco["annotations"].append(
                {
                    "image_id": i,
                    "category_id": one.entry.index,
                    "bbox": [left, top, right - left, bottom - top],
                }
            )
    (tmp_path / "list.json").write_text(json.dumps(coco))
    given: dict[str, Any] = {"budget": 0.0, "engine": Local(workers=1), "try_fix": True}
    run = diagnose(model, tmp_path / "list.json", tmp_path / "run", **given)
    assert run.summary is not None
    [fix] = run.summary["fixes"]
    assert fix["threshold"] == [pytest.approx(run.plan.threshold), 0.2]
    assert fix["after"] > 0.95 > fix["before"]
    assert fix["low"] > 0
    first = next(one for one in run.summary["advice"] if one["kind"] == "threshold")
    assert "Set the score threshold to 0.2" in first["text"]


def kept(model: Any, picture: Image.Image) -> list[Any]:
    """Return what the detector finds from a score of 0.2."""
    [answer] = model.predict([picture])
    assert isinstance(answer, DetectionPrediction)
    above = answer.suppression(0.2)
    return [
        SimpleNamespace(box=answer.box(m, c), entry=answer.entry(m, c))
        for m, c, by in above
        if by is None
    ]


def test_a_threshold_is_judged_on_images_that_it_was_not_chosen_on() -> None:
    """A box of 0.32 is right in the half that it is chosen on, and wrong in the other."""
    several = rows(40, [], [true(A)])
    first = set(shuffle_ids(range(40))[0::2])
    for row in several:
        row["candidates"] = row["detections"] = [box(A if row["id"] in first else FAR, 0.32)]
    found = try_thresholds(Rows(several, 0.5, 0.6))  # type: ignore[arg-type]
    assert found["threshold"] == [0.5, 0.3]
    assert (found["fixed"], found["broken"]) == (0, 20)


def test_copies_of_a_file_are_in_one_half() -> None:
    files = [f"file {k // 3}" for k in range(60)]
    first = in_first_half(range(60), files)
    assert first.reshape(20, 3).all(axis=1).sum() == 10
    assert first.reshape(20, 3).any(axis=1).sum() == 10
    assert in_first_half(range(60), [None] * 60).sum() == 30
