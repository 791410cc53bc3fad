"""From an item to what the network takes, in a process that has no network."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cvx_core import InputError
from cvx_core.images import Preparer, SourceImage
from cvx_core.plugins import error_boundary
from cvx_core.tasks import GroundTruth
from cvx_diagnose.data.items import Item
from cvx_diagnose.data.sources import Source

THUMBNAIL = 128
"""Longer side of a thumbnail, in pixels."""

Sides = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Decoded:
    """One input, ready for the network.

    Attributes
    ----------
    item
        Which.
    values
        (C, H, W), the network's input.
    truth
        What is true of it, or None.
    sha256
        Of the file's bytes (of the values, of what came as a tensor), hexadecimal.
    size
        (width, height) of the photograph; None if there is none.
    extent
        What part of it the network sees; None if that is not known yet (see `Decoder`).
    thumbnail
        JPEG.
    seconds
        How long it took.
    """

    item: Item
    values: npt.NDArray[Any]
    truth: GroundTruth | None
    sha256: str
    size: tuple[int, int] | None
    extent: Sides | None
    thumbnail: bytes
    seconds: float


@dataclass(frozen=True)
class Decoder:
    """Decodes items of a source.

    Parameters
    ----------
    source, preparer
        Where they come from, and how they are prepared.
    located
        Whether each image's extent is measured. It takes as long as five more images for each new
        size, and the answer of a classifier can do without.
    """

    source: Source
    preparer: Preparer
    located: bool = field(default=True)

    def __call__(self, item: Item) -> Decoded:
        """Return an item, decoded.

        Raises
        ------
        InputError
            If it can't be read, or the preprocess fails on it.
        """
        started = time.perf_counter()
        loaded, truth = self.source.load(item)
        if isinstance(loaded, torch.Tensor):
            values, size, extent = loaded.numpy(), None, None
            digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
            shown = _pixels(values)
        else:
            with error_boundary(
                lambda reason: InputError(f"{item.shown} can't be prepared: {reason}")
            ):
                values, extent = self._prepare(loaded)
            size, digest, shown = loaded.size, loaded.digest, loaded.pil()
        seconds = time.perf_counter() - started
        return Decoded(item, values, truth, digest, size, extent, _thumbnail(shown), seconds)

    def _prepare(self, picture: SourceImage) -> tuple[npt.NDArray[Any], Sides | None]:
        tensor = self.preparer.tensor(picture)
        if tensor.dtype in (torch.float16, torch.bfloat16):
            tensor = tensor.float()
        extent = self.preparer.geometry(picture.size).extent if self.located else None
        return tensor.numpy(), extent


def _pixels(values: npt.NDArray[Any]) -> Image.Image:
    """Return a prepared tensor as a picture, stretched to 0-255, for display only."""
    channels = values[:3] if len(values) >= 3 else np.repeat(values[:1], 3, axis=0)
    low, high = float(channels.min()), float(channels.max())
    scaled = (channels - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(scaled.round().astype(np.uint8).transpose(1, 2, 0))


def _thumbnail(picture: Image.Image) -> bytes:
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return stream.getvalue()
