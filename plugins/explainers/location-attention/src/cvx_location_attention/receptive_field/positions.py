"""Positions of the image, in the input and on a layer's grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvx_core import ExplainRequest, MethodError, OptionError, Recording
from cvx_core.recording import Layer

Position = tuple[float, float]


def position(query: Any) -> Position:
    """Return (x, y) as two numbers.

    Raises
    ------
    OptionError
        If they are none.
    """
    try:
        x, y = query
        return float(x), float(y)
    except (TypeError, ValueError):
        raise OptionError(f"query must be (x, y) in pixels, got {query!r}.") from None


def cell_at(
    query: Position, request: ExplainRequest, i: int, grid: tuple[int, int]
) -> tuple[int, int]:
    """Return row and column of the cell of a grid over image `i` at a position.

    Raises
    ------
    MethodError
        If the position lies outside of what the network sees.
    """
    left, top, right, bottom = request.extents[i]
    x = (query[0] - left) / (right - left)
    y = (query[1] - top) / (bottom - top)
    if not (0 <= x < 1 and 0 <= y < 1):
        raise MethodError(
            f"The query {query} lies outside the network's input.",
            f"The input covers x from {left:.0f} to {right:.0f}, y from {top:.0f} to {bottom:.0f}.",
        )
    h, w = grid
    return int(y * h), int(x * w)


def unit_length(vector: Tensor) -> Tensor:
    """Return each vector of a batch divided by its length; zero stays zero."""
    length = vector.flatten(1).norm(dim=1).reshape(-1, *[1] * (vector.ndim - 1))
    tiny = torch.finfo(vector.dtype).tiny
    found: Tensor = vector / length.clamp_min(tiny)
    return found


def as_recorded(vector: Tensor, place: Layer, recording: Recording, layer: str) -> Tensor:
    """Lay (B, C, h, w) out as the layer's own tensor, with zeros for tokens outside the grid."""
    full = torch.zeros_like(recording.raw(layer))
    place.positions(full).copy_(vector)
    return full
