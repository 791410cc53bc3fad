"""What several maps of one score agree on."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_core.explainers import agreement


def of(*rows: list[float]) -> list[Tensor]:
    return [torch.tensor([[row]], dtype=torch.float64) for row in rows]


def test_a_position_gets_the_value_nearest_to_zero_in_units_of_the_first_map() -> None:
    """The shares are (1, -1/2, 1/4, 0) and (1/4, -1, -1/4, 1)."""
    first, second = of([8, -4, 2, 0], [1, -4, -1, 4])
    assert agreement([first, second]).tolist() == [[[2, -4, 0, 0]]]
    assert agreement([second, first]).tolist() == [[[1, -2, 0, 0]]]
    assert agreement([-first, -second]).tolist() == [[[-2, 4, 0, 0]]]


def test_all_maps_must_agree() -> None:
    maps = of([4, 4], [4, 4], [4, -4])
    assert agreement(maps).tolist() == [[[4, 0]]]


def test_nothing_agrees_with_a_map_of_zeros() -> None:
    assert not agreement(of([1, -2], [0, 0])).any()


def test_a_coarse_first_map_is_spread_over_the_finest_grid() -> None:
    """One position of 8 becomes two of 4, of which the second map keeps one and a half."""
    assert agreement(of([8], [1, 0.5])).tolist() == [[[4, 2]]]


def test_each_image_has_its_own_scale() -> None:
    first = torch.tensor([[[2.0, 1.0]], [[20.0, 10.0]]])
    assert agreement([first, 3 * first]).tolist() == first.tolist()
