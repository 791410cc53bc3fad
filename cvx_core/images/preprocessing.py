"""Preprocessing: from image to network input.

Any callable that takes a PIL image and returns a float tensor (C, H, W) is a preprocess: a
torchvision preset, a timm transform, a function of your own. One that wants the image by name, as
albumentations does, is called with ``image=array``. Where its crop lies is measured by sending
ramps through it, so that overlays fit for any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cvx_core.errors import CvxError, ModelError, OptionError
from cvx_core.images.bands import Values, full_scale
from cvx_core.plugins.isolation import error_boundary

_FILTERS = ("bilinear", "bicubic", "lanczos")

Transform = Callable[[Any], Any]
"""From a PIL image, or an array (H, W, bands) of what no mode of PIL holds, to a float tensor."""


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
        Per channel, in the scale where pixel values are 0 to 1. With other numbers than three it
        takes images of so many bands.
    interpolation
        ``bilinear``, ``bicubic`` or ``lanczos``; always with antialiasing (Pillow's).
    crop_first
        Cut the central square of ``crop / resize`` of the shorter side out of the image
        before resizing, instead of after it.

    Raises
    ------
    OptionError
        If a size is not positive, the interpolation unknown, or `mean` and `std` differ in length.
    """

    crop: int
    resize: int | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    crop_first: bool = False

    def __post_init__(self) -> None:
        if self.crop < 1 or (self.resize is not None and self.resize < 1):
            raise OptionError(
                f"crop and resize must be at least 1, got {self.crop} and {self.resize}."
            )
        if self.interpolation not in _FILTERS:
            raise OptionError(
                f"Unknown interpolation {self.interpolation!r}.",
                "Available: " + ", ".join(_FILTERS) + ".",
            )

        if len(self.mean) != len(self.std) or not self.mean:
            raise OptionError(
                f"mean and std must have one value for each channel, got {len(self.mean)} and "
                f"{len(self.std)}."
            )

    takes_all_bits = True
    """Whether images of 16 bits or floats are taken as they are."""

    def __call__(self, image: Image.Image | Values) -> torch.Tensor:
        """Return float32 (channels, crop, crop).

        Parameters
        ----------
        image
            A PIL image, or an array (H, W, channels) of 8 or 16 bits, or of floats from 0 to 1.
        """
        if isinstance(image, Image.Image) and len(self.mean) == 3:
            pixels = np.array(self._cropped(image).convert("RGB"))
        elif isinstance(image, Image.Image) and len(self.mean) == 1:
            pixels = np.array(self._cropped(image.convert("L")))[:, :, None]
        else:
            # One by one: Pillow would weight three of four bands with the last, an opacity to it.
            values = np.asarray(image)
            if values.ndim != 3 or values.shape[2] != len(self.mean):
                raise ModelError(
                    f"The preprocess is of {len(self.mean)} channels, and the image has "
                    f"{values.shape[2] if values.ndim == 3 else 1}.",
                    "Pass mean=(...) and std=(...) with a value for each band.",
                )
            scaled = values.astype(np.float32) * (255 / full_scale(values.dtype))
            several = [self._cropped(Image.fromarray(band)) for band in np.moveaxis(scaled, 2, 0)]
            pixels = np.stack([np.array(band) for band in several], axis=2)
        found = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (found - mean[:, None, None]) / std[:, None, None]

    def _cropped(self, image: Image.Image) -> Image.Image:
        method = Image.Resampling[self.interpolation.upper()]
        resize, (width, height) = self.resize or self.crop, image.size
        short = min(width, height)
        if self.crop_first:
            side = round(self.crop / resize * short)
            # An odd remainder goes to the left and the top, as where EfficientNets were trained.
            left, top = (width - side + 1) // 2, (height - side + 1) // 2
            box = (left, top, left + side, top + side)
            return image.crop(box).resize((self.crop, self.crop), method)
        new_width, new_height = (
            max(resize, int(resize * width / short)),
            max(resize, int(resize * height / short)),
        )
        image = image.resize((new_width, new_height), method)
        left, top = round((new_width - self.crop) / 2), round((new_height - self.crop) / 2)
        return image.crop((left, top, left + self.crop, top + self.crop))


def called(transform: Transform, image: Image.Image | Values) -> Any:
    """Return what a transform makes of an image, which it may want by name."""
    try:
        found = transform(image)
    except (TypeError, KeyError):
        # What wants named arguments wants an array too.
        try:
            named: Any = transform
            found = named(image=np.asarray(image))
        except (TypeError, KeyError):
            found = None
        if found is None:
            raise
    if isinstance(found, Mapping) and "image" in found:
        return found["image"]
    return found


def random_step(transform: Transform, image: Image.Image | Values) -> str:
    """Return the name of the step that is random, by running it several times; empty if none is."""
    if _repeats(transform, image):
        return ""
    steps, seen = getattr(transform, "transforms", None), image
    for step in steps if isinstance(steps, list | tuple) else ():
        if not _repeats(step, seen):
            return type(step).__name__
        seen = called(step, seen)
    return str(getattr(transform, "__name__", type(transform).__name__))


_RUNS = 12
"""Runs of a preprocess: a coin that is tossed at each falls on one side once in 2048 times."""


def _repeats(transform: Transform, image: Any) -> bool:
    runs = (_values(called(transform, image)) for _ in range(_RUNS))
    first = next(runs)
    return all(np.array_equal(first, other, equal_nan=True) for other in runs)


def _values(found: Any) -> npt.NDArray[Any]:
    return found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


def _failed(said: str) -> ModelError:
    return ModelError(
        f"The preprocess failed: {said}",
        "It must take a PIL image, or an array (H, W, bands), and return a float tensor (C, H, W).",
    )


def apply(transform: Transform, image: Image.Image | Values) -> torch.Tensor:
    """Run a preprocess on one image and check what comes out.

    Returns
    -------
    torch.Tensor
        Float (C, H, W).

    Raises
    ------
    ModelError
        If it raises, or the result is no such tensor or not finite.
    """
    with error_boundary(_failed, (CvxError, MemoryError)):
        result = called(transform, image)
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
