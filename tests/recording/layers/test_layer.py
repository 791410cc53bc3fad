"""Grids of tokens, told from the number of tokens."""

from __future__ import annotations

import pytest

from cvx_core.recording.layers.layer import token_grid

Grid = tuple[int, int]


@pytest.mark.parametrize(
    ("length", "grids", "found"),
    [
        (196, {(14, 14)}, ((14, 14), 0)),
        (197, {(13, 13), (14, 14)}, ((14, 14), 1)),
        (195, {(14, 14)}, None),
        # At most 16 tokens before the grid, and half as many as it has.
        (196 + 16, {(14, 14)}, ((14, 14), 16)),
        (196 + 17, {(14, 14)}, None),
        (4 + 2, {(2, 2)}, ((2, 2), 2)),
        (4 + 3, {(2, 2)}, None),
        # A strip is a grid, and a single token is none.
        (6, {(1, 5)}, ((1, 5), 1)),
        (6, {(5, 1)}, ((5, 1), 1)),
        (1, {(1, 1)}, None),
    ],
)
def test_the_grid_with_the_fewest_tokens_before_it_is_found(
    length: int, grids: set[Grid], found: tuple[Grid, int] | None
) -> None:
    assert token_grid(length, grids) == found
