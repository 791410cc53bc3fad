"""Geometry of preprocessing: which rectangle of the image the network sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cvx_core.errors import ModelError
from cvx_core.images.bands import Form, to_colors
from cvx_core.images.preprocessing import Transform, apply, random_step
from cvx_core.images.regions import Extent

_COLORS = Form()


@dataclass(frozen=True, eq=False)
class Geometry:
    """Measured geometry of a preprocess for images of one size.

    Attributes
    ----------
    extent
        Rectangle of the image that the network's input covers, or None if the preprocess
        is not a plain resize, crop and pad (a rotation, say).
    black, white
        float32 (C, H, W): the network's input for a black and for a white image.
    """

    extent: Extent | None
    black: torch.Tensor
    white: torch.Tensor

    def to_pixels(self, prepared: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Undo the normalisation of (C, H, W) and return uint8 (H, W, 3), as `to_colors`."""
        span = (self.white - self.black).abs().amax(dim=(1, 2), keepdim=True)
        low = torch.minimum(self.black, self.white).amin(dim=(1, 2), keepdim=True)
        pixels = ((prepared.cpu().float() - low) / span.clamp_min(1e-12)).clamp(0, 1)
        return to_colors((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def measure(
    transform: Transform, size: tuple[int, int], form: Form = _COLORS, *, repeats: bool = False
) -> Geometry:
    """Measure what a preprocess does to images of one size (width, height) and form.

    A black, a white and two ramp images are sent through it; a straight line is fitted to where
    each input pixel took its value from. Accurate to a fraction of one input pixel. A preprocess
    that knows better has a method ``extent``, from the size to the rectangle.

    Unless it is known that the preprocess `repeats` itself, it is run several times on one image.

    Raises
    ------
    ModelError
        If it is random.
    """
    width, height = size
    if not repeats:
        _check_repeats(transform, size, form)
    black, white = (
        apply(transform, form.made(np.full((height, width), value, np.uint8))) for value in (0, 255)
    )
    known = getattr(transform, "extent", None)
    if callable(known):
        return Geometry(known(size), black, white)
    sides: list[tuple[float, float] | None] = []
    for axis, length in ((1, width), (0, height)):
        ramp = np.linspace(0, 255, length) if length > 1 else np.zeros(1)
        pixels = (
            np.broadcast_to(ramp[None, :] if axis == 1 else ramp[:, None], (height, width))
            .round()
            .astype(np.uint8)
        )
        seen = apply(transform, form.made(pixels))
        sides.append(_fit(seen, black, white, axis, length))
    across, down = sides
    if across is None or down is None:
        return Geometry(None, black, white)
    (left, right), (top, bottom) = across, down
    return Geometry((left, top, right, bottom), black, white)


def _check_repeats(transform: Transform, size: tuple[int, int], form: Form) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    name = random_step(transform, form.made(noise))
    if name:
        raise ModelError(
            f"The preprocess is random: runs of {name} on one image differ.",
            "Use the transform for evaluation, without augmentation.",
        )


def _fit(
    seen: torch.Tensor, black: torch.Tensor, white: torch.Tensor, axis: int, length: int
) -> tuple[float, float] | None:
    """Return where the first and last edge of the input lie along one axis of the image."""
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
    """Return the image's edge where the fit misses it by less than half an input pixel."""
    return edge if abs(value - edge) < max(0.5 * pixel, 0.25) else value
