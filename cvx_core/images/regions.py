"""Regions of an image.

Coordinates are pixels of the image, x to the right and y down; the centre of the first pixel
is (0.5, 0.5).
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cvx_core._util.text import brief
from cvx_core.errors import TargetError
from cvx_core.images.image_files import read_mask_image

Mask = npt.NDArray[np.bool_]


Extent = tuple[float, float, float, float]
"""Rectangle (left, top, right, bottom) in pixels of the original image; it may reach beyond
the image where preprocessing padded it."""


@dataclass(frozen=True)
class Frame:
    """Position of a network's input in the image.

    Attributes
    ----------
    extent
        The rectangle (left, top, right, bottom) of the image that the input covers.
    size
        (width, height) of the input in its own pixels.
    image_size
        (width, height) of the image, or None where it is unknown.
    """

    extent: tuple[float, float, float, float]
    size: tuple[int, int]
    image_size: tuple[int, int] | None = None

    def to_image(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return boxes (..., 4) in pixels of the input as boxes in pixels of the image."""
        left, top, right, bottom = self.extent
        scale = np.array([(right - left) / self.size[0], (bottom - top) / self.size[1]] * 2)
        start = np.array([left, top, left, top])
        return np.asarray(np.asarray(boxes, dtype=np.float64) * scale + start)

    def centres(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the x (w,) and y (h,) in the image of the positions of a grid over the input."""
        left, top, right, bottom = self.extent
        h, w = shape
        x = left + (np.arange(w) + 0.5) * (right - left) / w
        y = top + (np.arange(h) + 0.5) * (bottom - top) / h
        return x, y


class Region(ABC):
    """A part of an image."""

    @abstractmethod
    def contains(self, x: np.ndarray, y: np.ndarray) -> Mask:
        """Return (h, w) whether the points at columns `x` (w,) and rows `y` (h,) are inside."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float, float, float]:
        """The smallest rectangle (left, top, right, bottom) around it."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The region for people."""

    def on_grid(self, frame: Frame, shape: tuple[int, int]) -> Mask:
        """Return the positions (h, w) of a grid over the network's input whose centres are inside.

        A region smaller than a position takes the one that contains its middle.

        Raises
        ------
        TargetError
            If it lies outside of what the network sees.
        """
        inside = self.contains(*frame.centres(shape))
        if inside.any():
            return inside
        left, top, right, bottom = self.bounds
        column, row = (
            ((low + high) / 2 - start) / (stop - start) * count
            for low, high, start, stop, count in (
                (left, right, frame.extent[0], frame.extent[2], shape[1]),
                (top, bottom, frame.extent[1], frame.extent[3], shape[0]),
            )
        )
        if not (0 <= row < shape[0] and 0 <= column < shape[1]):
            seen = ", ".join(f"{side:.0f}" for side in frame.extent)
            raise TargetError(
                f"The network does not see {self.text}.",
                f"Its input covers the rectangle {seen} (left, top, right, bottom) of the image.",
            )
        inside[math.floor(row), math.floor(column)] = True
        return inside


@dataclass(frozen=True)
class Box(Region):
    """A rectangle, in pixels of the image.

    Raises
    ------
    TargetError
        If it is empty or not finite.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        sides = (self.left, self.top, self.right, self.bottom)
        area = (self.right - self.left) * (self.bottom - self.top)
        if not math.isfinite(area) or self.left >= self.right or self.top >= self.bottom:
            raise TargetError(
                f"Invalid box: {sides}.",
                "A box is left, top, right, bottom in pixels of the image.",
            )

    def contains(self, x: np.ndarray, y: np.ndarray) -> Mask:
        """Return whether points are inside."""
        columns = (x >= self.left) & (x < self.right)
        rows = (y >= self.top) & (y < self.bottom)
        return np.asarray(rows[:, None] & columns[None])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The box itself."""
        return self.left, self.top, self.right, self.bottom

    @property
    def text(self) -> str:
        """As in ``box 120,40,260,300``."""
        return "box " + ",".join(f"{side:g}" for side in self.bounds)


@dataclass(frozen=True)
class Polygon(Region):
    """The inside of a polygon by the even-odd rule.

    Parameters
    ----------
    points
        Three or more corners (x, y).

    Raises
    ------
    TargetError
        If there are fewer, or one is not finite.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.points) < 3 or not np.isfinite(np.array(self.points, dtype=float)).all():
            raise TargetError(
                f"Invalid polygon: {self.points}.", "Give three or more points (x, y)."
            )

    def contains(self, x: np.ndarray, y: np.ndarray) -> Mask:
        """Return whether points are inside."""
        inside = np.zeros((len(y), len(x)), dtype=bool)
        rows = y[:, None]
        corners = list(self.points)
        for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
            if y1 == y2:
                continue
            crosses = (rows < y1) != (rows < y2)
            inside ^= crosses & (x[None] < x1 + (rows - y1) * (x2 - x1) / (y2 - y1))
        return inside

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The rectangle around the corners."""
        xs, ys = zip(*self.points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def text(self) -> str:
        """As in ``polygon of 5 corners``."""
        return f"polygon of {len(self.points)} corners"


@dataclass(frozen=True, eq=False)
class MaskRegion(Region):
    """The pixels where a mask over the image is true.

    Parameters
    ----------
    mask
        (H, W), of the image's proportions; another size is stretched over it.
    size
        (width, height) that the mask is stretched over; None takes the image's.
    name
        For people.
    origin
        The point (x, y) of the image where the mask's corner lies; `size` counts from there.

    Raises
    ------
    TargetError
        If it is empty.
    """

    mask: Mask
    size: tuple[float, float] | None = None
    name: str = "mask"
    origin: tuple[float, float] = (0.0, 0.0)

    def __repr__(self) -> str:
        return brief(self)

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask, dtype=bool)
        if mask.ndim != 2 or not mask.any():
            raise TargetError(
                f"The mask {self.name} ({'x'.join(map(str, mask.shape))}) marks no pixel.",
                "A mask is (H, W) and true (not black) in the region.",
            )
        object.__setattr__(self, "mask", mask)

    def on_grid(self, frame: Frame, shape: tuple[int, int]) -> Mask:
        """Return the positions (h, w) whose centres are inside; see `Region.on_grid`."""
        if self.size is None and frame.image_size is not None:
            return replace(self, size=frame.image_size).on_grid(frame, shape)
        return super().on_grid(frame, shape)

    def contains(self, x: np.ndarray, y: np.ndarray) -> Mask:
        """Return whether points are inside."""
        height, width = self.mask.shape
        across, down = self.size or (width, height)
        columns = np.floor((x - self.origin[0]) / across * width).astype(int)
        rows = np.floor((y - self.origin[1]) / down * height).astype(int)
        valid = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        found = self.mask[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
        return np.asarray(found & valid)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The rectangle around the pixels."""
        height, width = self.mask.shape
        across, down = self.size or (width, height)
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        x, y = self.origin
        return (
            x + float(columns[0]) * across / width,
            y + float(rows[0]) * down / height,
            x + float(columns[-1] + 1) * across / width,
            y + float(rows[-1] + 1) * down / height,
        )

    @property
    def text(self) -> str:
        """The name."""
        return self.name


@dataclass(frozen=True)
class Point(Region):
    """A single point."""

    x: float
    y: float

    def contains(self, x: np.ndarray, y: np.ndarray) -> Mask:
        """Return nothing: `on_grid` finds the position that contains the point."""
        return np.zeros((len(y), len(x)), dtype=bool)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The point itself."""
        return self.x, self.y, self.x, self.y

    @property
    def text(self) -> str:
        """As in ``pixel 120,40``."""
        return f"pixel {self.x:g},{self.y:g}"


_NUMBER = r"-?\d+(?:\.\d+)?"


def parse_region(text: str) -> Region:
    """Read a region as written on the command line.

    ``120,40,260,300`` is a box, ``10,10 90,10 50,80`` a polygon, and anything else the path of a
    mask: an image that is not black (or transparent) inside the region.

    Raises
    ------
    TargetError
        If it is none of them.
    InputError
        If the mask can't be read.
    """
    numbers = [float(n) for n in re.findall(_NUMBER, text)]
    if re.fullmatch(rf"{_NUMBER}(\s*,\s*{_NUMBER}){{3}}", text.strip()):
        return Box(*numbers)
    if re.fullmatch(rf"({_NUMBER},{_NUMBER}\s+){{2,}}{_NUMBER},{_NUMBER}", text.strip()):
        return Polygon(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
    return read_mask(Path(text.strip()))


def mask_region(frame: Frame, inside: Mask, name: str = "mask") -> MaskRegion:
    """Return positions (h, w) of a grid over the network's input as a part of the image."""
    rows, columns = np.nonzero(inside)
    return positions_region(frame, (inside.shape[0], inside.shape[1]), rows, columns, name)


def positions_region(
    frame: Frame, shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray, name: str = "mask"
) -> MaskRegion:
    """Return positions (n,), (n,) of a grid (h, w) over the network's input as such a part.

    It holds only the rectangle around them, since there may be as many regions as positions.
    """
    left, top, right, bottom = frame.extent
    across, down = (right - left) / shape[1], (bottom - top) / shape[0]
    first, start = rows.min(), columns.min()
    mask = np.zeros((rows.max() - first + 1, columns.max() - start + 1), dtype=bool)
    mask[rows - first, columns - start] = True
    size = (mask.shape[1] * across, mask.shape[0] * down)
    return MaskRegion(mask, size, name, (left + start * across, top + first * down))


def read_mask(path: Path) -> MaskRegion:
    """Read a mask from an image file: what is not black is inside.

    Raises
    ------
    InputError
        If there is no such image, or its format may change pixels, as JPEG does.
    TargetError
        If nothing is inside.
    """
    image = read_mask_image(
        path,
        "Give a box left,top,right,bottom, corners x,y x,y x,y, or the path of a mask, as PNG.",
    )
    if image.mode in ("LA", "PA", "RGBA"):
        mask = np.asarray(image.convert("RGBA"))[..., 3] > 127
    elif image.mode in ("P", "L", "1", "I", "I;16"):
        mask = np.asarray(image) != 0  # a palette's indices, not its colours
    else:
        mask = np.asarray(image.convert("RGB")).max(axis=2) > 127
    return MaskRegion(mask, None, path.name)
