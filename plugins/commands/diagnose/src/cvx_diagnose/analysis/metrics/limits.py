"""Limits: measures of a run that must not fall below a value."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from cvx_core import UsageError

FEWEST = 10
"""Labeled inputs below which a class does not count as the worst group."""

_FORM = "As in accuracy=0.9 or accuracy=0.9,worst-group=0.7; values are between 0 and 1."


def _worst_group(summary: Mapping[str, Any]) -> float | None:
    groups = [one for one in summary["by_class"] if one["count"] >= FEWEST]
    return min((one["correct"] / one["count"] for one in groups), default=None)


def _ap(summary: Mapping[str, Any]) -> float | None:
    return None if summary["tide"]["ap"] is None else summary["tide"]["ap"] / 100


_MEASURES: dict[str, tuple[str, Callable[[Mapping[str, Any]], float | None]]] = {
    "accuracy": ("accuracy", lambda summary: summary["accuracy"]["value_with_failed"]),
    "worst-group": ("by_class", _worst_group),
    "iou": ("iou", lambda summary: summary["iou"]["mean"]),
    "ap": ("tide", _ap),
}
"""Each measure: the key of the summary that it needs, and its value."""

_NEEDS = {"worst-group": "logits", "iou": "pixels", "ap": "detections"}
"""The column of a task's rows that a measure needs, where not every task has it."""


def parse_limits(text: str) -> dict[str, float]:
    """Return limits from text as ``--fail-under`` takes it.

    Examples
    --------
    >>> parse_limits("accuracy=0.9,worst-group=0.7")
    {'accuracy': 0.9, 'worst-group': 0.7}

    Raises
    ------
    UsageError
        If it is no such text, or names a measure that does not exist.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (one.strip() for one in part.partition("="))
        try:
            found[name] = float(value)
        except ValueError as error:
            raise UsageError(f"A limit must be MEASURE=VALUE, got {part!r}.", _FORM) from error
    check_limits(found)
    return found


def check_limits(limits: Mapping[str, float], columns: Container[str] | None = None) -> None:
    """Check names and values of limits.

    Parameters
    ----------
    limits
        Values by measure.
    columns
        Of the task's rows; None if the task is not known yet.

    Raises
    ------
    UsageError
        If a measure does not exist, or not for the task, or a value is not between 0 and 1.
    """
    for name, value in limits.items():
        if name not in _MEASURES:
            raise UsageError(
                f"Unknown measure {name!r}.", f"Available: {', '.join(_MEASURES)}. {_FORM}"
            )
        if columns is not None and name in _NEEDS and _NEEDS[name] not in columns:
            known = [one for one in _MEASURES if one not in _NEEDS or _NEEDS[one] in columns]
            raise UsageError(
                f"A model of this task has no measure {name!r}.", f"It has: {', '.join(known)}."
            )
        if not 0 <= value <= 1:
            raise UsageError(f"{name} must be between 0 and 1, got {value:g}.", _FORM)


def apply_limits(summary: Mapping[str, Any], limits: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return whether each limit is met.

    Parameters
    ----------
    summary
        Of a run. Inputs on which the model failed count as wrong.
    limits
        The lowest accepted value by measure: accuracy; worst-group, the lowest accuracy of a class
        with ten labeled inputs or more; iou, the mean over classes; ap, at an intersection over
        union of 0.5.

    Returns
    -------
    list of dict
        ``measure``, ``limit``, ``value`` (None where the run does not have it) and ``met``, false
        for a value that is unknown.
    """
    found = []
    for name, limit in limits.items():
        key, read = _MEASURES[name]
        value = read(summary) if key in summary else None
        met = value is not None and value >= limit
        found.append({"measure": name, "limit": limit, "value": value, "met": met})
    return found
