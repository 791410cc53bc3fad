"""Statistics of an image: brightness, sharpness, colors and others, from its pixels alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 256
"""Longer side, in pixels, of the image that all statistics but the blockiness are computed from."""

TINY = 8
"""Side of the reduced image, in pixels."""

STATISTICS = (
    *("brightness", "contrast", "sharpness", "noise", "blockiness", "colorfulness"),
    *("red_green", "yellow_blue", "edges_upright", "edges_diagonal"),
)
"""Names of the statistics."""

_BLOCK = 8
_STRIPS = 8
"""Strips of 8 rows of pixels that the blockiness is computed from."""

_FLAT = 1e-6
"""Squared gradient below which an image has no edges."""

Numbers = npt.NDArray[np.floating]


def reduce_image(image: Image.Image) -> Image.Image:
    """Return an image with a longer side of at most `SIDE` pixels."""
    scale = SIDE / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(scale * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def image_statistics(
    image: Image.Image, small: Image.Image | None = None
) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
    """Return the statistics of an image, and the image reduced to a few pixels.

    Parameters
    ----------
    image
        In mode RGB.
    small
        `reduce_image` of it, where that is known.

    Returns
    -------
    statistics
        ``brightness`` and ``contrast``, mean and standard deviation of the luminance, in [0, 1];
        ``sharpness``, the logarithm of the squared Laplacian as a multiple of the squared gradient,
        without unit; ``noise``, its standard deviation by the median of the diagonal details
        (Donoho and Johnstone, Biometrika 1994), in [0, 1]; ``blockiness``, how much larger steps
        between blocks of 8 pixels are than within, 0 where there are none; ``colorfulness``, mean
        difference of the largest and the smallest channel, ``red_green`` and ``yellow_blue``, means
        of red minus green and of their mean minus blue, in [-1, 1]; ``edges_upright`` and
        ``edges_diagonal``, in [-1, 1], the mean direction of edges: 1 where all are vertical, -1
        where all are horizontal; and the same for the two diagonals, 1 where they fall to the left.
    tiny
        (8, 8, 3), uint8.

    Examples
    --------
    >>> found, tiny = image_statistics(Image.new("RGB", (40, 30), (255, 0, 0)))
    >>> round(found["brightness"], 3), found["colorfulness"], tiny.shape
    (0.299, 1.0, (8, 8, 3))
    """
    small = reduce_image(image) if small is None else small
    gray = np.asarray(small.convert("L"), dtype=np.float32) / 255
    down, across = gray[1:, :-1] - gray[:-1, :-1], gray[:-1, 1:] - gray[:-1, :-1]
    energy = _mean(across * across) + _mean(down * down)
    # Both differences at the same point, between four pixels.
    right, below = (
        (across + gray[1:, 1:] - gray[1:, :-1]) / 2,
        (down + gray[1:, 1:] - gray[:-1, 1:]) / 2,
    )
    along, beside = _mean(right * right), _mean(below * below)
    edges = along + beside
    flat = edges < _FLAT
    red, green, blue = _channels(small)
    mixed = np.abs(down[::2, 1:] - down[::2, :-1])  # half of the rows are enough for a median
    found = {
        "brightness": float(gray.mean()),
        "contrast": float(gray.std()),
        "sharpness": 0.0 if flat else float(np.log((_laplacian(gray) + 1e-9) / energy)),
        "noise": float(np.median(mixed)) / (2 * 0.6745) if mixed.size else 0.0,
        "blockiness": _blockiness(image),
        "colorfulness": float(
            (
                np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
            ).mean()
        ),
        "red_green": float(red.mean() - green.mean()),
        "yellow_blue": float((red.mean() + green.mean()) / 2 - blue.mean()),
        "edges_upright": 0.0 if flat else (along - beside) / edges,
        "edges_diagonal": 0.0 if flat else 2 * _mean(right * below) / edges,
    }
    tiny = small.resize((TINY, TINY), Image.Resampling.BOX)
    return found, np.asarray(tiny)


def _channels(image: Image.Image) -> list[Numbers]:
    """Return the channels, (h, w) in [0, 1], of an image reduced further: colors need no detail."""
    image = image.copy()
    image.thumbnail((SIDE // 4, SIDE // 4), Image.Resampling.BOX)
    return [np.asarray(one, dtype=np.float32) / 255 for one in image.split()]


def _mean(values: Numbers) -> float:
    return float(values.mean()) if values.size else 0.0


def _laplacian(gray: Numbers) -> float:
    """Return the mean square of the Laplacian, 0 for an image of fewer than 3 x 3 pixels."""
    inner = gray[1:-1, 1:-1]
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float(((around - 4 * inner) ** 2).mean()) if inner.size else 0.0


def _blockiness(image: Image.Image) -> float:
    """Return the mean step between columns of blocks, less that within, as a share of that within.

    From some rows alone; 0 for images of fewer than four blocks. Blocks are those of the JPEG
    format, and begin at the left edge.
    """
    width, height = image.size
    if width < 4 * _BLOCK:
        return 0.0
    height_used = min(height, _BLOCK)
    starts = np.linspace(0, height - height_used, _STRIPS).astype(int)
    strips = [image.crop((0, y, width, y + height_used)).convert("L") for y in np.unique(starts)]
    gray = np.concatenate([np.asarray(one, dtype=np.float32) for one in strips])
    steps = np.abs(np.diff(gray, axis=1)).mean(0)
    between = np.arange(len(steps)) % _BLOCK == _BLOCK - 1
    within = float(steps[~between].mean())
    return float(steps[between].mean() - within) / within if within > 0 else 0.0
