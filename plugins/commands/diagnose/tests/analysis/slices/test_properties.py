"""Properties of images do not change with those that have a name of their own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from cvx_diagnose.analysis.slices.properties import IMAGE_PROPERTIES, image_properties
from cvx_diagnose.data.image_statistics import image_statistics
from PIL import Image


def test_a_dark_image_has_no_less_contrast_noise_or_color() -> None:
    pixels = np.random.default_rng(0).integers(80, 240, (64, 64, 3))
    pixels[:, :32, 0] //= 2
    made = [
        image_statistics(Image.fromarray((pixels * share).astype(np.uint8)))
        for share in (1.0, 0.25)
    ]
    tiny = np.stack([one[1].ravel() for one in made])
    table = pa.table(
        {"statistics": [one[0] for one in made], "width": [64] * 2, "height": [64] * 2}
    )
    run = SimpleNamespace(numbers=lambda *_: tiny.astype(np.float32))
    bright, dark = image_properties(run, table)  # type: ignore[arg-type]
    at = {one.name: k for k, one in enumerate(IMAGE_PROPERTIES)}
    assert dark[at["brightness"]] == pytest.approx(bright[at["brightness"]] / 4, rel=0.02)
    for name in ("contrast", "noise", "colorfulness"):
        assert dark[at[name]] == pytest.approx(bright[at[name]], rel=0.05)
