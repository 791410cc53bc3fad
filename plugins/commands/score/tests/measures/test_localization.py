"""The pointing game, relevance mass and relevance rank, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cvx_score import pointing, rank_accuracy, relevance_mass
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from cvx_core import InputError, MethodError

VALUES = np.array([[5.0, 4.0, 0.0], [1.0, -8.0, 0.0]])
LEFT = np.array([[True, False, False], [True, False, False]])
MAPS = arrays(np.float64, (4, 5), elements=st.integers(-20, 20).map(float), unique=False).filter(
    lambda a: bool(np.ptp(a)) and a.max() > 0
)
MASKS = arrays(np.bool_, (4, 5)).filter(lambda a: bool(a.any()))


def test_the_highest_pixel_lies_in_the_region_or_not() -> None:
    assert pointing(VALUES, LEFT, tolerance=0) == 1
    assert pointing(VALUES, ~LEFT, tolerance=0) == 0


def test_near_is_hit_too_as_far_as_the_tolerance_in_pixels_of_the_photograph() -> None:
    mask = np.zeros((3, 5), dtype=bool)
    mask[2, 4] = True
    values = np.zeros((3, 5))
    values[0, 1] = 1
    # Three columns and two rows away; a pixel of the map is 2 wide and 4 high in the photograph.
    assert pointing(values, mask, np.hypot(3, 2)) == 1
    assert pointing(values, mask, np.hypot(3, 2) - 1e-9) == 0
    assert pointing(values, mask, 10, scale=(2, 4)) == 1
    assert pointing(values, mask, 9.99, scale=(2, 4)) == 0


def test_a_map_that_is_positive_nowhere_points_at_nothing() -> None:
    assert pointing(VALUES - 9, LEFT) == 0
    with pytest.raises(MethodError, match="no positive values"):
        relevance_mass(VALUES - 9, LEFT)


def test_the_mass_is_the_share_of_what_is_positive() -> None:
    assert relevance_mass(VALUES, LEFT) == pytest.approx(6 / 10)


def test_the_rank_is_the_share_of_as_many_highest_pixels_as_the_region_has() -> None:
    assert rank_accuracy(VALUES, LEFT) == 1 / 2
    # Of four pixels 5, 4 and 1 are sure, two of them inside, and one of the two zeros, outside.
    mask = np.array([[True, True, False], [False, True, True]])
    assert rank_accuracy(VALUES, np.array([[True, True, False], [True, True, False]])) == 3 / 4
    assert rank_accuracy(VALUES, mask) in (2 / 4, 3 / 4)


def test_among_equal_values_chance_decides_always_in_the_same_way() -> None:
    values = np.zeros((40, 40))
    values[0, 0] = 1
    mask = np.zeros((40, 40), dtype=bool)
    mask[:20] = True
    found = [rank_accuracy(values, mask, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    # 799 draws without replacement, half of them inside: five standard deviations are 0.063.
    assert found[0] == pytest.approx(0.5, abs=0.063)


@settings(max_examples=60, deadline=None)
@given(MAPS, MASKS)
def test_mass_and_rank_are_shares_and_those_of_the_rest_add_up(
    values: np.ndarray, mask: np.ndarray
) -> None:
    mass = relevance_mass(values, mask)
    assert 0 <= mass <= 1
    assert 0 <= rank_accuracy(values, mask) <= 1
    if not mask.all():
        assert mass + relevance_mass(values, ~mask) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(MAPS, MASKS)
def test_rank_and_pointing_depend_on_the_order_alone(values: np.ndarray, mask: np.ndarray) -> None:
    # Monotone, exact in float64 and zero at zero, where pointing ends.
    changed = values**3
    assert rank_accuracy(values, mask) == rank_accuracy(changed, mask)
    assert pointing(values, mask, 1.0) == pointing(changed, mask, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(1, 21)), MASKS)
def test_mirrored_maps_in_mirrored_regions_are_worth_the_same(
    order: list[int], mask: np.ndarray
) -> None:
    values = np.array(order, dtype=float).reshape(4, 5)
    for measure in (pointing, relevance_mass, rank_accuracy):
        assert measure(values, mask) == pytest.approx(measure(values[:, ::-1], mask[:, ::-1]))


def test_what_has_no_meaning_is_refused() -> None:
    for measure in (pointing, relevance_mass, rank_accuracy):
        with pytest.raises(MethodError, match="region is empty"):
            measure(VALUES, np.zeros((2, 3), dtype=bool))
        with pytest.raises(MethodError, match="is constant"):
            measure(np.ones((2, 3)), LEFT)
        with pytest.raises(InputError, match="Resample"):
            measure(VALUES, LEFT.T)
