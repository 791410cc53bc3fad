"""Masks: images whose pixels are indices of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ImageOps

from cvx_annotations.class_names import ClassNames
from cvx_annotations.orientation import upright_mask
from cvx_core import InputError
from cvx_core.images import read_mask_image
from cvx_core.tasks import UNKNOWN, GroundTruthMask


def read_class_mask(file: Path, image: Path, names: ClassNames) -> GroundTruthMask:
    """Return the classes of a mask's pixels; see `read_annotations`."""
    way_out = (
        "A mask has a class index at each pixel, as gray values or palette indices "
        f"(modes L, I or P), {UNKNOWN} where it is unknown."
    )
    stored = read_mask_image(file, way_out)
    # A mask may have a tag of its own.
    turned = ImageOps.exif_transpose(stored)
    if turned.mode not in ("1", "L", "P", "I", "I;16"):
        raise InputError(
            f"{file} must contain class indices, got a color image (mode {turned.mode}).",
            "Convert colors to class indices: np.select, or Image.quantize with the "
            "data set's palette. " + way_out,
        )
    indices = np.asarray(turned).astype(np.int64)
    values = set(np.unique(indices).tolist())
    if values <= {0, UNKNOWN} and UNKNOWN in values:
        raise InputError(
            f"{file} has only the values 0 and {UNKNOWN}, and {UNKNOWN} means unknown.",
            "Write the index of the class instead of white, such as 1.",
        )
    for value in values & {int(one) for one in names.renamed if one.isdecimal()}:
        found = names.find(value, str(file))
        indices[np.asarray(turned) == value] = UNKNOWN if found is None else found
    return GroundTruthMask(upright_mask(indices, image, str(file)))
