"""What to fix first, from groups that are written down by hand."""

from __future__ import annotations

from typing import Any

import pytest
from cvx_diagnose.analysis.advice import advise


def summary_of(right: int) -> dict[str, Any]:
    return {"classes": ["ant", "bee"], "accuracy": {"total": right}, "counts": {"ok": right}}


def found_with(**group: Any) -> dict[str, Any]:
    whole = {
        "number": 0,
        "type": "misclassified",
        "mixed": False,
        "pairs": [{"true": 0, "predicted": 1, "count": 20}],
        "location": "top left",
        "count": 20,
        "label_issues": 0,
        "tested": 0,
        "verified": 0,
        "partly": 0,
        **group,
    }
    return {"label_issues": {"count": 0}, "error_groups": [whole], "shortcuts": None, "fixes": []}


@pytest.mark.parametrize(
    ("tested", "verified", "kind"),
    [(0, 0, "collect"), (1, 1, "collect"), (3, 1, "collect"), (3, 2, "mask")],
)
def test_a_part_is_masked_once_several_errors_were_tested_and_most_came_from_one(
    tested: int, verified: int, kind: str
) -> None:
    [one] = advise(found_with(tested=tested, verified=verified), summary_of(200))
    assert (one["kind"], one["count"], one["gain"]) == (kind, 20, 0.1)
    assert "ant misclassified as bee, evidence top left" in one["text"]


def test_what_is_only_put_together_because_it_is_rare_is_no_cause() -> None:
    assert advise(found_with(mixed=True, tested=9, verified=9), summary_of(200)) == []


def test_errors_whose_labels_are_suspected_ask_for_no_other_fix() -> None:
    found = found_with(label_issues=20)
    found["label_issues"]["count"] = 20
    [one] = advise(found, summary_of(200))
    assert (one["kind"], one["gain"]) == ("relabel", 0.1)


def test_duplicates_and_conflicts_are_shown_by_their_own_images() -> None:
    found = found_with(count=0)
    found["error_groups"] = []
    pair = {"paths": ["a.png", "b.png"]}
    found["label_issues"] = {
        "count": 0,
        "near_duplicates": [{**pair, "ids": [3, 8]}, {**pair, "ids": [8, 9]}],
        "conflicts": [{**pair, "ids": [4, 5]}],
    }
    near, conflict = advise(found, summary_of(200))
    assert (near["examples"], conflict["examples"]) == ([3, 8, 9], [4, 5])


@pytest.mark.parametrize(("fixed", "broken", "count"), [(30, 5, 1), (5, 30, 0)])
def test_a_threshold_that_makes_more_images_worse_is_not_advised(
    fixed: int, broken: int, count: int
) -> None:
    found = {**found_with(), "error_groups": []}
    found["fixes"] = [
        {
            "name": "a threshold for each label",
            "tried": True,
            "thresholds": {"ant": 0.1},
            "before": 0.6,
            "after": 0.7,
            "low": 0.05,
            "p": 0.001,
            "fixed": fixed,
            "broken": broken,
            "gain": 0.1,
        }
    ]
    assert len(advise(found, summary_of(200))) == count
