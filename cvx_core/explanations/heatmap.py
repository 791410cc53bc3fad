"""Heat maps over images: limits, smoothing, colours, opacity.

Shared by everything that draws, so that one map looks the same in every format. Nothing here
changes an explanation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvx_core.errors import OptionError
from cvx_core.explanations.colormaps import INFERNO, VIK, color_table, is_diverging
from cvx_core.images.regions import Extent
from cvx_core.plugins.parameters import check_choice

PIXEL_MAP = 64
"""A map with more positions than this along a side is shown smoothed, because single pixels of a
gradient can't be read at a glance."""


OPACITY = 0.85
"""Opacity of the strongest value."""

BACKGROUNDS = ("grey", "color")
"""How the image is drawn under a map."""


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
    def heatmap(  # noqa: D102
        self, size: tuple[int, int] | None = None, *, fill: float = ...
    ) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class Limits:
    """The values at the two ends of the colour scale.

    Attributes
    ----------
    low, high
        Symmetric about zero for signed maps; for others, and for a sequential color map, from zero
        or the smallest value to the largest.
    clipped
        Share of the shown pixels beyond the ends, in [0, 1].
    """

    low: float
    high: float
    clipped: float = 0.0


@dataclass(frozen=True, eq=False)
class Shown:
    """Map prepared for display.

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
    explanation: ImageMap,
    size: tuple[int, int] | None = None,
    *,
    smooth: float | None = None,
    colormap: str | None = None,
    limits: Limits | None = None,
) -> Shown:
    """Prepare a map for display.

    Parameters
    ----------
    explanation
        Any explanation.
    size
        (width, height) of the result; None for that of the image.
    smooth
        Standard deviation of a Gaussian in image pixels; None smooths maps of input pixels by
        1.2 % of the covered side and leaves coarser maps alone.
    colormap
        Name of the color map that it is drawn with: the scale is symmetric about zero for a
        diverging one. None takes that for what the map is, signed or not.
    limits
        Ends of the scale, such as those that several maps share; None takes the map's own.
    """
    values = explanation.heatmap(size)
    scale = 1.0 if size is None else size[0] / explanation.image.shape[1]
    if smooth is None:
        fine = max(explanation.values.shape) > PIXEL_MAP
        left, top, right, bottom = explanation.extent
        smooth = 0.012 * min(right - left, bottom - top) if fine else 0.0
    if smooth:
        values = _gaussian(values, smooth * scale)
    if limits is None:
        if colormap is None or is_diverging(colormap):
            limits = _limits(values, explanation.signed or colormap is not None)
        else:
            limits = _full_range(values)
    return Shown(values, limits, smooth)


def opacity(shown: Shown, strongest: float = OPACITY) -> npt.NDArray[np.float32]:
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
    explanation: ImageMap,
    size: tuple[int, int] | None = None,
    *,
    smooth: float | None = None,
    colormap: str | None = None,
    strongest: float = OPACITY,
    limits: Limits | None = None,
    background: str = "grey",
) -> Image.Image:
    """Return the map over its image as an RGB image of `size` (width, height).

    Parameters
    ----------
    explanation
        Any explanation.
    size, smooth, colormap, limits
        See `show`.
    strongest
        Opacity of the strongest value, in [0, 1].
    background
        The image under the map in ``"grey"``, so that the map has all the color, or in ``"color"``.

    Raises
    ------
    OptionError
        If the color map is unknown, or an argument is out of its range.
    """
    width, height = size or (explanation.image.shape[1], explanation.image.shape[0])
    if min(width, height) < 1:
        raise OptionError(f"size must be (width, height) of at least 1 pixel, got {size}.")
    shown = show(explanation, (width, height), smooth=smooth, colormap=colormap, limits=limits)
    return draw(explanation, shown, colormap, strongest, background)


def draw(
    explanation: ImageMap, shown: Shown, colormap: str | None, strongest: float, background: str
) -> Image.Image:
    """Return a shown map over its image; see `overlay`."""
    if not 0 <= strongest <= 1:
        raise OptionError(f"alpha must be a number from 0 to 1, got {strongest!r}.")
    check_choice("background", background, BACKGROUNDS)
    photo = Image.fromarray(explanation.image)
    photo = photo.resize(shown.values.shape[::-1], Image.Resampling.LANCZOS)
    table = None if colormap is None else color_table(colormap)
    below = under(np.asarray(photo), background)
    return Image.fromarray(blend(below, shown, explanation.signed, strongest, table))


def under(image: npt.NDArray[np.uint8], background: str) -> npt.NDArray[np.uint8]:
    """Return an image (height, width, 3) as it is drawn under a map, in grey or in color."""
    if background == "color":
        return image
    light = (image @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return np.repeat(light[:, :, None], 3, axis=2)


def blend(
    below: npt.NDArray[np.uint8],
    shown: Shown,
    signed: bool,
    strongest: float = OPACITY,
    table: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Return a map over an image of the same size; stronger values are more opaque."""
    alpha = opacity(shown, strongest)[:, :, None]
    mixed = below * (1 - alpha) + colors(shown, signed, table) * alpha
    found: npt.NDArray[np.uint8] = mixed.round().astype(np.uint8)
    return found


