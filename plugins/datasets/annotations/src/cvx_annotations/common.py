"""Helpers of all readers: files, class names and boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cvx_core import InputError, TargetError
from cvx_core.tasks import find_class


def class_index(name: str | int, classes: Sequence[str] | None, where: str) -> str | int:
    """Return a class's index among the model's; its own name where the model has none."""
    if classes is None:
        return name
    try:
        return find_class(name, classes, len(classes))
    except TargetError as error:
        raise InputError(f"{where}: {error.message}", error.hint) from error


def proper_box(
    sides: Sequence[float], where: str, way_out: str
) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom; raises `InputError` if nothing is between them."""
    left, top, right, bottom = sides
    if not all(map(math.isfinite, sides)) or left >= right or top >= bottom:
        raise InputError(
            f"{where}: the box {', '.join(f'{s:g}' for s in sides)} is empty.", way_out
        )
    return left, top, right, bottom
