"""From photograph to network input, and where each input pixel lies in the photograph.

Any callable that takes a PIL image and returns a float tensor (C, H, W) is a preprocess: a
torchvision preset, a timm transform, a function of your own. Where its crop lies is not asked but
measured, by sending ramps through it, so that an overlay is right for any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cvx_core.errors import ModelError, OptionError
from cvx_core.explanation import Extent

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
        Cut the central square of ``crop / resize`` of the shorter side out of the photograph
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
                f"There is no interpolation {self.interpolation!r}.",
                "It is one of " + ", ".join(_FILTERS) + ".",
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


@dataclass(frozen=True, eq=False)
class Geometry:
    """What a preprocess does to photographs of one size, as measured.

    Attributes
    ----------
    extent
        Rectangle of the photograph that the network's input covers, or None if the preprocess
        is no plain resize, crop and pad (a rotation, say).
    black, white
        float32 (C, H, W): the network's input for a black and for a white photograph.
    """

    extent: Extent | None
    black: torch.Tensor
    white: torch.Tensor

    def to_pixels(self, prepared: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Undo the normalisation of (3, H, W) and return uint8 (H, W, 3)."""
        span = (self.white - self.black).abs().amax(dim=(1, 2), keepdim=True)
        low = torch.minimum(self.black, self.white).amin(dim=(1, 2), keepdim=True)
        pixels = ((prepared.cpu().float() - low) / span.clamp_min(1e-12)).clamp(0, 1)
        return (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


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


def measure(transform: Transform, size: tuple[int, int]) -> Geometry:
    """Measure what a preprocess does to photographs of one size (width, height).

    A black, a white and two ramp images are sent through it; a straight line is fitted to where
    each input pixel took its value from. Accurate to a fraction of one input pixel.
    """
    width, height = size
    black = apply(transform, _flat(size, 0))
    white = apply(transform, _flat(size, 255))
    if not torch.equal(black, apply(transform, _flat(size, 0))):
        raise ModelError(
            "The preprocess is random: two runs on one image differ.",
            "Use the transform for evaluation, without augmentation.",
        )
    sides: list[tuple[float, float] | None] = []
    for axis, length in ((1, width), (0, height)):
        ramp = np.linspace(0, 255, length) if length > 1 else np.zeros(1)
        pixels = (
            np.broadcast_to(ramp[None, :] if axis == 1 else ramp[:, None], (height, width))
            .round()
            .astype(np.uint8)
        )
        seen = apply(transform, Image.fromarray(np.stack([pixels] * 3, axis=-1)))
        sides.append(_fit(seen, black, white, axis, length))
    across, down = sides
    if across is None or down is None:
        return Geometry(None, black, white)
    (left, right), (top, bottom) = across, down
    return Geometry((left, top, right, bottom), black, white)


def _flat(size: tuple[int, int], value: int) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def _fit(
    seen: torch.Tensor, black: torch.Tensor, white: torch.Tensor, axis: int, length: int
) -> tuple[float, float] | None:
    """Return where the first and last edge of the input lie along one axis of the photograph."""
    if seen.shape != black.shape or white.shape != black.shape:
        return None
    gain = (white - black).double()
    inside = gain.abs() > 0.5 * gain.abs().amax()
    if not bool(inside.any()):
        return None
    value = torch.where(inside, (seen - black).double() / gain, torch.nan)
    grid = value.nanmean(dim=0)
    line = grid.nanmean(dim=0 if axis == 1 else 1)
    if length == 1:
        return 0.0, 1.0
    across = grid - (line[None, :] if axis == 1 else line[:, None])
    if float(across.nan_to_num().abs().max()) > 0.05:
        return None
    source = (line * (length - 1) + 0.5).numpy()
    index = np.arange(len(source)) + 0.5
    # Interior samples only: at the image's edge and next to padding the resampling filter is cut.
    usable = np.isfinite(source) & (line.numpy() > 0.02) & (line.numpy() < 0.98)
    if usable.sum() < 2:
        return None
    slope, start = np.polyfit(index[usable], source[usable], 1)
    error = np.abs(source[usable] - (slope * index[usable] + start)).max()
    if slope <= 0 or error > max(2.0 * slope, 2.0, length / 64):
        return None
    first, last = float(start), float(start + slope * len(source))
    return _snap(first, 0.0, slope), _snap(last, float(length), slope)


def _snap(value: float, edge: float, pixel: float) -> float:
    """Take the photograph's edge where the fit misses it by less than half an input pixel."""
    return edge if abs(value - edge) < max(0.5 * pixel, 0.25) else value
