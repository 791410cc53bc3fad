"""The numbers of a run, against numbers that were worked out by hand."""

from __future__ import annotations

import pytest
from cvx_diagnose.analysis.metrics.statistics import wilson
from cvx_diagnose.analysis.metrics.summary import _Classes, _Common, _Pixels


def test_an_interval_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263 and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def row(label: int, predicted: int, confidence: float) -> dict[str, object]:
    return {
        "status": "ok",
        "label": label,
        "predicted": predicted,
        "correct": label == predicted,
        "confidence": confidence,
    }


def test_calibration_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    classes = _Classes()
    classes.add(
        [row(0, 0, 0.95), row(0, 1, 0.95), row(1, 1, 0.5), {**row(1, 1, 0.1), "label": None}]
    )
    found = classes.document()
    # Two at 0.95, half of them right, and one at 0.5, right: (2 * 0.45 + 0.5) / 3.
    assert found["calibration"]["ece"] == pytest.approx((2 * 0.45 + 0.5) / 3)
    filled = [one for one in found["calibration"]["bins"] if one["count"]]
    assert [(one["count"], one["accuracy"]) for one in filled] == [(1, 1.0), (2, 0.5)]
    assert found["confusions"] == [{"true": 0, "predicted": 1, "count": 1, "share": 0.5}]
    assert [(one["class"], one["count"], one["correct"]) for one in found["by_class"]] == [
        (0, 2, 1),
        (1, 1, 1),
    ]


def test_intersection_over_union_is_of_the_sums() -> None:
    pixels = _Pixels()
    for count in (3, 5):
        pixels.add(
            [
                {
                    "pixels": [
                        {"true": 0, "predicted": 0, "count": count},
                        {"true": 0, "predicted": 1, "count": 2},
                        {"true": 1, "predicted": 1, "count": 4},
                    ]
                },
                {"pixels": None},
            ]
        )
    found = pixels.document()["iou"]
    assert [one["iou"] for one in found["classes"]] == pytest.approx([8 / 12, 8 / 12])
    assert found["mean"] == pytest.approx(8 / 12)


def test_a_test_counts_by_its_best_verdict() -> None:
    common = _Common()
    base = {"status": "ok", "correct": False, "errors": [{"type": "misclassified"}], "fix": None}
    verdicts: list[list[str]] = [["not verified", "verified"], ["partly"], []]
    common.add(
        [
            {**base, "id": i, "tested": True, "regions": [{"verdict": v} for v in several]}
            for i, several in enumerate(verdicts)
        ]
        + [{**base, "id": 3, "tested": False, "regions": None}]
    )
    assert common.document()["region_tests"] == {
        "tested": 3,
        "verified": 1,
        "partly": 1,
        "none stood out": 1,
        "corrected": 0,
    }
    assert common.document()["errors"] == {"misclassified": 4}
