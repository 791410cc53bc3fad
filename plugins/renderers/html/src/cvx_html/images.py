"""Images as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

_EXACT = 128
"""An image up to this size is embedded losslessly, since it is shown enlarged."""


def fit(size: tuple[int, int], longest: int, *, enlarge: bool = False) -> tuple[int, int]:
    """Return (width, height) scaled so that the longer side is at most (or exactly) `longest`."""
    scale = longest / max(size)
    if not enlarge:
        scale = min(1.0, scale)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def embed(pixels: npt.NDArray[np.uint8], longest: int) -> str:
    """Return uint8 (H, W, 3) as a data URI: JPEG, or PNG for a small image."""
    image = Image.fromarray(pixels)
    size = fit(image.size, longest)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(size) <= _EXACT:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=88, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
