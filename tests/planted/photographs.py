"""Photographs of four kinds of things, as square pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FOLDER = Path(__file__).parent / "photographs"
KINDS = ("animal", "building", "furnishing", "tool")


@cache
def photographs(*, held_out: bool) -> tuple[tuple[Image.Image, int], ...]:
    """Return photographs with the index of their kind; every third is held out of training."""
    with (FOLDER / "photographs.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = [row for i, row in enumerate(rows) if (i % 3 == 2) is held_out]
    return tuple(
        (Image.open(FOLDER / row["file"]).convert("RGB"), KINDS.index(row["kind"]))
        for row in chosen
    )


def pictures(held_out: bool, side: int, chance: torch.Generator) -> Iterator[tuple[Tensor, int]]:
    """Yield squares with their kind for ever: for training anywhere, held out the central one."""
    while True:
        for photograph, kind in photographs(held_out=held_out):
            yield square(photograph, side, None if held_out else chance), kind


def square(photograph: Image.Image, side: int, chance: torch.Generator | None = None) -> Tensor:
    """Return a square of a photograph, float (3, side, side) in [0, 1].

    The central one, or with a source of chance one of 60 to 100 % of the shorter side, anywhere,
    perhaps mirrored.
    """
    short = min(photograph.size)
    if chance is None:
        edge = round(0.9 * short)
        left, top = (photograph.width - edge) // 2, (photograph.height - edge) // 2
    else:
        edge = round(short * (0.6 + 0.4 * float(torch.rand((), generator=chance))))
        left, top = (
            int(torch.randint(0, length - edge + 1, (), generator=chance))
            for length in photograph.size
        )
    cut = photograph.crop((left, top, left + edge, top + edge))
    pixels = np.array(cut.resize((side, side), Image.Resampling.BICUBIC))
    if chance is not None and torch.rand((), generator=chance) < 0.5:
        pixels = pixels[:, ::-1].copy()
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
