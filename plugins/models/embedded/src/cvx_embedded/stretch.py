"""Resize a photograph to a square, whatever its shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class Stretch:
    """Resize to a square without keeping the aspect ratio, scale and normalise.

    Parameters
    ----------
    side
        Of the square, in pixels.
    mean, std
        Per channel of the result, in the scale where pixel values are 0 to 1.
    bgr
        Whether the channels of the result are blue, green, red.
    """

    side: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return float32 (3, side, side); bilinear, with Pillow's antialiasing."""
        resized = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        if self.bgr:
            pixels = pixels.flip(0)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (pixels - mean[:, None, None]) / std[:, None, None]
