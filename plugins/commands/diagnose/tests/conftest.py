"""A tiny classifier that decodes what it should and kills or blocks who decodes certain colours."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_engine.local import Local
from PIL import Image

from cvx_core import Preprocess, VisionModel
from cvx_core.testing.models import CLASSES, convolutional

KILLS, HANGS = (255, 0, 255), (0, 255, 255)
"""Photographs of these colours end, or never leave, the process that prepares them."""


class Treacherous:
    """A preprocess as any other, but for two colours."""

    def __init__(self) -> None:
        self.inner = Preprocess(crop=32)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        corner = image.getpixel((0, 0))
        if corner == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        if corner == HANGS:
            time.sleep(1000)
        return self.inner(image)


@pytest.fixture
def model() -> VisionModel:
    return VisionModel(
        convolutional().module, preprocess=Treacherous(), classes=CLASSES, name="net"
    )


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder for each class with noise in it; of other colours where told."""

    def make(each: int = 4, *, classes: tuple[str, ...] = CLASSES, **colours: Any) -> Path:
        generator = np.random.default_rng(0)
        for name in classes:
            folder = tmp_path / "data" / name
            folder.mkdir(parents=True)
            for k in range(each):
                pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
        for name, colour in colours.items():
            picture = Image.new("RGB", (48, 40), colour)
            picture.save(tmp_path / "data" / classes[0] / f"{name}.png")
        return tmp_path / "data"

    return make


@pytest.fixture
def same() -> Callable[[pa.Table, pa.Table], bool]:
    """Whether two tables hold the same but for the time it took."""

    def compare(a: pa.Table, b: pa.Table) -> bool:
        return bool(a.drop_columns(["seconds"]).equals(b.drop_columns(["seconds"])))

    return compare


@pytest.fixture
def run(model: VisionModel, tree: Callable[..., Path], tmp_path: Path) -> Run:
    """Return a run with a damaged file, a copy, and a copy with another label."""
    data = tree(5)
    (data / "cat/4.png").write_bytes(b"no image")
    shutil.copy(data / "bee/0.png", data / "bee/copy.png")
    shutil.copy(data / "bee/1.png", data / "cat/copy.png")
    return diagnose(model, data, tmp_path / "run", budget=0.0, engine=Local(workers=1))
