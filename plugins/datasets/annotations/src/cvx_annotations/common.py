"""Helpers of all readers: files, class names and boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from cvx_core import InputError, TargetError, read_bytes
from cvx_core.tasks import find_class


def read_text(file: Path) -> str:
    """Return what a file in UTF-8 holds; raises `InputError`."""
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text in UTF-8.", "Save it as UTF-8.") from error


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
