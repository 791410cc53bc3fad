"""Resampling: constants stay constant, sums of a shrunk map are kept, cells lie where they lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cvx_core.images.resampling import resample

SIDES = st.integers(1, 9)
PIXELS = st.integers(1, 40)


@given(SIDES, SIDES, PIXELS, PIXELS, st.floats(-1e6, 1e6, width=32))
def test_a_constant_map_stays_constant(h: int, w: int, height: int, width: int, c: float) -> None:
    values = np.full((h, w), c, dtype=np.float32)
    drawn = resample(values, (0, 0, width, height), (height, width))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, c, rtol=1e-6)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 100))
def test_shrinking_by_a_whole_number_keeps_the_mean_of_periodic_detail(
    pixels: int, factor: int, seed: int
) -> None:
    # Each block of cells is the same, so that the filter's reach over neighbours changes nothing.
    block = np.random.default_rng(seed).normal(size=factor)
    cells = np.tile(block, pixels)[None, :].astype(np.float32)
    drawn = resample(cells, (0, 0, pixels, 1), (1, pixels))
    inner = drawn[:, 1:-1]
    np.testing.assert_allclose(inner, np.full_like(inner, block.mean()), atol=1e-5)


@given(SIDES, SIDES, PIXELS, PIXELS, st.integers(0, 100))
def test_no_value_leaves_the_range_of_the_map(
    h: int, w: int, height: int, width: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(h, w)).astype(np.float32)
    drawn = resample(values, (0, 0, width, height), (height, width))
    assert drawn.min() >= values.min() - 1e-6
    assert drawn.max() <= values.max() + 1e-6


def test_enlarging_interpolates_between_the_centres_of_cells() -> None:
    # Cells of two pixels: centres at 1 and 3; pixel centres at 0.5, 1.5, 2.5, 3.5.
    drawn = resample(np.array([[0.0, 4.0]], np.float32), (0, 0, 4, 1), (1, 4))
    np.testing.assert_allclose(drawn, [[0.0, 1.0, 3.0, 4.0]])


def test_a_map_of_the_image_s_own_pixels_is_itself() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(resample(values, (0, 0, 4, 3), (3, 4)), values)


def test_pixels_outside_the_rectangle_are_nan_and_those_inside_are_not() -> None:
    drawn = resample(np.ones((2, 2), np.float32), (1, 2, 5, 4), (6, 7))
    inside = np.zeros((6, 7), bool)
    inside[2:4, 1:5] = True
    np.testing.assert_array_equal(np.isfinite(drawn), inside)
    assert (drawn[inside] == 1).all()


def test_a_rectangle_beyond_the_image_shows_the_part_inside() -> None:
    # Four cells of two pixels from -2 to 6; the image shows pixels 0 to 4, where cells 1 and 2 lie.
    drawn = resample(np.array([[9.0, 1.0, 2.0, 9.0]], np.float32), (-2, 0, 6, 1), (1, 4))
    np.testing.assert_allclose(drawn, [[1 + 8 * 0.25, 1.25, 1.75, 2 + 7 * 0.25]])


def test_orientation_is_kept() -> None:
    values = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    drawn = resample(values, (0, 0, 10, 20), (20, 10))
    assert drawn[:10, :5].sum() > 0.5 * drawn.sum()
    assert drawn[0, 0] == pytest.approx(1.0)
    assert drawn[-1, -1] == drawn[0, -1] == drawn[-1, 0] == 0
