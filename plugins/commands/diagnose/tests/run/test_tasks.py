"""A segmenter and a detector with real weights, on photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cvx_diagnose import diagnose
from cvx_diagnose.analysis.fixes.detection_thresholds import suppress
from cvx_diagnose.analysis.metrics.tide import tide
from cvx_embedded import photographs
from cvx_engine.local import Local
from PIL import Image

from cvx_core import (
    GroundTruthBoxes,
    SegmentationPrediction,
    find_mistakes,
    load_model,
    read_ground_truth,
)
from cvx_core.tasks import MOST_CANDIDATES


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    for one in photographs():
        (folder / one.path.name).write_bytes(one.path.read_bytes())
    return folder


def test_a_segmenter_is_measured_by_its_pixels(images: Path, tmp_path: Path) -> None:
    model = load_model("embedded:selfie-segmenter")
    masks = images.parent / "masks"
    masks.mkdir()
    for image in images.iterdir():
        width, height = Image.open(image).size
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 1
        mask[-10:] = 255
        Image.fromarray(mask).save(masks / f"{image.stem}.png")
    run = diagnose(model, images.parent, tmp_path / "run", budget=0, engine=Local(workers=1))
    both, union = np.zeros(2), np.zeros(2)
    for row in run.table().to_pylist():
        file = images.parent / row["path"]
        truth = read_ground_truth(masks / f"{file.stem}.png", model.task)
        [answer] = model.predict([file])
        assert isinstance(answer, SegmentationPrediction)
        true = truth.on_grid(answer.frame, answer.shape, 2)  # type: ignore[union-attr]
        for c in range(2):
            both[c] += ((true == c) & (answer.predicted == c)).sum()
            union[c] += ((true == c) | ((answer.predicted == c) & (true >= 0))).sum()
        cases = find_mistakes(answer, truth)
        assert row["error_count"] == len(cases)
        assert row["errors"][0]["type"] == cases[0].type
        assert row["margin"] == pytest.approx(cases[0].margin, rel=1e-3)
    assert run.summary is not None
    # A pixel at a tie may go either way between a batch of two and an image alone.
    found = [one["iou"] for one in run.summary["iou"]["classes"]]
    assert found == pytest.approx(both / union, abs=1e-3)
    maps = run.numbers(run.table(wrong=True), "margin_map")
    assert maps.shape[1:] == (128, 128)
    assert np.isfinite(maps).all()


def test_a_detectors_table_is_that_of_tide(images: Path, tmp_path: Path) -> None:
    model = load_model("embedded:nanodet")
    assert model.classes is not None
    names = sorted(file.name for file in images.iterdir())
    coco = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "categories": [{"id": c, "name": name} for c, name in enumerate(model.classes)],
        "annotations": [],
    }
    # Truth from its own boxes: the best of each image is right, and one object is invented.
    truths = []
    for i, name in enumerate(names):
        [answer] = model.predict([images / name])
        boxes = [(one.box, one.entry.index) for one in answer.kept[:1]]  # type: ignore[attr-defined]
        boxes.append(((5.0, 5.0, 60.0, 50.0), 3))
        truths.append(GroundTruthBoxes.of([box for box, _ in boxes], [c for _, c in boxes]))
        coco["annotations"] += [
            {"image_id": i, "category_id": c, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
            for b, c in boxes
        ]
    (images.parent / "instances.json").write_text(json.dumps(coco))
    run = diagnose(
        model,
        images.parent / "instances.json",
        tmp_path / "run",
        budget=0,
        engine=Local(workers=1),
    )
    answers = model.predict([images / name for name in names])
    expected = tide(answers, truths)  # type: ignore[arg-type]
    usual = tide(answers, truths, threshold=0.05)  # type: ignore[arg-type]
    assert run.summary is not None
    found = run.summary["tide"]
    # Boxes are kept in float32.
    assert found["ap"] == pytest.approx(usual.ap, abs=1e-3)
    assert found["ap_above_threshold"] == pytest.approx(expected.ap, abs=1e-3)
    assert found["counts"] == dict(expected.counts)
    assert found["gains"] == pytest.approx(dict(expected.gains), abs=1e-3)
    for row, answer, truth in zip(run.table().to_pylist(), answers, truths, strict=True):
        # What is kept from before suppression leads to what is reported.
        every = row["candidates"]
        boxes, classes, scores = (
            np.array([o[k] for o in every]) for k in ("box", "class", "score")
        )
        assert run.plan.overlap is not None
        left = suppress(boxes, classes, scores, run.plan.overlap)
        floor = every[-1]["score"] if len(every) == MOST_CANDIDATES else 0.0
        reported = [one for one in row["detections"] if one["score"] >= floor]
        assert 0 < len(reported) < len(every)
        assert [every[k] for k in left] == reported
        cases = find_mistakes(answer, truth)
        assert [one["type"] for one in row["errors"]] == [case.type for case in cases][:20]
        assert row["errors"][0]["box"] == pytest.approx(cases[0].region.bounds, abs=1e-2)  # type: ignore[union-attr]
    maps = run.numbers(run.table(wrong=True), "margin_map")
    assert np.isfinite(maps).all()
    assert np.abs(maps).max() > 0


def test_types_of_errors_are_counted_at_the_threshold_of_the_advice(
    images: Path, tmp_path: Path
) -> None:
    model = load_model("embedded:nanodet")
    labels = images.parent / "labels"
    labels.mkdir()
    # One object in each image that no box shows.
    for image in images.iterdir():
        (labels / f"{image.stem}.txt").write_text("3 0.1 0.1 0.1 0.1\n")
    run = diagnose(model, images.parent, tmp_path / "run", budget=0, engine=Local(workers=1))
    assert run.summary is not None
    assert run.summary["tide"]["threshold"] == run.plan.threshold
    found = {kind: n for kind, n in run.summary["tide"]["counts"].items() if n}
    assert found == run.summary["errors"]
    assert found["missed"] == len(list(images.iterdir()))
