"""Decoder of items: the network's input and a thumbnail, made in a process without the network."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cvx_core import InputError
from cvx_core.images import Preparer
from cvx_core.plugins import error_boundary
from cvx_core.tasks import GroundTruth
from cvx_diagnose.data.image_statistics import image_statistics, reduce_image
from cvx_diagnose.data.items import Item
from cvx_diagnose.data.sources import Source

THUMBNAIL = 128
"""Longer side of a thumbnail, in pixels."""

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class DecodedInput:
    """One input, ready for the network.

    Attributes
    ----------
    item
        The item.
    values
        (C, H, W), the network's input.
    ground_truth
        The ground truth, or None.
    sha256
        Of the file's bytes (of the values, for a tensor), hexadecimal.
    size
        (width, height) of the image; None for a tensor.
    extent
        The part of the image that the network sees; None if not measured (see `Decoder`).
    thumbnail
        JPEG.
    statistics, tiny
        See `cvx_diagnose.data.image_statistics.image_statistics`; None for a tensor, whose values
        are in no known unit.
    seconds
        Decoding time.
    """

    item: Item
    values: npt.NDArray[Any]
    ground_truth: GroundTruth | None
    sha256: str
    size: tuple[int, int] | None
    extent: Bounds | None
    thumbnail: bytes
    statistics: dict[str, float] | None
    tiny: npt.NDArray[np.uint8] | None
    seconds: float


@dataclass(frozen=True)
class Decoder:
    """Decodes items of a source.

    Parameters
    ----------
    source, preparer
        Of the items, and of the network's input.
    located
        Whether to measure each image's extent. It costs as much as five images for each new size,
        and a classifier's correct predictions do without.
    """

    source: Source
    preparer: Preparer
    located: bool = True

    def __call__(self, item: Item) -> DecodedInput:
        """Return an item, decoded.

        Raises
        ------
        InputError
            If it can't be read, or the preprocessing fails on it.
        """
        started = time.perf_counter()
        loaded, ground_truth = self.source.load(item)
        statistics = tiny = None
        if isinstance(loaded, torch.Tensor):
            values, size, extent = loaded.numpy(), None, None
            digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
            small = reduce_image(_pixels(values))
        else:
            with error_boundary(
                lambda reason: InputError(f"Preprocessing of {item.display_path} failed: {reason}")
            ):
                tensor = self.preparer.tensor(loaded)
                if tensor.dtype in (torch.float16, torch.bfloat16):
                    tensor = tensor.float()
                values = tensor.numpy()
                # Of other bands than colors the size alone doesn't tell it later.
                located = self.located or loaded.bands is not None
                extent = self.preparer.extent(loaded) if located else None
            size, digest, shown = loaded.size, loaded.digest, loaded.pil()
            small = reduce_image(shown)
            statistics, tiny = image_statistics(shown, small)
        thumbnail = _thumbnail(small)
        return DecodedInput(
            item,
            values,
            ground_truth,
            digest,
            size,
            extent,
            thumbnail,
            statistics,
            tiny,
            time.perf_counter() - started,
        )


def _pixels(values: npt.NDArray[Any]) -> Image.Image:
    """Return a preprocessed tensor as an image, stretched to 0-255, for display only."""
    channels = values[:3] if len(values) >= 3 else np.repeat(values[:1], 3, axis=0)
    low, high = float(channels.min()), float(channels.max())
    scaled = (channels - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(scaled.round().astype(np.uint8).transpose(1, 2, 0))


def _thumbnail(image: Image.Image) -> bytes:
    image = image.copy()
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()
