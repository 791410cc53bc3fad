"""Limits that a run must not fall below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cvx_diagnose import diagnose
from cvx_diagnose.analysis.metrics.limits import apply_limits, check_limits, parse_limits

from cvx_core import UsageError, VisionModel, get_task


def summary(**more: Any) -> dict[str, Any]:
    return {"accuracy": {"value": 0.95, "value_with_failed": 0.9}, **more}


def test_a_class_with_few_inputs_is_not_the_worst_group_and_failures_count_as_wrong() -> None:
    by_class = [
        {"count": 9, "correct": 0},
        {"count": 10, "correct": 7},
        {"count": 50, "correct": 45},
    ]
    found = apply_limits(summary(by_class=by_class), {"accuracy": 0.91, "worst-group": 0.7})
    assert found == [
        {"measure": "accuracy", "limit": 0.91, "value": 0.9, "met": False},
        {"measure": "worst-group", "limit": 0.7, "value": 0.7, "met": True},
    ]


def test_a_value_that_the_run_does_not_have_is_not_met() -> None:
    found = apply_limits(summary(tide={"ap": None}), {"iou": 0.0, "ap": 0.0, "worst-group": 0.0})
    assert [(one["value"], one["met"]) for one in found] == [(None, False)] * 3
    [ap] = apply_limits(summary(tide={"ap": 41.0}), {"ap": 0.4})
    assert (ap["value"], ap["met"]) == (pytest.approx(0.41), True)


@pytest.mark.parametrize("text", ["accuracy", "accuracy=high", "accuracy=90", "speed=0.5", ""])
def test_what_is_no_limit_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_limits(text)
    assert "accuracy=0.9" in error.value.hint


@pytest.mark.parametrize(
    ("task", "own"),
    [
        ("classification", ["accuracy", "worst-group"]),
        ("segmentation", ["accuracy", "iou"]),
        ("detection", ["accuracy", "ap"]),
    ],
)
def test_a_measure_that_the_task_lacks_is_refused_with_those_it_has(
    task: str, own: list[str]
) -> None:
    columns = get_task(task).columns
    check_limits(dict.fromkeys(own, 0.5), columns)
    for name in {"worst-group", "iou", "ap"} - {*own}:
        with pytest.raises(UsageError, match=f"no measure '{name}'") as error:
            check_limits({name: 0.5}, columns)
        assert error.value.hint == f"It has: {', '.join(own)}."


def test_a_run_checks_its_limits_before_anything_else(model: VisionModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no measure 'iou'"):
        diagnose(model, tmp_path / "nothing", tmp_path / "run", fail_under={"iou": 0.5})
