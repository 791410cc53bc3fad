"""Masks: images whose pixels are indices of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cvx_core.errors import InputError
from cvx_core.images import MAX_PIXELS
from cvx_core.truth import UNKNOWN, TrueClasses


def read_class_mask(file: Path) -> TrueClasses:
    """Return the classes of a mask's pixels; see `read_truth`."""
    way_out = (
        "A mask has the index of a class at each pixel, as grey values or as a palette's indices "
        f"(modes L, I or P), {UNKNOWN} where it is unknown."
    )
    try:
        with Image.open(file) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(
                    f"{file} has {opened.width} x {opened.height} pixels.", "Shrink it first."
                )
            if opened.format in ("JPEG", "WEBP", "AVIF"):
                raise InputError(
                    f"{file} is a {opened.format}, which may change indices a little.",
                    "Save it as PNG. " + way_out,
                )
            if opened.mode not in ("1", "L", "P", "I", "I;16"):
                raise InputError(
                    f"{file} is a picture in colours (mode {opened.mode}), and which class a "
                    "colour means is not said in it.",
                    "Give each colour its class's index: np.select, or Image.quantize with the "
                    "data set's palette. " + way_out,
                )
            indices = np.asarray(opened).astype(np.int64)
    except (
        OSError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
        ValueError,
        SyntaxError,
    ) as error:
        raise InputError(f"{file} is no mask: {error}.", way_out) from error
    values = set(np.unique(indices).tolist())
    if values <= {0, UNKNOWN} and UNKNOWN in values:
        raise InputError(
            f"{file} is black and white: {UNKNOWN} means unknown, so nothing but class 0 is known.",
            "Write the index of the class in place of white, as 1.",
        )
    return TrueClasses(indices)
