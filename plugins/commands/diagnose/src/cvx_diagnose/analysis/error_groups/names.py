"""Names of error groups and shortcuts, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cvx_core import printable

Names = Callable[[int | None], str]

_MOSTLY = 0.6
"""Share of a group above which one of three or more classes names it."""


def class_namer(classes: Sequence[str] | None) -> Names:
    """Return a function from a class index to its printable name."""

    def name(index: int | None) -> str:
        if index is None:
            return "nothing"
        return str(index) if classes is None else printable(classes[index])

    return name


def group_name(group: Mapping[str, Any], name: Names) -> str:
    """Return a group's name: its confusion and its location.

    Examples
    --------
    >>> group = {"type": "misclassified", "pairs": [{"true": 0, "predicted": 1, "count": 5}],
    ...          "location": "top left"}
    >>> group_name(group, class_namer(["ant", "bee"]))
    'ant misclassified as bee, evidence top left'
    >>> group_name({**group, "type": "false negative"}, class_namer(["ant", "background"]))
    'false negative: ant (answered background), evidence top left'
    """
    if group.get("mixed"):
        return "wrong predictions too rare to be grouped"
    pairs = group["pairs"]
    true_class = _join_names(pairs, "true", name)
    predicted = _join_names(pairs, "predicted", name)
    if group["type"] == "misclassified":
        text = f"{true_class} misclassified as {predicted}"
    elif any(None in (pair["true"], pair["predicted"]) for pair in pairs):
        text = f"{group['type']}: {predicted if pairs[0]['predicted'] is not None else true_class}"
    elif all(pair["true"] == pair["predicted"] for pair in pairs):
        text = f"{group['type']}: {true_class}"
    else:
        text = f"{group['type']}: {true_class} (answered {predicted})"
    return text if group["location"] is None else f"{text}, evidence {group['location']}"


def _join_names(pairs: Sequence[Mapping[str, Any]], which: str, name: Names) -> str:
    counts = Counter[str]()
    for pair in pairs:
        counts[name(pair[which])] += pair["count"]
    if len(counts) < 3:
        return " and ".join(counts)
    [(most, count)] = counts.most_common(1)
    return f"mostly {most}" if count >= _MOSTLY * counts.total() else f"{len(counts)} classes"


def shortcut_name(shortcut: Mapping[str, Any], name: Names) -> str:
    """Return a shortcut's name: its confusions and its location."""
    return group_name({"type": "misclassified", **shortcut}, name)
