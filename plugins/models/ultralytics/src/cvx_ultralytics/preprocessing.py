"""Preprocessing of images as ultralytics' predictors do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvx_core import ModelError

_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Letterbox:
    """Resize to fit a square, and pad in grey to a multiple of the stride.

    Parameters
    ----------
    size
        Side of the square, in pixels.
    stride
        Largest stride of the network.
    channels
        Of the network's input: 1 or 3.
    stretch
        Stretch the image to the square instead.
    """

    size: int
    stride: int = 32
    channels: int = 3
    stretch: bool = False

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return float32 (C, H, W) in [0, 1].

        Raises
        ------
        ModelError
            If the network takes neither 1 nor 3 channels.
        """
        if self.channels not in _MODES:
            raise ModelError(
                f"The network takes {self.channels} channels, and an image has 1 or 3.",
                "Explain prepared tensors (B, C, H, W).",
            )
        padded = self._padding()(image=np.array(image.convert(_MODES[self.channels])))
        pixels = torch.from_numpy(np.ascontiguousarray(padded))
        return pixels.view(*pixels.shape[:2], self.channels).permute(2, 0, 1).float() / 255

    def extent(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return the rectangle of an image (width, height) that the input covers, exactly."""
        width, height = size
        if self.stretch:
            return 0.0, 0.0, float(width), float(height)
        found = self._padding().get_params({"img": np.empty((height, width, 0), np.uint8)})
        across, down = found["new_unpad"]
        x, y = width / across, height / down
        left, top = -found["left"] * x, -found["top"] * y
        right, bottom = (across + found["right"]) * x, (down + found["bottom"]) * y
        return left, top, right, bottom

    def _padding(self) -> Any:
        from ultralytics.data.augment import LetterBox

        square = (self.size, self.size)
        return LetterBox(square, auto=not self.stretch, scale_fill=self.stretch, stride=self.stride)
