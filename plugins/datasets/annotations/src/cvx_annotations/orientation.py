"""Orientation of images: masks and boxes made of the pixels as stored are turned upright."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from cvx_core import InputError, is_file
from cvx_core.tasks import GroundTruthBoxes

_EXIF = 0x0112
_WAY_OUT = "Export the annotations again for the upright image, or remove the image's EXIF tag."

_NEAR = 0.01
"""Relative difference of two aspect ratios that rounding explains."""

Size = tuple[int, int]

_TURNED: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@dataclass(frozen=True)
class Orientation:
    """How an image is stored.

    Attributes
    ----------
    stored
        (width, height) of the pixels in the file.
    tag
        EXIF's orientation, 1 to 8; 1 is upright.
    """

    stored: Size
    tag: int

    @property
    def turned(self) -> bool:
        """Whether width and height are exchanged."""
        return self.tag >= 5

    @property
    def upright(self) -> Size:
        """(width, height) as a person sees it."""
        return self.stored[::-1] if self.turned else self.stored

    def is_stored(self, size: Size, where: str) -> bool:
        """Return whether annotations for an image of some size are of the pixels as stored.

        Raises
        ------
        InputError
            If they are turned by a quarter against the image, and no tag says how.
        """
        if min(size) < 1 or _same_shape(size, self.upright):
            return False
        if not _same_shape(size, self.upright[::-1]):
            return False
        if self.turned:
            return True
        raise InputError(
            f"{where} is for an image of {size[0]} x {size[1]} pixels, and the image has "
            f"{self.upright[0]} x {self.upright[1]}: one of them is rotated.",
            _WAY_OUT,
        )


def orientation_of(image: Path) -> Orientation | None:
    """Return how an image is stored; None if there is no readable file."""
    if not image.name or not is_file(image):
        return None
    try:
        with Image.open(image) as opened:
            # Pillow turns TIFF itself.
            tag = 1 if opened.format == "TIFF" else int(opened.getexif().get(_EXIF, 1))
            return Orientation(opened.size, tag if 1 <= tag <= 8 else 1)
    # Whatever is wrong with the image is said when it is read.
    except (
        *(OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError),
        *(UnidentifiedImageError, Image.DecompressionBombError),
    ):
        return None


def upright_mask(values: npt.NDArray[np.int64], image: Path, where: str) -> npt.NDArray[np.int64]:
    """Return a mask (H, W) in the orientation of its image.

    Raises
    ------
    InputError
        See `Orientation.is_stored`.
    """
    orientation = orientation_of(image)
    if orientation is None or not orientation.is_stored((values.shape[1], values.shape[0]), where):
        return values
    return np.ascontiguousarray(_TURNED[orientation.tag](values))


def upright_boxes(
    boxes: GroundTruthBoxes, size: Size | None, image: Path, where: str
) -> GroundTruthBoxes:
    """Return boxes in pixels of the upright image, given the size that they were made for.

    Raises
    ------
    InputError
        See `Orientation.is_stored`.
    """
    orientation = None if size is None else orientation_of(image)
    if orientation is None or size is None or not orientation.is_stored(size, where):
        return boxes
    width, height = orientation.stored
    turned = []
    for one in boxes.boxes:
        left, top, right, bottom = one.box
        if orientation.tag in (5, 8):
            left, right, top, bottom = top, bottom, left, right
        else:
            left, right, top, bottom = height - bottom, height - top, left, right
        if orientation.tag in (7, 8):
            top, bottom = width - bottom, width - top
        turned.append(replace(one, box=(left, top, right, bottom)))
    return GroundTruthBoxes(tuple(turned))


def _same_shape(one: Size, other: Size) -> bool:
    across, down = one[0] * other[1], one[1] * other[0]
    return abs(across - down) <= _NEAR * max(across, down)
