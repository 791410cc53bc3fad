"""A folder of photographs, and a classifier whose decoder dies of one colour and dwells on all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from cvx_core import Preprocess, VisionModel
from cvx_core.testing.models import CLASSES, convolutional

KILLS = (255, 0, 255)


class Treacherous:
    """A preprocess as any other, but slow, and deadly for one colour."""

    def __init__(self, pause: float = 0.0) -> None:
        self.inner, self.pause = Preprocess(crop=32), pause

    def __call__(self, image: Image.Image) -> torch.Tensor:
        time.sleep(self.pause)
        if image.getpixel((0, 0)) == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(image)


@pytest.fixture
def model() -> Callable[..., VisionModel]:
    """Make the classifier; `pause` is the seconds that each photograph takes."""

    def make(pause: float = 0.0) -> VisionModel:
        return VisionModel(convolutional().module, Treacherous(pause), CLASSES, name="net")

    return make


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Ten of noise in each of five classes, one that kills and one that is none."""
    generator = np.random.default_rng(0)
    for name in CLASSES:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for k in range(10):
            pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
    Image.new("RGB", (48, 40), KILLS).save(tmp_path / "data/bee/kills.png")
    (tmp_path / "data/cat/broken.png").write_bytes(b"\x89PNG no more")
    return tmp_path / "data"


@pytest.fixture
def same() -> Callable[[pa.Table, pa.Table], bool]:
    """Whether two tables hold the same but for the time it took."""

    def compare(a: pa.Table, b: pa.Table) -> bool:
        return bool(a.drop_columns(["seconds"]).equals(b.drop_columns(["seconds"])))

    return compare
