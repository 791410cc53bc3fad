"""Sample explanations, which tests of renderers draw."""

from __future__ import annotations

import numpy as np

from cvx_core.testing.samples import sample_explanation


def test_a_sample_is_a_square_map_over_the_centre_of_a_wide_image() -> None:
    one = sample_explanation()
    assert one.values.shape == (7, 7)
    assert one.image.shape == (240, 320, 3)
    assert one.extent == (40.0, 0.0, 280.0, 240.0)
    assert one.values.min() < 0 < one.values.max() == one.values[2, 3] == 4
    assert (sample_explanation(signed=False).values == np.abs(one.values)).all()
    assert (sample_explanation(seed=1).values != one.values).any()
