"""Masks: images whose pixels are indices of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvx_core import InputError
from cvx_core.images import read_mask_image
from cvx_core.tasks import UNKNOWN, GroundTruthMask


def read_class_mask(file: Path) -> GroundTruthMask:
    """Return the classes of a mask's pixels; see `read_annotations`."""
    way_out = (
        "A mask has the index of a class at each pixel, as grey values or as a palette's indices "
        f"(modes L, I or P), {UNKNOWN} where it is unknown."
    )
    image = read_mask_image(file, way_out)
    if image.mode not in ("1", "L", "P", "I", "I;16"):
        raise InputError(
            f"{file} is a color image (mode {image.mode}), and which class a "
            "colour means is not said in it.",
            "Give each colour its class's index: np.select, or Image.quantize with the "
            "data set's palette. " + way_out,
        )
    indices = np.asarray(image).astype(np.int64)
    values = set(np.unique(indices).tolist())
    if values <= {0, UNKNOWN} and UNKNOWN in values:
        raise InputError(
            f"{file} is black and white: {UNKNOWN} means unknown, so nothing but class 0 is known.",
            "Write the index of the class in place of white, as 1.",
        )
    return GroundTruthMask(indices)
