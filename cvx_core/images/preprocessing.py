"""Preprocessing: from image to network input.

Any callable that takes a PIL image and returns a float tensor (C, H, W) is a preprocess: a
torchvision preset, a timm transform, a function of your own. Where its crop lies is measured
by sending ramps through it, so that overlays fit for any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvx_core.errors import ModelError, OptionError

_FILTERS = ("bilinear", "bicubic", "lanczos")

Transform = Callable[[Image.Image], Any]


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side, crop the centre, scale and normalise.

    Parameters
    ----------
    crop
        Side of the square that the network sees, in pixels.
    resize
        Length to which the shorter side is brought first; `crop` if None.
    mean, std
        Per channel, in the scale where pixel values are 0 to 1.
    interpolation
        ``bilinear``, ``bicubic`` or ``lanczos``; always with antialiasing (Pillow's).
    crop_first
        Cut the central square of ``crop / resize`` of the shorter side out of the image
        before resizing, instead of after it.

    Raises
    ------
    OptionError
        If a size is not positive, or the interpolation unknown.
    """

    crop: int
    resize: int | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    crop_first: bool = False

    def __post_init__(self) -> None:
        if self.crop < 1 or (self.resize is not None and self.resize < 1):
            raise OptionError(
                f"A crop of {self.crop} pixels out of {self.resize or self.crop} is empty."
            )
        if self.interpolation not in _FILTERS:
            raise OptionError(
                f"Unknown interpolation {self.interpolation!r}.",
                "Available: " + ", ".join(_FILTERS) + ".",
            )

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return float32 (3, crop, crop)."""
        method = Image.Resampling[self.interpolation.upper()]
        resize, (width, height) = self.resize or self.crop, image.size
        short = min(width, height)
        if self.crop_first:
            side = round(self.crop / resize * short)
            # An odd remainder goes to the left and the top, as where EfficientNets were trained.
            left, top = (width - side + 1) // 2, (height - side + 1) // 2
            box = (left, top, left + side, top + side)
            image = image.crop(box).resize((self.crop, self.crop), method)
        else:
            new_width, new_height = (
                max(resize, int(resize * width / short)),
                max(resize, int(resize * height / short)),
            )
            image = image.resize((new_width, new_height), method)
            left, top = round((new_width - self.crop) / 2), round((new_height - self.crop) / 2)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (pixels - mean[:, None, None]) / std[:, None, None]


def apply(transform: Transform, image: Image.Image) -> torch.Tensor:
    """Run a preprocess on one image and check what comes out.

    Returns
    -------
    torch.Tensor
        Float (C, H, W).

    Raises
    ------
    ModelError
        If the result is no such tensor, or not finite.
    """
    result = transform(image)
    if isinstance(result, torch.Tensor) and result.ndim == 4 and result.shape[0] == 1:
        result = result[0]
    if not isinstance(result, torch.Tensor) or result.ndim != 3:
        shape = f" {tuple(result.shape)}" if hasattr(result, "shape") else ""
        raise ModelError(
            f"The preprocess returned a {type(result).__name__}{shape}.",
            "It must take a PIL image and return a float tensor (C, H, W).",
        )
    if not result.is_floating_point():
        raise ModelError(
            f"The preprocess returned a tensor of {result.dtype}.",
            "It must return floats, normalised as the network expects.",
        )
    if not torch.isfinite(result).all():
        raise ModelError("The preprocess returned values that are not finite.")
    return result