def shared_limits(shown: Sequence[Shown]) -> Limits:
    """Return the limits that contain those of all maps.

    Examples
    --------
    >>> values = np.zeros((2, 2), np.float32)
    >>> one, other = (Shown(values, Limits(-end, end), 0.0) for end in (1.0, 3.0))
    >>> shared_limits([one, other])
    Limits(low=-3.0, high=3.0, clipped=0.0)
    """
    return Limits(
        min(one.limits.low for one in shown),
        max(one.limits.high for one in shown),
        max(one.limits.clipped for one in shown),
    )


def _limits(values: npt.NDArray[np.float32], signed: bool) -> Limits:
    """Return symmetric limits of a signed map; for another from zero."""
    inside = values[np.isfinite(values)]
    if not inside.size:
        return Limits(-1.0 if signed else 0.0, 1.0)
    end, clipped = _robust_end(np.abs(inside))
    return Limits(-end if signed else 0.0, end, clipped)


def _full_range(values: npt.NDArray[np.float32]) -> Limits:
    """Return limits for a sequential color map: the whole of it is used, zero is inside."""
    inside = values[np.isfinite(values)]
    if not (inside < 0).any():
        return _limits(values, signed=False)
    high, above = _robust_end(inside.clip(0)) if (inside > 0).any() else (0.0, 0.0)
    low, below = _robust_end((-inside).clip(0))
    return Limits(-low, high, above + below)


def _robust_end(magnitude: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the end of a scale for values of 0 or more, and the share beyond it."""
    end = float(magnitude.max())
    robust = float(np.quantile(magnitude, 0.998))
    # A few extreme pixels must not bleach everything else.
    if robust > 0 and end > 2 * robust:
        end = robust
    end = end or 1.0
    return end, float((magnitude > end).mean())


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
    for axis in (0, 1):
        size = values.shape[axis]
        if size == 1:
            continue
        if size > _MATRIX:
            full = np.apply_along_axis(np.convolve, axis, values, _kernel(sigma, reach))
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
    steps = np.subtract.outer(np.arange(size), np.arange(size)) + reach
    inside = (steps >= 0) & (steps <= 2 * reach)
    found = np.where(inside, _kernel(sigma, reach)[steps.clip(0, 2 * reach)], 0.0)
    found.setflags(write=False)
    return found


def _kernel(sigma: float, reach: int) -> npt.NDArray[np.float64]:
    """Return the weights of a Gaussian, (2 * reach + 1)."""
    kernel: npt.NDArray[np.float64] = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    return kernel
