"""Heat maps over images: limits, smoothing, colours, opacity.

Shared by everything that draws, so that one map looks the same in every format. Nothing here
changes an explanation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvx_core.explanations.colormaps import INFERNO, VIK
from cvx_core.images.regions import Extent

PIXEL_MAP = 64
"""A map with more positions than this along a side is shown smoothed, because single pixels of a
gradient can't be read at a glance."""


class ImageMap(Protocol):
    """A signed map (h, w) and the image that it covers, such as an `Explanation`."""

    @property
    def values(self) -> npt.NDArray[np.float32]: ...  # noqa: D102
    @property
    def extent(self) -> Extent: ...  # noqa: D102
    @property
    def image(self) -> npt.NDArray[np.uint8]: ...  # noqa: D102
    @property
    def signed(self) -> bool: ...  # noqa: D102
    def heatmap(self, size: tuple[int, int] | None = None) -> npt.NDArray[np.float32]: ...  # noqa: D102


@dataclass(frozen=True)
class Limits:
    """The values at the two ends of the colour scale.

    Attributes
    ----------
    low, high
        Symmetric about zero for signed maps; from zero (or the smallest value) for others.
    clipped
        Share of the shown pixels beyond the ends, in [0, 1].
    """

    low: float
    high: float
    clipped: float = 0.0


@dataclass(frozen=True, eq=False)
class Shown:
    """A map as it is shown.

    Attributes
    ----------
    values
        float32 (height, width): the map over the whole image, nan where it does not reach.
    limits
        Ends of the colour scale.
    sigma
        Standard deviation of the smoothing in pixels of the original image, 0 for none.
    """

    values: npt.NDArray[np.float32]
    limits: Limits
    sigma: float

    @property
    def ends(self) -> tuple[float, float]:
        """The part of the colour scale on which the map lies, as a key to the colours shows it.

        It begins at zero where no value has the other sign; colours mean the same all the same.
        """
        low, high = self.limits.low, self.limits.high
        inside = self.values[np.isfinite(self.values)]
        if low < 0 < high and inside.any():
            return (low if inside.min() < 0 else 0.0, high if inside.max() > 0 else 0.0)
        return low, high

    @property
    def note(self) -> str:
        """What was done to the numbers, for a caption; empty if nothing."""
        parts = []
        if self.sigma:
            parts.append(f"smoothed for display (sigma {self.sigma:.1f} px)")
        if self.limits.clipped > 0:
            parts.append(f"colour saturates for {100 * self.limits.clipped:.1f} % of the pixels")
        return "; ".join(parts)


def show(
    explanation: ImageMap, size: tuple[int, int] | None = None, *, smooth: float | None = None
) -> Shown:
    """Bring a map into the form in which it is shown.

    Parameters
    ----------
    explanation
        Any explanation.
    size
        (width, height) of the result; None for that of the image.
    smooth
        Standard deviation of a Gaussian in image pixels; None smooths maps of input pixels by
        1.2 % of the covered side and leaves coarser maps alone.
    """
    values = explanation.heatmap(size)
    scale = 1.0 if size is None else size[0] / explanation.image.shape[1]
    if smooth is None:
        fine = max(explanation.values.shape) > PIXEL_MAP
        left, top, right, bottom = explanation.extent
        smooth = 0.012 * min(right - left, bottom - top) if fine else 0.0
    if smooth:
        values = _gaussian(values, smooth * scale)
    return Shown(values, _limits(values, explanation.signed), smooth)


def opacity(shown: Shown, strongest: float = 0.85) -> npt.NDArray[np.float32]:
    """Return how opaque each pixel of the map is, (height, width) in [0, strongest].

    It grows with the magnitude, so that the image stays visible where the map is near zero.
    """
    span = max(abs(shown.limits.low), abs(shown.limits.high)) or 1.0
    strength = np.clip(np.abs(np.nan_to_num(shown.values)) / span, 0.0, 1.0)
    return (strongest * strength**0.7).astype(np.float32)


def colors(
    shown: Shown, signed: bool, table: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Return the colour of each pixel of the map, uint8 (height, width, 3).

    `table`, uint8 (256, 3) from the low to the high limit, replaces vik and inferno.
    """
    low, high = shown.limits.low, shown.limits.high
    position = (np.nan_to_num(shown.values).astype(np.float64) - low) / ((high - low) or 1.0)
    index = np.clip(np.round(position * 255), 0, 255).astype(np.uint8)
    if table is None:
        table = VIK if signed else INFERNO
    chosen: npt.NDArray[np.uint8] = table[index]
    return chosen


def overlay(
    explanation: ImageMap, size: tuple[int, int] | None = None, *, smooth: float | None = None
) -> Image.Image:
    """Return the map over its image as an RGB image of `size` (width, height)."""
    width, height = size or (explanation.image.shape[1], explanation.image.shape[0])
    photo = Image.fromarray(explanation.image).resize((width, height), Image.Resampling.LANCZOS)
    shown = show(explanation, (width, height), smooth=smooth)
    alpha = opacity(shown)[:, :, None]
    mixed = np.asarray(photo) * (1 - alpha) + colors(shown, explanation.signed) * alpha
    return Image.fromarray(mixed.round().astype(np.uint8))


def _limits(values: npt.NDArray[np.float32], signed: bool) -> Limits:
    inside = values[np.isfinite(values)]
    if not inside.size:
        return Limits(-1.0 if signed else 0.0, 1.0)
    magnitude = np.abs(inside)
    end = float(magnitude.max())
    robust = float(np.quantile(magnitude, 0.998))
    # A few extreme pixels must not bleach everything else.
    if robust > 0 and end > 2 * robust:
        end = robust
    end = end or 1.0
    clipped = float((magnitude > end).mean())
    return Limits(-end if signed else 0.0, end, clipped)


def _gaussian(values: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Blur where the map reaches; pixels outside neither give nor take."""
    if sigma < 0.3:
        return values
    inside = np.isfinite(values)
    blurred = _blur(np.where(inside, values, 0.0).astype(np.float64), sigma)
    if inside.all():
        ones = [_blur(np.ones((n, 1)), sigma)[:, 0] for n in values.shape]
        weight = np.outer(*ones)
    else:
        weight = _blur(inside.astype(np.float64), sigma)
    with np.errstate(invalid="ignore", divide="ignore"):
        blurred = blurred / weight
    return np.where(inside, blurred, np.nan).astype(np.float32)


def _blur(values: npt.NDArray[np.float64], sigma: float) -> npt.NDArray[np.float64]:
    """Return values (h, w) blurred along both axes, with zeros around them."""
    reach = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        size = values.shape[axis]
        if size == 1:
            continue
        if size > _MATRIX:
            full = np.apply_along_axis(np.convolve, axis, values, kernel)
            values = full.take(range(reach, reach + size), axis)
        elif axis == 0:
            values = _band(size, sigma, reach) @ values
        else:
            values = values @ _band(size, sigma, reach)
    return values


_MATRIX = 1024
"""Longest line that is blurred by a matrix, which takes a fifth of the time of a convolution."""


@lru_cache(maxsize=4)
def _band(size: int, sigma: float, reach: int) -> npt.NDArray[np.float64]:
    """Return the symmetric matrix (size, size) that blurs a line."""
    steps = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    found: npt.NDArray[np.float64] = (
        np.where(steps <= reach, np.exp(-0.5 * (steps / sigma) ** 2), 0.0) / kernel.sum()
    )
    found.setflags(write=False)
    return found
