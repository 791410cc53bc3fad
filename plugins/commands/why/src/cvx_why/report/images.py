"""Images of the report: the network's view, filled regions, and contours."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cvx_core import Explanation
from cvx_why.search.inpainting import FILLS, elsewhere

_FILLS = {**FILLS, "elsewhere": elsewhere}
_PADDING = (128, 128, 128)
"""Color of the network's input beyond the image."""

Mask = npt.NDArray[np.bool_]


def network_view(explanation: Explanation, longest: int) -> Image.Image:
    """Return the part of an image that the network saw, as an RGB image."""
    height, width = explanation.values.shape
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top, right, bottom = explanation.extent
    x, y = round(left), round(top)
    canvas = Image.new("RGB", (max(1, round(right) - x), max(1, round(bottom) - y)), _PADDING)
    canvas.paste(Image.fromarray(explanation.image), (-x, -y))
    return canvas.resize(size, Image.Resampling.LANCZOS)


def fill_region(image: Image.Image, mask: Mask, fill: str) -> Image.Image | None:
    """Return an image with a region filled; None for a fill that needs another image."""
    if fill not in _FILLS:
        return None
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    small = Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST)
    region = torch.from_numpy(np.array(small, dtype=bool))[None, None]
    if not region.any() or region.all():
        return image
    filled = _FILLS[fill](pixels, region)[0].permute(1, 2, 0).clamp(0, 1)
    return Image.fromarray((filled.numpy() * 255).round().astype(np.uint8))


def data_uri(image: Image.Image) -> str:
    """Return an image as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def contour_path(mask: Mask) -> str:
    """Return the edge of a region as an SVG path in the mask's pixels."""
    framed = np.pad(mask, 1)
    parts = [f"M{a} {y}H{b}" for y, a, b in _runs(framed[1:] != framed[:-1], 1)]
    parts += [f"M{x} {a}V{b}" for x, a, b in _runs((framed[:, 1:] != framed[:, :-1]).T, 1)]
    return "".join(parts)


def center(mask: Mask) -> tuple[float, float]:
    """Return (x, y) of the pixel of a region that is closest to its center."""
    rows, columns = mask.nonzero()
    nearest = ((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin()
    return float(columns[nearest]), float(rows[nearest])


def _runs(edges: npt.NDArray[Any], offset: int) -> list[tuple[int, int, int]]:
    """Return (line, start, stop) of each stretch of true values, moved back by the frame."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lines, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    return [
        (int(line), int(a) - offset, int(b) - offset)
        for line, a, b in zip(lines, starts, stops, strict=True)
    ]
