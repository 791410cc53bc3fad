"""Borders of masks, compared with scipy's erosion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from cvx_core.images.components import border

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda s: arrays(bool, s))


@pytest.mark.parametrize("width", [0, 1, 2, 3, 5])
@given(masks)
def test_the_border_is_what_an_erosion_by_a_square_takes_away(width: int, mask: np.ndarray) -> None:
    side = 2 * width + 1
    kept = ndimage.binary_erosion(mask, np.ones((side, side)), border_value=1)
    assert (border(mask, width) == mask & ~kept).all()
