"""Helpers of all readers: faults and boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from cvx_core import InputError

T = TypeVar("T")
R = TypeVar("R")


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


def read_each(
    entries: Iterable[T], read: Callable[[T], R | None]
) -> tuple[list[R], list[InputError]]:
    """Return what was read of each entry, None left out, and the errors of those with a fault."""
    found, faults = [], []
    for one in entries:
        try:
            result = read(one)
        except InputError as error:
            faults.append(error)
        else:
            if result is not None:
                found.append(result)
    return found, faults


def read_all(entries: Iterable[T], read: Callable[[T], R | None]) -> list[R]:
    """Return what was read of all entries, None left out.

    Raises
    ------
    InputError
        If some have a fault: with all faults.
    """
    found, faults = read_each(entries, read)
    if len(faults) > 1:
        said = " ".join(error.message for error in faults)
        raise InputError(f"{len(faults)} faults. {said}", faults[0].hint)
    if faults:
        raise faults[0]
    return found
