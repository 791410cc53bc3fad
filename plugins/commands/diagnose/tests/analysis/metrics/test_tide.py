"""Counts and costs of a detector's errors are those of the authors' package."""

from __future__ import annotations

from itertools import count

import pytest
from cvx_diagnose import TideReport, tide
from hypothesis import given, settings, strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sample_predictions import detections
from tidecv import TIDE, Data

from cvx_core.tasks.detection.assignment import TYPES
from cvx_core.tasks.ground_truth import GroundTruthBox, GroundTruthBoxes

THEIRS = dict(zip(TYPES, ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), strict=True))

Box = tuple[int, int, int, int]
Said = list[tuple[Box, int, float]]
True_ = list[tuple[Box, int, bool]]


def ours(images: list[tuple[Said, True_]]) -> TideReport:
    answers = [
        detections([(box, {c: score}) for box, c, score in said], threshold=1e-3, overlap=None)
        for said, _ in images
    ]
    truths = [GroundTruthBoxes(tuple(GroundTruthBox(*one) for one in true)) for _, true in images]
    return tide(answers, truths)


def theirs(images: list[tuple[Said, True_]]) -> tuple[float, dict, dict, dict]:
    true_data, said_data = Data("truth"), Data("answers")
    for i, (said, true) in enumerate(images):
        true_data.add_image(i, str(i))
        for box, c, crowd in true:
            add = true_data.add_ignore_region if crowd else true_data.add_ground_truth
            add(i, c, box=as_widths(box))
        for box, c, score in sorted(said, key=lambda one: -one[2]):
            said_data.add_detection(i, c, score, box=as_widths(box))
    runner = TIDE()
    run = runner.evaluate(true_data, said_data)
    counts = {error.short_name: count for error, count in run.count_errors().items()}
    gains = {error.short_name: gain for error, gain in run.fix_main_errors().items()}
    special = {error.short_name: gain for error, gain in run.fix_special_errors().items()}
    return run.ap, counts, gains, special


def as_widths(box: Box) -> list[float]:
    left, top, right, bottom = box
    return [float(left), float(top), float(right - left), float(bottom - top)]


def check(images: list[tuple[Said, True_]]) -> TideReport:
    report = ours(images)
    ap, counts, gains, special = theirs(images)
    assert {kind: report.counts[kind] for kind in TYPES} == {
        kind: counts[name] for kind, name in THEIRS.items()
    }
    # Sums of the same numbers in another order.
    assert report.ap == pytest.approx(ap, abs=1e-9)
    for kind, name in THEIRS.items():
        assert report.gains[kind] == pytest.approx(gains[name], abs=1e-9), kind
    assert report.false_positives == pytest.approx(special["FalsePos"], abs=1e-9)
    assert report.false_negatives == pytest.approx(special["FalseNeg"], abs=1e-9)
    return report


def coco_ap(images: list[tuple[Said, True_]]) -> float:
    """Average precision of pycocotools at an IoU of 0.5, in [0, 100]; -1 without objects."""
    truth = COCO()
    boxes = [(i, *one) for i, (_, true) in enumerate(images) for one in true]
    truth.dataset = {
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": c} for c in range(3)],
        "annotations": [
            {
                "id": k,
                "image_id": i,
                "category_id": c,
                "bbox": as_widths(box),
                "area": (box[2] - box[0]) * (box[3] - box[1]),
                "iscrowd": int(crowd),
            }
            for k, (i, box, c, crowd) in enumerate(boxes, 1)
        ],
    }
    truth.createIndex()
    found = COCO()
    said = [(i, *one) for i, (boxes, _) in enumerate(images) for one in boxes]
    found.dataset = {
        **truth.dataset,
        "annotations": [
            {"id": k, "image_id": i, "category_id": c, "bbox": as_widths(box), "score": score}
            | {"area": (box[2] - box[0]) * (box[3] - box[1]), "iscrowd": 0}
            for k, (i, box, c, score) in enumerate(said, 1)
        ],
    }
    found.createIndex()
    judged = COCOeval(truth, found, "bbox")
    judged.evaluate()
    judged.accumulate()
    precision = judged.eval["precision"][0, :, :, 0, 2]
    return float(100 * precision[precision > -1].mean()) if (precision > -1).any() else -1.0


# Few places and classes, so that boxes meet objects, and each other, in all ways.
places = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(2, 8)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
some_class = st.integers(0, 2)
scores = st.integers(1, 40).map(lambda k: k / 41)
image = st.tuples(
    st.lists(st.tuples(places, some_class, scores), max_size=8),
    st.lists(st.tuples(places, some_class, st.booleans() | st.just(False)), max_size=6),
)


FOUND = (
    [((9 * c, 0, 9 * c + 4, 4), c, 0.5) for c in range(3)],
    [((9 * c, 0, 9 * c + 4, 4), c, False) for c in range(3)],
)
"""An image without errors, so that every class occurs: the authors' package counts boxes of a class
that doesn't as 0."""

FOUND_ONCE = ([((0, 0, 4, 4), 0, 0.5)], [((0, 0, 4, 4), 0, False)])


def test_classes_that_do_not_occur_have_no_average_precision() -> None:
    # Two objects of class 0, both found; boxes of classes 1 and 2 lie elsewhere.
    said = [((0, 0, 4, 4), 0, 0.9), ((9, 0, 13, 4), 1, 0.8), ((20, 0, 24, 4), 2, 0.7)]
    report = ours([(said, [((0, 0, 4, 4), 0, False)]), FOUND_ONCE])
    assert report.ap == pytest.approx(100.0)
    assert (report.gains["background"], report.counts["background"]) == (0.0, 2)
    theirs_ = coco_ap([(said, [((0, 0, 4, 4), 0, False)]), FOUND_ONCE])
    assert report.ap == pytest.approx(theirs_, abs=1e-9)


def test_without_objects_there_is_no_average_precision() -> None:
    report = ours([([((0, 0, 4, 4), 0, 0.5)], []), ([], [((0, 0, 4, 4), 1, True)])])
    assert report.ap is None
    assert set(report.gains.values()) == {0.0}
    assert report.table.startswith("AP at IoU 0.5      -")


@settings(max_examples=40, deadline=None)
@given(st.lists(image, min_size=1, max_size=4))
def test_average_precision_is_that_of_pycocotools(images: list[tuple[Said, True_]]) -> None:
    # pycocotools sorts equal scores of several images in another order, and counts crowds.
    step = count()
    images = [
        (
            [(place, c, score - 1e-4 * next(step)) for place, c, score in said],
            [(place, c, False) for place, c, _ in true],
        )
        for said, true in images
    ]
    report = ours(images)
    expected = coco_ap(images)
    assert report.ap == (None if expected == -1 else pytest.approx(expected, abs=1e-9))


@settings(max_examples=80, deadline=None)
@given(st.lists(image, min_size=1, max_size=4))
def test_counts_and_gains_are_those_of_the_authors_package(
    images: list[tuple[Said, True_]],
) -> None:
    check([*images, FOUND])
