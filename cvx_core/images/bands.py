"""Bands of an image as a preprocess gets them: colors, grey, more bands or more bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Values = npt.NDArray[Any]
"""(H, W, bands)."""


def as_given(values: Values) -> Image.Image | Values:
    """Return bands as a preprocess gets them: a PIL image where there is a mode, else the array.

    Parameters
    ----------
    values
        (H, W, bands). Of 8 bits, 1, 3 and 4 bands become the modes L, RGB and RGBA.
    """
    if values.dtype == np.uint8 and values.shape[2] in (1, 3, 4):
        return Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    return values


@dataclass(frozen=True)
class Form:
    """Number and type of the bands that a preprocess gets.

    Attributes
    ----------
    bands
        How many.
    dtype
        Of NumPy, by name.
    """

    bands: int = 3
    dtype: str = "uint8"

    @classmethod
    def of(cls, values: Values) -> Form:
        """Return the form of bands (H, W, bands)."""
        return cls(values.shape[2], str(values.dtype))

    def made(self, grey: npt.NDArray[np.uint8]) -> Image.Image | Values:
        """Return an image of this form with grey values (H, W) of 0 to 255 in all bands."""
        scaled = grey.astype(np.float64) / 255 * full_scale(np.dtype(self.dtype))
        values = np.repeat(scaled[:, :, None], self.bands, axis=2)
        if np.dtype(self.dtype).kind != "f":
            values = values.round()
        return as_given(values.astype(self.dtype))


def full_scale(dtype: np.dtype[Any]) -> float:
    """Return the value that is full brightness: 1 of floats, else the largest."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def to_eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring values to 0..255 by their nominal range (1, 255 or 65535), else by their own."""
    array = np.nan_to_num(values.astype(np.float64))
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    return np.round((array - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


def to_colors(values: Values) -> npt.NDArray[np.uint8]:
    """Return bands as a person sees them, uint8 (H, W, 3): the first three, or the first."""
    shown = values[:, :, :3] if values.shape[2] >= 3 else np.repeat(values[:, :, :1], 3, axis=2)
    found = shown if shown.dtype == np.uint8 else to_eight_bits(shown)
    return np.ascontiguousarray(found)
