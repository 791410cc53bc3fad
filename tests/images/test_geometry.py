"""Rectangle of the image that a preprocess says its input covers."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from cvx_core.images.geometry import measure


def test_a_preprocess_that_knows_its_extent_is_asked_for_it() -> None:
    class Shifted:
        def __call__(self, image: Image.Image) -> torch.Tensor:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

        def extent(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
            return -0.125, 0.0, size[0] + 0.375, float(size[1])

    assert measure(Shifted(), (40, 20)).extent == (-0.125, 0.0, 40.375, 20.0)
